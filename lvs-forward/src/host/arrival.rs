//! How a frame came in.

use super::mac::MacAddress;
use crate::frame::Frame;
use crate::header::edit::Tags;
use crate::header::{array, ethernet};

/// How a frame came in, for the way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) tags: Tags,
    pub(crate) from: MacAddress,
}

impl Arrival {
    /// How a frame came in whose IP header is at `network`.
    #[inline]
    pub(crate) fn of(frame: &Frame<'_>, network: usize) -> Self {
        if network < ethernet::LEN {
            return Self { tags: Tags::NONE, from: MacAddress::ZERO };
        }
        let from =
            array(frame.bytes(), ethernet::SOURCE).map_or(MacAddress::ZERO, |&octets| MacAddress(octets));
        Self { tags: Tags::of(frame.bytes(), network), from }
    }
}
