//! Which of several workers a packet belongs to.
//!
//! Workers share nothing, so all packets of a connection have to come to one of them, in both directions and whatever
//! the director rewrites. What stays the same about a connection is its client. Who that is, a packet says by its
//! direction: the sender of what goes to an address of the director's (a request), the receiver of everything else (a
//! reply, under NAT from an address that the client never sees).
//!
//! [`Steer`] is that function. The kernel computes it too, before it puts a frame into a worker's ring: as a
//! classic BPF program ([`packet::open_fanned`](crate::device::packet::open_fanned)), which needs no privilege over the
//! machine; and before `AF_XDP` sockets, as a part of the program that picks the director's frames.
//!
//! # What has to come to one worker besides
//!
//! Connections that share something belong together: those of a client to a persistent service (its template), and the
//! control and data connections of FTP. Then clients are told apart by their address alone ([`By::Address`]), as far as
//! the widest mask of a persistent service; [`Steer::suits`] says which services need it. Persistence by SIP's Call-ID
//! joins connections of several clients, which no address tells: such a service cannot be shared out.

pub(crate) mod dispatch;
pub(crate) mod program;
#[cfg(test)]
mod samples;
#[cfg(any(test, feature = "lab"))]
pub mod simulation;
pub(crate) mod xdp;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use lvs_core::service::{Mask, Persistence};
use lvs_core::{Family, Flow, Protocol, Seed, ServiceKey};

/// What tells clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever shares work out handles each")]
pub enum By {
    /// Address and port: connections of one client are shared out as well.
    Endpoint,
    /// The bits of the address that are set in these masks: all that a client has is with one worker.
    Address {
        /// Of an IPv4 address.
        v4: Ipv4Addr,
        /// Leading bits of an IPv6 address, 128 at most.
        v6: u8,
    },
}

impl By {
    /// The whole address.
    pub const ADDRESS: Self = Self::Address { v4: Ipv4Addr::BROADCAST, v6: 128 };

    /// What suits all these services: the endpoint, unless one of them needs clients to be told apart by their address,
    /// or by fewer bits of it.
    pub fn suiting(services: impl IntoIterator<Item = (ServiceKey, Option<Persistence>)>) -> Self {
        services.into_iter().fold(Self::Endpoint, |by, (key, persistence)| by.and(key, persistence))
    }

    /// Narrows what tells clients apart as far as this service needs. Without persistence, and unless it is FTP's port,
    /// it needs nothing. Otherwise a client's connections must stay together, so the port no longer counts, nor do the
    /// address bits that the persistence mask leaves out. Persistence by Call-ID is not looked at: [`Steer::suits`]
    /// refuses it.
    #[must_use]
    pub fn and(self, key: ServiceKey, persistence: Option<Persistence>) -> Self {
        let mask = persistence.map(|persistence| persistence.mask);
        if mask.is_none() && !is_ftp(key) {
            return self;
        }
        let (mut v4, mut v6) = match self {
            Self::Endpoint => (Ipv4Addr::BROADCAST, 128),
            Self::Address { v4, v6 } => (v4, v6),
        };
        match (key.family(), mask.flatten()) {
            // FTP, or persistence by the whole address.
            (_, None) => {}
            (Family::V4, Some(mask)) => v4 &= mask.bits(),
            (Family::V6, Some(Mask::Prefix(length))) => v6 = v6.min(length),
            (Family::V6, Some(Mask::Bits(_))) => {}
        }
        Self::Address { v4, v6 }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Endpoint => f.write_str("address and port"),
            Self::ADDRESS => f.write_str("address"),
            Self::Address { v4, v6 } => {
                let (ones, whole) = (v4.to_bits().leading_ones(), v4.to_bits().count_ones());
                if ones == whole {
                    write!(f, "network (/{ones} and /{v6})")
                } else {
                    write!(f, "network ({v4} and /{v6})")
                }
            }
        }
    }
}

/// Shares packets out over workers: a keyed hash of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steer {
    workers: u32,
    by: By,
    start: u32,
    factor: u32,
}

impl Steer {
    /// The most workers.
    pub const MOST: usize = 64;

    /// Over so many workers, one at least and [`MOST`](Self::MOST) at most; a number beyond is taken as that. The seed
    /// keeps strangers from aiming at one of them.
    #[must_use]
    pub fn new(seed: Seed, workers: usize, by: By) -> Self {
        let (first, second) = seed.derive(PURPOSE).words();
        let workers = workers.clamp(1, Self::MOST) as u32;
        // Odd, so that no bit is lost, and with a high bit, so that those of the input get there.
        Self { workers, by, start: first as u32, factor: second as u32 | 0x4000_0001 }
    }

    /// Everything to one worker.
    pub(crate) const fn alone() -> Self {
        Self { workers: 1, by: By::Endpoint, start: 0, factor: 1 }
    }

