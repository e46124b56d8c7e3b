//! Setting a host up: ports, addresses, routes, neighbours, and how that can fail.

use core::fmt;
use core::net::IpAddr;

use lvs_core::{Family, Tick};

use super::mac::MacAddress;
#[cfg(doc)]
use super::memory::HostSizes;
use super::port::{MAX_PORTS, Port};
use super::route::{MAX_ROUTES, Prefix};
use super::state::Host;
use crate::frame::PortId;
use crate::parse::Link;

/// The least MTU of a port (RFC 791 §3.2).
const MIN_MTU: u16 = 68;

/// 4,095 is reserved (IEEE 802.1Q §9.6).
const MOST_VLAN: u16 = 4_094;

impl Host {
    /// Adds a port; its number is the one that frames from its device must carry. Ports count from 0.
    ///
    /// # Errors
    ///
    /// [`AddPortError`] says which limit was passed.
    pub fn add_port(&mut self, port: Port) -> Result<PortId, AddPortError> {
        check_port(&port)?;
        self.changed();
        let id = PortId(self.ports.len() as u8);
        self.ports.push(port).map_err(|_| AddPortError::Full)?;
        self.least_mtu = self.least_mtu.min(port.mtu());
        Ok(id)
    }

    /// Gives a port another MTU or link-layer address: its interface has changed, or another one has taken its place.
    /// Addresses, routes and neighbours stay. Neighbours learn a new link-layer address when the host
    /// [announces](Self::announce_all) itself. False when there is no such port, or one of another link.
    ///
    /// # Errors
    ///
    /// [`AddPortError`] says what is wrong with it; the port is as it was then.
    pub fn set_port(&mut self, id: PortId, port: Port) -> Result<bool, AddPortError> {
        check_port(&port)?;
        let Some(place) = self.ports.get_mut(usize::from(id.0)).filter(|place| place.link == port.link)
        else {
            return Ok(false);
        };
        // What comes of the device's state; which network it is on was decided when it was added.
        let port = Port { vlan: place.vlan, ..port };
        if *place != port {
            *place = port;
            self.least_mtu = self.ports.iter().map(Port::mtu).min().unwrap_or(u16::MAX);
            self.changed();
        }
        Ok(true)
    }

    /// Gives a port an address, and with it the prefix of `len` bits on that link.
    ///
    /// # Errors
    ///
    /// [`AddAddressError`] says what is wrong with it.
    pub fn add_address(&mut self, port: PortId, address: IpAddr, len: u8) -> Result<(), AddAddressError> {
        let prefix = Prefix::new(address, len).ok_or(AddAddressError::Prefix)?;
        self.port(port).ok_or(AddAddressError::NoPort)?;
        self.check_address(address)?;
        self.changed();
        // A host route to oneself would lead nowhere.
        let whole = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        if len < whole {
            self.routes.set(prefix, None, port).ok_or(AddAddressError::Routes)?;
        }
        self.addresses.insert(address, Some(port)).ok_or(AddAddressError::Full)
    }

    /// Gives the host an address that belongs to no port: a virtual service's. It is answered for on every port.
    ///
    /// # Errors
    ///
    /// [`AddAddressError`] says what is wrong with it.
    pub fn add_virtual_address(&mut self, address: IpAddr) -> Result<(), AddAddressError> {
        self.check_address(address)?;
        self.changed();
        self.addresses.insert(address, None).ok_or(AddAddressError::Full)
    }

    /// Takes an address away; a port's prefix stays. False when the host did not have it.
    pub fn remove_address(&mut self, address: IpAddr) -> bool {
        self.changed();
        self.addresses.remove(address).is_some()
    }

    /// Adds the route for a prefix, or replaces it: through a gateway, or directly on a port's link.
    ///
    /// # Errors
    ///
    /// [`AddRouteError`] says what is wrong with it.
    pub fn add_route(
        &mut self,
        prefix: Prefix,
        via: Option<IpAddr>,
        port: PortId,
    ) -> Result<(), AddRouteError> {
        self.port(port).ok_or(AddRouteError::NoPort)?;
        if via.is_some_and(|via| Family::of(via) != prefix.family()) {
            return Err(AddRouteError::Family);
        }
        let before = self.routes.gateway(prefix);
        self.routes.set(prefix, via, port).ok_or(AddRouteError::Full)?;
        self.note_gateways(before, prefix);
        Ok(())
    }

    /// Takes the route of a prefix away. False when there was none.
    pub fn remove_route(&mut self, prefix: Prefix) -> bool {
        let before = self.routes.gateway(prefix);
        let removed = self.routes.remove(prefix).is_some();
        self.note_gateways(before, prefix);
        removed
    }

