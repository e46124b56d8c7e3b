//! A packet that is too large becomes fragments (RFC 791 §3.2, RFC 8200 §4.5).

use super::cut::Cut;
use super::place::Place;
use crate::frame::{Assembly, Frame, Piece};
use crate::header::edit::write_header_checksum;
use crate::header::{array_mut, ethernet, get16, ipv4, ipv6, protocol, put16, put32};
use crate::offload::complete_sum;
use crate::reason::DropReason;

/// Link header, and the longest IPv4 header or IPv6 header with its fragment header.
const MAX_HEAD: usize = ethernet::LEN + ethernet::TAG_LEN * ethernet::MAX_TAGS + 60;

/// A packet that is being cut into fragments, whose headers are kept aside.
#[derive(Debug)]
pub(super) struct Fragments {
    /// From the buffer's first byte to the packet's frame.
    start: usize,
    network: usize,
    shape: Shape,
    /// Link and IP header of each fragment.
    head: [u8; MAX_HEAD],
    /// From the frame's first byte to the payload.
    data: usize,
    /// Payload bytes of every fragment but the last, when it does not leave in the pieces that it came in.
    step: usize,
    received: Option<Received>,
    total: usize,
    done: usize,
}

impl Fragments {
    /// Begins to cut the packet whose IP header is at `network`; `None` for one that leaves as it is.
    pub(super) fn of(frame: &mut Frame<'_>, network: usize, cut: Cut) -> Result<Option<Self>, DropReason> {
        // What came in fragments leaves in fragments, even if it would fit.
        let assembly = frame.assembly().filter(|_| cut != Cut::SEGMENTS);
        if assembly.is_none() && frame.len() <= network + usize::from(cut.mtu) {
            return Ok(None);
        }
        let step = check(frame.bytes(), network, cut)?;
        // The sum covers the whole packet, which is in one place for the last time here.
        complete_sum(frame)?;
        let (shape, data) = Shape::of(frame, network, cut)?;
        let mut head = [0; MAX_HEAD];
        let kept = head.get_mut(..data).ok_or(DropReason::Unfragmentable)?;
        kept.copy_from_slice(frame.bytes().get(..data).ok_or(DropReason::Malformed)?);
        let total = frame.len() - data;
        let room = (network + usize::from(cut.mtu)).saturating_sub(data);
        let received = assembly.and_then(|assembly| Received::of(assembly, total, room));
        let start = frame.headroom();
        Ok(Some(Self { start, network, shape, head, data, step, received, total, done: 0 }))
    }

    /// Finishes the next fragment in place, in the frame that this was made of or another one of the same buffer.
    pub(super) fn next(&mut self, frame: &mut Frame<'_>) -> Result<Option<Place>, DropReason> {
        let Self { start, network, data, total, done, .. } = *self;
        if done >= total {
            return Ok(None);
        }
        let left = total - done;
        let len = match &mut self.received {
            Some(received) => received.next(frame.assembly()).unwrap_or(left),
            None => self.step.min(left),
        };
        let place = Place { start: start + done, end: start + done + data + len };
        if len > left {
            return Err(DropReason::Malformed);
        }
        let mut piece = frame.window(place.start, place.end).ok_or(DropReason::Malformed)?;
        let bytes = piece.bytes_mut();
        let head = self.head.get_mut(..data).ok_or(DropReason::Malformed)?;
        bytes.get_mut(..data).ok_or(DropReason::Malformed)?.copy_from_slice(head);
        self.shape.finish(bytes, network, data, done, done + len == total).ok_or(DropReason::Malformed)?;
        if done == 0 {
            self.shape.trim_options(head, network);
        }
        self.done += len;
        Ok(Some(place))
    }
}

/// The lengths of a datagram's pieces as it came in them: what was put before it belongs to the first.
#[derive(Debug)]
struct Received {
    first: usize,
    /// Which piece is next.
    at: usize,
}

impl Received {
    /// For a datagram of `total` bytes, if its pieces may be `room` bytes long. Linux keeps them then, and cuts anew
    /// otherwise.
    fn of(assembly: &Assembly, total: usize, room: usize) -> Option<Self> {
        let rest = assembly.pieces.get(1..)?;
        let lengths = rest.iter().map(Piece::len);
        let first = total.checked_sub(lengths.clone().sum())?;
        let inner = rest.len().saturating_sub(1);
        // Offsets count in units of eight bytes, so that only the last piece may have any length.
        let fits = |len: usize| len <= room && len.is_multiple_of(8);
        let keeps =
            fits(first) && lengths.clone().take(inner).all(fits) && lengths.clone().all(|len| len <= room);
        keeps.then_some(Self { first, at: 0 })
    }

    fn next(&mut self, assembly: Option<&Assembly>) -> Option<usize> {
        let at = self.at;
        self.at += 1;
        if at == 0 { Some(self.first) } else { assembly?.pieces.get(at).map(Piece::len) }
    }
}

/// How many payload bytes each fragment but the last has: a multiple of 8.
pub(super) fn check(bytes: &[u8], network: usize, cut: Cut) -> Result<usize, DropReason> {
    let first = *bytes.get(network).ok_or(DropReason::Malformed)?;
    let head = match first >> 4 {
        4 => usize::from(first & 0x0f) * 4,
        6 => ipv6::LEN + ipv6::FRAGMENT_LEN,
        _ => return Err(DropReason::Malformed),
    };
    // Offsets count in units of eight bytes.
    match usize::from(cut.mtu).saturating_sub(head) & !7 {
        0 => Err(DropReason::Unfragmentable),
        step => Ok(step),
    }
}

#[derive(Clone, Copy, Debug)]
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
    /// The shape of a frame's fragments, and where their payload begins. Makes room for IPv6's fragment header.
    fn of(frame: &mut Frame<'_>, network: usize, cut: Cut) -> Result<(Self, usize), DropReason> {
        let old = frame.bytes().get(network..).unwrap_or_default();
        if old.first().map(|byte| byte >> 4) == Some(4) {
            let word = get16(old, ipv4::FRAGMENT).ok_or(DropReason::Malformed)?;
            let len = usize::from(old.first().map_or(0, |byte| byte & 0x0f)) * 4;
            let shape = Self::V4 { first: word & ipv4::OFFSET_MASK, more: word & ipv4::MORE_FRAGMENTS != 0 };
            return Ok((shape, network + len));
        }
        let next = *old.get(ipv6::NEXT_HEADER).ok_or(DropReason::Malformed)?;
        frame.grow_front(ipv6::FRAGMENT_LEN).ok_or(DropReason::NoHeadroom)?;
        // The headers move to the new front, and leave room for the fragment header behind them.
        let headers = ipv6::FRAGMENT_LEN..ipv6::FRAGMENT_LEN + network + ipv6::LEN;
        debug_assert!(frame.len() > headers.end);
        frame.bytes_mut().copy_within(headers, 0);
        let shape = Self::V6 { next, identification: cut.identification };
        Ok((shape, network + ipv6::LEN + ipv6::FRAGMENT_LEN))
    }

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
        // IPv6 has its options in extension headers, which are not split here.
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
