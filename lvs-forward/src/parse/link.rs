//! The link header, and what can be wrong with a frame.

use core::fmt;

use crate::header::{ethernet, get16};
use crate::reason::DropReason;

/// How the frames of a port begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every place that writes a link header must handle each")]
pub enum Link {
    /// With the IP header at once (TUN devices).
    Bare,
    /// With an Ethernet II header and up to two VLAN tags.
    Ethernet,
}

/// Where the network header starts, and the Ethernet type behind all tags.
pub(crate) fn ether_type(bytes: &[u8]) -> Option<(usize, u16)> {
    let mut at = ethernet::TYPE;
    let mut found = get16(bytes, at)?;
    // Bounded: a frame of nothing but tags is nobody's.
    for _ in 0..ethernet::MAX_TAGS {
        match found {
            ethernet::TYPE_TAG | ethernet::TYPE_SERVICE_TAG => {
                at += ethernet::TAG_LEN;
                found = get16(bytes, at)?;
            }
            _ => break,
        }
    }
    Some((at + 2, found))
}

/// What is wrong with a frame that cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each is a counted reason")]
pub enum Malformed {
    /// The IPv4 header checksum is wrong.
    Checksum,
    /// The frame ends inside a header, or before the length that its IP header states.
    Cut,
    /// An impossible version, header length or order of extension headers.
    Header,
    /// Longer than 65,535 bytes: a jumbogram (RFC 2675) or what Linux calls BIG TCP. Lower the sending interface's
    /// `gso_max_size` and `gro_max_size` (`gso_ipv4_max_size`, `gro_ipv4_max_size`) to 65,535 or less.
    Jumbo,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "the IPv4 header checksum is wrong",
            Self::Cut => "the frame ends before its headers say so",
            Self::Header => "a header field has an impossible value",
            Self::Jumbo => "the packet is longer than 65535 bytes",
        })
    }
}

impl core::error::Error for Malformed {}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Checksum => Self::BadHeaderChecksum,
            Malformed::Cut | Malformed::Header => Self::Malformed,
            Malformed::Jumbo => Self::Jumbo,
        }
    }
}
