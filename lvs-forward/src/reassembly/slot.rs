//! One datagram in the making: what has come of it, and what that rules out.

use lvs_core::packet::Addresses;
use lvs_core::{Family, Tick};

use super::fields::FragmentFields;
use crate::frame::{Added, Assembly, Offload, PortId};
use crate::header::address::{destination_bits, from_bits, to_bits};
use crate::header::layout::Layout;
use crate::outcome::Outcome;

/// Room for what is known of one datagram while its fragments come in; its bytes are elsewhere, see
/// [`Fragments::lent`](super::Fragments::lent).
pub struct Slot {
    pub(super) state: State,
    pub(super) key: Key,
    pub(super) since: Tick,
    /// Where the first fragment came in, its mark, and the length of its headers as they are kept: the link's, and all.
    pub(super) port: PortId,
    pub(super) mark: u32,
    pub(super) link: u16,
    pub(super) head: u16,
    /// IPv6: where the fragment header is announced, and what is to stand there in the whole.
    pub(super) next: Option<(u16, u8)>,
    pub(super) assembly: Assembly,
    /// The largest fragment that forbade its fragmentation.
    largest_df: u16,
    /// Payload bytes that are there, and how many it takes as far as is known.
    got: u32,
    len: u32,
    last_is_in: bool,
    /// A bit for each ECN field that came.
    classes: u8,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Free,
    Gathering,
    /// Whole, and decided: the frame's place in the bytes, and what it waits for.
    Done(Reassembled),
}

/// What becomes of a datagram that is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reassembled {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) port: PortId,
    pub(crate) mark: u32,
    pub(crate) offload: Offload,
    /// The frame is still what came in fragments, not an answer to that.
    pub(crate) assembled: bool,
    pub(crate) outcome: Outcome,
}

/// What tells datagrams apart (RFC 791 §3.2, RFC 8200 §4.5). As in Linux, datagrams to this host and those that pass
/// through it are put together apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) source: u128,
    pub(crate) destination: u128,
    pub(crate) identification: u32,
    /// 0 for IPv6, where the identification alone tells.
    pub(crate) protocol: u8,
    pub(crate) local: bool,
}

impl Key {
    const NONE: Self = Self { source: 0, destination: 0, identification: 0, protocol: 0, local: false };

    /// The key of the datagram that a fragment belongs to; `local` says whether that is to this host.
    pub(crate) fn of(layout: &Layout, addresses: &Addresses, fields: &FragmentFields, local: bool) -> Self {
        Self {
            source: to_bits(addresses.source()),
            destination: destination_bits(addresses),
            identification: fields.identification,
            protocol: if layout.family == Family::V4 { layout.protocol } else { 0 },
            local: local && layout.family == Family::V4,
        }
    }

    /// Whether it is an IPv4 datagram on its way through.
    pub(crate) fn passes(&self) -> bool {
        !self.local && self.family() == Family::V4
    }

    /// The family of its addresses.
    pub(crate) fn family(&self) -> Family {
        Family::of(from_bits(self.source))
    }
}

/// A fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) family: Family,
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) more: bool,
    /// Length of the whole packet, headers included.
    pub(super) packet_len: usize,
    pub(super) dont_fragment: bool,
    pub(super) class: u8,
}

impl Slot {
    /// An empty one.
    pub const EMPTY: Self = Self {
        state: State::Free,
        key: Key::NONE,
        since: Tick::ZERO,
        port: PortId(0),
        mark: 0,
        link: 0,
        head: 0,
        next: None,
        assembly: Assembly::EMPTY,
        largest_df: 0,
        got: 0,
        len: 0,
        last_is_in: false,
        classes: 0,
    };

    /// Begins a datagram.
    pub(super) fn open(&mut self, key: Key, now: Tick) {
        *self = Self { state: State::Gathering, key, since: now, ..Self::EMPTY };
    }

    pub(super) const fn is_free(&self) -> bool {
        matches!(self.state, State::Free)
    }

    pub(super) const fn is_gathering(&self) -> bool {
        matches!(self.state, State::Gathering)
    }

    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether every byte is there.
    pub(super) fn is_whole(&self) -> bool {
        let first_is_in = self.assembly.pieces.first().is_some_and(|piece| piece.start == 0);
        first_is_in && self.last_is_in && self.got == self.len
    }

    /// Whether the assembled IPv4 packet forbids its fragmentation: when the largest of its fragments did.
    pub(super) const fn forbids_fragments(&self) -> bool {
        self.largest_df == self.assembly.largest
    }

    /// The ECN field of the whole, as what is to be added to the first fragment's; `None` when the fragments' do not go
    /// together (RFC 3168 §5.3).
    pub(super) const fn congestion(&self) -> Option<u8> {
        const NOT_CAPABLE: u8 = 1 << 0;
        const EXPERIENCED: u8 = 1 << 3;
        if self.classes & NOT_CAPABLE != 0 && self.classes != NOT_CAPABLE {
            return None;
        }
        Some(if self.classes & EXPERIENCED != 0 { 0b11 } else { 0 })
    }

