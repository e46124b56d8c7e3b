//! The bytes of a state file: a header, and records with checksums.
//!
//! ```text
//! header   "director state 2\n" 0 0 0     20 bytes, the version in decimal digits
//!          check                          CRC-32 of the 20 bytes
//! record   0xd1 "rec"                     where a reader can begin again behind damaged bytes
//!          length                         bytes of the entries
//!          check                          CRC-32 of the place in the file (64 bits), the length and the entries
//!          entries                        what was acknowledged together: all of it is there, or none
//! ```
//!
//! Numbers are little-endian, but for those in netlink messages. The checksum has the record's place in it, so bytes
//! inside a record, such as the text of a configuration, cannot pass for a record themselves.

use core::ops::Range;

use crc::{CRC_32_ISO_HDLC, Crc};

use super::entry::{self, Entry, Withdrawn};
use crate::control::protocol::messages;

/// What was found in the bytes of a state file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What each whole record has, in their order, without those that were withdrawn.
    pub(super) units: Vec<Vec<Entry>>,
    /// Bytes that are no whole record.
    pub(super) damaged: Vec<Range<usize>>,
    /// Whether the file is of this version: what follows can be appended.
    pub(super) is_current: bool,
    /// Whether it is of the first version.
    pub(super) is_first: bool,
}

/// Why bytes are no state file that this version can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The bytes are something else.
    Foreign,
    /// A later version has written them.
    Newer(u32),
}

/// The header of this version.
pub(super) fn header() -> Vec<u8> {
    let mut bytes = TITLE.to_vec();
    bytes.extend(CRC.checksum(TITLE).to_le_bytes());
    bytes
}

/// Appends a record to bytes that begin at this place of the file.
pub(super) fn write_record<'a>(to: &mut Vec<u8>, start: u64, entries: impl Iterator<Item = &'a Entry>) {
    let offset = start + to.len() as u64;
    let mut payload = Vec::new();
    entries.for_each(|entry| entry.write(&mut payload));
    to.extend(MARKER);
    to.extend((payload.len() as u32).to_le_bytes());
    to.extend(check(offset, &payload).to_le_bytes());
    to.extend(payload);
}

/// Reads a state file: what is whole is found, whatever has happened to the rest.
pub(super) fn read(bytes: &[u8]) -> Result<Found, Unreadable> {
    if bytes.is_empty() {
        return Ok(Found::default());
    }
    let whole = bytes.split_at_checked(HEADER).filter(|(header, _)| {
        header
            .split_at_checked(TITLE.len())
            .is_some_and(|(title, sum)| CRC.checksum(title).to_le_bytes() == sum)
    });
    if let Some((header, _)) = whole {
        return match version(header) {
            Some(2) => Ok(records(bytes, HEADER, Vec::new())),
            Some(version) if version > 2 => Err(Unreadable::Newer(version)),
            _ => Err(Unreadable::Foreign),
        };
    }
    if bytes.starts_with(FIRST_TITLE) {
        let first = first_version(bytes);
        // A title whose one digit was damaged leads here too; its records are those of the second version.
        if !first.units.is_empty() || bytes.len() == FIRST_TITLE.len() {
            return Ok(first);
        }
    }
    // The header is damaged. Either there are records all the same, or enough of it is left to know it by.
    let found = records(bytes, 0, Vec::new());
    let alike = bytes.iter().zip(TITLE).filter(|(there, own)| there == own).count();
    let is_ours = !found.units.is_empty() || alike * 4 >= bytes.len().min(TITLE.len()) * 3;
    if !is_ours {
        return Err(Unreadable::Foreign);
    }
    // The records of the first version have no marks of their own, but may be there behind a damaged title.
    let first = first_version(bytes);
    Ok(if found.units.is_empty() && !first.units.is_empty() { damaged_title(first) } else { found })
}

