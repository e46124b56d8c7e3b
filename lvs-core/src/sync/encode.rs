//! Messages, written.

use core::fmt;

use super::{
    ENTRY_V0, FIXED, HEADER, HEADER_V0, OPTION_DATA, OPTION_NAME, OPTION_SEQUENCES, SEQUENCES, Sequences,
    SyncEntry, TYPE_V6,
};
use crate::model::persistence::{MAX_CALL_ID, PersistenceEngine};
use crate::model::sync_entry::Addresses;

/// The two formats (`net.ipv4.vs.sync_version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Version {
    /// The old one: IPv4, without mark, time-out and engine data.
    Zero,
    /// The one since Linux 2.6.39.
    #[default]
    One,
}

/// A message that is being written into a buffer.
#[derive(Debug)]
pub struct Message<'a> {
    buffer: &'a mut [u8],
    pen: Pen,
}

impl<'a> Message<'a> {
    /// An empty message; `None` when the buffer has no room for a header. No message is longer than 65,535 bytes.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], version: Version, syncid: u8) -> Option<Self> {
        let pen = Pen::new(buffer, version, syncid)?;
        Some(Self { buffer, pen })
    }

    /// Adds an entry, with the engine's name and data if it is a template that has some: 1 to 255 bytes.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] when there is no room for it, or there are 255 entries; [`PushError::NotInVersion`] when the
    /// format has no place for what it is; [`PushError::EngineData`] when that has no byte or more than 255.
    pub fn push(
        &mut self,
        entry: &SyncEntry,
        engine: Option<(PersistenceEngine, &[u8])>,
    ) -> Result<(), PushError> {
        self.pen.push(self.buffer, entry, engine)
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pen.count as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pen.count == 0
    }

    /// The message.
    #[must_use]
    pub fn finish(self) -> &'a [u8] {
        self.buffer.get(..self.pen.len).unwrap_or_default()
    }
}

/// Why an entry is not in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
pub enum PushError {
    /// There is no room for it: send the message and begin another one.
    Full,
    /// The format has no place for it: version 0 has no IPv6. Send version 1.
    NotInVersion,
    /// The data of a persistence engine has 1 to 255 bytes: there is nothing to send.
    EngineData,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no room for the entry in the message",
            Self::NotInVersion => "version 0 messages have no IPv6 entries",
            Self::EngineData => "engine data has 1 to 255 bytes",
        })
    }
}

impl core::error::Error for PushError {}

/// Where a message stands that is being written; the buffer is given to each call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pen {
    pub(super) version: Version,
    pub(super) len: usize,
    pub(super) count: u8,
}

impl Pen {
    pub(super) fn new(buffer: &mut [u8], version: Version, syncid: u8) -> Option<Self> {
        let len = match version {
            Version::Zero => {
                *buffer.first_chunk_mut()? = [0, syncid, 0, 4];
                HEADER_V0
            }
            Version::One => {
                *buffer.first_chunk_mut()? = [0, syncid, 0, 8, 0, 1, 0, 0];
                HEADER
            }
        };
        Some(Self { version, len, count: 0 })
    }

    pub(super) fn push(
        &mut self,
        buffer: &mut [u8],
        entry: &SyncEntry,
        engine: Option<(PersistenceEngine, &[u8])>,
    ) -> Result<(), PushError> {
        if engine.is_some_and(|(_, data)| data.is_empty() || data.len() > MAX_CALL_ID) {
            return Err(PushError::EngineData);
        }
        let count = self.count.checked_add(1).ok_or(PushError::Full)?;
        let len = match self.version {
            Version::Zero => write_v0(buffer, self.len, entry)?,
            Version::One => write_v1(buffer, self.len, entry, engine).ok_or(PushError::Full)?,
        };
        let size = u16::try_from(len).map_err(|_| PushError::Full)?;
        let count_at = match self.version {
            Version::Zero => 0,
            Version::One => 4,
        };
        // Only now: an entry that did not fit must leave the message as it was.
        (self.len, self.count) = (len, count);
        let mut header = Writer { buffer, at: count_at };
        let _ = header.put(&[count]);
        header.at = 2;
        let _ = header.put(&size.to_be_bytes());
        Ok(())
    }
}

