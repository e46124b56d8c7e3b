//! What a journal needs of a file system, one step each, so that a test can let every step fail.

use core::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

/// The file of a journal, and the one that is to take its place.
pub(crate) trait Disk: Send + fmt::Debug {
    /// Appends bytes, perhaps not all. Returns how many.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts the file to a length.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Gives what was appended to the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Begins a new file, empty.
    fn begin(&mut self) -> io::Result<()>;
    /// Appends bytes to the new file, perhaps not all. Returns how many.
    fn append_new(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Gives the new file to the disk.
    fn sync_new(&mut self) -> io::Result<()>;
    /// The new file takes the place of the file: it is what is appended to from now on.
    fn rename(&mut self) -> io::Result<()>;
    /// Gives up the new file, if one was begun: it takes no room on a full disk, and no descriptor.
    fn abandon(&mut self);
    /// Gives the folder to the disk, and so the names in it.
    fn sync_folder(&mut self) -> io::Result<()>;
    /// Keeps the file as it is under another name beside it. Returns that name.
    fn keep_aside(&mut self) -> io::Result<PathBuf>;
}

/// A state file on a real file system.
#[derive(Debug)]
pub(super) struct RealDisk {
    path: PathBuf,
    file: Option<File>,
    new: Option<File>,
}

impl RealDisk {
    /// The file at this path, with its bytes; `None` in place of them where there is no file yet.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Vec<u8>>)> {
        let bytes = match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // On a disk that cannot be written to there is nothing to append to; that is said when something is.
        let file = if bytes.is_some() { OpenOptions::new().append(true).open(path).ok() } else { None };
        Ok((Self { path: path.to_owned(), file, new: None }, bytes))
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(what);
        PathBuf::from(name)
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn new_file(&mut self) -> io::Result<&mut File> {
        self.new.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for RealDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file()?.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn begin(&mut self) -> io::Result<()> {
        let path = self.beside(".new");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        // Nobody else's file, and no link, whatever has been put there.
        options.append(true).create_new(true).mode(MODE).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(&path)?;
        // As the one that it replaces: see `OwnedState`. Nobody else can have opened it yet.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        self.new = Some(file);
        Ok(())
    }

    fn append_new(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.new_file()?.write(bytes)
    }

    fn sync_new(&mut self) -> io::Result<()> {
        self.new_file()?.sync_all()
    }

    fn rename(&mut self) -> io::Result<()> {
        fs::rename(self.beside(".new"), &self.path)?;
        self.file = self.new.take();
        Ok(())
    }

    fn abandon(&mut self) {
        if self.new.take().is_some() {
            // If it stays all the same, the next one takes its place.
            let _ = fs::remove_file(self.beside(".new"));
        }
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }

    fn keep_aside(&mut self) -> io::Result<PathBuf> {
        for number in 1..=MOST_ASIDE {
            let aside = self.beside(&format!(".damaged-{number}"));
            let done = match fs::hard_link(&self.path, &aside) {
                // Some file systems have no second names.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !aside.exists() => {
                    copy(&self.path, &aside).inspect_err(|_| drop(fs::remove_file(&aside)))
                }
                linked => linked,
            };
            match done {
                Ok(()) => return Ok(aside),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("there are too many damaged files beside it: look at them and move them away"))
    }
}

/// Copies a file, and gives the copy to the disk: the original is replaced next.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// The mode of a state file: nobody but its owner reads it.
const MODE: u32 = 0o600;
/// Files that are kept aside. One is made with each start that finds the state file damaged.
const MOST_ASIDE: usize = 1_000;