    /// The route of a prefix has changed: the neighbour by which it led may be a gateway no longer, and another one
    /// now.
    fn note_gateways(&mut self, before: Option<(PortId, u128)>, prefix: Prefix) {
        self.changed();
        for (port, gateway) in [before, self.routes.gateway(prefix)].into_iter().flatten() {
            self.neighbours.set_gateway(port, gateway, self.routes.leads_by(port, gateway));
        }
    }

    /// Configures a neighbour's link-layer address, which is then neither asked for nor learnt.
    ///
    /// # Errors
    ///
    /// [`AddNeighbourError`] says what is wrong with it.
    pub fn add_neighbour(
        &mut self,
        port: PortId,
        address: IpAddr,
        mac: MacAddress,
    ) -> Result<(), AddNeighbourError> {
        if self.port(port).ok_or(AddNeighbourError::NoPort)?.link() == Link::Bare {
            return Err(AddNeighbourError::Bare);
        }
        if mac.is_group() {
            return Err(AddNeighbourError::Mac);
        }
        self.changed();
        self.neighbours.set(port, address, mac).ok_or(AddNeighbourError::Full)
    }

    /// Forgets a neighbour, configured or learnt. False when it was not known.
    pub fn remove_neighbour(&mut self, port: PortId, address: IpAddr) -> bool {
        self.changed();
        self.neighbours.remove(port, address).is_some()
    }

    /// Doubts the link-layer addresses that were learnt on a port, because another link may be behind it: its interface
    /// has come back. Each neighbour is asked for when it is needed next; configured ones stay.
    pub fn flush_neighbours(&mut self, now: Tick, port: PortId) {
        self.changed();
        self.neighbours.flush(now, port);
    }

    fn check_address(&self, address: IpAddr) -> Result<(), AddAddressError> {
        let group = crate::header::address::is_group(address);
        if group || address.is_unspecified() || address.is_loopback() {
            return Err(AddAddressError::NotUnicast);
        }
        if self.owns(address) { Err(AddAddressError::Exists) } else { Ok(()) }
    }
}

/// Whether a host can have such a port.
fn check_port(port: &Port) -> Result<(), AddPortError> {
    if port.vlan().is_some_and(|vlan| !(1..=MOST_VLAN).contains(&vlan) || port.link() == Link::Bare) {
        return Err(AddPortError::Vlan);
    }
    if port.mtu() < MIN_MTU {
        return Err(AddPortError::Mtu);
    }
    // Neighbours would answer to everybody, or to nobody.
    if port.link() == Link::Ethernet && (port.mac().is_group() || port.mac() == MacAddress::ZERO) {
        return Err(AddPortError::Mac);
    }
    Ok(())
}

macro_rules! errors {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:expr,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => write!(f, "{}", $text),)*
                }
            }
        }

        impl core::error::Error for $name {}
    };
}

errors! {
    /// Why a port cannot be added.
    AddPortError {
        /// The host has [`MAX_PORTS`] ports already.
        Full => format_args!("a host has at most {MAX_PORTS} ports"),
        /// The link-layer address is zero or a group's: give the port one of its own, e.g. a locally administered one.
        Mac => "an Ethernet port needs a unicast link-layer address",
        /// The MTU is below what every IPv4 link carries.
        Mtu => format_args!("an MTU is at least {MIN_MTU} bytes"),
        /// The number is none of a VLAN's (IEEE 802.1Q §9.6), or the port is bare.
        Vlan => format_args!("a VLAN is a number from 1 to {MOST_VLAN}, on an Ethernet port"),
    }
}

errors! {
    /// Why an address cannot be added.
    AddAddressError {
        /// The host has it already: remove it first.
        Exists => "the host has this address already",
        /// The table is full: give the host more [`HostSizes::addresses`].
        Full => "the host's table of addresses is full",
        /// No port of the host has this number.
        NoPort => "no such port",
        /// Group, loopback and unspecified addresses are nobody's.
        NotUnicast => "a host's address is a unicast address",
        /// The prefix is longer than the address.
        Prefix => "the prefix length is larger than the address",
        /// The address's prefix does not fit into the routes.
        Routes => format_args!("a host has at most {MAX_ROUTES} routes"),
    }
}

errors! {
    /// Why a route cannot be added.
    AddRouteError {
        /// The gateway is of another family than the prefix.
        Family => "the gateway is of another family than the prefix",
        /// The host has [`MAX_ROUTES`] routes already.
        Full => format_args!("a host has at most {MAX_ROUTES} routes"),
        /// No port of the host has this number.
        NoPort => "no such port",
    }
}

errors! {
    /// Why a neighbour cannot be added.
    AddNeighbourError {
        /// Bare ports have no link-layer addresses.
        Bare => "a bare port has no neighbours",
        /// All its places are taken by configured neighbours: give the host more [`HostSizes::neighbours`].
        Full => "the host's table of neighbours is full",
        /// The link-layer address is a group's.
        Mac => "a neighbour has a unicast link-layer address",
        /// No port of the host has this number.
        NoPort => "no such port",
    }
}
