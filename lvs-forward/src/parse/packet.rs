//! What a packet says to the director: its flow and what it carries.

use lvs_core::packet::{Addresses, Chunk};
use lvs_core::{Content, Flow, Packet, Protocol, TcpFlags};

use super::link::Malformed;
use crate::frame::Frame;
use crate::header::layout::{Fragment, Layout, addresses_at};
use crate::header::{array, get16, protocol, sctp, tcp, udp};

/// The packet of a protocol that can be balanced.
#[inline(always)]
pub(crate) fn flow(frame: &Frame<'_>, layout: &Layout, balanced: Protocol) -> Result<Packet, Malformed> {
    let bytes = frame.bytes();
    let (source_port, destination_port, content) = if layout.fragment == Fragment::Later {
        (0, 0, Content::Fragment)
    } else {
        transport(bytes, layout, balanced).ok_or(Malformed::Cut)?
    };
    let addresses = addresses_at(bytes, layout.network(), layout.family).ok_or(Malformed::Cut)?;
    let flow = Flow { protocol: balanced, addresses, source_port, destination_port };
    let length = layout.end - layout.network;
    Ok(Packet::new(flow, content, length).marked(frame.mark))
}

/// AH and ESP, which follow a key exchange between the same hosts.
pub(crate) const fn is_ipsec(protocol: u8) -> bool {
    matches!(protocol, protocol::AUTHENTICATION | protocol::ESP)
}

/// The flow that AH and ESP packets between these addresses belong to: the key exchange's (RFC 7296 §2).
pub(crate) const fn ipsec_flow(addresses: Addresses) -> Flow {
    Flow { protocol: Protocol::Udp, addresses, source_port: KEY_EXCHANGE, destination_port: KEY_EXCHANGE }
}

/// An AH or ESP packet, in fragments or not. Behind an IPv6 AH stands the packet that it belongs to, which is the one
/// that counts.
pub(crate) fn ipsec(frame: &Frame<'_>, layout: &Layout) -> Option<Packet> {
    if !is_ipsec(layout.protocol) {
        return None;
    }
    let flow = ipsec_flow(layout.addresses(frame.bytes())?);
    Some(Packet::new(flow, Content::Ipsec, layout.end - layout.network).marked(frame.mark))
}

/// The port of the Internet key exchange.
const KEY_EXCHANGE: u16 = 500;

/// Ports and content of a whole or first fragment.
#[inline(always)]
fn transport(bytes: &[u8], layout: &Layout, balanced: Protocol) -> Option<(u16, u16, Content)> {
    let segment = bytes.get(layout.transport()..layout.end())?;
    let ports = |header: &[u8]| Some((get16(header, 0)?, get16(header, 2)?));
    let (header_len, content) = match balanced {
        Protocol::Tcp => {
            (tcp::LEN, Content::Tcp(TcpFlags::from_byte(segment.first_chunk::<{ tcp::LEN }>()?[tcp::FLAGS])))
        }
        Protocol::Udp => (udp::LEN, Content::Udp),
        Protocol::Sctp => {
            let &[kind, ..] = array::<4>(segment, sctp::LEN)?;
            (sctp::LEN, Content::Sctp(Chunk::from_type(kind)))
        }
    };
    let (source, destination) = ports(segment.get(..header_len)?)?;
    Some((source, destination, content))
}
