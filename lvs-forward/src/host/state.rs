//! What the host has and knows: ports, addresses, routes, neighbours; the way of a packet out.

use core::net::IpAddr;

use heapless::Vec;
use lvs_core::{Family, Seed, Tick};

use super::address::OwnAddresses;
use super::conflict::Conflicts;
use super::mac::MacAddress;
use super::memory::{HostMemory, HostSizes};
use super::neighbour::{Lost, Neighbours, Resolution};
use super::pace::Pace;
use super::port::{MAX_PORTS, Port};
use super::route::Routes;
use crate::frame::{Frame, PortId};
use crate::hash::Key;
use crate::header::address::{is_link_local, to_bits};
use crate::header::edit::{ether_type, write_ethernet};
use crate::parse::Link;
use crate::reason::DropReason;

/// How many addresses of this machine real servers can have.
pub const MAX_LOCAL_SERVERS: usize = 64;

#[cfg(feature = "alloc")]
pub(super) type MachineAddresses = alloc::collections::BTreeSet<IpAddr>;

/// The bits of the addresses, in order.
pub(super) type LocalServers = Vec<u128, MAX_LOCAL_SERVERS>;

/// A host: ports, addresses, routes, neighbours. What it can know is bounded by the [`HostMemory`] that it is given.
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
#[cfg_attr(feature = "alloc", derive(Clone))]
pub struct Host {
    pub(crate) ports: Vec<Port, MAX_PORTS>,
    pub(crate) addresses: OwnAddresses,
    pub(crate) routes: Routes,
    pub(crate) neighbours: Neighbours,
    /// Real servers that are this machine itself.
    pub(super) local_servers: LocalServers,
    #[cfg(feature = "alloc")]
    pub(super) machine: Option<MachineAddresses>,
    /// Own addresses that others claim.
    pub(super) conflicts: Conflicts,
    /// The least MTU of all ports: what is no longer fits everywhere.
    pub(super) least_mtu: u16,
    /// How many announcements may leave at a time.
    pub(super) announcements: Pace,
    key: Key,
}

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) port: PortId,
    /// The bits of the neighbour to hand the packet to: a gateway, or the destination itself.
    pub(crate) next: u128,
    /// Whether that is a gateway.
    pub(crate) gateway: bool,
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