    /// How many workers there are.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.workers as usize
    }

    /// What tells clients apart.
    #[must_use]
    pub const fn by(&self) -> By {
        self.by
    }

    /// The worker of a packet with this flow, from 0. A request is one whose destination is an address of the
    /// director's.
    #[must_use]
    pub fn owner(&self, flow: &Flow, request: bool) -> usize {
        let (client, port) = if request {
            (flow.addresses.source(), flow.source_port)
        } else {
            (flow.addresses.destination(), flow.destination_port)
        };
        self.owner_of(client, port)
    }

    /// The worker of a client's packets.
    #[must_use]
    pub fn owner_of(&self, client: IpAddr, port: u16) -> usize {
        let masks = self.masks(match client {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        });
        let mut sum = self.start;
        for (word, mask) in words(client).iter().zip(masks) {
            sum = self.absorb(sum, word & mask);
        }
        if self.by == By::Endpoint {
            sum = self.absorb(sum, port.into());
        }
        sum ^= sum >> 16;
        sum = sum.wrapping_mul(LAST_FACTOR);
        sum ^= sum >> 13;
        // A multiplication in place of a remainder uses the upper bits, which a multiplicative hash mixes best.
        (((sum >> 16) * self.workers) >> 16) as usize
    }

    /// Whether the kernel can tell packets to these addresses from others, see
    /// [`FanError::Many`](crate::device::FanError::Many).
    #[must_use]
    pub fn fits(&self, addresses: &[IpAddr]) -> bool {
        self.workers == 1 || program::build(self, addresses).is_some()
    }

    /// Whether a service can be shared out this way.
    ///
    /// # Errors
    /// [`Unsuited`] says why not.
    pub fn suits(&self, key: ServiceKey, persistence: Option<Persistence>) -> Result<(), Unsuited> {
        if self.workers == 1 {
            return Ok(());
        }
        if persistence.is_some_and(|persistence| persistence.engine.is_some()) {
            return Err(Unsuited::Call);
        }
        // A service is suited when the clients' addresses need not be told apart by fewer bits for it.
        if self.by.and(key, persistence) == self.by {
            return Ok(());
        }
        Err(match (self.by, persistence) {
            (By::Endpoint, Some(_)) => Unsuited::Persistent,
            (By::Endpoint, None) => Unsuited::Ftp,
            (By::Address { .. }, _) => Unsuited::Mask,
        })
    }

    const fn absorb(&self, sum: u32, word: u32) -> u32 {
        // The kernel computes this too, in classic BPF: that has multiplication and shifts of 32 bits, but no rotation.
        let sum = (sum ^ word).wrapping_mul(self.factor);
        sum ^ sum >> 15
    }

    /// The bits of each word of a client's address that count.
    fn masks(&self, family: Family) -> [u32; 4] {
        let By::Address { v4, v6 } = self.by else { return [u32::MAX; 4] };
        match family {
            Family::V4 => [v4.to_bits(), 0, 0, 0],
            Family::V6 => {
                let kept = u128::MAX.checked_shl(128_u32.saturating_sub(v6.into())).unwrap_or(0);
                quarters(kept)
            }
        }
    }
}

/// Why a service cannot be shared out over workers as they are steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each has its remedy")]
pub enum Unsuited {
    /// The service's persistence goes by call: connections of several clients belong together. It needs a director with
    /// one worker.
    Call,
    /// FTP's data connections belong to control connections: clients must be told apart by their address.
    Ftp,
    /// The service's clients share a template by fewer bits of their address than tell them apart for the workers.
    Mask,
    /// A client's connections share a template: clients must be told apart by their address.
    Persistent,
}

impl fmt::Display for Unsuited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call => "persistence by call needs a director with one worker",
            Self::Ftp => "FTP over several workers needs clients to be shared out by their address",
            Self::Mask => {
                "clients are shared out over the workers by more bits of their address than its persistence looks at"
            }
            Self::Persistent => {
                "persistence over several workers needs clients to be shared out by their address"
            }
        })
    }
}

impl core::error::Error for Unsuited {}

/// Whether a service is for FTP's control connections.
const fn is_ftp(key: ServiceKey) -> bool {
    matches!(key, ServiceKey::Address { protocol: Protocol::Tcp, port: 21, .. })
}

/// An address in words, as the program in the kernel loads them.
fn words(address: IpAddr) -> heapless::Vec<u32, 4> {
    match address {
        IpAddr::V4(address) => heapless::Vec::from_iter([address.to_bits()]),
        IpAddr::V6(address) => heapless::Vec::from(quarters(address.to_bits())),
    }
}

const fn quarters(bits: u128) -> [u32; 4] {
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
}

/// What the seed is used for here.
const PURPOSE: u64 = 0x7374_6565_7269_6e67;
/// A factor whose bits are well mixed (Appleby's finalizer of `MurmurHash3`).
const LAST_FACTOR: u32 = 0x85eb_ca6b;

