//! Finishing what a device left unfinished: partial checksums.
//!
//! Read these sections first:
//!
//! * Virtual I/O Device specification 1.2, §5.1.6.2 (`csum_start`, `csum_offset`, `gso_type`): how a kernel says what
//!   it left to the device. [`Checksum::Partial`] is that, counted from the frame's first byte.
//! * RFC 1071 §1-2: why a sum may begin anywhere and be finished later; RFC 9293 §3.1 and RFC 8200 §8.1 for the
//!   pseudo-headers whose sum stands in a partial field.
//! * RFC 768: a UDP checksum of 0 means that there is none. RFC 9260 §6.8: SCTP has a CRC, which starts from nothing.

use lvs_core::Family;
use lvs_core::packet::Addresses;

use crate::checksum::{Sum, never_zero};
use crate::frame::{Checksum, Frame};
use crate::header::layout::Layout;
use crate::header::{array_mut, get16, protocol, put16, sctp as sctp_header, tcp, udp};
use crate::reason::DropReason;

/// From the transport header to its checksum field.
pub(crate) const fn checksum_offset(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(tcp::CHECKSUM),
        protocol::UDP => Some(udp::CHECKSUM),
        _ => None,
    }
}

/// Makes a partial checksum complete; does nothing to a complete one. `layout` is the frame's, and the frame ends with
/// the packet (no padding). A merged frame has no complete checksum and is refused.
///
/// A checksum that comes out as 0 is written as 0xffff, which is the same for TCP and the rule for UDP (RFC 768).
///
/// # Errors
///
/// [`DropReason::Offload`], when the offload says something impossible: also that the sum begins inside the IP header,
/// where writing it would spoil that header.
pub fn complete_checksum(frame: &mut Frame<'_>, layout: &Layout) -> Result<(), DropReason> {
    let Checksum::Partial { start, .. } = frame.offload.checksum else {
        return Ok(());
    };
    // What a device says is not to be trusted: the sum would be written over a header that routers read.
    if usize::from(start) < layout.transport() {
        return Err(DropReason::Offload);
    }
    if layout.protocol == protocol::SCTP && usize::from(start) == layout.transport() {
        // A CRC of a whole says nothing about the parts.
        if frame.offload.merged.is_some() {
            return Err(DropReason::Offload);
        }
        let packet = frame.bytes_mut().get_mut(usize::from(start)..).ok_or(DropReason::Offload)?;
        write_sctp(packet)?;
        frame.offload.checksum = Checksum::Complete;
        return Ok(());
    }
    complete_sum(frame)
}

/// Writes SCTP's checksum into the packet that it covers.
#[cfg(feature = "sctp")]
pub(crate) fn write_sctp(packet: &mut [u8]) -> Result<(), DropReason> {
    let checksum = crate::checksum::sctp(packet);
    *array_mut(packet, sctp_header::CHECKSUM).ok_or(DropReason::Malformed)? = checksum;
    Ok(())
}

/// In place of SCTP's checksum, for which the code was left out.
#[cfg(not(feature = "sctp"))]
pub(crate) fn write_sctp(_packet: &mut [u8]) -> Result<(), DropReason> {
    Err(DropReason::LeftOut)
}

/// Makes a partial Internet checksum complete, wherever it is in the frame.
pub(crate) fn complete_sum(frame: &mut Frame<'_>) -> Result<(), DropReason> {
    let Checksum::Partial { start, offset } = frame.offload.checksum else {
        return Ok(());
    };
    if frame.offload.merged.is_some() {
        return Err(DropReason::Offload);
    }
    let covered = frame.bytes_mut().get_mut(usize::from(start)..).ok_or(DropReason::Offload)?;
    let checksum = never_zero(Sum::ZERO.bytes(covered).checksum());
    put16(covered, usize::from(offset), checksum).ok_or(DropReason::Offload)?;
    frame.offload.checksum = Checksum::Complete;
    Ok(())
}

