//! What the fast tier remembers of the host: which addresses are its own, and how the last next hops are reached.
//!
//! All of it is found out by the host's own look-ups, and good for one generation: until an address, a route or a
//! neighbour of the host changes, and for a second at most.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_core::batch::{BatchFamily, V4, V6};
use lvs_core::{Family, ServerId, Tick};

use crate::frame::PortId;
use crate::header::ethernet;
use crate::host::{Host, Resolution};
use crate::parse::Link;

/// How a neighbour is reached that packets to a destination go to.
#[derive(Clone, Copy)]
pub(super) struct NextHop {
    pub(super) destination: IpAddr,
    /// What the host calls itself on the port, in the destination's family.
    pub(super) source: Option<IpAddr>,
    pub(super) until: Tick,
    /// The generation of the host that it was found in.
    generation: u32,
    pub(super) link: LinkHeader,
    pub(super) port: PortId,
    pub(super) mtu: u16,
}

/// Both addresses of a link header, to whom and from whom, in two words, for which registers have room.
#[derive(Clone, Copy)]
pub(super) struct LinkHeader {
    front: u64,
    back: u32,
}

impl LinkHeader {
    const fn new([a, b, c, d, e, f]: [u8; 6], [g, h, i, j, k, l]: [u8; 6]) -> Self {
        Self { front: u64::from_ne_bytes([a, b, c, d, e, f, g, h]), back: u32::from_ne_bytes([i, j, k, l]) }
    }

    /// Puts them where a frame has them.
    #[inline(always)]
    pub(super) fn write(self, place: &mut [u8; ethernet::TYPE]) {
        let (front, back) = place.split_at_mut(size_of::<u64>());
        front.copy_from_slice(&self.front.to_ne_bytes());
        back.copy_from_slice(&self.back.to_ne_bytes());
    }
}

/// Next hops and addresses that packets had lately.
pub(super) struct NextHopCache {
    /// By the number of the real server; those that share a place displace each other.
    servers: [Option<NextHop>; SERVERS],
    pub(super) v4: Peers<u32>,
    pub(super) v6: Peers<u128>,
}

/// What is remembered of one family's addresses.
pub(super) struct Peers<B> {
    /// The host's generation that all of this belongs to.
    generation: u32,
    /// Own addresses that packets were for; those that share a place displace each other.
    own: [B; OWN],
    others: Others<B>,
    /// The next hop of the last reply, by its bits, and the way there.
    last: Option<(u128, NextHop)>,
}

/// A range of addresses of which none is the host's, all reached by one route: a subtraction and a comparison instead
/// of a look-up among the own addresses and one among the routes. Most clients are behind the router that the last were
/// behind.
struct Others<B> {
    low: B,
    /// How many addresses: fewer than there are, since those of no wire are left out.
    count: B,
    /// Whether all of it is behind one gateway.
    gateway: bool,
    /// The way there, once it was asked for.
    hop: Option<NextHop>,
    /// Addresses that were not in it.
    missed: u8,
}

/// Servers whose next hops are remembered: 26 KiB, or 1.4 KiB on machines of 32 bits, which have less memory and fewer
/// servers. A number that is known when the program is built costs packets nothing.
const SERVERS: usize = if usize::BITS < 64 { 16 } else { 256 };
/// Own addresses of a family that are remembered.
const OWN: usize = 16;
/// One of so many misses moves the range of other hosts.
const EVERY: u8 = 64;
/// How long a next hop is used before neighbours and routes are asked again, in milliseconds. A change to them counts
/// at once.
const GOOD_MS: u64 = 1_000;

impl NextHopCache {
    pub(super) const EMPTY: Self =
        Self { servers: [None; SERVERS], v4: Peers::<u32>::EMPTY, v6: Peers::<u128>::EMPTY };

    /// How a real server is reached, if that is remembered and still good.
    #[inline(always)]
    pub(super) fn server(
        &self,
        host: &Host,
        now: Tick,
        server: ServerId,
        is_it: impl FnOnce(&IpAddr) -> bool,
    ) -> Option<&NextHop> {
        let hop = self.servers.get(place_of(server))?.as_ref()?;
        (hop.generation == host.changes() && now < hop.until && is_it(&hop.destination)).then_some(hop)
    }

    /// Finds out how a real server is reached, and remembers it. `None` while that is not known, or when it is this
    /// host.
    #[cold]
    #[inline(never)]
    pub(super) fn find_server(
        &mut self,
        host: &mut Host,
        now: Tick,
        server: ServerId,
        address: IpAddr,
    ) -> Option<&NextHop> {
        // The slow tier says what becomes of packets to this host, and that none leaves for a loopback address.
        if host.owns(address) || host.is_local_server(address) || address.is_loopback() {
            return None;
        }
        let hop = find(host, now, address)?;
        Some(self.servers.get_mut(place_of(server))?.insert(hop))
    }
}

