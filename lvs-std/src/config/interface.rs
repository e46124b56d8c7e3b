//! A director's ports as they are configured.

use core::net::IpAddr;

use lvs_forward::host::{MacAddress, Prefix};

/// A port of the director, and what the director is on that network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// The name of the machine's interface, at most 15 bytes.
    pub name: String,
    /// By what kind of device the director uses the interface. Default [`DeviceKind::Packet`].
    pub device: DeviceKind,
    /// Which MAC address the director has there. Default [`Mac::Same`].
    pub mac: Mac,
    /// The VLAN whose frames are for this port, 1 to 4,094; `None` for those without a tag. Several ports may be at one
    /// interface, each with a VLAN of its own. Default none.
    pub vlan: Option<u16>,
    /// The director's own addresses with the lengths of their subnets' prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What is behind routers of this network.
    pub routes: Vec<Route>,
}

impl Interface {
    /// The interface of this name, with the defaults and without addresses.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            device: DeviceKind::Packet,
            mac: Mac::Same,
            vlan: None,
            addresses: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// Adds an own address with the length of its subnet's prefix.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr, length: u8) -> Self {
        self.addresses.push((address, length));
        self
    }

    /// Adds a route.
    #[must_use]
    pub fn with_route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// The interface with its VLAN, for messages: `eth0`, `eth0 VLAN 100`.
    #[must_use]
    pub fn title(&self) -> String {
        self.vlan.map_or_else(|| self.name.clone(), |vlan| format!("{} VLAN {vlan}", self.name))
    }

    /// Whether the director reaches `address` by this interface: on its network, or behind a router of it.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        let own = self.addresses.iter().any(|&prefix| covers(prefix, address));
        own || self.routes.iter().any(|route| covers(route.to, address))
    }
}

/// By what kind of device the director uses an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every kind")]
pub enum DeviceKind {
    /// Packet sockets.
    Packet,
    /// `AF_XDP` sockets.
    Xdp,
    /// `AF_XDP` sockets where they lose nothing against packet sockets and can be had, otherwise packet sockets.
    Auto,
}

/// Which MAC address the director has on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every choice")]
pub enum Mac {
    /// An address of the director's own, derived from the interface's, the same at every start.
    Own,
    /// The interface's.
    Same,
    /// A certain one.
    Is(MacAddress),
}

/// A destination that is reached by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a destination and a router are all that there is to it")]
pub struct Route {
    /// The destination: an address and the length of its prefix.
    pub to: (IpAddr, u8),
    /// The router on the link, of whatever address; `None` when the destination itself is on the link.
    pub via: Option<IpAddr>,
}

/// Whether `address` is in the subnet of `prefix`.
pub(super) fn covers(prefix: (IpAddr, u8), address: IpAddr) -> bool {
    Prefix::new(prefix.0, prefix.1).is_some_and(|prefix| prefix.contains(address))
}
