//! The outer IP header, which all encapsulations have in common.

use lvs_core::packet::Addresses;
use lvs_core::{Family, Tunnel};

use crate::frame::Frame;
use crate::header::edit::{Ipv4, Ipv6};
use crate::header::{ipv4, ipv6, protocol};
use crate::reason::DropReason;

/// The outer packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain description, also built by tests and benches")]
pub struct Outer {
    /// The wrapping.
    pub tunnel: Tunnel,
    /// The director's address on the way to the server, and the server's address.
    pub addresses: Addresses,
    /// Copies the inner packet's DF to an IPv4 outer header. Without it the outer packet may be fragmented.
    pub pmtu_disc: bool,
    /// Identification of an IPv4 outer header without DF; with DF it is 0 (RFC 6864 §4.1).
    pub identification: u16,
    /// GUE's UDP source port, stable for a flow.
    pub source_port: u16,
}

/// The protocol number of a packet of this family inside another.
pub(super) const fn inner_protocol(inner: Family) -> u8 {
    match inner {
        Family::V4 => protocol::IPIP,
        Family::V6 => protocol::IPV6,
    }
}

/// DSCP as it is; of ECN, "congestion experienced" is hidden from the tunnel (RFC 3168 §9.1.1).
pub(crate) const fn tos(class: u8) -> u8 {
    if class & 0x03 == 0x03 { (class & !0x03) | 0x02 } else { class }
}

/// Puts the outer IP header before the frame.
pub(super) fn write_ip(
    frame: &mut Frame<'_>,
    outer: &Outer,
    tos: u8,
    ttl: u8,
    next: u8,
    dont_fragment: bool,
) -> Result<(), DropReason> {
    match outer.addresses {
        Addresses::V4 { source, destination } => {
            let total_len = length(frame, frame.len() + ipv4::LEN)?;
            let fields = Ipv4 {
                tos,
                total_len,
                // An atomic packet needs none (RFC 6864 §4.1), and a constant tells a stranger nothing of our traffic.
                identification: if dont_fragment { 0 } else { outer.identification },
                dont_fragment,
                ttl,
                protocol: next,
                source,
                destination,
            };
            let header = frame
                .grow_front(ipv4::LEN)
                .and_then(|bytes| bytes.first_chunk_mut())
                .ok_or(DropReason::NoHeadroom)?;
            *header = fields.to_bytes();
        }
        Addresses::V6 { source, destination } => {
            let payload_len = length(frame, frame.len())?;
            let fields = Ipv6 {
                traffic_class: tos,
                payload_len,
                next_header: next,
                hop_limit: ttl,
                source,
                destination,
            };
            let header = frame
                .grow_front(ipv6::LEN)
                .and_then(|bytes| bytes.first_chunk_mut())
                .ok_or(DropReason::NoHeadroom)?;
            *header = fields.to_bytes();
        }
    }
    Ok(())
}

/// A length field. A merged frame may be longer than one can say; its segments are not.
pub(super) fn length(frame: &Frame<'_>, len: usize) -> Result<u16, DropReason> {
    match (u16::try_from(len), frame.offload.merged) {
        (Ok(len), _) => Ok(len),
        (Err(_), Some(_)) => Ok(0),
        (Err(_), None) => Err(DropReason::Jumbo),
    }
}
