//! A disk in memory on which any step can fail, and whose power can go.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Disk;

/// A disk in memory. Clones are the same one.
///
/// Each byte that is written is a step, and so is each other thing that is done. From step `first` on, `count` steps
/// fail; a write that reaches the first of them writes what is before it.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct Faulty(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Every file there has been: its bytes, and those that a loss of power leaves.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file that has the name, the one that the name leads to after a loss of power, and the new one.
    named: Option<usize>,
    durable: Option<usize>,
    new: Option<usize>,
    aside: Vec<Vec<u8>>,
    step: u64,
    syncs: u64,
    first: u64,
    count: u64,
}

impl Faulty {
    /// With a file of these bytes.
    pub(in crate::control) fn with(bytes: &[u8]) -> Self {
        let disk = Self::default();
        {
            let mut inner = disk.inner();
            inner.files.push((bytes.to_vec(), bytes.to_vec()));
            (inner.named, inner.durable) = (Some(0), Some(0));
        }
        disk
    }

    /// From this step on, so many steps fail.
    pub(in crate::control) fn fail(&self, first: u64, count: u64) {
        let mut inner = self.inner();
        (inner.first, inner.count) = (first, count);
    }

    /// Whether a new file was begun that has taken nothing's place.
    pub(in crate::control) fn has_new(&self) -> bool {
        self.inner().new.is_some()
    }

    /// Steps so far.
    pub(in crate::control) fn steps(&self) -> u64 {
        self.inner().step
    }

    /// How often the file was given to the disk.
    pub(in crate::control) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// The file as the next process finds it.
    pub(in crate::control) fn bytes(&self) -> Option<Vec<u8>> {
        let inner = self.inner();
        inner.named.map(|at| inner.files[at].0.clone())
    }

    /// The file as the next process finds it after a loss of power that took all that the disk was free to lose.
    pub(in crate::control) fn bytes_after_power_loss(&self) -> Option<Vec<u8>> {
        let inner = self.inner();
        inner.durable.map(|at| inner.files[at].1.clone())
    }

    /// What was kept aside.
    pub(in crate::control) fn aside(&self) -> Vec<Vec<u8>> {
        self.inner().aside.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Inner {
    fn fails(&mut self) -> bool {
        let fails = (self.first..self.first.saturating_add(self.count)).contains(&self.step);
        self.step += 1;
        fails
    }

    fn one(&mut self) -> io::Result<()> {
        if self.fails() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn write(&mut self, file: Option<usize>, bytes: &[u8]) -> io::Result<usize> {
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        for (written, byte) in bytes.iter().enumerate() {
            // The failing step is taken by the call that reports it.
            if written > 0 && (self.first..self.first.saturating_add(self.count)).contains(&self.step) {
                return Ok(written);
            }
            self.one()?;
            self.files[file].0.push(*byte);
        }
        Ok(bytes.len())
    }
}

impl Disk for Faulty {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.inner();
        let named = inner.named;
        inner.write(named, bytes)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut inner = self.inner();
        inner.one()?;
        let named = inner.named.ok_or(io::ErrorKind::NotFound)?;
        inner.files[named].0.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.one()?;
        let named = inner.named.ok_or(io::ErrorKind::NotFound)?;
        inner.syncs += 1;
        inner.files[named].1 = inner.files[named].0.clone();
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.one()?;
        inner.files.push(Default::default());
        inner.new = Some(inner.files.len() - 1);
        Ok(())
    }

    fn append_new(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.inner();
        let new = inner.new;
        inner.write(new, bytes)
    }

    fn sync_new(&mut self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.one()?;
        let new = inner.new.ok_or(io::ErrorKind::NotFound)?;
        inner.files[new].1 = inner.files[new].0.clone();
        Ok(())
    }

    fn rename(&mut self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.one()?;
        inner.named = Some(inner.new.take().ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    fn abandon(&mut self) {
        self.inner().new = None;
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.one()?;
        inner.durable = inner.named;
        Ok(())
    }

    fn keep_aside(&mut self) -> io::Result<PathBuf> {
        let mut inner = self.inner();
        inner.one()?;
        let named = inner.named.ok_or(io::ErrorKind::NotFound)?;
        let bytes = inner.files[named].0.clone();
        inner.aside.push(bytes);
        Ok(PathBuf::from(format!("state.damaged-{}", inner.aside.len())))
    }
}
