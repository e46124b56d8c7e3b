//! Capture files as devices: reading one, writing one, and recording what another device receives and sends.
//!
//! Read are the classic format (draft-ietf-opsawg-pcap) in either byte order, with time in microseconds or
//! nanoseconds; pcapng (draft-ietf-opsawg-pcapng) with any number of sections and interfaces, if all of them are of one
//! kind; and of "cooked" captures (`tcpdump -i any`), of both versions, the IP packets. Files that were cut or damaged
//! say so behind the frames that are whole.
//!
//! What is written is the classic format in nanoseconds, which everything understands that reads captures, or by
//! [`NgWriter`] pcapng with comments. A capture
//! says nothing of unfinished frames: what is read counts as finished, and what is recorded of a merged frame, or one
//! with a partial checksum, is its bytes as they are.

mod format;
mod ng;
mod read;
mod record;
mod write;

pub use ng::{NgPacket, NgVerdict, NgWriter};
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
}

/// How files begin that are written.
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
/// The longest record that is believed; more means that the file is damaged.
const LONGEST_RECORD: u32 = 1 << 20;
