//! Network address translation: one end of a packet gets another address and port.
//!
//! Reading list: RFC 3022 §4, RFC 1624 §3, RFC 768 (a checksum of 0), RFC 9260 §6.8 (SCTP's checksum does not cover
//! addresses).

use core::net::{IpAddr, SocketAddr};

use lvs_core::{Direction, Family};

use crate::checksum::{Delta, never_zero};
use crate::frame::{Checksum, Frame};
use crate::header::layout::{Fragment, Layout, ipv4_in, ipv6_in};
use crate::header::{array_mut, get16, ipv4, ipv6, protocol, put16};
use crate::offload::{checksum_offset, write_full};
use crate::parse::is_ipsec;
use crate::reason::DropReason;

/// Gives a request the real server's address and port as its destination, or a reply the virtual one's as its source.
///
/// TCP and UDP checksums are updated by the difference, so one that was wrong stays wrong by as much; a UDP checksum of
/// 0 is replaced by a full one, as IPVS does. SCTP's is computed anew when the port changes. A later fragment has
/// its address changed only, as have AH and ESP packets.
///
/// # Errors
///
/// [`DropReason::Family`], when `target` is of another family than the packet; [`DropReason::Incomplete`] for the first
/// fragment of an SCTP packet.
///
/// ```
/// use lvs_core::Direction;
/// use lvs_forward::parse::{Link, Parsed, parse};
/// use lvs_forward::{Frame, PortId, method::nat};
/// let mut packet = [
///     0x45, 0, 0, 28, 0, 0, 0x40, 0, 63, 17, 0xb1, 0x38, 192, 0, 2, 7, 10, 99, 0, 1, // IPv4
///     0x9c, 0x40, 0, 53, 0, 8, 0, 0, // UDP without a checksum
/// ];
/// # let sum = lvs_forward::checksum::Sum::ZERO.bytes(&packet[..10]).bytes(&packet[12..20]).checksum();
/// # packet[10..12].copy_from_slice(&sum.to_be_bytes());
/// let mut frame = Frame::new(&mut packet, 0, 28, PortId(0)).unwrap();
/// let Ok(Parsed::Ip(layout, _)) = parse(&frame, Link::Bare) else { panic!("not an IP packet") };
/// nat::rewrite(&mut frame, &layout, Direction::Request, "10.0.1.11:5353".parse()?).unwrap();
/// assert_eq!(frame.bytes()[16..20], [10, 0, 1, 11]);
/// assert_ne!(frame.bytes()[26..28], [0, 0]);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
pub fn rewrite(
    frame: &mut Frame<'_>,
    layout: &Layout,
    direction: Direction,
    target: SocketAddr,
) -> Result<(), DropReason> {
    if Family::of(target.ip()) != layout.family {
        return Err(DropReason::Family);
    }
    let partial = frame.offload.checksum != Checksum::Complete;
    let bytes = frame.bytes_mut();
    let address = change_address(bytes, layout, direction, target.ip()).ok_or(DropReason::Malformed)?;
    // Neither has ports: a later fragment begins inside the payload, and what AH and ESP protect is not ours to read.
    if layout.fragment == Fragment::Later || is_ipsec(layout.protocol) {
        return Ok(());
    }
    let at = match direction {
        Direction::Request => layout.transport() + 2,
        Direction::Reply => layout.transport(),
    };
    let old = get16(bytes, at).ok_or(DropReason::Malformed)?;
    put16(bytes, at, target.port()).ok_or(DropReason::Malformed)?;
    if layout.protocol == protocol::SCTP {
        // SCTP's checksum covers no address, so a port that stays leaves it right (RFC 9260 §6.8).
        return if old == target.port() { Ok(()) } else { write_sctp(bytes, layout) };
    }
    let Some(offset) = checksum_offset(layout.protocol) else {
        return Ok(());
    };
    let field = layout.transport() + offset;
    let checksum = get16(bytes, field).ok_or(DropReason::Malformed)?;
    let udp = layout.protocol == protocol::UDP;
    let new = if partial {
        // Only the pseudo-header is in the sum so far, and ports are not part of that.
        address.update_partial(checksum)
    } else if udp && checksum == 0 {
        // A piece cannot have the checksum of the whole.
        if layout.fragment == Fragment::Whole {
            write_full(bytes, layout).ok_or(DropReason::Malformed)?;
        }
        return Ok(());
    } else {
        // An update keeps a wrong checksum wrong, where computing it anew would vouch for bytes that were damaged
        // before.
        let new = address.word(old, target.port()).update(checksum);
        if udp { never_zero(new) } else { new }
    };
    put16(bytes, field, new).ok_or(DropReason::Malformed)
}

/// Writes the new address and the IPv4 header checksum; returns what the change does to checksums over the address.
fn change_address(bytes: &mut [u8], layout: &Layout, direction: Direction, new: IpAddr) -> Option<Delta> {
    match new {
        IpAddr::V4(new) => {
            let at = layout.network()
                + match direction {
                    Direction::Request => ipv4::DESTINATION,
                    Direction::Reply => ipv4::SOURCE,
                };
            let old = ipv4_in(bytes, at)?;
            *array_mut(bytes, at)? = new.octets();
            // The header's checksum was right, so that its update is what computing it anew would give.
            let delta = Delta::ZERO.ipv4(old, new);
            let field = layout.network() + ipv4::CHECKSUM;
            put16(bytes, field, delta.update(get16(bytes, field)?))?;
            Some(delta)
        }
        IpAddr::V6(new) => {
            let at = layout.network()
                + match direction {
                    Direction::Request => ipv6::DESTINATION,
                    Direction::Reply => ipv6::SOURCE,
                };
            let old = ipv6_in(bytes, at)?;
            *array_mut(bytes, at)? = new.octets();
            Some(Delta::ZERO.ipv6(old, new))
        }
    }
}

fn write_sctp(bytes: &mut [u8], layout: &Layout) -> Result<(), DropReason> {
    if layout.fragment != Fragment::Whole {
        return Err(DropReason::Incomplete);
    }
    let packet = bytes.get_mut(layout.transport()..layout.end()).ok_or(DropReason::Malformed)?;
    // What a change does to a CRC depends on how many bytes follow it, so that summing anew is the simpler way.
    crate::offload::write_sctp(packet)
}
