//! What a lab makes: links, addresses, routes.

use core::net::IpAddr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::parts::whole;
use super::{Netlink, family, unexpected};

/// What the kernel says of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// The interface's index in the namespace.
    pub index: u32,
    /// The interface's MAC address; all zero for an interface without one.
    pub mac: [u8; 6],
    /// The interface's MTU in bytes.
    pub mtu: u32,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// To a router.
    Gateway(IpAddr),
    /// Directly onto the link of the interface with this index.
    OnLink(u32),
}

impl Netlink {
    /// Makes two joined Ethernet interfaces: `name` here and `peer` in the namespace of `peer_namespace`, each with so
    /// many queues for each direction.
    pub(crate) fn add_veth(
        &mut self,
        name: &str,
        (peer, peer_namespace): (&str, BorrowedFd<'_>),
        queues: u32,
    ) -> io::Result<()> {
        let of_each = [LinkAttribute::NumTxQueues(queues), LinkAttribute::NumRxQueues(queues)];
        let mut other = named(peer);
        other.attributes.push(LinkAttribute::NetNsFd(peer_namespace.as_raw_fd()));
        other.attributes.extend(of_each.clone());
        let mut link = named(name);
        link.attributes.extend(of_each);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        self.create(RouteNetlinkMessage::NewLink(link))
    }

    /// Makes a bridge that floods multicast, so that nothing depends on who joined which group.
    pub(crate) fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ]));
        self.create(RouteNetlinkMessage::NewLink(link))
    }

    /// How many routing rules there are for IPv4.
    pub(crate) fn count_rules(&mut self) -> io::Result<usize> {
        let mut question = RuleMessage::default();
        question.header.family = AddressFamily::Inet;
        let found = self.dump(RouteNetlinkMessage::GetRule(question))?;
        Ok(found.iter().filter(|found| matches!(found, RouteNetlinkMessage::NewRule(_))).count())
    }

    /// Makes the interface `name` for the frames of one VLAN of the interface with this index.
    pub(crate) fn add_vlan(&mut self, name: &str, trunk: u32, vlan: u16) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::Link(trunk));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(vlan)])),
        ]));
        self.create(RouteNetlinkMessage::NewLink(link))
    }

    /// Removes an interface, and with it the other end of a veth pair.
    pub(crate) fn remove_link(&mut self, name: &str) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelLink(named(name)), NLM_F_ACK).map(drop)
    }

    /// Gives an interface another name. Older kernels ask for one that is down.
    pub(crate) fn rename(&mut self, name: &str, new: &str) -> io::Result<()> {
        let mut link = named(new);
        link.header.index = self.interface(name)?.index;
        self.request(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Moves an interface to another network namespace. There it is down and has no addresses.
    pub(crate) fn move_to(&mut self, name: &str, namespace: BorrowedFd<'_>) -> io::Result<()> {
        self.change(name, LinkAttribute::NetNsFd(namespace.as_raw_fd()))
    }

    /// Makes the interface `port` a port of the bridge with index `bridge`.
    pub(crate) fn set_controller(&mut self, port: &str, bridge: u32) -> io::Result<()> {
        self.change(port, LinkAttribute::Controller(bridge))
    }

    /// Sets the MTU in bytes.
    pub(crate) fn set_mtu(&mut self, name: &str, mtu: u32) -> io::Result<()> {
        self.change(name, LinkAttribute::Mtu(mtu))
    }

    /// Sets how long merged frames may be that go out and come in by an interface, in bytes (`gso_max_size`,
    /// `gro_max_size` and the same for IPv4 alone, which Linux has since 6.3).
    pub(crate) fn set_merged_lengths(&mut self, name: &str, bytes: u32) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.extend([
            LinkAttribute::GsoMaxSize(bytes),
            LinkAttribute::GroMaxSize(bytes),
            LinkAttribute::GsoIpv4MaxSize(bytes),
            LinkAttribute::GroIpv4MaxSize(bytes),
        ]);
        self.request(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Brings an interface up or down.
    pub(crate) fn set_up(&mut self, name: &str, up: bool) -> io::Result<()> {
        let mut link = named(name);
        link.header.change_mask = LinkFlags::Up;
        if up {
            link.header.flags = LinkFlags::Up;
        }
        self.request(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Index, MAC address and MTU of an interface.
    pub(crate) fn interface(&mut self, name: &str) -> io::Result<Interface> {
        match self.request(RouteNetlinkMessage::GetLink(named(name)), 0)? {
            Some(RouteNetlinkMessage::NewLink(link)) => {
                let mut interface = Interface { index: link.header.index, mac: [0; 6], mtu: 0 };
                for attribute in link.attributes {
                    if let LinkAttribute::Address(address) = &attribute {
                        interface.mac = address.as_slice().try_into().unwrap_or_default();
                    }
                    if let LinkAttribute::Mtu(mtu) = attribute {
                        interface.mtu = mtu;
                    }
                }
                Ok(interface)
            }
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// Adds an address that is usable at once, without duplicate address detection.
    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.create(RouteNetlinkMessage::NewAddress(message))
    }

    /// Takes an address away.
    pub(crate) fn remove_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(address)];
        self.request(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK).map(drop)
    }

    /// Adds a route to the main table.
    pub(crate) fn add_route(&mut self, destination: IpAddr, prefix: u8, hop: Hop) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = prefix;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        if prefix > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
        }
        match hop {
            Hop::Gateway(gateway) => {
                message.header.scope = RouteScope::Universe;
                message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
            }
            Hop::OnLink(index) => {
                message.header.scope = RouteScope::Link;
                message.attributes.push(RouteAttribute::Oif(index));
            }
        }
        self.create(RouteNetlinkMessage::NewRoute(message))
    }

    /// The MTU of the path to `destination` as far as this kernel has learnt it from ICMP; `None` when it knows of
    /// nothing smaller than the interface's.
    pub(crate) fn path_mtu(&mut self, destination: IpAddr) -> io::Result<Option<u32>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = whole(destination);
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
        match self.request(RouteNetlinkMessage::GetRoute(message), 0)? {
            Some(RouteNetlinkMessage::NewRoute(route)) => {
                let metrics = route.attributes.into_iter().find_map(|attribute| {
                    if let RouteAttribute::Metrics(metrics) = attribute { Some(metrics) } else { None }
                });
                Ok(metrics
                    .into_iter()
                    .flatten()
                    .find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(mtu) } else { None }))
            }
            other => Err(unexpected(other.as_ref())),
        }
    }

    fn change(&mut self, name: &str, attribute: LinkAttribute) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(attribute);
        self.request(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    fn create(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }
}

/// A link message about the interface `name`.
fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}
