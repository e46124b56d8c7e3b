//! Routing by rules of its own (ip-rule(8), `linux/fib_rules.h`): which packets of this machine leave by an interface
//! of the director's.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

pub(crate) use super::parts::whole;
use super::{Netlink, family};

/// Which packets that this machine sends are routed by a table of the director's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    /// Whose packets: an address, with the length of its prefix. An unspecified address alone stands for packets whose
    /// source the route is to choose, and a prefix of length 0 for all.
    pub(crate) from: (IpAddr, u8),
    /// Of which protocol, by its IANA number.
    pub(crate) protocol: Option<u8>,
    /// From which ports, both included.
    pub(crate) ports: Option<(u16, u16)>,
    /// The table.
    pub(crate) table: u32,
}

impl Rule {
    fn message(&self) -> RuleMessage {
        let (address, length) = self.from;
        let mut message = RuleMessage::default();
        message.header.family = family(address);
        message.header.src_len = length;
        message.header.action = RuleAction::ToTable;
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.attributes = vec![
            RuleAttribute::Priority(PRIORITY),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
        ];
        if length == 0 {
            return message;
        }
        message.attributes.push(RuleAttribute::Source(address));
        if address.is_ipv6() {
            // A socket that has no source yet is asked which one it would get.
            message.header.flags = RuleFlags::from_bits_retain(FIND_SOURCE);
        }
        message.attributes.extend(self.protocol.map(|number| RuleAttribute::IpProtocol(number.into())));
        if let Some((start, end)) = self.ports {
            message.attributes.push(RuleAttribute::SourcePortRange(RulePortRange { start, end }));
        }
        message
    }
}

