//! ICMP errors that the director sends: the offending frame becomes its own answer, in place.

use core::net::IpAddr;

use lvs_core::Family;
use lvs_core::packet::Addresses;

use crate::frame::{Checksum, Frame};
use crate::header::address::is_group;
use crate::header::icmp::{is_error, v4, v6};
use crate::header::layout::{Fragment, Layout};
use crate::header::{array_mut, icmp, ipv4, ipv6, protocol};
use crate::offload::{complete_checksum, write_icmp};
use crate::reason::DropReason;

/// What is to be complained of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every error has a shape in both families")]
pub enum IcmpError {
    /// Fragments are missing, and their time is up: ICMP 11/1, `ICMPv6` 3/1.
    FragmentsMissing,
    /// No way to the next host: ICMP 3/1, `ICMPv6` 1/3.
    HostUnreachable,
    /// No route for a packet that is routed, not balanced: ICMP 3/0, `ICMPv6` 1/0.
    NetworkUnreachable,
    /// No server: ICMP 3/3, `ICMPv6` 1/4.
    PortUnreachable,
    /// Nothing here takes this protocol: ICMP 3/2, `ICMPv6` 4/1 with the place of its number in the packet.
    ProtocolUnreachable(u32),
    /// What a router inside a tunnel said of the wrapped packet, passed on about the packet inside (ICMP only).
    Relayed {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
        /// The message's second word.
        info: u32,
    },
    /// TTL or hop limit used up: ICMP 11/0, `ICMPv6` 3/0.
    TimeExceeded,
    /// Larger than this MTU in bytes: ICMP 3/4, `ICMPv6` 2/0.
    TooBig(u32),
    /// A fragment that is not the last has a length that is no multiple of 8: `ICMPv6` 4/0 (RFC 8200 §4.5); the same
    /// in ICMP would be 12/0.
    UnevenFragment,
}

impl IcmpError {
    const fn message(self, family: Family) -> (u8, u8, u32) {
        match (self, family) {
            (Self::FragmentsMissing, Family::V4) => (v4::TIME_EXCEEDED, 1, 0),
            (Self::FragmentsMissing, Family::V6) => (v6::TIME_EXCEEDED, 1, 0),
            (Self::HostUnreachable, Family::V4) => (v4::UNREACHABLE, v4::HOST, 0),
            (Self::HostUnreachable, Family::V6) => (v6::UNREACHABLE, v6::ADDRESS, 0),
            (Self::NetworkUnreachable, Family::V4) => (v4::UNREACHABLE, v4::NETWORK, 0),
            (Self::NetworkUnreachable, Family::V6) => (v6::UNREACHABLE, v6::NO_ROUTE, 0),
            (Self::PortUnreachable, Family::V4) => (v4::UNREACHABLE, v4::PORT, 0),
            (Self::PortUnreachable, Family::V6) => (v6::UNREACHABLE, v6::PORT, 0),
            (Self::ProtocolUnreachable(_), Family::V4) => (v4::UNREACHABLE, v4::PROTOCOL, 0),
            (Self::ProtocolUnreachable(place), Family::V6) => (v6::PARAMETER_PROBLEM, v6::NEXT_HEADER, place),
            (Self::UnevenFragment, Family::V4) => (v4::PARAMETER_PROBLEM, 0, (ipv4::TOTAL_LEN as u32) << 24),
            (Self::UnevenFragment, Family::V6) => (v6::PARAMETER_PROBLEM, 0, ipv6::PAYLOAD_LEN as u32),
            (Self::Relayed { kind, code, info }, Family::V4 | Family::V6) => (kind, code, info),
            (Self::TimeExceeded, Family::V4) => (v4::TIME_EXCEEDED, 0, 0),
            (Self::TimeExceeded, Family::V6) => (v6::TIME_EXCEEDED, 0, 0),
            // RFC 1191 §4: the low half of the second word.
            (Self::TooBig(mtu), Family::V4) => (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED, mtu & 0xffff),
            (Self::TooBig(mtu), Family::V6) => (v6::TOO_BIG, 0, mtu),
        }
    }
}

/// The most that an IPv4 error is long (RFC 1812 §4.3.2.3).
const MAX_V4: usize = 576;
/// The most that an IPv6 error is long: the minimum MTU (RFC 4443 §2.4 c).
const MAX_V6: usize = 1280;
/// TTL of what the director sends itself.
pub(crate) const OWN_TTL: u8 = 64;

