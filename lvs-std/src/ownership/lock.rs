//! Lock files: `flock(2)` on a file beside the thing that is owned.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{Holder, OwnershipError};

/// The lock file of something: the same name with `.lock` behind it.
pub(super) fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Makes the folders that a path lies in, and resolves them: two names of one folder lead to one lock.
pub(super) fn in_real_folder(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Whatever the umask: who can write to the folder can put another socket or state file in the place of these.
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    Ok(folder.canonicalize()?.join(name))
}

/// Locks the lock file of something that is called `what`.
pub(super) fn take(path: &Path, what: &str) -> Result<File, OwnershipError> {
    let fail = |error| OwnershipError::Io { what: what.to_owned(), error };
    let lock = lock_path(path);
    for _ in 0..ATTEMPTS {
        let mut file = open(&lock).map_err(fail)?;
        if !try_lock(&file).map_err(fail)? {
            return Err(OwnershipError::Held { what: what.to_owned(), by: owner(&mut file) });
        }
        // Somebody may have put another file in its place since it was opened. The lock is on the file, and whoever
        // comes next looks at the name.
        if is_at(&file, &lock) {
            note_owner(&file);
            return Ok(file);
        }
    }
    Err(fail(io::Error::other("its lock file is replaced again and again")))
}

/// Whether this is the locked lock file of `path`: what was handed over may be anything.
pub(super) fn check(file: &File, path: &Path, what: &str) -> Result<(), OwnershipError> {
    let fail = |error| OwnershipError::Io { what: what.to_owned(), error };
    if !is_at(file, &lock_path(path)) {
        return Err(OwnershipError::Foreign { what: what.to_owned() });
    }
    // Locking once more by the same open file changes nothing; by another one it fails.
    if try_lock(file).map_err(fail)? {
        note_owner(file);
        Ok(())
    } else {
        Err(OwnershipError::Held { what: what.to_owned(), by: None })
    }
}

/// Locks an open file. `false` if another one holds it.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::AGAIN) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Who has the lock of something. The lock file is only read, and locked for a moment if nobody has it: whoever takes
/// it then tries again.
pub(super) fn holder(path: &Path) -> io::Result<Option<Holder>> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(lock_path(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if try_lock(&file)? {
        return Ok(None);
    }
    Ok(Some(Holder { process: owner(&mut file) }))
}

fn open(lock: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let open = |write: bool| {
        let mut options = OpenOptions::new();
        // No link is followed and no pipe waited for, whatever a stranger has put there.
        options.read(true).write(write).create(write).mode(MODE).custom_flags(flags);
        options.open(lock)
    };
    let file = match open(true) {
        // On a disk that cannot be written to, the one that is there will do. If there is none, that is why.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => open(false).map_err(|_| error)?,
        opened => opened?,
    };
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is no lock file", lock.display())))
}

/// Whether an open file is the one at this path.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Writes down whose lock it is, for whoever is refused. The lock counts without it, on a full disk for example.
fn note_owner(file: &File) {
    if file.set_len(0).is_ok() {
        let _ = file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0);
    }
}

fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Others may look for files in a folder that is made, and change nothing.
const FOLDER_MODE: u32 = 0o755;
/// Nobody but its owner opens it, so nobody else can hold the lock.
const MODE: u32 = 0o600;
/// How often the lock file may be another one than the one that was opened.
const ATTEMPTS: usize = 100;
/// Bytes of a lock file that are looked at.
const LONGEST: u64 = 32;
