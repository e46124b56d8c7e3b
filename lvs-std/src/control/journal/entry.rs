//! What a journal keeps: entries, and their bytes.
//!
//! Commands are written as the netlink messages that a client would send, so the reader is the one that clients'
//! requests go through anyway. What the netlink family has no word for has a form of its own.

use core::net::SocketAddr;
use core::time::Duration;
use std::time::SystemTime;

use crate::control::protocol::messages;
use crate::control::protocol::request::{self, Asked};
use crate::control::{Command, DaemonCommand, ServiceName, Setting, TableCommand};

/// Something that a restart must not forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A command that was carried out.
    Command(Command),
    /// A real server gets no new connections; after the deadline what is left is cut.
    Drain(ServiceName, SocketAddr, Option<SystemTime>),
    /// A real server gets new connections again.
    Undrain(ServiceName, SocketAddr),
    /// The text of the configuration that was applied; none of one that a program has made.
    Applied(Option<String>),
    /// What a reload did: all of it, or nothing.
    Reload(Vec<Self>),
    /// The director refused some entries of an earlier record.
    Withdrawn(Withdrawn),
}

/// Which entries were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Withdrawn {
    /// The place of their record in the file.
    pub(super) record: u64,
    /// The first of them in the record, and how many they are.
    pub(super) first: u32,
    pub(super) count: u32,
}

impl Withdrawn {
    /// Whether it is about this entry of the record at this place.
    pub(super) const fn covers(&self, record: u64, entry: usize) -> bool {
        let first = self.first as usize;
        self.record == record && entry >= first && entry - first < self.count as usize
    }
}

impl Entry {
    /// The entry of a command that changes what lasts; `None` for one that changes nothing of the kind.
    ///
    /// Every command is named here, so that a new one cannot be forgotten.
    pub(crate) fn of(command: &Command) -> Option<Self> {
        match command {
            Command::Table(
                TableCommand::NewService(..)
                | TableCommand::SetService(..)
                | TableCommand::DelService(_)
                | TableCommand::NewServer(..)
                | TableCommand::SetServer(..)
                | TableCommand::DelServer(..)
                | TableCommand::Flush,
            )
            | Command::Daemon(DaemonCommand::Start(_) | DaemonCommand::Stop(_))
            | Command::Setting(Setting::Timeouts(_) | Setting::Sysctl(..)) => {
                Some(Self::Command(command.clone()))
            }
            // A director that starts again counts from 0 anyway, and a question changes nothing.
            Command::Zero(_) | Command::Query(_) => None,
        }
    }

    /// Appends the entry's bytes: its kind, its length, and what it says.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Command(command) => (COMMAND, request::write(command, 0)),
            Self::Drain(service, server, deadline) => {
                let mut bytes = millis(*deadline).to_le_bytes().to_vec();
                bytes.extend(server_message(*service, *server));
                (DRAIN, bytes)
            }
            Self::Undrain(service, server) => (UNDRAIN, server_message(*service, *server)),
            Self::Applied(None) => (NO_TEXT, Vec::new()),
            Self::Applied(Some(text)) => (TEXT, text.clone().into_bytes()),
            Self::Reload(entries) => {
                let mut bytes = Vec::new();
                entries.iter().for_each(|entry| entry.write(&mut bytes));
                (RELOAD, bytes)
            }
            Self::Withdrawn(Withdrawn { record, first, count }) => {
                let mut bytes = record.to_le_bytes().to_vec();
                bytes.extend(first.to_le_bytes());
                bytes.extend(count.to_le_bytes());
                (WITHDRAWN, bytes)
            }
        };
        to.push(kind);
        to.extend((bytes.len() as u32).to_le_bytes());
        to.extend(bytes);
    }

    /// Reads the entries of a record. `None` if anything in it is not understood.
    pub(super) fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        Self::read_parts(bytes, Self::read)
    }

    fn read_parts(mut bytes: &[u8], read: fn(u8, &[u8]) -> Option<Self>) -> Option<Vec<Self>> {
        let mut entries = Vec::new();
        while let Some((kind, rest)) = bytes.split_first() {
            let (length, rest) = rest.split_first_chunk()?;
            let (own, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            entries.push(read(*kind, own)?);
            bytes = rest;
        }
        Some(entries)
    }

    /// Reads an entry that can be a part of a reload: none of them is made of others, so bytes cannot nest deeply.
    fn read_simple(kind: u8, bytes: &[u8]) -> Option<Self> {
        if matches!(kind, RELOAD | WITHDRAWN) { None } else { Self::read(kind, bytes) }
    }

    fn read(kind: u8, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            COMMAND => Self::Command(command(bytes)?),
            DRAIN => {
                let (deadline, rest) = bytes.split_first_chunk()?;
                let (service, server) = server(rest)?;
                Self::Drain(service, server, moment(u64::from_le_bytes(*deadline)))
            }
            UNDRAIN => {
                let (service, server) = server(bytes)?;
                Self::Undrain(service, server)
            }
            NO_TEXT => Self::Applied(None),
            TEXT => Self::Applied(Some(String::from_utf8(bytes.to_vec()).ok()?)),
            RELOAD => Self::Reload(Self::read_parts(bytes, Self::read_simple)?),
            WITHDRAWN => {
                let (record, rest) = bytes.split_first_chunk()?;
                let (first, count) = rest.split_first_chunk()?;
                Self::Withdrawn(Withdrawn {
                    record: u64::from_le_bytes(*record),
                    first: u32::from_le_bytes(*first),
                    count: u32::from_le_bytes(count.try_into().ok()?),
                })
            }
            _ => return None,
        })
    }
}

/// The one command that a netlink message is.
pub(super) fn command(bytes: &[u8]) -> Option<Command> {
    let message = messages(bytes).next()?;
    match request::read(&message) {
        // What changes nothing has no place in a journal.
        Asked::Command(command) => Entry::of(&command).map(|_| command),
        Asked::Nothing | Asked::Refused(_) | Asked::RefusedIf(..) => None,
    }
}

/// A real server is named as in the command that removes it.
fn server_message(service: ServiceName, server: SocketAddr) -> Vec<u8> {
    request::write(&Command::Table(TableCommand::DelServer(service, server)), 0)
}

fn server(bytes: &[u8]) -> Option<(ServiceName, SocketAddr)> {
    match command(bytes)? {
        Command::Table(TableCommand::DelServer(service, server)) => Some((service, server)),
        Command::Table(_)
        | Command::Daemon(_)
        | Command::Setting(_)
        | Command::Zero(_)
        | Command::Query(_) => None,
    }
}

/// A deadline in milliseconds since 1970: the clock of the wall goes on while no director runs.
fn millis(deadline: Option<SystemTime>) -> u64 {
    let since = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    deadline.map_or(NEVER, |at| u64::try_from(since(at).as_millis()).unwrap_or(NEVER - 1).min(NEVER - 1))
}

fn moment(millis: u64) -> Option<SystemTime> {
    // What the clock cannot count to never comes.
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    at.filter(|_| millis != NEVER)
}

const COMMAND: u8 = 1;
const DRAIN: u8 = 2;
const UNDRAIN: u8 = 3;
const NO_TEXT: u8 = 4;
const TEXT: u8 = 5;
const WITHDRAWN: u8 = 6;
const RELOAD: u8 = 7;
/// A drain without a deadline.
const NEVER: u64 = u64::MAX;