/// Whether a packet may be answered with an error: not an ICMP error, not from or to a group or nobody (RFC 1122
/// §3.2.2, RFC 4443 §2.4 e). The caller minds that later fragments are not.
pub(crate) fn may_answer(bytes: &[u8], layout: &Layout) -> bool {
    let about_error = match layout.family {
        // Of the errors, redirect and parameter problem are not in IPVS's list.
        Family::V4 => {
            layout.protocol == protocol::ICMP
                && bytes
                    .get(layout.transport())
                    .is_none_or(|&kind| is_error(Family::V4, kind) || matches!(kind, 5 | 12))
        }
        Family::V6 => {
            layout.protocol == protocol::ICMPV6
                && bytes
                    .get(layout.transport())
                    .is_none_or(|&kind| is_error(Family::V6, kind) || kind == v6::REDIRECT)
        }
    };
    let Some(addresses) = layout.addresses(bytes) else {
        return false;
    };
    let source = addresses.source();
    !about_error
        && !source.is_unspecified()
        && !source.is_loopback()
        && !is_group(source)
        && !is_group(addresses.destination())
}

/// Turns `frame`, which begins with its IP header and ends with its packet, into an error about itself from `source` to
/// the packet's source. `identification` is the new IPv4 header's. Returns the layout of the answer.
///
/// # Errors
///
/// [`DropReason::NoHeadroom`], when the new headers do not fit before the frame; then it is spoilt.
pub(crate) fn answer(
    frame: &mut Frame<'_>,
    layout: &Layout,
    error: IcmpError,
    source: IpAddr,
    identification: u16,
) -> Result<Layout, DropReason> {
    // The quotation should be what a receiver would verify. What stands for many packets has no such checksum.
    if frame.offload.merged.is_none() {
        complete_checksum(frame, layout)?;
    }
    frame.offload.merged = None;
    frame.offload.checksum = Checksum::Complete;
    // An answer is a packet of its own: the pieces that the offending one came in say nothing about it.
    frame.forget_assembly();

    let class = layout.traffic_class(frame.bytes()).unwrap_or_default();
    let client = layout.addresses(frame.bytes()).map(Addresses::source);
    let (kind, code, info) = error.message(layout.family);
    let addresses = client.and_then(|client| Addresses::new(source, client)).ok_or(DropReason::Family)?;
    let (header_len, limit) = match layout.family {
        Family::V4 => (ipv4::LEN, MAX_V4),
        Family::V6 => (ipv6::LEN, MAX_V6),
    };
    let quoted = frame.len().min(limit - header_len - icmp::LEN);
    frame.set_len(quoted).ok_or(DropReason::Malformed)?;
    frame.grow_front(header_len + icmp::LEN).ok_or(DropReason::NoHeadroom)?;

    let answer = own_layout(frame.len(), header_len, layout.family);
    // Errors have precedence "internetwork control" (RFC 1812 §4.3.2.5), and the packet's own service besides, as in
    // Linux.
    write_header(frame, addresses, (class & 0x1e) | 0xc0, identification).ok_or(DropReason::Malformed)?;
    let bytes = frame.bytes_mut();
    let message: &mut [u8; icmp::LEN] = array_mut(bytes, header_len).ok_or(DropReason::Malformed)?;
    let [a, b, c, d] = info.to_be_bytes();
    *message = [kind, code, 0, 0, a, b, c, d];
    write_icmp(bytes, &answer).ok_or(DropReason::Malformed)?;
    Ok(answer)
}

/// The layout of an ICMP message of our own, in a frame that begins with its IP header.
pub(crate) const fn own_layout(len: usize, header_len: usize, family: Family) -> Layout {
    Layout {
        network: 0,
        transport: header_len as u32,
        end: len as u32,
        family,
        protocol: match family {
            Family::V4 => protocol::ICMP,
            Family::V6 => protocol::ICMPV6,
        },
        fragment: Fragment::Whole,
    }
}

/// Writes the IP header of an ICMP message of our own over the frame's first bytes. The service class of an IPv6
/// answer is 0, as Linux has it.
pub(crate) fn write_header(
    frame: &mut Frame<'_>,
    addresses: Addresses,
    tos: u8,
    identification: u16,
) -> Option<()> {
    let len = frame.len();
    match addresses {
        Addresses::V4 { source, destination } => {
            let header: &mut [u8; ipv4::LEN] = frame.bytes_mut().first_chunk_mut()?;
            let fields = crate::header::edit::Ipv4 {
                tos,
                total_len: u16::try_from(len).ok()?,
                identification,
                dont_fragment: false,
                ttl: OWN_TTL,
                protocol: protocol::ICMP,
                source,
                destination,
            };
            *header = fields.to_bytes();
        }
        Addresses::V6 { source, destination } => {
            let header: &mut [u8; ipv6::LEN] = frame.bytes_mut().first_chunk_mut()?;
            let fields = crate::header::edit::Ipv6 {
                traffic_class: 0,
                payload_len: u16::try_from(len.checked_sub(ipv6::LEN)?).ok()?,
                next_header: protocol::ICMPV6,
                hop_limit: OWN_TTL,
                source,
                destination,
            };
            *header = fields.to_bytes();
        }
    }
    Some(())
}
