//! What the host has and knows: ports, addresses, routes, neighbours; the way of a packet out.

use core::net::IpAddr;

use heapless::Vec;
use lvs_core::{Family, Seed, Tick};

use super::address::OwnAddresses;
use super::mac::MacAddress;
use super::neighbour::{Neighbours, Resolution};
use super::route::Routes;
use super::waiting::Waiting;
use crate::frame::{Frame, PortId};
use crate::hash::Key;
use crate::header::address::{is_link_local, to_bits};
use crate::header::edit::{Tags, ether_type, write_ethernet};
use crate::parse::Link;
use crate::reason::DropReason;

/// How many ports a host can have.
pub const MAX_PORTS: usize = 16;

/// One of the host's ports: what the device behind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub(super) link: Link,
    pub(super) mac: MacAddress,
    pub(super) mtu: u16,
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

    /// How the port's frames begin.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.link
    }

    /// The port's link-layer address; all zero for a bare port.
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

/// A host with up to `ADDRESSES` addresses and `NEIGHBOURS` known neighbours. It allocates nothing: with the defaults
/// it is about 50 KiB large and best lives in a `Box` or a `static`.
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
    pub(super) waiting: Waiting,
    /// The least MTU of all ports: what is no longer fits everywhere.
    pub(super) least_mtu: u16,
    /// Whether an address has announcements left.
    pub(super) announcing: bool,
    /// Goes up with everything that may change a way: ports, addresses, routes, neighbours.
    pub(super) changes: u32,
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

/// What became of a packet on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The packet has its link header.
    Ready,
    /// The packet waits for its neighbour.
    Waits,
    Drop(DropReason),
}

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

    /// Asks for the link-layer address of the neighbour by which `address` is reached, so that it is known before the
    /// first packet goes there: few packets can [wait](crate::Counters::waited) for it. Nothing is asked for what is
    /// known. Says whether a packet could go there now.
    ///
    /// The question comes from [`poll_transmit`](Self::poll_transmit).
    pub fn look_for(&mut self, now: Tick, address: IpAddr) -> bool {
        let Some(hop) = self.route(address) else { return false };
        match self.resolve(now, &hop) {
            Resolution::Known(_) => true,
            Resolution::Pending | Resolution::Failed | Resolution::Full => false,
        }
    }

    /// The port by which packets to `address` leave now, to which link-layer address, and how long they may be there.
    /// `None` while that is not known. For whoever forwards in the forwarder's place: as when it does itself,
    /// neighbours that have not been heard of for long are asked whether they are still there.
    pub fn way_to(&mut self, now: Tick, address: IpAddr) -> Option<(PortId, MacAddress, u16)> {
        let hop = self.route(address)?;
        match self.resolve(now, &hop) {
            Resolution::Known(mac) => Some((hop.port, mac, hop.mtu)),
            Resolution::Pending | Resolution::Failed | Resolution::Full => None,
        }
    }

    /// A number that is another one after anything has changed that a way depends on.
    pub(crate) const fn changes(&self) -> u32 {
        self.changes
    }

    /// Notes that ways may be others than they were.
    pub(super) const fn changed(&mut self) {
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

    /// The bits of the first and the last address around one that is not the host's, for all of which that is so and
    /// the same route holds, and whether that has a gateway.
    pub(crate) fn stretch(&self, around: IpAddr) -> Option<(u128, u128, bool)> {
        let (low, high, gateway) = self.routes.stretch(around)?;
        let (after, before) = self.addresses.gap(around);
        Some((low.max(after), high.min(before), gateway))
    }

    /// Whether a next hop can be reached, as far as is known. Starts to ask for it when it is not.
    #[inline]
    pub(crate) fn resolve(&mut self, now: Tick, hop: &Hop) -> Resolution {
        match self.port(hop.port) {
            // A TUN device has one neighbour, the stack behind it, and no addresses on its link.
            Some(Port { link: Link::Bare, .. }) => Resolution::Known(MacAddress::ZERO),
            Some(Port { link: Link::Ethernet, .. }) => self.neighbours.resolve(now, hop.port, hop.next),
            None => Resolution::Full,
        }
    }

    /// Gives a frame that begins with its IP header the link header for its next hop, or keeps a copy until that is
    /// known.
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
        // Any own address is better than none: the answer finds back by the routes of whoever gets the packet.
        self.addresses.on_port(port, family).or_else(|| {
            let own = self.addresses.iter().find(|own| Family::of(own.address) == family)?;
            Some(own.address)
        })
    }

    /// Whether an address may be a neighbour's on a port.
    pub(super) fn is_neighbour(&self, port: PortId, address: IpAddr) -> bool {
        match address {
            IpAddr::V6(address) if is_link_local(address) => true,
            IpAddr::V4(_) | IpAddr::V6(_) => self.routes.is_on_link(port, address),
        }
    }

    pub(super) fn learn(&mut self, now: Tick, port: PortId, address: IpAddr, mac: MacAddress, create: bool) {
        self.changed();
        if self.neighbours.learn(now, port, address, mac, create) {
            self.waiting.release(port, to_bits(address), mac);
        }
    }

    pub(super) fn write_link(
        &self,
        frame: &mut Frame<'_>,
        to: MacAddress,
        tags: &Tags,
        family: Family,
    ) -> Option<()> {
        let port = self.port(frame.port)?;
        match port.link {
            Link::Bare => Some(()),
            Link::Ethernet => write_ethernet(frame, to.0, port.mac.0, tags, ether_type(family)),
        }
    }
}

impl<const A: usize, const N: usize> core::fmt::Debug for Host<A, N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Host").field("ports", &self.ports).finish_non_exhaustive()
    }
}
