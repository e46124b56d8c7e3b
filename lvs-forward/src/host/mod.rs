//! The director as a host of its own on the wire: ports, addresses, routes, neighbours.
//!
//! With a link-layer address of its own it needs nothing of the machine's stack: it answers ARP and neighbour
//! solicitations for its addresses, finds out where real servers and gateways are, and announces its addresses when it
//! takes them over. Packets of an unknown neighbour wait, two at most, in a bounded store.

pub(crate) mod address;
mod arp;
mod arrival;
mod mac;
mod ndp;
mod neighbour;
mod route;
mod setup;
mod waiting;

use core::net::{IpAddr, Ipv4Addr};

use heapless::Vec;
use lvs_core::{Addresses, Family, Seed, Tick};

pub(crate) use self::arrival::Arrival;
pub(crate) use self::neighbour::Resolution;
pub use mac::{MacAddress, ParseMacError};
pub use route::{MAX_ROUTES, Prefix};
pub use setup::{AddAddressError, AddNeighbourError, AddPortError, AddRouteError};

use self::address::{OwnAddresses, is_link_local, to_bits};
use self::neighbour::Neighbours;
use self::route::Routes;
use self::waiting::Waiting;
use crate::edit::{Tags, ether_type, write_ethernet};
use crate::frame::{Frame, HEADROOM, PortId};
use crate::hash::Key;
use crate::icmp::v6;
use crate::layout::Layout;
use crate::parse::{Link, Meaning, Parsed, parse};
use crate::reason::DropReason;
use crate::wire::{array, ethernet};

/// How many ports a host can have.
pub const MAX_PORTS: usize = 16;

/// One of the host's ports: what the device behind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    link: Link,
    mac: MacAddress,
    mtu: u16,
}

impl Port {
    /// An Ethernet port with a link-layer address of its own, whose packets are at most `mtu` bytes long (without the
    /// link header).
    #[must_use]
    pub const fn ethernet(mac: MacAddress, mtu: u16) -> Self {
        Self { link: Link::Ethernet, mac, mtu }
    }

    /// A port whose frames begin with the IP header, as those of a TUN device.
    #[must_use]
    pub const fn bare(mtu: u16) -> Self {
        Self { link: Link::Bare, mac: MacAddress::ZERO, mtu }
    }

    /// How its frames begin.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Its link-layer address; all zero for a bare port.
    #[must_use]
    pub const fn mac(&self) -> MacAddress {
        self.mac
    }

    /// The longest packet in bytes, without the link header.
    #[must_use]
    pub const fn mtu(&self) -> u16 {
        self.mtu
    }
}

/// A host with up to `ADDRESSES` addresses and `NEIGHBOURS` known neighbours. It allocates nothing: with the defaults it
/// is about 50 KiB large and best lives in a `Box` or a `static`.
///
/// ```
/// use lvs_core::Seed;
/// use lvs_forward::host::{Host, Port, Prefix};
/// let mut host: Host = Host::new(Seed::from_bytes([7; 16]));
/// let port = host.add_port(Port::ethernet("02:00:00:00:00:01".parse()?, 1500))?;
/// host.add_address(port, "10.0.0.254".parse()?, 24)?;
/// host.add_virtual_address("10.99.0.1".parse()?)?;
/// host.add_route(Prefix::new("0.0.0.0".parse()?, 0).unwrap(), Some("10.0.0.1".parse()?), port)?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub struct Host<const ADDRESSES: usize = 64, const NEIGHBOURS: usize = 256> {
    pub(crate) ports: Vec<Port, MAX_PORTS>,
    pub(crate) addresses: OwnAddresses<ADDRESSES>,
    pub(crate) routes: Routes,
    pub(crate) neighbours: Neighbours<NEIGHBOURS>,
    waiting: Waiting,
    /// The least MTU of all ports: what is no longer fits everywhere.
    least_mtu: u16,
    /// Whether an address has announcements left.
    announcing: bool,
    /// Goes up with everything that may change a way: ports, addresses, routes, neighbours.
    changes: u32,
    key: Key,
}

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) port: PortId,
    /// The bits of the neighbour to hand the packet to: a gateway, or the destination itself.
    pub(crate) next: u128,
    pub(crate) mtu: u16,
}

/// What became of a message to the host itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// The frame is the answer now and leaves by the port it came from.
    Answered,
    Consumed,
    Malformed,
    NotOurs,
}

/// What became of a packet on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It has its link header.
    Ready,
    /// It waits for its neighbour.
    Waits,
    Drop(DropReason),
}

/// Announcements of an address, and the time between them in milliseconds (RFC 4861 §10,
/// `MAX_NEIGHBOR_ADVERTISEMENT`).
const ANNOUNCEMENTS: u8 = 3;
const ANNOUNCE_EVERY_MS: u64 = 1_000;

