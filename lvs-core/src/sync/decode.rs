//! Messages, read: whatever they are, from whomever.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::{
    ENTRY_V0, FIXED, HEADER, HEADER_V0, OPTION_DATA, OPTION_MAY_BE_IGNORED, OPTION_NAME, OPTION_SEQUENCES,
    SEQUENCES, Sequences, Shift, SyncEntry, TYPE_V6, Version,
};
use crate::model::flow::Protocol;
use crate::model::persistence::PersistenceEngine;
use crate::model::state::{SctpState, TcpState};
use crate::model::sync_entry::Addresses;

/// Takes a datagram apart that came from another director. `syncid` is the receiver's own; 0 takes messages of all
/// groups.
///
/// What an entry may contain is checked, and flags that a backup does not take are cleared, as IPVS does it.
///
/// # Errors
///
/// When it is no message for this receiver. An entry may be faulty on its own, see [`EntryError`].
pub fn decode(datagram: &[u8], syncid: u8) -> Result<Entries<'_>, MessageError> {
    let &[first, sender, high, low] = datagram.first_chunk().ok_or(MessageError::Short)?;
    if usize::from(u16::from_be_bytes([high, low])) != datagram.len() {
        return Err(MessageError::Length);
    }
    if syncid != 0 && syncid != sender {
        return Err(MessageError::OtherGroup { syncid: sender });
    }
    let (version, left, rest) = match datagram.split_first_chunk::<HEADER>() {
        // Version 1 begins with a count of 0, so that receivers of version 0 find nothing to read.
        Some((&[0, _, _, _, count, 1, 0, 0], rest)) => (Version::One, count, rest),
        Some(_) | None => (Version::Zero, first, datagram.get(HEADER_V0..).unwrap_or_default()),
    };
    Ok(Entries { version, left, rest })
}

/// The entries of a message, in order. After an error that [ends the message](EntryError::ends_message) none follows.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    version: Version,
    left: u8,
    rest: &'a [u8],
}

impl Entries<'_> {
    /// The message's format.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Received<'a>, EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = match self.version {
            Version::Zero => self.next_v0(),
            Version::One => self.next_v1(),
        };
        // Behind such an error nobody knows where the next entry begins.
        if read.is_err_and(EntryError::ends_message) {
            self.left = 0;
        }
        Some(read)
    }
}

/// An entry as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "an entry and what it refers to")]
pub struct Received<'a> {
    /// The entry.
    pub entry: SyncEntry,
    /// A template's engine and its data, 1 to 255 bytes: a Call-ID.
    pub engine: Option<(PersistenceEngine, &'a [u8])>,
}

/// Why a datagram is no message for this receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
pub enum MessageError {
    /// The message has no header.
    Short,
    /// The message is longer or shorter than it says: cut on the way, or something else.
    Length,
    /// The message is for another group of directors: give both the same syncid, or the receiver 0.
    OtherGroup {
        /// The sender's.
        syncid: u8,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the datagram is too short for a sync message"),
            Self::Length => f.write_str("the sync message does not have the length that it says"),
            Self::OtherGroup { syncid } => {
                write!(f, "the sync message is for the directors with syncid {syncid}")
            }
        }
    }
}

impl core::error::Error for MessageError {}

/// Why an entry was not taken. All of them mean that the sender is broken, newer, or none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
pub enum EntryError {
    /// The message ends inside of it.
    Cut,
    /// The entry is of a version or type of entries that does not exist yet.
    Version,
    /// An option is empty, too long, or there twice.
    Option,
    /// An option without which it would mean something else is not known.
    UnknownOption,
    /// The entry's protocol cannot be balanced.
    Protocol,
    /// There is no such state.
    State,
    /// Flags that exclude each other, or that such an entry cannot have.
    Flags,
    /// The entry's engine is not known, or not named.
    PersistenceEngine,
}

