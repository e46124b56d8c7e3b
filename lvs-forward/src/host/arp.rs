//! ARP over Ethernet (RFC 826, RFC 5227).

use core::net::{IpAddr, Ipv4Addr};

use lvs_core::{Family, Tick};

use super::handled::Handled;
use super::mac::MacAddress;
use super::port::Egress;
use super::state::Host;
use crate::frame::{Frame, PortId};
use crate::header::edit::write_ethernet;
use crate::header::layout::ipv4_in;
use crate::header::{array, array_mut, ethernet};

/// Length of an ARP packet for IPv4 over Ethernet.
pub(crate) const LEN: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

const OPERATION: usize = 6;
const SENDER_MAC: usize = 8;
const SENDER: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET: usize = 24;

/// Answers a request for an own address in place, and learns from whoever speaks to this host.
pub(super) fn handle(
    host: &mut Host,
    now: Tick,
    frame: &mut Frame<'_>,
    at: usize,
    mac: MacAddress,
) -> Handled {
    let port = frame.port;
    let Some(packet) = array::<LEN>(frame.bytes(), at) else {
        return Handled::Malformed;
    };
    let (Some(sender), Some(target), Some(&sender_mac)) =
        (ipv4_in(packet, SENDER), ipv4_in(packet, TARGET), array::<6>(packet, SENDER_MAC))
    else {
        return Handled::Malformed;
    };
    let operation = [packet[OPERATION], packet[OPERATION + 1]];
    if packet[..KIND.len()] != KIND || (operation != REQUEST && operation != REPLY) {
        return Handled::NotOurs;
    }
    let ours = host.addresses.contains(IpAddr::V4(target));
    // A neighbour that asks for us is about to be spoken to. What others shout is believed of known ones only.
    let create = ours && host.is_neighbour(port, IpAddr::V4(sender));
    if host.addresses.contains(IpAddr::V4(sender)) {
        host.hear_claim(now, port, IpAddr::V4(sender), MacAddress(sender_mac));
    } else if !sender.is_multicast() && !sender.is_broadcast() {
        host.learn(now, port, IpAddr::V4(sender), MacAddress(sender_mac), create);
    }
    // A reply to us is no business of the machine's stack; one that others overhear is not ours to keep from it.
    if operation == REPLY {
        return if ours { Handled::Consumed } else { Handled::NotOurs };
    }
    if !ours {
        return Handled::NotOurs;
    }
    match reply(frame, at, mac, target) {
        Some(()) => Handled::Answered,
        None => Handled::Malformed,
    }
}

/// Whose address a request asks for, unless it is from nobody or for the sender itself.
pub(super) fn asked(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let packet = array::<LEN>(bytes, at)?;
    let (sender, target) = (ipv4_in(packet, SENDER)?, ipv4_in(packet, TARGET)?);
    let asks = array(packet, OPERATION) == Some(&REQUEST) && !sender.is_unspecified() && sender != target;
    asks.then_some(target)
}

/// Turns a request into the reply; the link header keeps its VLAN tags.
fn reply(frame: &mut Frame<'_>, at: usize, mac: MacAddress, own: Ipv4Addr) -> Option<()> {
    // Whatever padding came along goes: devices pad short frames themselves.
    frame.set_len(at + LEN)?;
    let bytes = frame.bytes_mut();
    let packet: &mut [u8; LEN] = array_mut(bytes, at)?;
    let asker: [u8; 6] = *array(packet, SENDER_MAC)?;
    let asker_address: [u8; 4] = *array(packet, SENDER)?;
    *array_mut(packet, OPERATION)? = REPLY;
    *array_mut(packet, SENDER_MAC)? = mac.0;
    *array_mut(packet, SENDER)? = own.octets();
    *array_mut(packet, TARGET_MAC)? = asker;
    *array_mut(packet, TARGET)? = asker_address;
    *array_mut(bytes, ethernet::DESTINATION)? = asker;
    *array_mut(bytes, ethernet::SOURCE)? = mac.0;
    Some(())
}

/// Writes a request from `sender` for `target` into `buffer[start..]`: a question when they differ, an announcement
/// when they are equal (RFC 5227 §2.3). Without an address of its own the host asks as a prober does, from 0.0.0.0.
pub(super) fn request<'a>(
    buffer: &'a mut [u8],
    start: usize,
    by: Egress,
    sender: Option<Ipv4Addr>,
    target: Ipv4Addr,
    to: MacAddress,
) -> Option<Frame<'a>> {
    let mut frame = Frame::new(buffer, start, start + LEN, by.port)?;
    let packet: &mut [u8; LEN] = array_mut(frame.bytes_mut(), 0)?;
    *packet = [0; LEN];
    *array_mut(packet, 0)? = KIND;
    *array_mut(packet, OPERATION)? = REQUEST;
    *array_mut(packet, SENDER_MAC)? = by.mac.0;
    *array_mut(packet, SENDER)? = sender.unwrap_or(Ipv4Addr::UNSPECIFIED).octets();
    *array_mut(packet, TARGET)? = target.octets();
    write_ethernet(&mut frame, to.0, by.mac.0, by.vlan, ethernet::TYPE_ARP)?;
    Some(frame)
}

/// The address that a host calls itself by towards a neighbour.
pub(super) fn own_address(host: &Host, port: PortId) -> Option<Ipv4Addr> {
    match host.source(port, Family::V4) {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    }
}
