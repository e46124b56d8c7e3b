//! Capture files as devices: reading one, writing one, and recording what another device receives and sends.
//!
//! The classic format (draft-ietf-opsawg-pcap), of which everything that reads or writes captures understands at least
//! this version: 2.4, in either byte order, with time in microseconds or nanoseconds. What is written is in
//! nanoseconds. A capture says nothing of unfinished frames: what is read counts as finished, and what is recorded of a
//! merged frame, or one with a partial checksum, is its bytes as they are.

mod read;
mod record;
mod write;

pub use read::{Reader, Record};
pub use record::{Recording, record};
pub use write::Writer;

/// What the frames of a capture begin with (the format's `LINKTYPE_` numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "what a port of the director can be")]
pub enum LinkType {
    /// An Ethernet header (1).
    Ethernet,
    /// An IP header (101).
    Ip,
}

impl LinkType {
    const fn number(self) -> u32 {
        match self {
            Self::Ethernet => 1,
            Self::Ip => 101,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            101 => Some(Self::Ip),
            _ => None,
        }
    }
}

const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
/// The longest record that is believed; more means that the file is damaged.
const LONGEST_RECORD: u32 = 1 << 20;
