//! The state file: what makes a director come back with the table it had.
//!
//! It holds the commands that make the table, as netlink messages behind a title line. It is replaced as a whole, by a
//! new file that takes its name, and then grows by a message with every change; when it has grown long it is replaced
//! again. So a director that dies at any moment leaves either the old table or the new one, and a message that was cut
//! short by that is not counted. What was written is given to the disk when the file is replaced, not with every
//! message: a machine that loses its power may lose the changes since.

use core::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::Command;
use super::protocol::messages;
use super::protocol::request::{self, Asked};
use crate::ownership::OwnedState;

/// An open state file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes after it was last replaced, and now.
    base: usize,
    length: usize,
}

impl Journal {
    /// Opens the state file, or makes an empty one, and reads what it holds. The last message may be cut: it was not
    /// acknowledged.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(state: &OwnedState) -> Result<(Self, Vec<Command>), JournalError> {
        let path = state.path();
        let fail = |error| JournalError::Io { path: path.to_owned(), error };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(fail(error)),
        };
        let commands = match bytes.strip_prefix(TITLE) {
            Some(rest) => read(rest),
            None if bytes.is_empty() => Vec::new(),
            None => return Err(JournalError::Foreign { path: path.to_owned() }),
        };
        let mut journal =
            Self { path: path.to_owned(), file: options().open(path).map_err(fail)?, base: 0, length: 0 };
        // A message that was cut short has to go before anything is appended. Its length covers what follows it, so a
        // reader would take the next message for its rest.
        journal.replace(&commands)?;
        Ok((journal, commands))
    }

    /// Replaces everything.
    pub(super) fn replace(&mut self, commands: &[Command]) -> Result<(), JournalError> {
        let fail = |error| JournalError::Io { path: self.path.clone(), error };
        let mut bytes = TITLE.to_vec();
        commands.iter().for_each(|command| bytes.extend(padded(command)));
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        let written = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
            file.write_all(&bytes)?;
            // The bytes go to the disk before the name does. So the name stands for a whole file even after the machine
            // has lost its power.
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            // Opened anew, because what follows is appended.
            options().open(&self.path)
        };
        self.file = written().map_err(fail)?;
        (self.base, self.length) = (bytes.len(), bytes.len());
        Ok(())
    }

    /// Adds a command.
    pub(super) fn append(&mut self, command: &Command) -> Result<(), JournalError> {
        // One write for each message, so a crash cuts at most the last one, which was not acknowledged yet. Nothing is
        // flushed to the disk here, which would hold up every command for milliseconds. The kernel has the bytes after
        // the write, so a crash of the director alone loses nothing.
        let bytes = padded(command);
        self.file.write_all(&bytes).map_err(|error| JournalError::Io { path: self.path.clone(), error })?;
        self.length += bytes.len();
        Ok(())
    }

    /// Whether most of it is history.
    pub(super) const fn is_long(&self) -> bool {
        // Compared with the table's own length: a table is written anew only after several times as many bytes of
        // history.
        self.length > 4 * self.base + HISTORY
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE);
    options
}

fn padded(command: &Command) -> Vec<u8> {
    let mut bytes = request::write(command, 0);
    // Netlink aligns messages to four bytes (`NLMSG_ALIGNTO`), and a reader looks for the next one there.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn read(bytes: &[u8]) -> Vec<Command> {
    let commands = messages(bytes).filter_map(|message| match request::read(&message) {
        Asked::Command(command) => Some(command),
        Asked::Nothing | Asked::Refused(_) | Asked::RefusedIf(..) => None,
    });
    commands.collect()
}

/// Why a state file cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// The file is something else: it does not begin as a state file does.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { path } => {
                write!(f, "{} is no state file of a director: move it away or name another", path.display())
            }
            Self::Io { path, error } => write!(f, "state file {}: {error}", path.display()),
        }
    }
}

impl core::error::Error for JournalError {}

/// Nobody but its owner reads it.
const MODE: u32 = 0o600;
/// How a state file begins.
const TITLE: &[u8] = b"director state 1\n\0\0\0";
/// Bytes of history that are always allowed.
const HISTORY: usize = 1 << 16;

const _: () = assert!(TITLE.len().is_multiple_of(4));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ServiceName, ServiceSpec, TableCommand};
    use lvs_core::Family;

    fn open(path: &std::path::Path) -> Result<(Journal, Vec<Command>), JournalError> {
        Journal::open(&OwnedState::take(path).unwrap())
    }

    #[test]
    fn what_was_appended_is_there_again_and_a_cut_message_is_not() {
        let folder = std::env::temp_dir().join(format!("director-journal-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("state");
        let name = ServiceName::tcp("10.99.0.1:80".parse().unwrap());
        let add = Command::Table(TableCommand::NewService(name, ServiceSpec::new(Family::V4, "wrr")));
        {
            let (mut journal, before) = open(&path).unwrap();
            assert!(before.is_empty());
            journal.append(&add).unwrap();
            journal.append(&Command::Table(TableCommand::DelService(name))).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        assert_eq!(open(&path).unwrap().1, [add.clone(), Command::Table(TableCommand::DelService(name))]);
        for cut in 1..40 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(open(&path).unwrap().1, core::slice::from_ref(&add), "{cut}");
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "nobody else reads it");
        fs::write(&path, "[[service]]\n").unwrap();
        assert!(matches!(open(&path), Err(JournalError::Foreign { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }
}
