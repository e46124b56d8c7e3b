//! Tunnelling: the packet is wrapped in another one to the real server.
//!
//! Reading list: RFC 2003 (IP in IP), RFC 2473 (IPv6 tunnels), RFC 4213 §3 (IPv6 in IPv4), RFC 2784 (GRE),
//! draft-ietf-intarea-gue-09 §3 (GUE), RFC 6040 (ECN; IPVS follows RFC 3168's "limited" form), RFC 6864 (IPv4 id).

use lvs_core::{Addresses, Family, Tunnel};

use crate::checksum::{Sum, never_zero};
use crate::edit::{Ipv4, Ipv6};
use crate::frame::Frame;
use crate::layout::Layout;
use crate::offload::complete_checksum;
use crate::reason::DropReason;
use crate::wire::{ipv4, ipv6, protocol, put16, udp};

/// Length of GUE's own header (variant 0, no options).
pub(crate) const GUE_LEN: usize = 4;
/// Length of GRE's header without a checksum, and of its checksum with the reserved half-word.
pub(crate) const GRE_LEN: usize = 4;
/// Length of GRE's checksum with the reserved half-word.
pub(crate) const GRE_CHECKSUM_LEN: usize = 4;
/// GRE's "checksum present".
pub(crate) const GRE_CHECKSUM: u16 = 0x8000;
/// Source ports of GUE packets: Linux's range of local ports.
pub(crate) const GUE_PORTS: core::ops::RangeInclusive<u16> = 32_768..=60_999;

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

/// How many bytes [`wrap`] puts before a packet.
///
/// ```
/// use lvs_core::{Family, Tunnel};
/// use lvs_forward::method::tun::overhead;
/// assert_eq!(overhead(Tunnel::IpIp, Family::V4), 20);
/// assert_eq!(overhead(Tunnel::Gue { port: 6080, checksum: false }, Family::V6), 52);
/// ```
#[must_use]
pub const fn overhead(tunnel: Tunnel, outer: Family) -> usize {
    let header = match outer {
        Family::V4 => ipv4::LEN,
        Family::V6 => ipv6::LEN,
    };
    header
        + match tunnel {
            Tunnel::IpIp => 0,
            Tunnel::Gre { checksum: false } => GRE_LEN,
            Tunnel::Gre { checksum: true } => GRE_LEN + GRE_CHECKSUM_LEN,
            Tunnel::Gue { .. } => udp::LEN + GUE_LEN,
        }
}

/// Wraps the packet of `frame`, which begins with its IP header and ends with its packet.
///
/// The outer TTL is the inner one, the outer TOS the inner one except that CE becomes ECT(0). A partial checksum stays
/// partial, unless an outer checksum covers the packet: then it is completed first. A merged frame stays
/// merged; its outer lengths are those of the whole (0 when that does not fit), and an outer checksum is only marked as
/// wanted: whoever [cuts](crate::output::pieces) the frame into segments writes both for each.
///
/// # Errors
///
/// [`DropReason::NoHeadroom`], when the wrapping does not fit before the frame; [`DropReason::Jumbo`], when a packet
/// that is not merged would become longer than 65,535 bytes.
pub fn wrap(frame: &mut Frame<'_>, layout: &Layout, outer: &Outer) -> Result<(), DropReason> {
    let merged = frame.offload.merged.is_some();
    let covered = match outer.tunnel {
        Tunnel::IpIp => false,
        Tunnel::Gre { checksum } | Tunnel::Gue { checksum, .. } => checksum,
    };
    if covered && !merged {
        complete_checksum(frame, layout)?;
    }
    let inner_protocol = match layout.family {
        Family::V4 => protocol::IPIP,
        Family::V6 => protocol::IPV6,
    };
    let class = layout.traffic_class(frame.bytes()).ok_or(DropReason::Malformed)?;
    let ttl = layout.ttl(frame.bytes()).ok_or(DropReason::Malformed)?;
    let dont_fragment = outer.pmtu_disc && layout.family == Family::V4 && layout.dont_fragment(frame.bytes());

    let outer_protocol = match outer.tunnel {
        Tunnel::IpIp => inner_protocol,
        Tunnel::Gre { checksum } => {
            write_gre(frame, layout.family, checksum, merged)?;
            protocol::GRE
        }
        Tunnel::Gue { port, checksum } => {
            write_gue(frame, outer, inner_protocol, port, checksum, merged)?;
            protocol::UDP
        }
    };
    write_ip(frame, outer, tos(class), ttl, outer_protocol, dont_fragment)
}