impl Peers<u32> {
    const EMPTY: Self = Self { generation: 0, own: no_v4(), others: Others::<u32>::NONE, last: None };
}

impl Peers<u128> {
    const EMPTY: Self = Self { generation: 0, own: no_v6(), others: Others::<u128>::NONE, last: None };
}

/// No own address: in every place one that would be in another.
const fn no_v4() -> [u32; OWN] {
    let mut own = [0; OWN];
    own[0] = 1;
    own
}

const fn no_v6() -> [u128; OWN] {
    let mut own = [0; OWN];
    own[0] = 1;
    own
}

impl Others<u32> {
    const NONE: Self = Self { low: 0, count: 0, gateway: false, hop: None, missed: EVERY - 1 };
}

impl Others<u128> {
    const NONE: Self = Self { low: 0, count: 0, gateway: false, hop: None, missed: EVERY - 1 };
}

/// The kinds of addresses that [`Peers`] are made for.
pub(super) trait Empty: Sized {
    const PEERS: Peers<Self>;
}

impl Empty for u32 {
    const PEERS: Peers<Self> = Peers::<Self>::EMPTY;
}

impl Empty for u128 {
    const PEERS: Peers<Self> = Peers::<Self>::EMPTY;
}

impl<B: Copy + Eq + Empty> Peers<B> {
    /// Forgets what was found in an earlier generation of the host. To be called before a batch is parsed.
    #[inline(always)]
    pub(super) fn keep(&mut self, generation: u32) {
        if self.generation != generation {
            let missed = self.others.missed;
            *self = B::PEERS;
            (self.generation, self.others.missed) = (generation, missed);
        }
    }

    /// Whether an address is one of the host's, if packets were for it lately.
    #[inline(always)]
    pub(super) fn is_own<F: CacheFamily<Bits = B>>(&self, address: B) -> bool {
        self.own[F::place(address) % OWN] == address
    }

    /// Whether an address lies in the range of other hosts.
    #[inline(always)]
    pub(super) fn is_other<F: CacheFamily<Bits = B>>(&self, address: B) -> bool {
        F::is_within(address, self.others.low, self.others.count)
    }

    /// Whether an address is the host's, found out by asking it. Remembers the address, or now and then the range of
    /// other hosts' addresses around it.
    #[inline(never)]
    pub(super) fn look_up<F: CacheFamily<Bits = B>>(&mut self, host: &Host, address: B) -> bool {
        if host.owns(F::address(address)) {
            self.own[F::place(address) % OWN] = address;
            return true;
        }
        // Only now and then: where addresses of several ranges take turns, looking them up costs less than to go to and
        // fro.
        self.others.missed = (self.others.missed + 1) % EVERY;
        if self.others.missed == 0
            && let Some((low, high, gateway)) = host.stretch(F::address(address))
        {
            let (low, count) = F::range(low, high, address);
            self.others = Others { low, count, gateway, hop: None, missed: 0 };
        }
        false
    }

    /// How a client is reached whose address lies in the range of other hosts, if that is remembered and still good.
    #[inline(always)]
    pub(super) fn client<F: CacheFamily<Bits = B>>(
        &self,
        host: &Host,
        now: Tick,
        client: B,
    ) -> Option<&NextHop> {
        if !self.is_other::<F>(client) || self.generation != host.changes() {
            return None;
        }
        self.others.hop.as_ref().filter(|hop| now < hop.until)
    }

    /// Finds out how a client is reached, and remembers that for those behind the same router.
    pub(super) fn find_client<F: CacheFamily<Bits = B>>(
        &mut self,
        host: &mut Host,
        now: Tick,
        client: B,
    ) -> Option<&NextHop> {
        let address = F::address(client);
        let route = host.route(address)?;
        let known = self.last.as_ref().is_some_and(|(next, hop)| {
            *next == route.next
                && hop.port == route.port
                && hop.generation == host.changes()
                && now < hop.until
        });
        if !known {
            self.last = Some((route.next, find(host, now, address)?));
        }
        let hop = self.last.as_ref().map(|(_, hop)| hop)?;
        if self.others.gateway && self.is_other::<F>(client) && self.generation == hop.generation {
            self.others.hop = Some(*hop);
        }
        Some(hop)
    }
}

/// What the cache has to know of a family's addresses.
pub(super) trait CacheFamily: BatchFamily<Bits: Empty + Ord> {
    /// Whether an address is the one of these bits.
    fn is(address: &IpAddr, bits: Self::Bits) -> bool;

    /// The address of these bits.
    fn address(bits: Self::Bits) -> IpAddr;

    /// Which of the host's addresses is remembered in which place: neighbouring ones have places of their own.
    fn place(address: Self::Bits) -> usize;

