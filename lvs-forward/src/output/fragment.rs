//! A packet that is too large becomes fragments (RFC 791 §3.2, RFC 8200 §4.5).

use super::cut::Cut;
use crate::frame::{Assembly, Frame};
use crate::header::edit::write_header_checksum;
use crate::header::{array_mut, ethernet, get16, ipv4, ipv6, protocol, put16, put32};
use crate::offload::complete_sum;
use crate::reason::DropReason;

/// Link header, and the longest IPv4 header or IPv6 header with its fragment header.
const MAX_HEAD: usize = ethernet::LEN + ethernet::TAG_LEN * ethernet::MAX_TAGS + 60;

/// Emits the fragments of a frame whose IP header is at `network`, or the frame itself when it fits.
pub(super) fn cut(
    frame: &mut Frame<'_>,
    network: usize,
    cut: Cut,
    emit: &mut dyn FnMut(Frame<'_>),
) -> Result<usize, DropReason> {
    // What came in fragments leaves in fragments, even if it would fit.
    let assembly = frame.assembly().filter(|_| cut != Cut::SEGMENTS);
    if assembly.is_none() && frame.len() <= network + usize::from(cut.mtu) {
        let offload = frame.offload;
        let len = frame.len();
        emit(frame.part(0, len).ok_or(DropReason::Malformed)?.with_offload(offload));
        return Ok(1);
    }
    let step = check(frame.bytes(), network, cut)?;
    complete_sum(frame)?;
    let old = frame.bytes().get(network..).unwrap_or_default();
    let (shape, data) = match old.first().map(|byte| byte >> 4) {
        Some(4) => {
            let word = get16(old, ipv4::FRAGMENT).ok_or(DropReason::Malformed)?;
            let len = usize::from(old.first().map_or(0, |byte| byte & 0x0f)) * 4;
            let shape = Shape::V4 { first: word & ipv4::OFFSET_MASK, more: word & ipv4::MORE_FRAGMENTS != 0 };
            (shape, network + len)
        }
        _ => {
            let next = *old.get(ipv6::NEXT_HEADER).ok_or(DropReason::Malformed)?;
            frame.grow_front(ipv6::FRAGMENT_LEN).ok_or(DropReason::NoHeadroom)?;
            let len = frame.len();
            // The headers move to the new front, and leave room for the fragment header behind them.
            let bytes = frame.bytes_mut();
            bytes.copy_within(ipv6::FRAGMENT_LEN..ipv6::FRAGMENT_LEN + network + ipv6::LEN, 0);
            debug_assert!(len > network + ipv6::LEN + ipv6::FRAGMENT_LEN);
            let shape = Shape::V6 { next, identification: cut.identification };
            (shape, network + ipv6::LEN + ipv6::FRAGMENT_LEN)
        }
    };
    let mut saved = [0; MAX_HEAD];
    let head = saved.get_mut(..data).ok_or(DropReason::Unfragmentable)?;
    head.copy_from_slice(frame.bytes().get(..data).ok_or(DropReason::Malformed)?);

    let total = frame.len() - data;
    let room = (network + usize::from(cut.mtu)).saturating_sub(data);
    let mut received = assembly.and_then(|assembly| received(assembly, total, room));
    let (mut done, mut emitted) = (0, 0);
    while done < total {
        let len = match &mut received {
            Some(lengths) => lengths.next().unwrap_or(total - done),
            None => step.min(total - done),
        };
        let mut piece = frame.part(done, done + data + len).ok_or(DropReason::Malformed)?;
        let bytes = piece.bytes_mut();
        bytes.get_mut(..data).ok_or(DropReason::Malformed)?.copy_from_slice(head);
        shape.finish(bytes, network, data, done, done + len == total).ok_or(DropReason::Malformed)?;
        emit(piece);
        if done == 0 {
            shape.trim_options(head, network);
        }
        done += len;
        emitted += 1;
    }
    Ok(emitted)
}

/// The payload of each piece, if a datagram of `total` bytes can leave in the pieces that it came in: what was put before it belongs
/// to the first. Linux does so, and cuts anew otherwise.
fn received(assembly: &Assembly, total: usize, room: usize) -> Option<impl Iterator<Item = usize>> {
    let rest = assembly.pieces.get(1..)?;
    let lengths = rest.iter().map(|piece| usize::from(piece.end - piece.start));
    let first = total.checked_sub(lengths.clone().sum())?;
    let inner = rest.len().saturating_sub(1);
    let fits = |len: usize| len <= room && len.is_multiple_of(8);
    let keeps =
        fits(first) && lengths.clone().take(inner).all(fits) && lengths.clone().all(|len| len <= room);
    keeps.then(|| core::iter::once(first).chain(lengths))
}

/// How many payload bytes each fragment but the last has: a multiple of 8.
pub(super) fn check(bytes: &[u8], network: usize, cut: Cut) -> Result<usize, DropReason> {
    let first = *bytes.get(network).ok_or(DropReason::Malformed)?;
    let head = match first >> 4 {
        4 => usize::from(first & 0x0f) * 4,
        6 => ipv6::LEN + ipv6::FRAGMENT_LEN,
        _ => return Err(DropReason::Malformed),
    };
    match usize::from(cut.mtu).saturating_sub(head) & !7 {
        0 => Err(DropReason::Unfragmentable),
        step => Ok(step),
    }
}

enum Shape {
    /// Offset in units of 8 bytes and "more fragments" of the packet itself, which may be a fragment already.
    V4 {
        first: u16,
        more: bool,
    },
    V6 {
        next: u8,
        identification: u32,
    },
}

impl Shape {
    /// Makes the copied headers true for the fragment in `bytes`, whose payload stands `done` bytes into the whole.
    fn finish(&self, bytes: &mut [u8], network: usize, data: usize, done: usize, last: bool) -> Option<()> {
        let units = u16::try_from(done / 8).ok()?;
        match *self {
            Self::V4 { first, more } => {
                put16(bytes, network + ipv4::TOTAL_LEN, u16::try_from(bytes.len() - network).ok()?)?;
                let more = if more || !last { ipv4::MORE_FRAGMENTS } else { 0 };
                put16(bytes, network + ipv4::FRAGMENT, (first + units) | more)?;
                write_header_checksum(bytes, network, data - network)
            }
            Self::V6 { next, identification } => {
                let payload = bytes.len().checked_sub(network + ipv6::LEN)?;
                put16(bytes, network + ipv6::PAYLOAD_LEN, u16::try_from(payload).ok()?)?;
                *array_mut(bytes, network + ipv6::NEXT_HEADER)? = [protocol::FRAGMENT];
                let at = network + ipv6::LEN;
                *array_mut(bytes, at)? = [next, 0];
                put16(bytes, at + 2, units << 3 | u16::from(!last))?;
                put32(bytes, at + 4, identification)
            }
        }
    }

    /// Blanks the options that only the first fragment carries: those without the "copied" bit (RFC 791 §3.1).
    fn trim_options(&self, head: &mut [u8], network: usize) {
        const END: u8 = 0;
        const NOP: u8 = 1;
        const COPIED: u8 = 0x80;
        if matches!(self, Self::V6 { .. }) {
            return;
        }
        let mut rest = head.get_mut(network + ipv4::LEN..).unwrap_or_default();
        while let [kind, ..] = *rest {
            let len = match (kind, rest.get(1)) {
                (END, _) => return,
                (NOP, _) => 1,
                (_, Some(&len)) if len >= 2 => usize::from(len),
                (_, Some(_) | None) => return,
            };
            let Some((option, next)) = rest.split_at_mut_checked(len) else {
                return;
            };
            if kind & COPIED == 0 {
                option.fill(NOP);
            }
            rest = next;
        }
    }
}
