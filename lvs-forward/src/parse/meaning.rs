//! What packets are that have no ports: ICMP messages, and protocols that are not balanced.

use lvs_core::{Content, Family, Packet};

use super::embedded::Embedded;
use super::link::Malformed;
use crate::frame::Frame;
use crate::header::layout::{Fragment, Layout};
use crate::header::{icmp, protocol};

/// What an IP packet is to the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever handles packets must handle each")]
pub enum Meaning {
    /// An ICMP or `ICMPv6` message of this type that is about no connection.
    Control(u8),
    /// An ICMP or `ICMPv6` error about a packet of a protocol that can be balanced. Its [`Packet::flow`] is the
    /// embedded packet's, reversed.
    Error(Packet, Embedded),
    /// A packet of a protocol that can be balanced.
    Flow(Packet),
    /// Any other protocol.
    Other,
    /// An ICMP error about an IP in IP or GRE packet, perhaps one of our own tunnels.
    Wrapped(Embedded),
}

/// What a packet of another protocol is.
pub(crate) fn control(frame: &Frame<'_>, layout: &Layout) -> Result<Meaning, Malformed> {
    let bytes = frame.bytes();
    let control = match layout.family {
        Family::V4 => layout.protocol == protocol::ICMP,
        Family::V6 => layout.protocol == protocol::ICMPV6,
    };
    // An ICMP message in fragments can be neither verified nor translated.
    if !control || layout.fragment != Fragment::Whole {
        return Ok(Meaning::Other);
    }
    let message = bytes.get(layout.transport()..layout.end()).ok_or(Malformed::Cut)?;
    let header: &[u8; icmp::LEN] = message.first_chunk().ok_or(Malformed::Cut)?;
    let kind = header[0];
    if !icmp::is_error(layout.family, kind) {
        return Ok(Meaning::Control(kind));
    }
    // An error that quotes nothing usable is about no connection, and still a message to somebody.
    let Some(embedded) = Embedded::find(message.get(icmp::LEN..).unwrap_or_default(), layout) else {
        return Ok(Meaning::Control(kind));
    };
    Ok(match embedded.flow(bytes) {
        Some(flow) => {
            let length = layout.end - layout.network;
            Meaning::Error(Packet::new(flow.reversed(), Content::Error, length).marked(frame.mark), embedded)
        }
        None => match embedded.protocol {
            protocol::IPIP | protocol::GRE => Meaning::Wrapped(embedded),
            _ => Meaning::Control(kind),
        },
    })
}