impl<const A: usize, const N: usize> Host<A, N> {
    /// A host without ports. The seed keys its tables: it should be random and secret.
    #[must_use]
    pub const fn new(seed: Seed) -> Self {
        let key = Key::new(seed);
        Self {
            ports: Vec::new(),
            addresses: OwnAddresses::new(key),
            routes: Routes::new(),
            neighbours: Neighbours::new(key),
            waiting: Waiting::new(),
            least_mtu: u16::MAX,
            announcing: false,
            changes: 0,
            key,
        }
    }

    /// The port of this number.
    #[must_use]
    pub fn port(&self, port: PortId) -> Option<&Port> {
        self.ports.get(usize::from(port.0))
    }

    /// Whether this is the broadcast address of a link of the host's. IPv6 has none.
    #[must_use]
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.routes.is_broadcast(address),
            IpAddr::V6(_) => false,
        }
    }

    /// Whether the host has this address, on a port or as a virtual one.
    #[must_use]
    #[inline]
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.contains(address)
    }

    /// All its addresses: those of its ports, and the virtual ones.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|own| own.address)
    }

    /// The gateways of its routes; one may come several times.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.routes.gateways()
    }

    /// Announces an own address to the neighbours, three times from now on a second apart: by ARP requests for itself or by
    /// unsolicited advertisements. A virtual address is announced on the ports in whose prefixes it lies, or, if there are
    /// none, on all Ethernet ports. False when it is no address of this host.
    ///
    /// The frames come from [`poll_transmit`](Self::poll_transmit).
    pub fn announce(&mut self, now: Tick, address: IpAddr) -> bool {
        let Some(own) = self.addresses.iter_mut().find(|own| own.address == address) else {
            return false;
        };
        (own.rounds, own.next_port, own.due) = (ANNOUNCEMENTS, 0, now);
        self.announcing = true;
        true
    }

    /// [Announces](Self::announce) every address: when the director starts, or takes over from another.
    pub fn announce_all(&mut self, now: Tick) {
        for own in self.addresses.iter_mut() {
            (own.rounds, own.next_port, own.due) = (ANNOUNCEMENTS, 0, now);
            self.announcing = true;
        }
    }

    /// Asks for the link-layer address of the neighbour by which `address` is reached, so that it is known before the first
    /// packet goes there: few packets can [wait](crate::Counters::waited) for it. Nothing is asked for what is known.
    /// Says whether a packet could go there now.
    ///
    /// The question comes from [`poll_transmit`](Self::poll_transmit).
    pub fn look_for(&mut self, now: Tick, address: IpAddr) -> bool {
        let Some(hop) = self.route(address) else { return false };
        match self.resolve(now, &hop) {
            Resolution::Known(_) => true,
            Resolution::Pending | Resolution::Failed | Resolution::Full => false,
        }
    }

    /// The port by which packets to `address` leave now, to which link-layer address, and how long they may be there. `None`
    /// while that is not known. For whoever forwards in the forwarder's place: as when it does itself, neighbours that have not been
    /// heard of for long are asked whether they are still there.
    pub fn way_to(&mut self, now: Tick, address: IpAddr) -> Option<(PortId, MacAddress, u16)> {
        let hop = self.route(address)?;
        match self.resolve(now, &hop) {
            Resolution::Known(mac) => Some((hop.port, mac, hop.mtu)),
            Resolution::Pending | Resolution::Failed | Resolution::Full => None,
        }
    }

    /// Learns what a frame says of a neighbour, by ARP or neighbour discovery, and answers nothing: another forwarder with the same
    /// addresses does. For several that share the work of one director. Frames about anything else are not looked at further.
    pub fn overhear(&mut self, now: Tick, frame: &mut Frame<'_>) {
        let Some(port) = self.port(frame.port) else { return };
        if self.link_destination(port, frame) == LinkDestination::Another {
            return;
        }
        // What became of it does not matter: nothing is sent.
        match parse(frame, port.link()) {
            Ok(Parsed::Arp(at)) => _ = self.arp(now, frame, at),
            Ok(Parsed::Ip(layout, Meaning::Control(v6::SOLICITATION | v6::ADVERTISEMENT)))
                if layout.family() == Family::V6 =>
            {
                _ = self.neighbour_discovery(now, frame, &layout);
            }
            Ok(Parsed::Ip(..) | Parsed::Foreign) | Err(_) => {}
        }
    }

    /// The next frame that the host itself has to send: packets that waited for a neighbour, questions for neighbours,
    /// announcements. To be called until it is `None`, after each batch and at least every second.
    ///
    /// `buffer` must have [`HEADROOM`] + 2,048 bytes; in a shorter one nothing is made.
    pub fn poll_transmit<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        if buffer.len() < HEADROOM + MIN_BUFFER {
            return None;
        }
        if self.waiting.any_ready() {
            return self.waited(buffer);
        }
        let Self { waiting, changes, .. } = self;
        let mut failed = |port, hop| {
            *changes = changes.wrapping_add(1);
            waiting.discard(port, hop);
        };
        if let Some(query) = self.neighbours.poll(now, &mut failed) {
            let mac = self.port(query.port)?.mac;
            return match query.target {
                IpAddr::V4(target) => {
                    let to = query.known.unwrap_or(MacAddress::BROADCAST);
                    let sender = arp::own_address(self, query.port);
                    arp::request(buffer, HEADROOM, query.port, mac, sender, target, to)
                }
                IpAddr::V6(target) => {
                    let source = ndp::own_address(self, query.port, target)?;
                    ndp::solicitation(buffer, HEADROOM, query.port, mac, source, target, query.known)
                }
            };
        }
        if self.announcing { self.announcement(now, buffer) } else { None }
    }

    /// A number that is another one after anything has changed that a way depends on.
    pub(crate) const fn changes(&self) -> u32 {
        self.changes
    }

    /// Notes that ways may be others than they were.
    const fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    /// What fits through every port.
    #[inline]
    pub(crate) const fn least_mtu(&self) -> u16 {
        self.least_mtu
    }

    pub(crate) const fn key(&self) -> Key {
        self.key
    }

    /// The way to an address; `None` when there is none.
    #[inline]
    pub(crate) fn route(&self, destination: IpAddr) -> Option<Hop> {
        let bits = to_bits(destination);
        let route = self.routes.find(Family::of(destination), bits)?;
        let mtu = self.port(route.port)?.mtu;
        Some(Hop { port: route.port, next: if route.via == 0 { bits } else { route.via }, mtu })
    }

    /// The first and the last IPv4 address around one that is not the host's, for all of which that is so and the same route holds, and
    /// whether that has a gateway.
    pub(crate) fn stretch_v4(&self, around: u32) -> Option<(u32, u32, bool)> {
        let (low, high, gateway) = self.routes.stretch_v4(around)?;
        let (after, before) = self.addresses.gap_v4(around);
        Some((low.max(after), high.min(before), gateway))
    }

    /// Whether a next hop can be reached, as far as is known. Starts to ask for it when it is not.
    #[inline]
    pub(crate) fn resolve(&mut self, now: Tick, hop: &Hop) -> Resolution {
        match self.port(hop.port) {
            Some(Port { link: Link::Bare, .. }) => Resolution::Known(MacAddress::ZERO),
            Some(Port { link: Link::Ethernet, .. }) => self.neighbours.resolve(now, hop.port, hop.next),
            None => Resolution::Full,
        }
    }

    /// Gives a frame that begins with its IP header the link header for its next hop, or keeps a copy until that is known.
    #[inline]
    pub(crate) fn depart(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        family: Family,
        tags: Tags,
        hop: &Hop,
        resolution: Resolution,
    ) -> Departure {
        // A tag belongs to the link that it came from.
        let tags = if hop.port == frame.port { tags } else { Tags::NONE };
        frame.port = hop.port;
        match resolution {
            Resolution::Known(mac) => match self.write_link(frame, mac, &tags, family) {
                Some(()) => Departure::Ready,
                None => Departure::Drop(DropReason::NoHeadroom),
            },
            Resolution::Pending => match self.waiting.push(now, frame, family, tags, hop.port, hop.next) {
                Some(()) => Departure::Waits,
                None => Departure::Drop(DropReason::HopPending),
            },
            Resolution::Failed => Departure::Drop(DropReason::HopFailed),
            Resolution::Full => Departure::Drop(DropReason::HopPending),
        }
    }

    /// Sends a frame that begins with its IP header back to the neighbour whose link header stood before it.
    pub(crate) fn send_back(
        &self,
        frame: &mut Frame<'_>,
        family: Family,
        tags: &Tags,
        to: MacAddress,
    ) -> Departure {
        match self.write_link(frame, to, tags, family) {
            Some(()) => Departure::Ready,
            None => Departure::Drop(DropReason::NoHeadroom),
        }
    }

    /// What the host calls itself on a port: the port's first address of the family, else any.
    pub(crate) fn source(&self, port: PortId, family: Family) -> Option<IpAddr> {
        self.addresses.on_port(port, family).or_else(|| {
            let own = self.addresses.iter().find(|own| Family::of(own.address) == family)?;
            Some(own.address)
        })
    }

    /// Handles an ARP packet at `at` of an Ethernet frame.
    pub(crate) fn arp(&mut self, now: Tick, frame: &mut Frame<'_>, at: usize) -> Handled {
        match self.port(frame.port) {
            Some(&Port { link: Link::Ethernet, mac, .. }) => arp::handle(self, now, frame, at, mac),
            Some(_) | None => Handled::NotOurs,
        }
    }

    /// Handles a neighbour solicitation or advertisement.
    pub(crate) fn neighbour_discovery(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
    ) -> Handled {
        match self.port(frame.port) {
            Some(&Port { link: Link::Ethernet, mac, .. }) => ndp::handle(self, now, frame, layout, mac),
            Some(_) | None => Handled::NotOurs,
        }
    }

    /// For whom a frame is on its link.
    #[inline]
    pub(crate) fn link_destination(&self, port: &Port, frame: &Frame<'_>) -> LinkDestination {
        match port.link {
            Link::Bare => LinkDestination::Us,
            Link::Ethernet => match array::<6>(frame.bytes(), ethernet::DESTINATION) {
                Some(to) if *to == port.mac.0 => LinkDestination::Us,
                Some(to) if MacAddress(*to).is_group() => LinkDestination::Group,
                Some(_) | None => LinkDestination::Another,
            },
        }
    }

    /// Whether an address may be a neighbour's on a port.
    fn is_neighbour(&self, port: PortId, address: IpAddr) -> bool {
        match address {
            IpAddr::V6(address) if is_link_local(address) => true,
            IpAddr::V4(_) | IpAddr::V6(_) => self.routes.is_on_link(port, address),
        }
    }

    fn learn(&mut self, now: Tick, port: PortId, address: IpAddr, mac: MacAddress, create: bool) {
        self.changed();
        if self.neighbours.learn(now, port, address, mac, create) {
            self.waiting.release(port, to_bits(address), mac);
        }
    }

    fn write_link(&self, frame: &mut Frame<'_>, to: MacAddress, tags: &Tags, family: Family) -> Option<()> {
        let port = self.port(frame.port)?;
        match port.link {
            Link::Bare => Some(()),
            Link::Ethernet => write_ethernet(frame, to.0, port.mac.0, tags, ether_type(family)),
        }
    }

    fn waited<'a>(&mut self, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        let mut ready = self.waiting.pop(buffer, HEADROOM)?;
        self.write_link(&mut ready.frame, ready.mac, &ready.tags, ready.family)?;
        Some(ready.frame)
    }

    fn announcement<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        self.announcing = self.addresses.iter().any(|own| own.rounds > 0);
        loop {
            let (address, port) = self.next_announcement(now)?;
            let Some(&Port { link: Link::Ethernet, mac, .. }) = self.port(port) else {
                continue;
            };
            return match address {
                IpAddr::V4(own) => {
                    arp::request(buffer, HEADROOM, port, mac, Some(own), own, MacAddress::BROADCAST)
                }
                IpAddr::V6(own) => ndp::announcement(buffer, HEADROOM, port, mac, own),
            };
        }
    }

    /// The next own address that is due, and a port on which it is to be announced.
    fn next_announcement(&mut self, now: Tick) -> Option<(IpAddr, PortId)> {
        let Self { addresses, routes, ports, .. } = self;
        for own in addresses.iter_mut() {
            let on_link = |port: u8| routes.is_on_link(PortId(port), own.address);
            let anywhere = !(0..ports.len() as u8).any(on_link);
            while own.rounds > 0 && own.due <= now {
                if usize::from(own.next_port) >= ports.len() {
                    own.rounds -= 1;
                    own.next_port = 0;
                    own.due = now.plus_millis(ANNOUNCE_EVERY_MS);
                    continue;
                }
                let port = own.next_port;
                own.next_port += 1;
                let here = match own.port {
                    Some(home) => home.0 == port,
                    None => anywhere || routes.is_on_link(PortId(port), own.address),
                };
                if here {
                    return Some((own.address, PortId(port)));
                }
            }
        }
        None
    }
}

impl<const A: usize, const N: usize> core::fmt::Debug for Host<A, N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Host").field("ports", &self.ports).finish_non_exhaustive()
    }
}

/// For whom a frame is, as its link header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkDestination {
    Us,
    Group,
    Another,
}

/// What [`Host::poll_transmit`] needs behind the headroom.
const MIN_BUFFER: usize = 2_048;

const _: () = assert!(MIN_BUFFER >= waiting::MAX_LEN);

/// Whether an address cannot stand in a packet on a wire between hosts (RFC 1122 §3.2.1.3, RFC 4291 §2.5).
#[inline]
pub(crate) const fn is_martian(addresses: &Addresses) -> bool {
    match addresses {
        Addresses::V4 { source, destination } => {
            source.is_unspecified()
                || source.is_loopback()
                || source.is_multicast()
                || source.is_broadcast()
                || destination.is_loopback()
                || matches!(destination, &Ipv4Addr::UNSPECIFIED)
        }
        Addresses::V6 { source, destination } => {
            source.is_multicast()
                || source.is_loopback()
                || destination.is_loopback()
                || destination.is_unspecified()
        }
    }
}