#[cfg(test)]
mod tests {
    use super::*;

    fn steer(workers: usize, by: By) -> Steer {
        Steer::new(Seed::from_bytes(*b"a seed for tests"), workers, by)
    }

    fn flow(from: &str, to: &str) -> Flow {
        Flow::new(Protocol::Tcp, from.parse().unwrap(), to.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_request_and_the_reply_of_any_real_server_meet_at_the_same_worker() {
        for by in [By::Endpoint, By::ADDRESS, By::Address { v4: [255, 255, 255, 0].into(), v6: 64 }] {
            let steer = steer(4, by);
            for port in 1_024..2_048_u16 {
                let client = format!("198.51.100.7:{port}");
                let request = steer.owner(&flow(&client, "192.0.2.100:80"), true);
                assert_eq!(request, steer.owner(&flow("10.0.1.11:8080", &client), false));
                assert_eq!(request, steer.owner(&flow("192.0.2.100:80", &client), false), "of DR, by here");
                let client = format!("[2001:db8:7::{port:x}]:{port}");
                let request = steer.owner(&flow(&client, "[2001:db8::100]:80"), true);
                assert_eq!(request, steer.owner(&flow("[2001:db8:1::11]:80", &client), false));
            }
        }
    }

    #[test]
    fn endpoints_are_shared_out_evenly_and_addresses_stay_together() {
        for workers in [2, 3, 7] {
            let (by_endpoint, by_address) = (steer(workers, By::Endpoint), steer(workers, By::ADDRESS));
            let mut counts = vec![[0_u32; 2]; workers];
            for n in 0..30_000_u32 {
                let port = 1_024 + n as u16;
                counts[by_endpoint.owner_of([198, 51, 100, 7].into(), port)][0] += 1;
                let address = IpAddr::from(0x0a00_0000_u32.wrapping_add(n).to_be_bytes());
                let owner = by_address.owner_of(address, port);
                assert_eq!(owner, by_address.owner_of(address, 9));
                counts[owner][1] += 1;
            }
            let fair = 30_000 / workers as u32;
            for count in counts.into_iter().flatten() {
                assert!(count.abs_diff(fair) < fair / 10, "{count} of {fair}");
            }
        }
    }

    #[test]
    fn a_network_that_shares_templates_shares_a_worker() {
        let steer = steer(8, By::Address { v4: [255, 255, 255, 0].into(), v6: 64 });
        let first = steer.owner_of([198, 51, 100, 0].into(), 1);
        assert!((0..=255).all(|host| steer.owner_of([198, 51, 100, host].into(), 2) == first));
        assert!((0..=255).any(|net| steer.owner_of([198, 51, net, 0].into(), 2) != first));
        let of = |text: &str| steer.owner_of(text.parse().unwrap(), 1);
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
    }

    #[test]
    fn what_belongs_together_needs_the_address() {
        let web = ServiceKey::tcp([192, 0, 2, 100].into(), 80);
        let ftp = ServiceKey::tcp([192, 0, 2, 100].into(), 21);
        let persistent = Persistence::new(300);
        assert_eq!(By::suiting([(web, None)]), By::Endpoint);
        assert_eq!(By::suiting([(web, None), (ftp, None)]), By::ADDRESS);
        assert_eq!(By::suiting([(web, Some(persistent))]), By::ADDRESS);
        let by = By::suiting([(web, Some(persistent.with_mask(24))), (ftp, None)]);
        assert_eq!(by, By::Address { v4: [255, 255, 255, 0].into(), v6: 128 });
        let endpoint = steer(2, By::Endpoint);
        assert_eq!(endpoint.suits(web, None), Ok(()));
        assert_eq!(endpoint.suits(ftp, None), Err(Unsuited::Ftp));
        assert_eq!(endpoint.suits(web, Some(persistent)), Err(Unsuited::Persistent));
        assert_eq!(steer(1, By::Endpoint).suits(web, Some(persistent)), Ok(()), "one worker has all");
        let address = steer(2, By::ADDRESS);
        assert_eq!(address.suits(web, Some(persistent)), Ok(()));
        assert_eq!(address.suits(web, Some(persistent.with_mask(24))), Err(Unsuited::Mask));
        assert_eq!(steer(2, by).suits(web, Some(persistent.with_mask(28))), Ok(()));
        let call = persistent.with_engine(lvs_core::service::PersistenceEngine::Sip);
        assert_eq!(steer(2, by).suits(web, Some(call)), Err(Unsuited::Call));
    }

    #[test]
    fn what_tells_clients_apart_is_said_in_words() {
        assert_eq!(By::Endpoint.to_string(), "address and port");
        assert_eq!(By::ADDRESS.to_string(), "address");
        assert_eq!(By::Address { v4: [255, 255, 0, 0].into(), v6: 64 }.to_string(), "network (/16 and /64)");
    }
}
