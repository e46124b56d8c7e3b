//! ICMP errors about connections under NAT: the message, and the packet that it quotes, get the addresses and ports
//! that their receiver knows, as IPVS does it.
//!
//! Read these sections first:
//!
//! * RFC 792 p. 4-7 and RFC 4443 §2.4, §3.1-3.4: what an error consists of, and how much it quotes: as little as
//!   eight bytes behind the quoted IP header, so that the quoted transport's checksum often is not there.
//! * RFC 5508 §4.1-4.2: what a translator verifies and changes in both directions; the quoted packet travels the other
//!   way than the error.
//! * RFC 1624 §3: why a checksum that was wrong must stay so, which is why the message is verified before.

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
    // A partial checksum says nothing about the message, so that it could not be verified below.
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
    // Behind AH and ESP stand no ports, but a number that the receiver needs to find its association.
    if !is_ipsec(embedded.protocol) {
        put16(bytes, port, target.port())?;
    }
    if layout.family == Family::V4 {
        write_header_checksum(bytes, layout.network(), layout.header_len())?;
        // Whoever matches the quotation to a socket may verify its header first (RFC 5508 §4.2).
        write_header_checksum(bytes, embedded.network(), embedded.transport() - embedded.network())?;
    }
    write_icmp(bytes, layout)
}