    /// Whether an address is one of `count` from `low` on.
    fn is_within(address: Self::Bits, low: Self::Bits, count: Self::Bits) -> bool;

    /// The range from `low` to `high`, in the host's bits, as its first address and their number, cut to the part
    /// around an address in which all may be other hosts'.
    fn range(low: u128, high: u128, around: Self::Bits) -> (Self::Bits, Self::Bits);

    /// Whether an address may be a host's on some wire.
    fn is_host(address: Self::Bits) -> bool;

    /// What is remembered of this family's addresses.
    fn peers(cache: &mut NextHopCache) -> &mut Peers<Self::Bits>;
}

impl CacheFamily for V4 {
    #[inline(always)]
    fn is(address: &IpAddr, bits: u32) -> bool {
        match address {
            IpAddr::V4(address) => address.to_bits() == bits,
            IpAddr::V6(_) => false,
        }
    }

    #[inline(always)]
    fn address(bits: u32) -> IpAddr {
        Ipv4Addr::from_bits(bits).into()
    }

    #[inline(always)]
    fn place(address: u32) -> usize {
        (address ^ address >> 8) as usize
    }

    #[inline(always)]
    fn is_within(address: u32, low: u32, count: u32) -> bool {
        address.wrapping_sub(low) < count
    }

    fn range(low: u128, high: u128, around: u32) -> (u32, u32) {
        // 0/8 and 127/8 are on no wire, and are not looked for once a range holds them.
        let (first, last) = match around {
            ..LOOPBACK_V4 => (1 << 24, LOOPBACK_V4 - 1),
            LOOPBACK_V4.. => (LOOPBACK_V4 + (1 << 24), u32::MAX),
        };
        let (low, high) = ((low as u32).max(first), (high as u32).min(last));
        (low, high - low + 1)
    }

    #[inline(always)]
    fn is_host(address: u32) -> bool {
        !matches!(address >> 24, 0 | 127)
    }

    #[inline(always)]
    fn peers(cache: &mut NextHopCache) -> &mut Peers<u32> {
        &mut cache.v4
    }
}

impl CacheFamily for V6 {
    #[inline(always)]
    fn is(address: &IpAddr, bits: u128) -> bool {
        match address {
            IpAddr::V6(address) => address.to_bits() == bits,
            IpAddr::V4(_) => false,
        }
    }

    #[inline(always)]
    fn address(bits: u128) -> IpAddr {
        Ipv6Addr::from_bits(bits).into()
    }

    #[inline(always)]
    fn place(address: u128) -> usize {
        (address as u32 ^ (address as u32) >> 8) as usize
    }

    #[inline(always)]
    fn is_within(address: u128, low: u128, count: u128) -> bool {
        address.wrapping_sub(low) < count
    }

    fn range(low: u128, high: u128, _around: u128) -> (u128, u128) {
        // What may be no host's is at the two ends.
        let (low, high) = (low.max(FIRST_V6), high.min(MULTICAST_V6 - 1));
        (low, high - low + 1)
    }

    #[inline(always)]
    fn is_host(address: u128) -> bool {
        // One question about the upper half: neither `::` nor `::1` nor what else begins with 64 zeros, nor a group's.
        ((address >> 64) as u64).wrapping_sub(1) < (MULTICAST_V6 >> 64) as u64 - 1
    }

    #[inline(always)]
    fn peers(cache: &mut NextHopCache) -> &mut Peers<u128> {
        &mut cache.v6
    }
}

/// 127.0.0.0, the first address of 127/8.
const LOOPBACK_V4: u32 = 127 << 24;
/// The first address behind `::/64`, in which are the unspecified address, the loopback address, and those that stand
/// for IPv4 addresses.
const FIRST_V6: u128 = 1 << 64;
/// `ff00::`, the first address of a group; there is nothing else from there on.
const MULTICAST_V6: u128 = 0xff << 120;

/// Asks the host for the way to a destination. `None` while the neighbour is not known, or where no Ethernet
/// without tags leads.
fn find(host: &mut Host, now: Tick, destination: IpAddr) -> Option<NextHop> {
    let hop = host.route(destination)?;
    let port = *host.port(hop.port)?;
    if port.link() != Link::Ethernet || port.vlan().is_some() {
        return None;
    }
    match host.resolve(now, &hop) {
        Resolution::Known(mac) => Some(NextHop {
            destination,
            source: host.source(hop.port, Family::of(destination)),
            until: now.plus_millis(GOOD_MS),
            generation: host.changes(),
            link: LinkHeader::new(mac.0, port.mac().0),
            port: hop.port,
            mtu: hop.mtu,
        }),
        Resolution::Pending | Resolution::Failed | Resolution::Full => None,
    }
}

/// Where the next hop of a server is remembered.
const fn place_of(server: ServerId) -> usize {
    server.index() as usize % SERVERS
}

#[cfg(test)]
mod tests;
