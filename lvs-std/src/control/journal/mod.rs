//! The state file: what makes a director come back with the table it had.
//!
//! It is a log of records that is written ahead: a command is in it before the director does it, so what the file
//! cannot keep is refused and not done. When it has grown long it is replaced by one that says the same shorter.
//!
//! | part | what it is |
//! |---|---|
//! | `entry` | what is kept, and its bytes |
//! | `format` | header and records with checksums; reads what is whole of any bytes |
//! | `disk` | the steps on a file system, which a test can let fail |
//! | here | what is done when one of them fails |
//!
//! An append that fails is cut back. If that fails too, or what is on the disk is uncertain for another reason, the
//! file is *stale*: nothing is appended to it any more, and the next command begins with a file that replaces it.

mod disk;
mod entry;
mod error;
#[cfg(test)]
pub(in crate::control) mod faulty;
mod format;
mod memory;
#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::Range;
use std::io;
use std::path::{Path, PathBuf};

use crate::ownership::OwnedState;

pub(in crate::control) use disk::Disk;
pub(crate) use entry::Entry;
use entry::Withdrawn;
pub use error::JournalError;
pub use memory::MemoryFile;

/// When a command counts as kept, and is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third place between kernel and disk")]
pub enum Durability {
    /// When the kernel has it: it survives the end of the process, however that comes. The default.
    #[default]
    Process,
    /// When the disk has it (`fdatasync(2)`): it survives a loss of power too. Commands that wait at the same time are
    /// given to the disk together.
    Power,
}

/// An open state file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    disk: Box<dyn Disk>,
    durability: Durability,
    /// What was found in it and not yet been taken up.
    found: Vec<Vec<Entry>>,
    damage: Option<Damage>,
    kept_aside: Option<PathBuf>,
    #[cfg_attr(not(feature = "runtime"), expect(dead_code, reason = "asked by the runtime"))]
    is_of_first_version: bool,
    /// History beyond which the file is replaced.
    history: u64,
    /// Bytes after it was last replaced, and now.
    base: u64,
    length: u64,
    /// Below this length it is not tried again to shorten it.
    patience: u64,
    /// Why nothing may be appended.
    stale: Option<Stale>,
}

/// What of a state file could not be read. The file as it was is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The ranges of bytes that are no whole record.
    pub ranges: Vec<Range<usize>>,
    /// How many whole records there are besides.
    pub whole: usize,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.ranges.iter().map(Range::len).sum();
        let first = self.ranges.first().map_or(0, |range| range.start);
        write!(
            f,
            "{bytes} bytes, the first at {first}, cannot be read; {} whole records are kept",
            self.whole
        )
    }
}

/// Why nothing may be appended to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    /// There is none yet, it is of the first version, or its end is uncertain.
    Replace,
    /// The file is damaged: first it is kept beside, then replaced.
    KeepAside,
}

/// Where something that was kept is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The record's place and end.
    start: u64,
    end: u64,
    /// Which entries of the record it is, and whether they are all of it.
    first: u32,
    count: u32,
    is_all: bool,
}

impl Position {
    /// Where several units are that stand one behind the other in a record with others before them; `None` for none.
    pub(in crate::control) fn of_all(units: &[Self]) -> Option<Self> {
        let (first, last) = (units.first()?, units.last()?);
        Some(Self { count: last.first + last.count - first.first, ..*first })
    }
}

impl Journal {
    /// Opens the state file and reads what it holds. The file itself stays as it is, whatever is found, until
    /// something is to be kept.
    ///
    /// # Errors
    /// [`JournalError`]: it cannot be read, is something else, or of a later version.
    pub fn open(state: &OwnedState) -> Result<Self, JournalError> {
        let path = state.path();
        let opened = disk::RealDisk::open(path);
        let (disk, bytes) = opened.map_err(|error| failed(path, "it cannot be read", error))?;
        Self::on(path, Box::new(disk), bytes.as_deref())
    }

