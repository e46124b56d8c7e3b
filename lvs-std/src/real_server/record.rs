//! What was there before, in a file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::RealServerError;
use super::machine::Before;
use super::step::Step;

/// The changes that were made, or were about to be made, oldest first. Whatever it says is in the file as well.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    /// The network namespace, as `/proc` names it: changes in one mean nothing in another.
    namespace: String,
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) step: Step,
    pub(crate) before: Before,
}

impl Record {
    /// Reads the file; without one the record is empty.
    pub(crate) fn read(path: &Path) -> Result<Self, RealServerError> {
        let fail = |error| RealServerError::File { path: path.to_owned(), error };
        let here = fs::read_link("/proc/thread-self/ns/net").map_err(fail)?.display().to_string();
        let content = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes).map_err(|error| fail(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Content { namespace: here.clone(), changes: Vec::new() }
            }
            Err(error) => return Err(fail(error)),
        };
        if content.namespace != here {
            return Err(RealServerError::Elsewhere { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), content })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.content.changes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.content.changes.len()
    }

    /// The newest change.
    pub(crate) fn last(&self) -> Option<&Change> {
        self.content.changes.last()
    }

    /// Whether the newest change of this step's kind was the same: it was written down and cut off, or undone by
    /// somebody else.
    pub(crate) fn has_last(&self, change: &Change) -> bool {
        self.content.changes.iter().rev().find(|of| of.step == change.step) == Some(change)
    }

    /// Adds a change that is about to be made.
    pub(crate) fn push(&mut self, change: Change) -> Result<(), RealServerError> {
        self.content.changes.push(change);
        self.write().inspect_err(|_| drop(self.content.changes.pop()))
    }

    /// Takes the newest change out, which is undone. The file goes with the last one.
    pub(crate) fn pop(&mut self) -> Result<(), RealServerError> {
        self.content.changes.pop();
        self.write()
    }

    fn write(&self) -> Result<(), RealServerError> {
        self.replace().map_err(|error| RealServerError::File { path: self.path.clone(), error })
    }

    /// The file is the old one or the new one, whenever the machine stops.
    fn replace(&self) -> io::Result<()> {
        if self.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&self.content)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }
}
