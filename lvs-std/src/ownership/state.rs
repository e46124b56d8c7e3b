//! The state file as somebody's own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::owner::patiently;
use super::{OwnershipError, lock};

/// A state file that no other director reads or writes. Clones own the same one.
#[derive(Clone, Debug)]
pub struct OwnedState {
    path: PathBuf,
    /// The lock file. `None` where none can be made: on a disk that is full or cannot be written to.
    lock: Option<Arc<File>>,
    /// The state file itself as it was found, locked too. It may have another name in another folder (a hard link),
    /// and where there is no lock file it is all there is.
    file: Option<Arc<File>>,
}

impl OwnedState {
    /// Takes a state file, which need not exist yet. A link is followed: what it leads to is owned.
    ///
    /// # Errors
    /// [`OwnershipError`].
    pub fn take(path: &Path) -> Result<Self, OwnershipError> {
        let what = what(path);
        let fail = |error| OwnershipError::Io { what: what.clone(), error };
        let path = resolved(path).map_err(fail)?;
        let file = match open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(fail(error)),
        };
        let lock = match patiently(|| lock::take(&path, &what)) {
            Ok(lock) => Some(lock),
            // A director must start on a disk that is full or cannot be written to. Nobody else can begin a state file
            // there either.
            Err(OwnershipError::Io { error, .. }) if is_for_want_of_disk(&error) => None,
            Err(error) => return Err(error),
        };
        if let Some(file) = &file
            && !lock::try_lock(file).map_err(fail)?
        {
            return Err(OwnershipError::Held { what, by: None });
        }
        Ok(Self { path, lock: lock.map(Arc::new), file: file.map(Arc::new) })
    }

    /// From the first descriptor: the lock file's, or else the state file's own.
    pub(super) fn adopt(path: PathBuf, fd: OwnedFd) -> Result<Self, OwnershipError> {
        let (what, file) = (what(&path), File::from(fd));
        if lock::is_at(&file, &lock::lock_path(&path)) {
            lock::check(&file, &path, &what)?;
            return Ok(Self { path, lock: Some(Arc::new(file)), file: None });
        }
        if !lock::is_at(&file, &path) {
            return Err(OwnershipError::Foreign { what });
        }
        let mut state = Self { path, lock: None, file: None };
        state.adopt_further(file.into())?;
        Ok(state)
    }

    /// From the descriptor of the state file itself. The first owner may have replaced the file since, and may do so at
    /// any time: then the file has this path no more, and goes on being nobody else's under another one.
    pub(super) fn adopt_further(&mut self, fd: OwnedFd) -> Result<(), OwnershipError> {
        let (what, file) = (what(&self.path), File::from(fd));
        let fail = |error| OwnershipError::Io { what: what.clone(), error };
        if self.file.is_some() || !file.metadata().map_err(fail)?.is_file() {
            return Err(OwnershipError::Foreign { what });
        }
        if !lock::try_lock(&file).map_err(fail)? {
            return Err(OwnershipError::Held { what, by: None });
        }
        self.file = Some(Arc::new(file));
        Ok(())
    }

    /// Where the state file is: without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What makes it somebody's own: the lock file first.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = &File> {
        self.lock.iter().chain(&self.file).map(AsRef::as_ref)
    }
}

fn what(path: &Path) -> String {
    format!("the state file {}", path.display())
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // A pipe in its place must not be waited for.
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}

/// The path without links, also where a link leads to a file that does not exist yet.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = lock::in_real_folder(path)?;
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(to) => {
                let folder = path.parent().unwrap_or_else(|| Path::new("/"));
                path = lock::in_real_folder(&folder.join(to))?;
            }
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from(rustix::io::Errno::LOOP))
}

fn is_for_want_of_disk(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Links that are followed, as the kernel does.
const LINKS: usize = 40;
