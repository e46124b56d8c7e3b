//! A state file in memory.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Disk;

/// A state file that is in memory alone: to look at bytes, for tests, and for whoever keeps them elsewhere. Clones are
/// the same one.
///
/// ```
/// use lvs_std::control::{Journal, MemoryFile};
/// let file = MemoryFile::new(*b"#!/bin/sh\n");
/// assert!(Journal::in_memory(&file).is_err(), "it is something else");
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryFile(Arc<Mutex<Bytes>>);

#[derive(Debug, Default)]
struct Bytes {
    file: Vec<u8>,
    new: Vec<u8>,
    aside: Vec<Vec<u8>>,
}

impl MemoryFile {
    /// A file with these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Mutex::new(Bytes { file: bytes.into(), ..Bytes::default() })))
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().file.clone()
    }

    /// The files that were kept beside it as they were: damaged, or with what could not be done again.
    #[must_use]
    pub fn kept_aside(&self) -> Vec<Vec<u8>> {
        self.lock().aside.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().file.extend(bytes);
        Ok(bytes.len())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.lock().file.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        self.lock().new.clear();
        Ok(())
    }

    fn append_new(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().new.extend(bytes);
        Ok(bytes.len())
    }

    fn sync_new(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self) -> io::Result<()> {
        let mut bytes = self.lock();
        bytes.file = core::mem::take(&mut bytes.new);
        Ok(())
    }

    fn abandon(&mut self) {
        self.lock().new.clear();
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn keep_aside(&mut self) -> io::Result<PathBuf> {
        let mut bytes = self.lock();
        let file = bytes.file.clone();
        bytes.aside.push(file);
        Ok(PathBuf::from(format!("{IN_MEMORY}.damaged-{}", bytes.aside.len())))
    }
}

/// What a file in memory is called in errors.
pub(super) const IN_MEMORY: &str = "in memory";
