//! How a frame came in.

use super::mac::MacAddress;
use crate::frame::Frame;
use crate::header::{array, ethernet};

/// How a frame came in, for the way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The neighbour that it came from, if an answer can go there: all zero where there are no link-layer addresses.
    pub(crate) from: Option<MacAddress>,
}

impl Arrival {
    /// How a frame came in whose IP header is at `network`.
    #[inline]
    pub(crate) fn of(frame: &Frame<'_>, network: usize) -> Self {
        if network < ethernet::LEN {
            return Self { from: Some(MacAddress::ZERO) };
        }
        let from = array(frame.bytes(), ethernet::SOURCE).map(|&octets| MacAddress(octets));
        Self { from: from.filter(|from| !from.is_group()) }
    }

    /// The arrival for a message to somebody else than who sent the frame: the way back is not known.
    pub(crate) const fn to_another(mut self) -> Self {
        self.from = None;
        self
    }
}