impl EntryError {
    /// Whether the rest of the message is lost with it. The others cost this one entry.
    #[must_use]
    pub const fn ends_message(self) -> bool {
        match self {
            Self::Cut | Self::Version | Self::Option => true,
            Self::UnknownOption | Self::Protocol | Self::State | Self::Flags | Self::PersistenceEngine => {
                false
            }
        }
    }
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "the sync message ends inside of an entry",
            Self::Version => "the entry is of an unknown version or type",
            Self::Option => "an option of the entry is malformed",
            Self::UnknownOption => "the entry has an option that is not known",
            Self::Protocol => "the entry's protocol is not known",
            Self::State => "the entry's state is not known",
            Self::Flags => "the entry has impossible flags",
            Self::PersistenceEngine => "the entry's persistence engine is not known",
        })
    }
}

impl core::error::Error for EntryError {}

impl<'a> Entries<'a> {
    fn next_v0(&mut self) -> Result<Received<'a>, EntryError> {
        let (entry, rest) = self.rest.split_first_chunk::<ENTRY_V0>().ok_or(EntryError::Cut)?;
        let mut fields = Reader(entry);
        let entry = (|| {
            let [_, protocol] = fields.take()?;
            let ports = [fields.u16()?, fields.u16()?, fields.u16()?];
            let addresses =
                Addresses::V4([fields.take()?, fields.take()?, fields.take()?].map(Ipv4Addr::from));
            let (flags, state) = (u32::from(fields.u16()?), fields.u16()?);
            Some(plain(addresses, ports, protocol, state, flags))
        })();
        let mut entry = entry.ok_or(EntryError::Cut)?;
        self.rest = rest;
        if entry.flags & (SyncEntry::IN_SEQ | SyncEntry::OUT_SEQ) != 0 {
            let (data, rest) = rest.split_first_chunk::<SEQUENCES>().ok_or(EntryError::Cut)?;
            entry.sequences = sequences(data, u32::from_ne_bytes);
            self.rest = rest;
        }
        accept(entry).map(|entry| Received { entry, engine: None })
    }

    fn next_v1(&mut self) -> Result<Received<'a>, EntryError> {
        let head = self.rest.first_chunk::<{ FIXED + 12 }>().ok_or(EntryError::Cut)?;
        let &[kind, _, high, low, ..] = head;
        let word = u16::from_be_bytes([high, low]);
        let (bytes, rest) = self.rest.split_at_checked(usize::from(word & 0x0fff)).ok_or(EntryError::Cut)?;
        // Bits of the type besides that for IPv6 are not defined; IPVS takes them as long as that one is set.
        if word >> 12 != 0 || (kind & TYPE_V6 == 0 && kind != 0) {
            return Err(EntryError::Version);
        }
        // The padding before the next one; behind the last one there is none.
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.rest = rest.get(padding..).unwrap_or_default();
        let mut fields = Reader(bytes);
        let mut entry = read_v1(&mut fields, kind).ok_or(EntryError::Cut)?;
        let options = Options::read(fields.0)?;
        if let Some(bytes) = options.sequences {
            entry.sequences = bytes.first_chunk().and_then(|bytes| sequences(bytes, u32::from_be_bytes));
        }
        let entry = accept(entry)?;
        let engine = match options.data {
            None => None,
            Some(data) => {
                // A name may end before its option does, as text in C.
                let name = options.name.and_then(|name| name.split(|&byte| byte == 0).next());
                let name = name.and_then(|name| core::str::from_utf8(name).ok());
                Some((
                    name.and_then(PersistenceEngine::from_name).ok_or(EntryError::PersistenceEngine)?,
                    data,
                ))
            }
        };
        Ok(Received { entry, engine })
    }
}

/// An entry up to its options.
fn read_v1(fields: &mut Reader<'_>, kind: u8) -> Option<SyncEntry> {
    let [_, protocol, _, _] = fields.take()?;
    let flags = fields.u32()?;
    let state = fields.u16()?;
    let ports = [fields.u16()?, fields.u16()?, fields.u16()?];
    let (mark, timeout) = (fields.u32()?, fields.u32()?);
    let addresses = if kind & TYPE_V6 == 0 {
        Addresses::V4([fields.take()?, fields.take()?, fields.take()?].map(Ipv4Addr::from))
    } else {
        Addresses::V6(
            [fields.take()?, fields.take()?, fields.take()?].map(<Ipv6Addr as From<[u8; 16]>>::from),
        )
    };
    Some(SyncEntry { mark, timeout, ..plain(addresses, ports, protocol, state, flags) })
}

