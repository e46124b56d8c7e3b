//! Neighbour discovery (RFC 4861 §4.3-4.4 and §7): solicitations and advertisements.

use core::net::{IpAddr, Ipv6Addr};

use lvs_core::packet::Addresses;
use lvs_core::{Family, Tick};

use super::address::Kind;
use super::handled::Handled;
use super::mac::MacAddress;
use super::port::{Egress, Port};
use super::state::Host;
use crate::frame::{Frame, PortId};
use crate::header::edit::{Ipv6, write_ethernet};
use crate::header::icmp::v6;
use crate::header::layout::{Layout, ipv6_in};
use crate::header::{array, array_mut, ethernet, ipv6, protocol};
use crate::icmp::error::own_layout;
use crate::offload::{icmp_is_intact, write_icmp};

/// Length of a solicitation or advertisement with one link-layer address option.
const MESSAGE_LEN: usize = 32;
const PACKET_LEN: usize = ipv6::LEN + MESSAGE_LEN;
/// Length of a packet without an option.
const PROBE_LEN: usize = ipv6::LEN + OPTIONS;
/// From the message's first byte to the target, and to the options.
const TARGET: usize = 8;
const OPTIONS: usize = 24;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Handles message 135 or 136 of a frame on an Ethernet port.
pub(super) fn handle(
    host: &mut Host,
    now: Tick,
    frame: &mut Frame<'_>,
    layout: &Layout,
    mac: MacAddress,
) -> Handled {
    let bytes = frame.bytes();
    let message = bytes.get(layout.transport()..layout.end()).unwrap_or_default();
    let (Some(Addresses::V6 { source, .. }), Some(&[kind, code, ..]), Some(&flags), Some(target)) =
        (layout.addresses(bytes), message.first_chunk::<2>(), message.get(4), ipv6_in(message, TARGET))
    else {
        return Handled::Malformed;
    };
    // RFC 4861 §7.1: 255 proves that no router passed it on.
    if layout.ttl(bytes) != Some(255) || code != 0 || target.is_multicast() || !icmp_is_intact(bytes, layout)
    {
        return Handled::Malformed;
    }
    let port = frame.port;
    let ours = host.addresses.contains(IpAddr::V6(target));
    if kind == v6::ADVERTISEMENT {
        // Somebody claims an own address: learning it would send our packets there.
        if ours {
            let theirs = option(message, TARGET_LINK_LAYER)
                .or_else(|| array::<6>(bytes, ethernet::SOURCE).map(|&octets| MacAddress(octets)));
            if let Some(theirs) = theirs {
                host.hear_claim(now, port, IpAddr::V6(target), theirs);
            }
            return Handled::Consumed;
        }
        if let Some(theirs) = option(message, TARGET_LINK_LAYER) {
            // §7.2.5: without the override flag a different address does not replace a known one.
            let known = host.neighbours.known(port, IpAddr::V6(target));
            if flags & OVERRIDE != 0 || known.is_none_or(|known| known == theirs) {
                host.learn(now, port, IpAddr::V6(target), theirs, false);
            }
        }
        return Handled::Consumed;
    }
    if !ours {
        return Handled::NotOurs;
    }
    let theirs = option(message, SOURCE_LINK_LAYER)
        // RFC 4861 §4.3 lets a unicast question leave the option out, but the answer has to go somewhere.
        .or_else(|| array::<6>(bytes, ethernet::SOURCE).map(|&octets| MacAddress(octets)));
    let Some(theirs) = theirs else {
        return Handled::Malformed;
    };
    let vlan = host.port(port).and_then(Port::vlan);
    let (to, to_mac, flags) = if source.is_unspecified() {
        // Someone checks whether the address is free (RFC 4862 §5.4.3): everybody must hear that it is not.
        (ALL_NODES, multicast_mac(ALL_NODES), OVERRIDE)
    } else {
        let create = host.is_neighbour(port, IpAddr::V6(source));
        host.learn(now, port, IpAddr::V6(source), theirs, create);
        (source, theirs, SOLICITED | OVERRIDE)
    };
    match advertise(frame, layout, target, to, to_mac, mac, vlan, flags) {
        Some(()) => Handled::Answered,
        None => Handled::Malformed,
    }
}

/// Whose address a solicitation asks for, unless it is from nobody.
pub(super) fn asked(bytes: &[u8], layout: &Layout, kind: u8) -> Option<Ipv6Addr> {
    let Addresses::V6 { source, .. } = layout.addresses(bytes)? else { return None };
    let asks = kind == v6::SOLICITATION && !source.is_unspecified();
    ipv6_in(bytes, layout.transport() + TARGET).filter(|_| asks)
}

/// Turns a solicitation into the advertisement.
#[expect(clippy::too_many_arguments, reason = "the fields of the answer, used once")]
fn advertise(
    frame: &mut Frame<'_>,
    layout: &Layout,
    target: Ipv6Addr,
    to: Ipv6Addr,
    to_mac: MacAddress,
    mac: MacAddress,
    vlan: Option<u16>,
    flags: u8,
) -> Option<()> {
    frame.shrink_front(layout.network())?;
    match PACKET_LEN.checked_sub(frame.len()) {
        // The answer may be longer than a question without options.
        Some(missing) => frame.grow_front(missing).map(|_| ())?,
        None => frame.set_len(PACKET_LEN)?,
    }
    let message = Message { kind: v6::ADVERTISEMENT, flags, target, mac, option: TARGET_LINK_LAYER };
    write(frame, target, to, message)?;
    write_ethernet(frame, to_mac.0, mac.0, vlan, ethernet::TYPE_IPV6)
}

