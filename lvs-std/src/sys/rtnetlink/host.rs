//! What a real server's machine has and gets: tunnel devices, addresses, default routes.

use core::net::IpAddr;
use std::io;

use netlink_packet_core::{
    Emitable as _, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable as _,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::parts::whole;
use super::{Netlink, family, unexpected};

/// An interface as the kernel has it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
}

impl Netlink {
    /// The interface with this name, if there is one.
    pub(crate) fn find_link(&mut self, name: &str) -> io::Result<Option<Link>> {
        match self.request(RouteNetlinkMessage::GetLink(named(name)), 0) {
            Ok(Some(RouteNetlinkMessage::NewLink(link))) => {
                let up = link.header.flags.contains(LinkFlags::Up);
                Ok(Some(Link { index: link.header.index, up }))
            }
            Ok(other) => Err(unexpected(other.as_ref())),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an interface of a kind without options. The kernel loads the module of that kind if it has one. A module
    /// of tunnels brings an interface of its own with it, so that one of the name may be there although the kernel
    /// says that it cannot be made: that is no error.
    pub(crate) fn make_link(&mut self, name: &str, kind: &str) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.to_owned()))]));
        let made =
            self.request(RouteNetlinkMessage::NewLink(link), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop);
        match made {
            Err(error) if self.find_link(name)?.is_none() => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes an interface.
    pub(crate) fn delete_link(&mut self, name: &str) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelLink(named(name)), NLM_F_ACK).map(drop)
    }

    /// Brings an interface up or down.
    pub(crate) fn bring(&mut self, name: &str, up: bool) -> io::Result<()> {
        let mut link = named(name);
        link.header.change_mask = LinkFlags::Up;
        if up {
            link.header.flags = LinkFlags::Up;
        }
        self.request(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// All addresses of the machine with the lengths of their prefixes, by the numbers of their interfaces.
    pub(crate) fn all_addresses(&mut self) -> io::Result<Vec<(u32, IpAddr, u8)>> {
        let found = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(found
            .into_iter()
            .filter_map(|found| {
                let RouteNetlinkMessage::NewAddress(of) = found else { return None };
                let local = of.attributes.iter().find_map(|attribute| {
                    if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None }
                });
                let any = of.attributes.iter().find_map(|attribute| {
                    if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
                });
                Some((of.header.index, local.or(any)?, of.header.prefix_len))
            })
            .collect())
    }

    /// Gives an interface an address alone, that the machine takes for its own and uses as a source for nothing that
    /// it begins itself: of scope host, or for IPv6 deprecated from the start. There is no duplicate address
    /// detection: others have the address as well.
    pub(crate) fn add_quiet_address(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = quiet(index, address);
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Address(address));
        if address.is_ipv6() {
            let mut lifetime = CacheInfo::default();
            (lifetime.ifa_preferred, lifetime.ifa_valid) = (0, u32::MAX);
            message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        }
        let message = RouteNetlinkMessage::NewAddress(message);
        self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Takes such an address away.
    pub(crate) fn delete_quiet_address(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelAddress(quiet(index, address)), NLM_F_ACK).map(drop)
    }

    /// The default route of the main table with this metric, of the family of an address.
    pub(crate) fn default_route(&mut self, of: IpAddr, metric: u32) -> io::Result<Option<DefaultRoute>> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(of);
        let found = self.dump(RouteNetlinkMessage::GetRoute(question))?;
        Ok(found.into_iter().find_map(|found| {
            let RouteNetlinkMessage::NewRoute(route) = found else { return None };
            let table = route.attributes.iter().find_map(|attribute| {
                if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None }
            });
            let is_default = route.header.destination_prefix_length == 0
                && route.header.address_family == family(of)
                && table.unwrap_or_else(|| route.header.table.into())
                    == u32::from(RouteHeader::RT_TABLE_MAIN)
                && route.header.kind == RouteType::Unicast
                && !route.header.flags.contains(RouteFlags::Cloned)
                && priority(&route) == metric;
            is_default.then_some(DefaultRoute(route))
        }))
    }

    /// Makes a router the default route with this metric, in place of what has the metric now.
    pub(crate) fn lead_all_by(
        &mut self,
        gateway: IpAddr,
        interface: Option<u32>,
        metric: u32,
    ) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewRoute(by_default(gateway, interface, metric));
        self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Takes that default route away.
    pub(crate) fn lead_all_no_more_by(
        &mut self,
        gateway: IpAddr,
        interface: Option<u32>,
        metric: u32,
    ) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelRoute(by_default(gateway, interface, metric));
        self.request(message, NLM_F_ACK).map(drop)
    }

    /// Puts a default route back that was there before, in place of what has its metric now.
    pub(crate) fn put_back(&mut self, route: &DefaultRoute) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewRoute(route.0.clone());
        self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }
}

/// A default route, with all that the kernel says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefaultRoute(RouteMessage);

impl DefaultRoute {
    /// Whether it leads to this router alone, and by this interface if one is given.
    pub(crate) fn is_by(&self, gateway: IpAddr, interface: Option<u32>) -> bool {
        let gateway = RouteAddress::from(gateway);
        let by = self.0.attributes.contains(&RouteAttribute::Gateway(gateway));
        let at = |index| self.0.attributes.contains(&RouteAttribute::Oif(index));
        by && interface.is_none_or(at)
    }

    /// As the kernel takes it back, without what it only tells.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut route = self.0.clone();
        route.header.flags =
            RouteFlags::from_bits_retain(route.header.flags.bits() & RouteFlags::Onlink.bits());
        route.attributes.retain(|of| !matches!(of, RouteAttribute::CacheInfo(_)));
        let mut bytes = vec![0; route.buffer_len()];
        route.emit(&mut bytes);
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) made.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Self> {
        RouteMessage::parse(bytes).map(Self).map_err(io::Error::other)
    }
}

fn priority(route: &RouteMessage) -> u32 {
    let priority = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Priority(priority) = attribute { Some(*priority) } else { None }
    });
    priority.unwrap_or(0)
}

fn by_default(gateway: IpAddr, interface: Option<u32>, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
    message.attributes.extend(interface.map(RouteAttribute::Oif));
    if metric > 0 {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

fn quiet(index: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = whole(address);
    message.header.index = index;
    if address.is_ipv4() {
        message.header.scope = AddressScope::Host;
    }
    message.attributes.push(AddressAttribute::Local(address));
    message
}

/// A link message about the interface `name`.
fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_the_same_after_it_was_written_down() {
        for gateway in ["10.0.1.254", "2001:db8::1"] {
            let gateway = gateway.parse().unwrap();
            let route = DefaultRoute(by_default(gateway, Some(3), 7));
            let read = DefaultRoute::parse(&route.to_bytes()).unwrap();
            assert_eq!(read, route);
            assert!(
                read.is_by(gateway, None) && read.is_by(gateway, Some(3)) && !read.is_by(gateway, Some(4))
            );
        }
        assert!(DefaultRoute::parse(&[1, 2]).is_err());
    }
}