/// The whole records from some place on. What is between them is damaged.
fn records(bytes: &[u8], from: usize, mut damaged: Vec<Range<usize>>) -> Found {
    let (mut units, mut withdrawn): (Vec<(u64, Vec<Entry>)>, Vec<Withdrawn>) = (Vec::new(), Vec::new());
    let mut at = from;
    let mut lost = None;
    while at < bytes.len() {
        let Some((entries, length)) = record(bytes, at) else {
            lost.get_or_insert(at);
            // The next place where one can begin.
            let next = bytes
                .get(at + 1..)
                .and_then(|rest| rest.windows(MARKER.len()).position(|here| here == MARKER));
            at = next.map_or(bytes.len(), |next| at + 1 + next);
            continue;
        };
        damaged.extend(lost.take().map(|lost| lost..at));
        withdrawn.extend(entries.iter().filter_map(|entry| match entry {
            Entry::Withdrawn(withdrawn) => Some(*withdrawn),
            Entry::Command(_)
            | Entry::Drain(..)
            | Entry::Undrain(..)
            | Entry::Applied(_)
            | Entry::Reload(_) => None,
        }));
        units.push((at as u64, entries));
        at += length;
    }
    damaged.extend(lost.map(|lost| lost..bytes.len()));
    let lasting = |(record, entries): (u64, Vec<Entry>)| -> Vec<Entry> {
        let lasts = |(at, entry): &(usize, Entry)| {
            let is_withdrawn = withdrawn.iter().any(|withdrawn| withdrawn.covers(record, *at));
            !is_withdrawn && !matches!(entry, Entry::Withdrawn(_))
        };
        entries.into_iter().enumerate().filter(lasts).map(|(_, entry)| entry).collect()
    };
    let units = units.into_iter().map(lasting).filter(|unit| !unit.is_empty()).collect();
    Found { units, damaged, is_current: from == HEADER, is_first: false }
}

/// The record at this place, with its length, if it is whole.
fn record(bytes: &[u8], at: usize) -> Option<(Vec<Entry>, usize)> {
    let rest = bytes.get(at..)?.strip_prefix(&MARKER)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
    if check(at as u64, payload) != u32::from_le_bytes(*sum) {
        return None;
    }
    Some((Entry::read_all(payload)?, FRAME + payload.len()))
}

fn check(offset: u64, payload: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&offset.to_le_bytes());
    digest.update(&(payload.len() as u32).to_le_bytes());
    digest.update(payload);
    digest.finalize()
}

/// The version that a header names.
fn version(header: &[u8]) -> Option<u32> {
    let rest = header.strip_prefix(NAME)?;
    let digits = rest.split(|byte| *byte == b'\n').next()?;
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// The first version: netlink messages behind the title, without checksums. What cannot be read ends it.
fn first_version(bytes: &[u8]) -> Found {
    let mut found = Found { is_first: true, ..Found::default() };
    let rest = bytes.get(FIRST_TITLE.len()..).unwrap_or_default();
    let mut end = FIRST_TITLE.len().min(bytes.len());
    for message in messages(rest) {
        let next = end + message.bytes.len().next_multiple_of(4);
        match entry::command(message.bytes) {
            Some(command) => found.units.push(vec![Entry::Command(command)]),
            None => found.damaged.push(end..next.min(bytes.len())),
        }
        end = next;
    }
    if end < bytes.len() {
        found.damaged.push(end..bytes.len());
    }
    found
}

fn damaged_title(mut found: Found) -> Found {
    found.damaged.insert(0, 0..FIRST_TITLE.len());
    found
}

/// How the title of every version begins.
const NAME: &[u8] = b"director state ";
const TITLE: &[u8] = b"director state 2\n\0\0\0";
const FIRST_TITLE: &[u8] = b"director state 1\n\0\0\0";
/// Length of the header.
pub(super) const HEADER: usize = TITLE.len() + 4;
const MARKER: [u8; 4] = *b"\xd1rec";
/// Bytes of a record beside its entries.
const FRAME: usize = MARKER.len() + 4 + 4;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

const _: () = assert!(TITLE.len() == FIRST_TITLE.len());
