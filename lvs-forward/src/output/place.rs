//! Where packets stand: in a frame, and in a buffer.

use crate::frame::Frame;
use crate::parse::{Link, ether_type};

/// A piece that stands finished between two places of the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Place {
    /// Where a frame stands in its buffer.
    pub(super) fn of(frame: &Frame<'_>) -> Self {
        Self { start: frame.headroom(), end: frame.headroom() + frame.len() }
    }
}

/// Where the IP header starts.
pub(super) fn network(frame: &Frame<'_>, link: Link) -> Option<usize> {
    match link {
        Link::Bare => Some(0),
        Link::Ethernet => ether_type(frame.bytes()).map(|(network, _)| network),
    }
}