impl Netlink {
    /// Adds a rule; one that is there already is no error.
    pub(crate) fn add_rule(&mut self, rule: &Rule) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewRule(rule.message());
        self.settle(message, NLM_F_CREATE | NLM_F_EXCL, THERE).map(drop)
    }

    /// Takes a rule away; one that is not there is no error.
    pub(crate) fn remove_rule(&mut self, rule: &Rule) -> io::Result<()> {
        self.delete_rule(rule.message())
    }

    fn delete_rule(&mut self, message: RuleMessage) -> io::Result<()> {
        self.settle(RouteNetlinkMessage::DelRule(message), 0, GONE).map(drop)
    }

    /// Has the kernel do what may be done already, as one of these errors says. Returns whether it was still to be
    /// done.
    fn settle(&mut self, message: RouteNetlinkMessage, flags: u16, done: &[libc::c_int]) -> io::Result<bool> {
        match self.request(message, NLM_F_ACK | flags) {
            Err(error) if error.raw_os_error().is_some_and(|number| done.contains(&number)) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// Takes away the rules of directors whose tables `is_stale` says so of: of those that could not do it themselves.
    pub(crate) fn remove_rules_of(&mut self, is_stale: impl Fn(u32) -> bool) -> io::Result<()> {
        for of in [AddressFamily::Inet, AddressFamily::Inet6] {
            for rule in self.rules(of)? {
                let has = |wanted: &RuleAttribute| rule.attributes.contains(wanted);
                let table = rule.attributes.iter().find_map(|attribute| {
                    if let RuleAttribute::Table(table) = attribute { Some(*table) } else { None }
                });
                let ours = has(&RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)))
                    && has(&RuleAttribute::Priority(PRIORITY));
                if ours && table.is_some_and(&is_stale) {
                    self.delete_rule(rule)?;
                }
            }
        }
        Ok(())
    }

    /// All rules of a family.
    fn rules(&mut self, of: AddressFamily) -> io::Result<Vec<RuleMessage>> {
        let mut question = RuleMessage::default();
        question.header.family = of;
        let found = self.dump(RouteNetlinkMessage::GetRule(question))?.into_iter();
        let rules =
            found.filter_map(
                |found| if let RouteNetlinkMessage::NewRule(rule) = found { Some(rule) } else { None },
            );
        Ok(rules.collect())
    }

    /// Asks the kernel whether it would take a packet that comes by an interface; an error says why not.
    pub(crate) fn would_take(
        &mut self,
        interface: u32,
        (from, to): (IpAddr, IpAddr),
        (protocol, port): (u8, u16),
    ) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(to);
        message.header.source_prefix_length = whole(from);
        message.header.destination_prefix_length = whole(to);
        message.attributes = vec![
            RouteAttribute::Source(RouteAddress::from(from)),
            RouteAttribute::Destination(RouteAddress::from(to)),
            RouteAttribute::Iif(interface),
            RouteAttribute::IpProto(protocol),
            RouteAttribute::Sport(SOME_PORT),
            RouteAttribute::Dport(port),
        ];
        self.request(RouteNetlinkMessage::GetRoute(message), 0).map(drop)
    }

    /// Makes a table lead everything of an address's family by an interface, with this source where a socket has none.
    pub(crate) fn lead_by(
        &mut self,
        table: u32,
        interface: u32,
        of: IpAddr,
        source: Option<IpAddr>,
    ) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewRoute(by(table, interface, family(of), source));
        self.settle(message, NLM_F_CREATE | NLM_F_EXCL, THERE).map(drop)
    }

    /// Makes a table lead packets to an address by an interface, with this source where a socket has none. Returns
    /// whether there was no such route, also not with another source.
    pub(crate) fn lead_to(
        &mut self,
        (table, interface): (u32, u32),
        address: IpAddr,
        source: IpAddr,
    ) -> io::Result<bool> {
        let message =
            RouteNetlinkMessage::NewRoute(to(address, by(table, interface, family(address), Some(source))));
        let is_new = self.settle(message.clone(), NLM_F_CREATE | NLM_F_EXCL, THERE)?;
        if !is_new {
            self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)?;
        }
        Ok(is_new)
    }

    /// Takes a route to an address away; one that is not there is no error.
    pub(crate) fn lead_no_more_to(
        &mut self,
        (table, interface): (u32, u32),
        address: IpAddr,
    ) -> io::Result<()> {
        let message = to(address, by(table, interface, family(address), None));
        self.settle(RouteNetlinkMessage::DelRoute(message), 0, GONE).map(drop)
    }

    /// Gives an interface an address of its own, for nobody else on a link; one that it has already is no error.
    pub(crate) fn add_alias(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = whole(address);
        message.header.index = interface;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        let message = RouteNetlinkMessage::NewAddress(message);
        self.settle(message, NLM_F_CREATE | NLM_F_EXCL, THERE).map(drop)
    }
}

/// A route by an interface.
fn by(table: u32, interface: u32, of: AddressFamily, source: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = of;
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    let is_v4 = of == AddressFamily::Inet;
    message.header.scope = if is_v4 { RouteScope::Link } else { RouteScope::Universe };
    message.attributes = vec![RouteAttribute::Table(table), RouteAttribute::Oif(interface)];
    message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(RouteAddress::from(source))));
    message
}

/// A route to an address alone, from one to everywhere.
fn to(address: IpAddr, mut message: RouteMessage) -> RouteMessage {
    message.header.destination_prefix_length = whole(address);
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
    message
}

/// No address yet, of the family of this one.
pub(crate) const fn unspecified(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

const THERE: &[libc::c_int] = &[libc::EEXIST];
const GONE: &[libc::c_int] = &[libc::ENOENT, libc::ESRCH];
/// A client's port, as good as any other one.
const SOME_PORT: u16 = 40_000;
/// What ip-rule(8) and ip-route(8) show as `proto`: who made it.
const PROTOCOL: u8 = 0x4c;
/// After rules that an operator makes with low numbers, before those of the main table (32,766).
const PRIORITY: u32 = 32_000;
/// `FIB_RULE_FIND_SADDR`.
const FIND_SOURCE: u32 = 0x0001_0000;