/// DSCP as it is; of ECN, "congestion experienced" is hidden from the tunnel (RFC 3168 §9.1.1).
pub(crate) const fn tos(class: u8) -> u8 {
    if class & 0x03 == 0x03 { (class & !0x03) | 0x02 } else { class }
}

fn write_gre(frame: &mut Frame<'_>, inner: Family, checksum: bool, merged: bool) -> Result<(), DropReason> {
    let kind = crate::edit::ether_type(inner).to_be_bytes();
    let len = if checksum { GRE_LEN + GRE_CHECKSUM_LEN } else { GRE_LEN };
    let header = frame.grow_front(len).ok_or(DropReason::NoHeadroom)?;
    header.fill(0);
    let (flags, rest) = header.split_at_mut_checked(2).ok_or(DropReason::NoHeadroom)?;
    rest.first_chunk_mut().map(|field| *field = kind).ok_or(DropReason::NoHeadroom)?;
    if checksum {
        flags.copy_from_slice(&GRE_CHECKSUM.to_be_bytes());
        if !merged {
            let checksum = Sum::ZERO.bytes(frame.bytes()).checksum();
            put16(frame.bytes_mut(), GRE_LEN, checksum).ok_or(DropReason::NoHeadroom)?;
        }
    }
    Ok(())
}

fn write_gue(
    frame: &mut Frame<'_>,
    outer: &Outer,
    inner_protocol: u8,
    port: u16,
    checksum: bool,
    merged: bool,
) -> Result<(), DropReason> {
    let header: &mut [u8; udp::LEN + GUE_LEN] = frame
        .grow_front(udp::LEN + GUE_LEN)
        .and_then(|bytes| bytes.first_chunk_mut())
        .ok_or(DropReason::NoHeadroom)?;
    let [s0, s1] = outer.source_port.to_be_bytes();
    let [d0, d1] = port.to_be_bytes();
    *header = [s0, s1, d0, d1, 0, 0, 0, 0, 0, inner_protocol, 0, 0];
    let len = length(frame, frame.len())?;
    put16(frame.bytes_mut(), udp::LENGTH, len).ok_or(DropReason::NoHeadroom)?;
    if checksum {
        let pseudo = match outer.addresses {
            Addresses::V4 { source, destination } => {
                Sum::pseudo_v4(source, destination, protocol::UDP, frame.len())
            }
            Addresses::V6 { source, destination } => {
                Sum::pseudo_v6(source, destination, protocol::UDP, frame.len())
            }
        };
        let value = if merged { WANTED } else { never_zero(pseudo.bytes(frame.bytes()).checksum()) };
        put16(frame.bytes_mut(), udp::CHECKSUM, value).ok_or(DropReason::NoHeadroom)?;
    }
    Ok(())
}

/// The outer UDP checksum of a merged frame whose segments are to have one: any value but 0.
const WANTED: u16 = 0xffff;

fn write_ip(
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
fn length(frame: &Frame<'_>, len: usize) -> Result<u16, DropReason> {
    match (u16::try_from(len), frame.offload.merged) {
        (Ok(len), _) => Ok(len),
        (Err(_), Some(_)) => Ok(0),
        (Err(_), None) => Err(DropReason::Jumbo),
    }
}