const fn plain(addresses: Addresses, ports: [u16; 3], protocol: u8, state: u16, flags: u32) -> SyncEntry {
    let [client_port, virtual_port, server_port] = ports;
    SyncEntry {
        addresses,
        client_port,
        virtual_port,
        server_port,
        protocol,
        state,
        flags,
        mark: 0,
        timeout: 0,
        sequences: None,
        engine: None,
    }
}

/// What stands behind an entry.
#[derive(Default)]
struct Options<'a> {
    sequences: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    name: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn read(mut bytes: &'a [u8]) -> Result<Self, EntryError> {
        let mut options = Self::default();
        while let Some((&kind, rest)) = bytes.split_first() {
            let (&len, rest) = rest.split_first().ok_or(EntryError::Option)?;
            let (value, rest) = rest.split_at_checked(usize::from(len)).ok_or(EntryError::Option)?;
            bytes = rest;
            if value.is_empty() {
                return Err(EntryError::Option);
            }
            let (place, lens) = match kind & !OPTION_MAY_BE_IGNORED {
                OPTION_SEQUENCES => (&mut options.sequences, SEQUENCES..=SEQUENCES),
                OPTION_DATA => (&mut options.data, 1..=usize::from(u8::MAX)),
                OPTION_NAME => (&mut options.name, 1..=MAX_NAME),
                // Whatever comes after it is not looked at.
                _ if kind & OPTION_MAY_BE_IGNORED == 0 => return Err(EntryError::UnknownOption),
                _ => continue,
            };
            if place.is_some() || !lens.contains(&value.len()) {
                return Err(EntryError::Option);
            }
            *place = Some(value);
        }
        Ok(options)
    }
}

/// What a backup takes of an entry, if it takes it.
fn accept(mut entry: SyncEntry) -> Result<SyncEntry, EntryError> {
    let states = if entry.is_template() {
        TEMPLATE_STATES
    } else {
        match (Protocol::from_number(entry.protocol), entry.protocol) {
            (Some(Protocol::Tcp), _) => TcpState::ALL.len(),
            (Some(Protocol::Udp), _) | (None, IPSEC_ESP | IPSEC_AH) => 1,
            (Some(Protocol::Sctp), _) => SctpState::ALL.len(),
            (None, _) => return Err(EntryError::Protocol),
        }
    };
    if usize::from(entry.state) >= states {
        return Err(EntryError::State);
    }
    let without_port = entry.flags & SyncEntry::NO_CLIENT_PORT != 0;
    if entry.flags & SyncEntry::ONE_PACKET != 0 || (without_port && entry.is_template()) {
        return Err(EntryError::Flags);
    }
    // Marked as received from another director, which listings show.
    entry.flags = entry.flags & TAKEN | SyncEntry::SYNC;
    Ok(entry)
}

fn sequences(bytes: &[u8; SEQUENCES], word: fn([u8; 4]) -> u32) -> Option<Sequences> {
    let mut fields = Reader(bytes);
    let mut shift = || {
        Some(Shift {
            initial: word(fields.take()?),
            delta: word(fields.take()?),
            previous: word(fields.take()?),
        })
    };
    Some(Sequences { inbound: shift()?, outbound: shift()? })
}

/// Bytes that are taken from the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
}

/// The flags that a backup takes.
const TAKEN: u32 = SyncEntry::METHOD
    | SyncEntry::NO_OUTPUT
    | SyncEntry::INACTIVE
    | SyncEntry::OUT_SEQ
    | SyncEntry::IN_SEQ
    | SyncEntry::NO_CLIENT_PORT
    | SyncEntry::TEMPLATE;
/// The longest name of an engine.
const MAX_NAME: usize = 16;
/// A template is assured or not.
const TEMPLATE_STATES: usize = 2;
/// Entries of other senders may be of these.
const IPSEC_ESP: u8 = 50;
const IPSEC_AH: u8 = 51;

#[cfg(test)]
mod tests;