    /// Reads what a file in memory holds, and keeps entries in it.
    ///
    /// # Errors
    /// [`JournalError`]: it is something else, or of a later version.
    pub fn in_memory(file: &MemoryFile) -> Result<Self, JournalError> {
        Self::on(Path::new(memory::IN_MEMORY), Box::new(file.clone()), Some(&file.bytes()))
    }

    /// On any disk, with the bytes that are in the file.
    pub(in crate::control) fn on(
        path: &Path,
        disk: Box<dyn Disk>,
        bytes: Option<&[u8]>,
    ) -> Result<Self, JournalError> {
        let path = path.to_owned();
        let found = match format::read(bytes.unwrap_or_default()) {
            Ok(found) => found,
            Err(format::Unreadable::Foreign) => return Err(JournalError::Foreign { path }),
            Err(format::Unreadable::Newer(version)) => return Err(JournalError::Newer { path, version }),
        };
        let length = bytes.unwrap_or_default().len() as u64;
        let whole = found.units.len();
        let damage = (!found.damaged.is_empty()).then_some(Damage { ranges: found.damaged, whole });
        let stale = match (&damage, found.is_current) {
            (Some(_), _) => Some(Stale::KeepAside),
            (None, false) => Some(Stale::Replace),
            (None, true) => None,
        };
        Ok(Self {
            path,
            disk,
            durability: Durability::default(),
            found: found.units,
            damage,
            kept_aside: None,
            is_of_first_version: found.is_first,
            history: HISTORY,
            base: length,
            length,
            patience: 0,
            stale,
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What of the file could not be read, if anything.
    #[must_use]
    pub const fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Where the file is kept as it was, if it was damaged or held what could not be done again, once it has been
    /// replaced.
    #[must_use]
    pub fn kept_aside(&self) -> Option<&Path> {
        self.kept_aside.as_deref()
    }

    /// Whether the first version has written the file: the text of the configuration was kept elsewhere then.
    #[cfg(feature = "runtime")]
    pub(crate) const fn is_of_first_version(&self) -> bool {
        self.is_of_first_version
    }

    /// Says when a command counts as kept.
    pub const fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    /// When a command counts as kept.
    #[must_use]
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// Takes what was found: in each list what was acknowledged together.
    pub(in crate::control) fn take_found(&mut self) -> Vec<Vec<Entry>> {
        core::mem::take(&mut self.found)
    }

    /// Something of what was found could not be done again: the file is kept beside before it is replaced.
    pub(in crate::control) const fn keep_aside_first(&mut self) {
        self.stale = Some(Stale::KeepAside);
    }

    /// The file says less than there is: it is replaced before anything is recorded.
    pub(in crate::control) fn replace_first(&mut self) {
        self.stale.get_or_insert(Stale::Replace);
    }

    /// Whether it must be [replaced](Self::replace) before anything is recorded.
    pub(in crate::control) const fn is_stale(&self) -> bool {
        self.stale.is_some()
    }

    /// Whether most of it is history.
    pub(in crate::control) const fn is_long(&self) -> bool {
        // Compared with the table's own length: a table is written anew only after several times as many bytes of
        // history.
        self.length > 4 * self.base + self.history && self.length > self.patience
    }

    /// The file could not be shortened: that is tried again after some more history.
    pub(in crate::control) const fn postpone(&mut self) {
        self.patience = self.length + self.history;
    }

    /// Replaces the file after so much history.
    #[cfg(test)]
    pub(in crate::control) const fn set_history(&mut self, bytes: u64) {
        self.history = bytes;
    }

    /// Keeps units of entries in one record: all of them, or none. As durable as was asked for when it returns.
    ///
    /// # Errors
    /// [`JournalError::Io`]; nothing of it is kept then.
    pub(in crate::control) fn record(&mut self, units: &[Vec<Entry>]) -> Result<Vec<Position>, JournalError> {
        if self.stale.is_some() {
            return Err(failed(&self.path, "it must be replaced first", io::ErrorKind::InvalidData.into()));
        }
        // One record also for several units. After a write that failed half way, and a cut that failed too, records of
        // their own could be whole of which all were refused.
        let mut bytes = Vec::new();
        format::write_record(&mut bytes, self.length, units.iter().flatten());
        let (start, end) = (self.length, self.length + bytes.len() as u64);
        let mut first = 0;
        let positions = units.iter().map(|unit| {
            let count = unit.len() as u32;
            let position = Position { start, end, first, count, is_all: units.len() == 1 };
            first += count;
            position
        });
        let positions = positions.collect();
        let disk = &mut *self.disk;
        let mut done =
            write_all(&bytes, |rest| disk.append(rest)).map_err(|error| ("it cannot be written", error));
        if done.is_ok() && self.durability == Durability::Power {
            // What a failed sync leaves on the disk, and whether the next one would tell, is not known. A new file is.
            done = self.disk.sync().map_err(|error| {
                self.stale = Some(Stale::Replace);
                ("its disk does not take it", error)
            });
        }
        if let Err((what, error)) = done {
            // A part of a record would make all behind it unreadable, and a whole one would be done at the next start,
            // although it is refused now.
            if self.disk.cut(self.length).is_err() {
                self.stale = Some(Stale::Replace);
            }
            return Err(failed(&self.path, what, error));
        }
        self.length += bytes.len() as u64;
        Ok(positions)
    }

    /// Takes a record back whose commands the director has refused.
    pub(in crate::control) fn withdraw(&mut self, position: Position) -> Result<(), JournalError> {
        let Position { start: record, first, count, .. } = position;
        if position.is_all && position.end == self.length && self.disk.cut(position.start).is_ok() {
            self.length = position.start;
            if self.durability == Durability::Power {
                let synced = self.disk.sync();
                return synced.map_err(|error| {
                    self.stale = Some(Stale::Replace);
                    failed(&self.path, "its disk does not take it", error)
                });
            }
            return Ok(());
        }
        let done = self.record(&[vec![Entry::Withdrawn(Withdrawn { record, first, count })]]);
        done.map(drop).inspect_err(|_| self.stale = Some(Stale::Replace))
    }

    /// Replaces the file by one with these units. Whoever reads it meanwhile, or after a crash, finds the one or the
    /// other.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the file is as it was then, unless only the folder could not be given to the disk.
    pub(in crate::control) fn replace(
        &mut self,
        units: impl IntoIterator<Item = Vec<Entry>>,
    ) -> Result<(), JournalError> {
        let mut bytes = format::header();
        units.into_iter().for_each(|unit| format::write_record(&mut bytes, 0, unit.iter()));
        if self.stale == Some(Stale::KeepAside) {
            let kept = self.disk.keep_aside();
            let kept =
                kept.map_err(|error| failed(&self.path, "it is damaged and cannot be kept aside", error))?;
            self.stale = Some(Stale::Replace);
            self.kept_aside = Some(kept);
        }
        let disk = &mut *self.disk;
        let mut written = || {
            disk.begin()?;
            write_all(&bytes, |rest| disk.append_new(rest))?;
            // The bytes go to the disk before the name does. So the name stands for a whole file even after the machine
            // has lost its power.
            disk.sync_new()?;
            disk.rename()
        };
        if let Err(error) = written() {
            self.disk.abandon();
            return Err(failed(&self.path, "it cannot be replaced", error));
        }
        (self.base, self.length) = (bytes.len() as u64, bytes.len() as u64);
        (self.patience, self.stale) = (0, None);
        // Only now does the name outlast a loss of power. The process has no use for that.
        match self.disk.sync_folder() {
            Err(error) if self.durability == Durability::Power => {
                self.stale = Some(Stale::Replace);
                Err(failed(&self.path, "its folder does not take it", error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn failed(path: &Path, what: &'static str, error: io::Error) -> JournalError {
    JournalError::Io { path: path.to_owned(), what, error }
}

/// Writes everything, by as many writes as that takes.
fn write_all(mut bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes of history that are always allowed.
const HISTORY: u64 = 1 << 16;
