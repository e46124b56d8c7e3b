//! The fragments that a frame was put together from.

use heapless::Vec;

/// The most fragments that a datagram may come in. 65,535 bytes in pieces for an MTU of 576, the least that IPv4 hosts
/// take, are 119.
pub(crate) const MAX_PIECES: usize = 128;

/// The pieces that a datagram came in.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// The longest of them in bytes, with its headers.
    pub(crate) largest: u16,
    pub(crate) pieces: Vec<Piece, MAX_PIECES>,
}

/// A piece of a datagram's payload, from `start` to `end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) start: u16,
    pub(crate) end: u16,
    /// The piece came after the one before it, and right behind that: both are of one run.
    joined: bool,
}

/// What a fragment does to its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// The fragment's bytes belong to the datagram; the number is how many of them.
    Takes(usize),
    /// The fragment's bytes were there already.
    Duplicate,
    /// The fragment contradicts the others: none of them is to be believed (RFC 5722 §4).
    Contradicts,
    /// No room is left for more pieces.
    Full,
    /// The fragment has no bytes.
    Empty,
}

impl Piece {
    /// Payload bytes.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.end - self.start)
    }
}

impl Assembly {
    /// No pieces.
    pub(crate) const EMPTY: Self = Self { largest: 0, pieces: Vec::new() };

    /// Adds the payload from `start` to `end`, by Linux's rules for what overlaps.
    pub(crate) fn insert(&mut self, start: u16, end: u16) -> Added {
        let takes = Added::Takes(usize::from(end - start));
        let new = |joined| Piece { start, end, joined };
        if self.pieces.is_full() {
            return Added::Full;
        }
        match self.pieces.last() {
            None => {
                let _ = self.pieces.push(new(false));
                return takes;
            }
            // Fragments come in order nearly always: then the search below is saved.
            Some(last) if last.end < end => {
                if start < last.end {
                    return Added::Contradicts;
                }
                let joined = start == last.end;
                let _ = self.pieces.push(new(joined));
                return takes;
            }
            Some(_) => {}
        }
        let mut at = 0;
        while let Some(first) = self.pieces.get(at) {
            let rest = self.pieces.get(at + 1..).unwrap_or_default();
            let joined = rest.iter().take_while(|piece| piece.joined).count();
            let run_end = self.pieces.get(at + joined).map_or(first.end, |piece| piece.end);
            if end <= first.start {
                break;
            }
            if start < run_end {
                let within = start >= first.start && end <= run_end;
                return if within { Added::Duplicate } else { Added::Contradicts };
            }
            at += 1 + joined;
        }
        let _ = self.pieces.insert(at, new(false));
        takes
    }
}