/// Writes an entry behind `at`, four-byte aligned, and says where it ends.
fn write_v1(
    buffer: &mut [u8],
    at: usize,
    entry: &SyncEntry,
    engine: Option<(PersistenceEngine, &[u8])>,
) -> Option<usize> {
    // The padding belongs in front of the next entry: IPVS sends none behind the last one.
    let start = at.next_multiple_of(4);
    let mut out = Writer { buffer, at };
    out.put([0; 3].get(..start - at)?)?;
    let (kind, addresses) = match entry.addresses {
        Addresses::V4(_) => (0, 12),
        Addresses::V6(_) => (TYPE_V6, 48),
    };
    let options = entry.sequences.map_or(0, |_| 2 + SEQUENCES)
        + engine.map_or(0, |(engine, data)| 4 + data.len() + engine.name().len());
    // Its upper four bits are the version of the entry, 0; so long is no entry that they would be touched.
    let size = u16::try_from(FIXED + addresses + options).ok()?;
    out.put(&[kind, entry.protocol])?;
    out.put(&size.to_be_bytes())?;
    // Whether an entry is in a table is the sender's own affair, and changes meanwhile.
    out.put(&(entry.flags & !SyncEntry::HASHED).to_be_bytes())?;
    for short in [entry.state, entry.client_port, entry.virtual_port, entry.server_port] {
        out.put(&short.to_be_bytes())?;
    }
    out.put(&entry.mark.to_be_bytes())?;
    out.put(&entry.timeout.to_be_bytes())?;
    out.put_addresses(entry.addresses)?;
    if let Some(sequences) = entry.sequences {
        out.put(&[OPTION_SEQUENCES, SEQUENCES as u8])?;
        for word in words(sequences) {
            out.put(&word.to_be_bytes())?;
        }
    }
    if let Some((engine, data)) = engine {
        for (option, text) in [(OPTION_DATA, data), (OPTION_NAME, engine.name().as_bytes())] {
            out.put(&[option, u8::try_from(text.len()).ok()?])?;
            out.put(text)?;
        }
    }
    Some(out.at)
}

/// Writes an entry behind `at`, and says where it ends.
fn write_v0(buffer: &mut [u8], at: usize, entry: &SyncEntry) -> Result<usize, PushError> {
    if matches!(entry.addresses, Addresses::V6(_)) {
        return Err(PushError::NotInVersion);
    }
    let shifted = entry.flags & (SyncEntry::IN_SEQ | SyncEntry::OUT_SEQ) != 0;
    let mut out = Writer { buffer, at };
    let mut write = || {
        out.put(&[0, entry.protocol])?;
        for port in [entry.client_port, entry.virtual_port, entry.server_port] {
            out.put(&port.to_be_bytes())?;
        }
        out.put_addresses(entry.addresses)?;
        out.put(&((entry.flags & !SyncEntry::HASHED) as u16).to_be_bytes())?;
        out.put(&entry.state.to_be_bytes())?;
        if shifted {
            // IPVS sends these as they are in its memory.
            for word in words(entry.sequences.unwrap_or_default()) {
                out.put(&word.to_ne_bytes())?;
            }
        }
        Some(out.at)
    };
    let end = write().ok_or(PushError::Full)?;
    debug_assert!(end - at == ENTRY_V0 + if shifted { SEQUENCES } else { 0 }, "the layout of an entry");
    Ok(end)
}

const fn words(sequences: Sequences) -> [u32; 6] {
    let Sequences { inbound, outbound } = sequences;
    [inbound.initial, inbound.delta, inbound.previous, outbound.initial, outbound.delta, outbound.previous]
}

/// A place in a buffer.
struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.buffer.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    fn put_addresses(&mut self, addresses: Addresses) -> Option<()> {
        match addresses {
            Addresses::V4(all) => all.iter().try_for_each(|address| self.put(&address.octets())),
            Addresses::V6(all) => all.iter().try_for_each(|address| self.put(&address.octets())),
        }
    }
}
