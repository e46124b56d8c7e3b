//! `[[interface]]`, `[[mark]]` and virtual addresses: what the director is as a host.

use core::net::IpAddr;
use core::ops::Range;

use lvs_forward::host::{AddAddressError, Host, MacAddress, Port, Prefix};
use toml::Spanned;

use super::Reader;
use crate::config::interface::covers;
use crate::config::{ConfigError, DeviceKind, Interface, Mac, Route, VirtualService, raw};
use crate::device::mark::MarkRule;

impl Reader<'_> {
    pub(super) fn interfaces(
        self,
        raw: &[raw::Interface],
        host: &mut Host,
    ) -> Result<Vec<Interface>, ConfigError> {
        let mut interfaces: Vec<Interface> = Vec::new();
        for raw in raw {
            let interface = self.interface(raw, host)?;
            let same = |other: &&Interface| other.name == interface.name;
            if interfaces.iter().filter(same).any(|other| other.vlan == interface.vlan) {
                return Err(self
                    .error(raw.name.span(), format!("interface `{}` is there twice", interface.title()))
                    .hint("put all its addresses into one [[interface]], or give each a `vlan` of its own"));
            }
            let by_xdp = |one: &Interface| one.device != DeviceKind::Packet;
            if interfaces.iter().find(same).is_some_and(|other| by_xdp(other) || by_xdp(&interface)) {
                return Err(self
                    .error(
                        raw.name.span(),
                        format!("several ports at `{}` cannot share AF_XDP", interface.name),
                    )
                    .hint("leave `device` out for each of them: packet sockets can be shared"));
            }
            interfaces.push(interface);
        }
        if interfaces.is_empty() {
            return Err(self
                .error(self.source.len()..self.source.len(), "there is no [[interface]]")
                .hint("name at least one interface by which clients and real servers are reached"));
        }
        Ok(interfaces)
    }

    fn interface(self, raw: &raw::Interface, host: &mut Host) -> Result<Interface, ConfigError> {
        let name = raw.name.get_ref();
        if name.is_empty() || name.len() > 15 || name.contains(|c: char| c == '/' || c.is_whitespace()) {
            return Err(self
                .error(raw.name.span(), format!("`{name}` cannot be the name of an interface"))
                .hint("expected 1 to 15 bytes without blanks and slashes, such as \"eth0\""));
        }
        let vlan = self.number(raw.vlan.as_ref(), "vlan", 1..=4_094)?.map(|vlan| vlan as u16);
        let port = Port::ethernet(MacAddress([2, 0, 0, 0, 0, 0]), 1_500);
        let port = host
            .add_port(vlan.map_or(port, |vlan| port.with_vlan(vlan)))
            .map_err(|error| self.error(raw.name.span(), error.to_string()))?;
        let mut addresses = Vec::new();
        for prefix in &raw.addresses {
            let raw::Prefix { address, length } = *prefix.get_ref();
            host.add_address(port, address, length).map_err(|error| {
                self.address_error(host, prefix.span(), &format!("{address} cannot be an own address"), error)
            })?;
            addresses.push((address, length));
        }
        let mut routes = Vec::new();
        for gateway in &raw.gateways {
            let via = gateway.get_ref().0;
            let any = if via.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            routes.push((Route { to: (any, 0), via: Some(via) }, false, gateway.span()));
        }
        for route in &raw.routes {
            let raw::Prefix { address, length } = *route.to.get_ref();
            let via = route.via.as_ref().map(|via| via.get_ref().0);
            let span = route.via.as_ref().map_or_else(|| route.to.span(), Spanned::span);
            let on_link = route.on_link.as_ref().is_some_and(|on| *on.get_ref());
            if let (None, Some(on_link)) = (via, &route.on_link) {
                return Err(
                    self.error(on_link.span(), "a route without `via` is on the link anyway; leave it out")
                );
            }
            routes.push((Route { to: (address, length), via }, on_link, span));
        }
        // A router that is no neighbour, or a second one for a destination, is found by the host itself.
        for (route, on_link, span) in &routes {
            if let Some(via) = route.via {
                self.check_router(&addresses, via, *on_link, span)?;
            }
            let added =
                Prefix::new(route.to.0, route.to.1).map(|prefix| host.add_route(prefix, route.via, port));
            if let Some(Err(error)) = added {
                let way = route.via.map_or_else(|| "this interface".to_owned(), |via| via.to_string());
                return Err(self.error(
                    span.clone(),
                    format!("{way} cannot be the way to {}/{}: {error}", route.to.0, route.to.1),
                ));
            }
        }
        let routes = routes.into_iter().map(|(route, _, _)| route).collect();
        let device = match raw.device.as_ref().map(|device| *device.get_ref()) {
            None | Some(raw::DeviceKind::Packet) => DeviceKind::Packet,
            Some(raw::DeviceKind::Xdp) => DeviceKind::Xdp,
            Some(raw::DeviceKind::Auto) => DeviceKind::Auto,
        };
        Ok(Interface {
            name: name.clone(),
            device,
            mac: self.mac(raw.mac.as_ref())?,
            vlan,
            addresses,
            routes,
        })
    }

    /// Whether a router can be a neighbour on an interface: it is in a subnet of an own address, has an address of the
    /// link alone, is said to be there, or the own addresses have no subnets that could say.
    fn check_router(
        self,
        addresses: &[(IpAddr, u8)],
        via: IpAddr,
        on_link: bool,
        span: &Range<usize>,
    ) -> Result<(), ConfigError> {
        let of_family = || addresses.iter().filter(|(own, _)| own.is_ipv4() == via.is_ipv4());
        if of_family().next().is_none() {
            return Err(self
                .error(span.clone(), format!("no address of this interface is of the family of {via}"))
                .hint("add an own address to `addresses`, from which the router can be asked"));
        }
        let link_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
        let alone = of_family().all(|&(_, length)| length == if via.is_ipv4() { 32 } else { 128 });
        if on_link || link_local || alone || of_family().any(|&prefix| covers(prefix, via)) {
            return Ok(());
        }
        Err(self.error(span.clone(), format!("no address of this interface is in the subnet of {via}")).hint(
            "add an own address in the router's subnet, such as \"10.0.1.254/24\", to `addresses`; where the router is \
             on the link all the same, write routes = [{ to = \"0.0.0.0/0\", via = \"..\", on-link = true }]",
        ))
    }

    /// A rule for each port, or one for all.
    pub(super) fn marks(self, raw: &[raw::Mark]) -> Result<Vec<MarkRule>, ConfigError> {
        let mut rules = Vec::new();
        for raw in raw {
            let mark = self.number(Some(&raw.mark), "mark", 1..=u32::MAX)?.unwrap_or_default();
            let raw::Prefix { address, length } = *raw.to.get_ref();
            let Some(destination) = Prefix::new(address, length) else {
                return Err(self.error(raw.to.span(), format!("{address} has no {length} bits")));
            };
            let protocol = raw.protocol.map(Into::into);
            let mut rule = |ports| rules.push(MarkRule { mark, protocol, destination, ports });
            match &raw.ports {
                None => rule(0..=u16::MAX),
                Some(ports) => {
                    for port in ports {
                        let port = self.number(Some(port), "port", 1..=65_535)?.unwrap_or_default() as u16;
                        rule(port..=port);
                    }
                }
            }
        }
        Ok(rules)
    }

    /// The services' addresses and the further ones. Own addresses may be virtual ones as well.
    pub(super) fn virtual_addresses(
        self,
        file: &raw::File,
        host: &mut Host,
    ) -> Result<Vec<IpAddr>, ConfigError> {
        let services = file.service.iter().filter_map(|service| service.get_ref().address.as_ref());
        let mut addresses = Vec::new();
        for address in services.chain(&file.virtual_addresses) {
            let (span, address) = (address.span(), address.get_ref().0);
            if !host.owns(address) {
                host.add_virtual_address(address).map_err(|error| {
                    self.address_error(host, span, &format!("{address} cannot be a virtual address"), error)
                })?;
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    fn address_error(
        self,
        host: &Host,
        span: Range<usize>,
        what: &str,
        error: AddAddressError,
    ) -> ConfigError {
        if error == AddAddressError::Full {
            return self.too_many(span, "addresses", host.sizes().addresses);
        }
        self.error(span, format!("{what}: {error}"))
    }

    fn mac(self, text: Option<&Spanned<String>>) -> Result<Mac, ConfigError> {
        let Some(text) = text else { return Ok(Mac::Same) };
        match text.get_ref().as_str() {
            "own" => return Ok(Mac::Own),
            "same" => return Ok(Mac::Same),
            _ => {}
        }
        let Ok(mac) = text.get_ref().parse::<MacAddress>() else {
            return Err(self
                .error(text.span(), format!("`{}` is no MAC address", text.get_ref()))
                .hint("expected \"own\", \"same\" or one such as \"02:00:5e:00:53:01\""));
        };
        if mac.is_group() || mac == MacAddress::ZERO {
            return Err(self
                .error(text.span(), "no single host can have this MAC address")
                .hint("expected one whose first byte is even, such as \"02:00:5e:00:53:01\""));
        }
        Ok(Mac::Is(mac))
    }

    /// Finds the first real server to which there is no way.
    pub(super) fn reachable(
        self,
        interfaces: &[Interface],
        services: &[VirtualService],
        raw: &[Spanned<raw::Service>],
    ) -> Result<(), ConfigError> {
        let raw_servers = raw.iter().flat_map(|service| {
            let service = service.get_ref();
            service.server.iter().chain(service.sorry_server.as_ref().map(Spanned::get_ref))
        });
        let servers = services.iter().flat_map(|service| service.servers.iter().chain(&service.health.sorry));
        for (server, raw) in servers.zip(raw_servers) {
            let address = server.address.ip();
            // A loopback address is this machine's own stack.
            let reached =
                address.is_loopback() || interfaces.iter().any(|interface| interface.reaches(address));
            if !reached {
                return Err(self
                    .error(raw.address.span(), format!("no interface has a way to the real server {address}"))
                    .hint("add an own address in its subnet to an interface, or a gateway; this machine is 127.0.0.1"));
            }
        }
        Ok(())
    }
}