/// Brings what a device said into the two forms that transforms handle: a complete checksum in a single packet, or a
/// partial one of exactly this packet's TCP or UDP header. Merged frames always leave here with a partial one.
pub(crate) fn normalise(frame: &mut Frame<'_>, layout: &Layout) -> Result<(), DropReason> {
    let own = checksum_offset(layout.protocol);
    match (frame.offload.checksum, frame.offload.merged) {
        (Checksum::Complete, None) => Ok(()),
        (Checksum::Partial { start, offset }, merged) => {
            let fits = own == Some(usize::from(offset)) && layout.transport() == usize::from(start);
            match (fits, merged) {
                (true, _) => Ok(()),
                (false, None) => complete_checksum(frame, layout),
                (false, Some(_)) => Err(DropReason::Offload),
            }
        }
        // Each segment gets a checksum of its own in the end, which starts from the pseudo-header's sum.
        (Checksum::Complete, Some(_)) => make_partial(frame, layout),
    }
}

/// Replaces a transport checksum by the sum of its pseudo-header.
fn make_partial(frame: &mut Frame<'_>, layout: &Layout) -> Result<(), DropReason> {
    let offset = checksum_offset(layout.protocol).ok_or(DropReason::Offload)?;
    let sum = pseudo_header(frame.bytes(), layout).ok_or(DropReason::Offload)?;
    put16(frame.bytes_mut(), layout.transport() + offset, sum.fold()).ok_or(DropReason::Offload)?;
    let narrow = |offset: usize| u16::try_from(offset).map_err(|_| DropReason::Offload);
    frame.offload.checksum =
        Checksum::Partial { start: narrow(layout.transport())?, offset: narrow(offset)? };
    Ok(())
}

/// The sum of the pseudo-header of `layout`'s transport, from the addresses as they stand now.
pub(crate) fn pseudo_header(bytes: &[u8], layout: &Layout) -> Option<Sum> {
    Some(match layout.addresses(bytes)? {
        Addresses::V4 { source, destination } => {
            Sum::pseudo_v4(source, destination, layout.protocol, layout.transport_len())
        }
        Addresses::V6 { source, destination } => {
            Sum::pseudo_v6(source, destination, layout.protocol, layout.transport_len())
        }
    })
}

/// Writes the full checksum of a whole TCP or UDP packet.
pub(crate) fn write_full(bytes: &mut [u8], layout: &Layout) -> Option<()> {
    let offset = checksum_offset(layout.protocol)?;
    let field = layout.transport() + offset;
    put16(bytes, field, 0)?;
    let sum = pseudo_header(bytes, layout)?.bytes(bytes.get(layout.transport()..layout.end())?);
    let checksum = if layout.protocol == protocol::UDP { sum.udp_checksum() } else { sum.checksum() };
    put16(bytes, field, checksum)
}

/// Whether an ICMP or `ICMPv6` message's checksum is right.
pub(crate) fn icmp_is_intact(bytes: &[u8], layout: &Layout) -> bool {
    icmp_sum(bytes, layout).is_some_and(|sum| sum.fold() == 0xffff)
}

/// Writes an ICMP or `ICMPv6` message's checksum.
pub(crate) fn write_icmp(bytes: &mut [u8], layout: &Layout) -> Option<()> {
    let field = layout.transport() + crate::header::icmp::CHECKSUM;
    put16(bytes, field, 0)?;
    let checksum = icmp_sum(bytes, layout)?.checksum();
    put16(bytes, field, checksum)
}

fn icmp_sum(bytes: &[u8], layout: &Layout) -> Option<Sum> {
    let start = match layout.family {
        Family::V4 => Sum::ZERO,
        Family::V6 => pseudo_header(bytes, layout)?,
    };
    Some(start.bytes(bytes.get(layout.transport()..layout.end())?))
}

/// The number of payload bytes that a merged frame's segments carry together, and where they start.
pub(crate) fn merged_payload(bytes: &[u8], layout: &Layout) -> Option<(usize, usize)> {
    let header = match layout.protocol {
        protocol::TCP => {
            let word = get16(bytes, layout.transport() + tcp::DATA_OFFSET)?;
            usize::from(word >> 12) * 4
        }
        protocol::UDP => udp::LEN,
        _ => return None,
    };
    let start = layout.transport() + header;
    // A data offset that leads back into the header would make payload of it.
    if header < udp::LEN || (layout.protocol == protocol::TCP && header < tcp::LEN) {
        return None;
    }
    Some((start, layout.end().checked_sub(start)?))
}
