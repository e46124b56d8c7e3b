//! ICMP errors about connections under NAT: the message, and the packet that it quotes, get the addresses and ports
//! that their receiver knows (RFC 5508 §7, IPVS).

use core::net::{IpAddr, SocketAddr};

use lvs_core::{Direction, Family};

use crate::frame::Frame;
use crate::header::edit::write_header_checksum;
use crate::header::layout::Layout;
use crate::header::{array_mut, ipv4, ipv6, put16};
use crate::offload::{complete_checksum, icmp_is_intact, write_icmp};
use crate::parse::{Embedded, is_ipsec};
use crate::reason::DropReason;

/// Rewrites an ICMP error on its way to the real server (`Request`) or to the client (`Reply`).
///
/// A request's destination and quoted source become `target`, the real server. A reply's source and quoted destination
/// become `target`, the virtual service, whichever router sent it. The checksum of the quoted transport stays as it is:
/// as little as four bytes of that may be there, and no receiver verifies it.
///
/// # Errors
///
/// [`DropReason::BadIcmpChecksum`], when the message was damaged before: it must not be repaired by the rewrite.
/// [`DropReason::Family`], when the target is of another family.
pub fn translate(
    frame: &mut Frame<'_>,
    layout: &Layout,
    embedded: &Embedded,
    direction: Direction,
    target: SocketAddr,
) -> Result<(), DropReason> {
    if Family::of(target.ip()) != layout.family || embedded.family != layout.family {
        return Err(DropReason::Family);
    }
    complete_checksum(frame, layout)?;
    let bytes = frame.bytes_mut();
    if !icmp_is_intact(bytes, layout) {
        return Err(DropReason::BadIcmpChecksum);
    }
    rewrite(bytes, layout, embedded, direction, target).ok_or(DropReason::Malformed)
}

fn rewrite(
    bytes: &mut [u8],
    layout: &Layout,
    embedded: &Embedded,
    direction: Direction,
    target: SocketAddr,
) -> Option<()> {
    let (outer, inner) = match (direction, layout.family) {
        (Direction::Request, Family::V4) => (ipv4::DESTINATION, ipv4::SOURCE),
        (Direction::Request, Family::V6) => (ipv6::DESTINATION, ipv6::SOURCE),
        (Direction::Reply, Family::V4) => (ipv4::SOURCE, ipv4::DESTINATION),
        (Direction::Reply, Family::V6) => (ipv6::SOURCE, ipv6::DESTINATION),
    };
    let port = match direction {
        Direction::Request => embedded.transport(),
        Direction::Reply => embedded.transport() + 2,
    };
    for at in [layout.network() + outer, embedded.network() + inner] {
        match target.ip() {
            IpAddr::V4(address) => *array_mut(bytes, at)? = address.octets(),
            IpAddr::V6(address) => *array_mut(bytes, at)? = address.octets(),
        }
    }
    if !is_ipsec(embedded.protocol) {
        put16(bytes, port, target.port())?;
    }
    if layout.family == Family::V4 {
        write_header_checksum(bytes, layout.network(), layout.header_len())?;
        write_header_checksum(bytes, embedded.network(), embedded.transport() - embedded.network())?;
    }
    write_icmp(bytes, layout)
}