    /// Finds a fragment's place among those that are there, by Linux's rules: a fragment within one run of others is a
    /// duplicate and ignored, any other overlap spoils the datagram.
    pub(super) fn add(&mut self, part: Part) -> Added {
        let offset = part.offset;
        let mut end = offset + part.len;
        if part.more {
            if !end.is_multiple_of(8) {
                if part.family == Family::V6 {
                    return Added::Contradicts;
                }
                end &= !7;
            }
            if end > self.len() && self.last_is_in {
                return Added::Contradicts;
            }
        } else if end < self.len() || (self.last_is_in && end != self.len()) {
            return Added::Contradicts;
        }
        if end <= offset {
            return if part.family == Family::V6 { Added::Empty } else { Added::Contradicts };
        }
        let (Ok(start), Ok(stop)) = (u16::try_from(offset), u16::try_from(end)) else {
            return Added::Contradicts;
        };
        match self.assembly.insert(start, stop) {
            Added::Takes(_) => {}
            refused @ (Added::Duplicate | Added::Contradicts | Added::Full | Added::Empty) => return refused,
        }
        self.len = self.len.max(u32::from(stop));
        self.last_is_in |= !part.more;
        // Pieces never overlap, so that counting bytes is enough to know when all are there.
        self.got += u32::from(stop - start);
        self.classes |= 1 << (part.class & 3);
        // What was cut off for being no multiple of 8 does not count.
        let size = (part.packet_len - (offset + part.len - end)) as u16;
        self.assembly.largest = self.assembly.largest.max(size);
        if part.dont_fragment {
            self.largest_df = self.largest_df.max(size);
        }
        Added::Takes(end - offset)
    }
}

impl core::fmt::Debug for Slot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Slot").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(offset: usize, len: usize, more: bool) -> Part {
        let packet_len = len + 20;
        Part { family: Family::V4, offset, len, more, packet_len, dont_fragment: false, class: 0 }
    }

    fn open() -> Slot {
        let mut slot = Slot::EMPTY;
        slot.open(Key::NONE, Tick::ZERO);
        slot
    }

    fn add_all(parts: &[(usize, usize, bool)]) -> (Slot, Added) {
        let mut slot = open();
        let mut last = Added::Empty;
        for &(offset, len, more) in parts {
            last = slot.add(part(offset, len, more));
        }
        (slot, last)
    }

    const A: (usize, usize, bool) = (0, 800, true);
    const B: (usize, usize, bool) = (800, 400, true);
    const C: (usize, usize, bool) = (1_200, 400, false);

    #[test]
    fn the_order_of_fragments_does_not_matter() {
        for order in [[A, B, C], [A, C, B], [B, A, C], [B, C, A], [C, A, B], [C, B, A]] {
            let (slot, last) = add_all(&order);
            assert!(matches!(last, Added::Takes(_)));
            assert!(slot.is_whole(), "{order:?}");
            assert_eq!((slot.len(), slot.assembly.largest), (1_600, 820));
        }
    }

    #[test]
    fn duplicates_are_ignored_and_overlaps_spoil_as_recorded_from_linux() {
        assert_eq!(add_all(&[A, A]).1, Added::Duplicate);
        assert_eq!(add_all(&[A, (80, 80, true)]).1, Added::Duplicate);
        assert_eq!(add_all(&[A, (400, 800, true)]).1, Added::Contradicts);
        assert_eq!(add_all(&[A, B, (400, 800, true)]).1, Added::Duplicate, "within one run");
        assert_eq!(add_all(&[B, A, (400, 800, true)]).1, Added::Contradicts, "across two runs");
    }

    #[test]
    fn there_is_one_end() {
        assert_eq!(add_all(&[C, (1_600, 8, true)]).1, Added::Contradicts);
        assert_eq!(add_all(&[C, (1_200, 200, false)]).1, Added::Contradicts);
        assert_eq!(add_all(&[A, C, (800, 392, false)]).1, Added::Contradicts);
        assert_eq!(add_all(&[A, (800, 404, true)]).1, Added::Takes(400));
        assert_eq!(add_all(&[A, (800, 0, true)]).1, Added::Contradicts);
    }

    #[test]
    fn service_classes_that_do_not_go_together_spoil() {
        for (classes, expected) in [
            (&[0, 0][..], Some(0)),
            (&[2, 3], Some(3)),
            (&[1, 2], Some(0)),
            (&[0, 2], None),
            (&[3, 0], None),
            (&[3], Some(3)),
        ] {
            let mut slot = open();
            for (at, &class) in classes.iter().enumerate() {
                let _ = slot.add(Part { class, ..part(at * 8, 8, true) });
            }
            assert_eq!(slot.congestion(), expected, "{classes:?}");
        }
    }
}