impl Host {
    /// A host without ports, with memory of the heap for the default [sizes](HostSizes). The seed keys its tables: it
    /// should be random and secret.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self::with_memory(seed, HostMemory::owned(HostSizes::new()))
    }

    /// A host without ports. The seed keys its tables: it should be random and secret.
    #[must_use]
    pub fn with_memory(seed: Seed, memory: HostMemory) -> Self {
        let key = Key::new(seed);
        let HostMemory { addresses, neighbours, routes } = memory;
        Self {
            ports: Vec::new(),
            addresses: OwnAddresses::new(key, addresses),
            routes: Routes::new(routes),
            neighbours: Neighbours::new(key, neighbours),
            local_servers: LocalServers::new(),
            #[cfg(feature = "alloc")]
            machine: None,
            conflicts: Conflicts::new(),
            least_mtu: u16::MAX,
            announcements: Pace::ANNOUNCEMENTS,
            key,
        }
    }

    /// How much it can know.
    #[must_use]
    pub fn sizes(&self) -> HostSizes {
        let (neighbours, waiting) = self.neighbours.bounds();
        HostSizes { addresses: self.addresses.bound(), neighbours, waiting }
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

    /// Whether no other host can have sent a packet to this one from an address: an IPv4 address of its own (RFC 1812
    /// §5.3.7). Linux drops these before IPVS sees them, and lets IPv6 ones through.
    #[inline]
    pub(crate) fn is_impossible_source(&self, source: IpAddr) -> bool {
        source.is_ipv4() && self.owns(source)
    }

    /// What the host calls itself towards an address: the first address of the port by which that is reached, or any of
    /// its family. `None` when there is no way, or no such address.
    #[must_use]
    pub fn source_towards(&self, address: IpAddr) -> Option<IpAddr> {
        self.source(self.route(address)?.port, Family::of(address))
    }

    /// All its addresses: those of its ports, and the virtual ones.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter()
    }

    /// The gateways of its routes; one may come several times.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.routes.gateways()
    }

    /// Says that packets will go to `address`, a real server's, and asks for the link-layer address of the neighbour by
    /// which it is reached, so that it is known before the first packet goes there: few packets can
    /// [wait](crate::Counters::waited) for it. Nothing is asked for what is known. Says whether a packet could go there
    /// now.
    ///
    /// For an hour from now on that neighbour gives way to none that a stranger has made this host look for, however
    /// full the table is. A program calls this again for its servers within that time; a gateway that a route names has
    /// that right without a call.
    ///
    /// The question comes from [`poll_transmit`](Self::poll_transmit).
    pub fn look_for(&mut self, now: Tick, address: IpAddr) -> bool {
        if self.is_local_server(address) {
            return true;
        }
        let Some(hop) = self.route(address) else { return false };
        let resolution = match self.port(hop.port) {
            Some(Port { link: Link::Ethernet, .. }) => {
                self.neighbours.want(now, hop.port, hop.next, hop.gateway)
            }
            Some(Port { link: Link::Bare, .. }) | None => self.resolve(now, &hop),
        };
        match resolution {
            Resolution::Known(_) => true,
            Resolution::Pending | Resolution::Failed | Resolution::Full => false,
        }
    }

    /// Says again that packets go to `address`, a real server's, so that its neighbour keeps the right that
    /// [`look_for`](Self::look_for) gave it for another hour. A neighbour that is known is asked nothing.
    pub fn still_wants(&mut self, now: Tick, address: IpAddr) {
        if !self.is_local_server(address)
            && let Some(hop) = self.route(address)
            && self.port(hop.port).is_some_and(|port| port.link() == Link::Ethernet)
        {
            self.neighbours.keep_wanted(now, hop.port, hop.next, hop.gateway);
        }
    }

    /// The port by which packets to `address` leave now, to which link-layer address, and how long they may be there.
    /// `None` while that is not known, and where frames need a VLAN tag. For whoever forwards in the forwarder's place:
    /// as when it does itself, neighbours that have not been heard of for long are asked whether they are still there.
    pub fn way_to(&mut self, now: Tick, address: IpAddr) -> Option<(PortId, MacAddress, u16)> {
        let hop = self.route(address)?;
        self.port(hop.port).filter(|port| port.vlan.is_none())?;
        match self.resolve(now, &hop) {
            Resolution::Known(mac) => Some((hop.port, mac, hop.mtu)),
            Resolution::Pending | Resolution::Failed | Resolution::Full => None,
        }
    }

    /// A number that is another one after anything has changed that a way depends on.
    #[inline]
    pub(crate) const fn changes(&self) -> u32 {
        self.neighbours.changes()
    }

    /// Notes that ways may be others than they were.
    pub(super) const fn changed(&mut self) {
        self.neighbours.changed();
    }

    /// What fits through every port.
    #[inline]
    pub(crate) const fn least_mtu(&self) -> u16 {
        self.least_mtu
    }

    pub(crate) const fn key(&self) -> Key {
        self.key
    }

    /// The port by which packets to an address leave, and its own come in; `None` without a route.
    #[must_use]
    pub fn port_towards(&self, address: IpAddr) -> Option<PortId> {
        Some(self.route(address)?.port)
    }

    /// The way to an address; `None` when there is none.
    #[inline]
    pub(crate) fn route(&self, destination: IpAddr) -> Option<Hop> {
        let bits = to_bits(destination);
        let route = self.routes.find(Family::of(destination), bits)?;
        let mtu = self.port(route.port)?.mtu;
        let gateway = route.via != 0;
        Some(Hop { port: route.port, next: if gateway { route.via } else { bits }, gateway, mtu })
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
            Some(Port { link: Link::Ethernet, .. }) => {
                self.neighbours.resolve(now, hop.port, hop.next, hop.gateway)
            }
            None => Resolution::Full,
        }
    }

    /// Gives a frame that begins with its IP header the link header for its next hop, or keeps a copy until that is
    /// known.
    #[inline]
    pub(crate) fn depart(
        &mut self,
        frame: &mut Frame<'_>,
        family: Family,
        hop: &Hop,
        resolution: Resolution,
    ) -> Departure {
        frame.port = hop.port;
        match resolution {
            Resolution::Known(mac) => match self.write_link(frame, mac, family) {
                Some(()) => Departure::Ready,
                None => Departure::Drop(DropReason::NoHeadroom),
            },
            Resolution::Pending => match self.neighbours.wait(frame, family, hop.port, hop.next) {
                Some(()) => Departure::Waits,
                None => Departure::Drop(DropReason::HopPending),
            },
            Resolution::Failed => Departure::Drop(DropReason::HopFailed),
            Resolution::Full => Departure::Drop(DropReason::NeighboursFull),
        }
    }

    /// Sends a frame that begins with its IP header back to the neighbour whose link header stood before it.
    pub(crate) fn send_back(&self, frame: &mut Frame<'_>, family: Family, to: MacAddress) -> Departure {
        match self.write_link(frame, to, family) {
            Some(()) => Departure::Ready,
            None => Departure::Drop(DropReason::NoHeadroom),
        }
    }

    /// What the host calls itself on a port: the port's first address of the family, else any.
    pub(crate) fn source(&self, port: PortId, family: Family) -> Option<IpAddr> {
        // Any own address is better than none: the answer finds back by the routes of whoever gets the packet.
        self.addresses.source(port, family)
    }

    /// Whether an address may be a neighbour's on a port.
    pub(super) fn is_neighbour(&self, port: PortId, address: IpAddr) -> bool {
        match address {
            IpAddr::V6(address) if is_link_local(address) => true,
            IpAddr::V4(_) | IpAddr::V6(_) => {
                // A gateway may be on a link that no address of the host is in the subnet of.
                self.routes.is_on_link(port, address) || self.routes.leads_by(port, to_bits(address))
            }
        }
    }

    pub(super) fn learn(&mut self, now: Tick, port: PortId, address: IpAddr, mac: MacAddress, create: bool) {
        self.neighbours.learn(now, port, address, mac, create);
    }

    /// The packets that waited for a neighbour in vain since the last call.
    #[inline]
    pub(crate) const fn take_lost(&mut self) -> Lost {
        self.neighbours.take_lost()
    }

    pub(super) fn write_link(&self, frame: &mut Frame<'_>, to: MacAddress, family: Family) -> Option<()> {
        let port = self.port(frame.port)?;
        match port.link {
            Link::Bare => Some(()),
            Link::Ethernet => write_ethernet(frame, to.0, port.mac.0, port.vlan, ether_type(family)),
        }
    }
}

impl core::fmt::Debug for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Host").field("ports", &self.ports).finish_non_exhaustive()
    }
}