/// Writes a question for `target` into `buffer[start..]`, to one neighbour or to all that could have the address.
pub(super) fn solicitation<'a>(
    buffer: &'a mut [u8],
    start: usize,
    by: Egress,
    source: Ipv6Addr,
    target: Ipv6Addr,
    known: Option<MacAddress>,
) -> Option<Frame<'a>> {
    let (to, to_mac) = match known {
        Some(known) => (target, known),
        None => (solicited_node(target), multicast_mac(solicited_node(target))),
    };
    let message =
        Message { kind: v6::SOLICITATION, flags: 0, target, mac: by.mac, option: SOURCE_LINK_LAYER };
    let mut frame = Frame::new(buffer, start, start + PACKET_LEN, by.port)?;
    write(&mut frame, source, to, message)?;
    write_ethernet(&mut frame, to_mac.0, by.mac.0, by.vlan, ethernet::TYPE_IPV6)?;
    Some(frame)
}

/// Writes an announcement of an own address into `buffer[start..]` (RFC 4861 §7.2.6).
pub(super) fn announcement<'a>(
    buffer: &'a mut [u8],
    start: usize,
    by: Egress,
    own: Ipv6Addr,
) -> Option<Frame<'a>> {
    let message = Message {
        kind: v6::ADVERTISEMENT,
        flags: OVERRIDE,
        target: own,
        mac: by.mac,
        option: TARGET_LINK_LAYER,
    };
    let mut frame = Frame::new(buffer, start, start + PACKET_LEN, by.port)?;
    write(&mut frame, own, ALL_NODES, message)?;
    write_ethernet(&mut frame, multicast_mac(ALL_NODES).0, by.mac.0, by.vlan, ethernet::TYPE_IPV6)?;
    Some(frame)
}

/// Writes the question whether anybody else has an own address (RFC 4862 §5.4.2): from nobody, and so without a
/// link-layer address.
pub(super) fn probe<'a>(buffer: &'a mut [u8], start: usize, by: Egress, own: Ipv6Addr) -> Option<Frame<'a>> {
    let group = solicited_node(own);
    let mut frame = Frame::new(buffer, start, start + PROBE_LEN, by.port)?;
    let message = Message { kind: v6::SOLICITATION, flags: 0, target: own, mac: by.mac, option: 0 };
    write(&mut frame, Ipv6Addr::UNSPECIFIED, group, message)?;
    write_ethernet(&mut frame, multicast_mac(group).0, by.mac.0, by.vlan, ethernet::TYPE_IPV6)?;
    Some(frame)
}

struct Message {
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    mac: MacAddress,
    option: u8,
}

/// Fills a frame of [`PACKET_LEN`] bytes, or of [`PROBE_LEN`] without an option.
fn write(frame: &mut Frame<'_>, source: Ipv6Addr, destination: Ipv6Addr, message: Message) -> Option<()> {
    let layout = own_layout(frame.len(), ipv6::LEN, Family::V6);
    let length = frame.len().checked_sub(ipv6::LEN)?;
    let bytes = frame.bytes_mut();
    let header = Ipv6 {
        traffic_class: 0,
        payload_len: length as u16,
        next_header: protocol::ICMPV6,
        hop_limit: 255,
        source,
        destination,
    };
    *array_mut(bytes, 0)? = header.to_bytes();
    let body = bytes.get_mut(ipv6::LEN..)?;
    body.fill(0);
    *body.get_mut(0)? = message.kind;
    *body.get_mut(4)? = message.flags;
    *array_mut(body, TARGET)? = message.target.octets();
    if body.len() == MESSAGE_LEN {
        *array_mut(body, OPTIONS)? = [message.option, 1];
        *array_mut(body, OPTIONS + 2)? = message.mac.0;
    }
    write_icmp(bytes, &layout)
}

/// The link-layer address in an option of this type.
fn option(message: &[u8], wanted: u8) -> Option<MacAddress> {
    let mut rest = message.get(OPTIONS..)?;
    while let [kind, units, ..] = *rest {
        let len = usize::from(units) * 8;
        let (this, next) = rest.split_at_checked(len)?;
        if kind == wanted && len >= 8 {
            return array::<6>(this, 2).map(|&octets| MacAddress(octets));
        }
        // RFC 4861 §4.6: of length zero, and this loop would not end.
        if len == 0 {
            return None;
        }
        rest = next;
    }
    None
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group that whoever has `address` listens to (RFC 4291 §2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 group (RFC 2464 §7).
fn multicast_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

/// The address that a host asks from: one of the port, so that the answer finds back.
pub(super) fn own_address(host: &Host, port: PortId, target: Ipv6Addr) -> Option<Ipv6Addr> {
    let own = match host.addresses.on_port(port, Kind::of(IpAddr::V6(target))) {
        Some(IpAddr::V6(address)) => Some(address),
        Some(IpAddr::V4(_)) | None => None,
    };
    let any = || match host.source(port, Family::V6) {
        Some(IpAddr::V6(address)) => Some(address),
        Some(IpAddr::V4(_)) | None => None,
    };
    // Of the target's own kind, or the neighbour might route its answer.
    own.or_else(any)
}
