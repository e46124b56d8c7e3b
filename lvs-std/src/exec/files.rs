//! What becomes of calls that name a file of IPVS. Each is answered on a thread of its own, because the director may
//! let it wait; calls of other programs go on meanwhile.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::fs::{MemfdFlags, Mode, SealFlags};

use super::caller::Caller;
use super::filter::Does;
use super::link::{FIRST, LOOK};
use super::place::{ABOVE_SWITCHES, Place};
use crate::control::{Client, ClientError};
use crate::sys::seccomp::{Call, Listener, extended_status, status};

/// The director's files, as led programs find them.
#[derive(Debug)]
pub(super) struct Files {
    director: PathBuf,
    /// Who may turn switches: the user that this process is.
    user: u32,
    /// Stands for the folder of the switches: a folder of `/proc` that is nobody else's.
    folder_name: PathBuf,
    /// Somebody has opened a switch to write to it, so writes must be looked at.
    writers: AtomicBool,
    /// Files that were looked at and not opened yet, by process: whoever opens one finds the same inode.
    looked_at: Mutex<VecDeque<((i32, Place), OwnedFd)>>,
}

impl Files {
    pub(super) fn new(director: PathBuf) -> io::Result<Self> {
        let folder_name = std::fs::canonicalize("/proc/self")?.join("ns");
        let user = rustix::process::geteuid().as_raw();
        let (writers, looked_at) = (AtomicBool::new(false), Mutex::default());
        Ok(Self { director, user, folder_name, writers, looked_at })
    }

    /// What stands for the folder of the switches, as the kernel names it.
    pub(super) fn folder_name(&self) -> &Path {
        &self.folder_name
    }

    pub(super) fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Relaxed)
    }

    /// Answers a call that names one of the files.
    pub(super) fn answer(
        &self,
        listener: &Listener,
        call: &Call,
        caller: &Caller,
        place: &Place,
        does: Does,
    ) {
        let result = match does {
            Does::Open { flags } => self.open(listener, call, caller, place, call.int(flags)),
            #[cfg(target_arch = "x86_64")]
            Does::Create => self.open(listener, call, caller, place, libc::O_CREAT | libc::O_WRONLY),
            Does::Open2 { how } => match caller.word(call.word(how)) {
                // The flags stand first, and those of open(2) are in the lower half.
                Ok(flags) => self.open(listener, call, caller, place, flags as u32 as i32),
                Err(errno) => Err(errno),
            },
            Does::Status { to } => self.look_at(caller, place).and_then(|(file, mode)| {
                let status = status(file.as_fd(), mode).map_err(number)?;
                caller.write(call.word(to), &status).map(|()| Some(0))
            }),
            Does::ExtendedStatus { mask, to } => self.look_at(caller, place).and_then(|(file, mode)| {
                let mask = call.int(mask).cast_unsigned();
                let status = extended_status(file.as_fd(), mask, mode).map_err(number)?;
                caller.write(call.word(to), &status).map(|()| Some(0))
            }),
            Does::Access { mode } => self.access(caller, place, call.int(mode)),
            Does::ReadLink => self.exists(place).and(Err(libc::EINVAL)),
            Does::GetAttribute => self.exists(place).and(Err(libc::EOPNOTSUPP)),
            Does::ListAttributes => self.exists(place).map(|()| Some(0)),
        };
        match result {
            Ok(Some(value)) => listener.answer(call, Ok(value)),
            // It has its answer.
            Ok(None) => {}
            Err(errno) => listener.answer(call, Err(errno)),
        }
    }

    fn open(
        &self,
        listener: &Listener,
        call: &Call,
        caller: &Caller,
        place: &Place,
        flags: i32,
    ) -> Result<Option<i64>, i32> {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let close_on_exec = flags & libc::O_CLOEXEC != 0;
        if let Some(name) = self.folder_of(place) {
            self.exists(place)?;
            if writes || flags & libc::O_CREAT != 0 {
                return Err(libc::EISDIR);
            }
            // A new one, whose place in the list is its own.
            let folder = File::open(name).map_err(number)?;
            listener.give(call, folder.as_fd(), close_on_exec);
            return Ok(None);
        }
        let text = self.read(place)?;
        if flags & libc::O_CREAT != 0 && flags & libc::O_EXCL != 0 {
            return Err(libc::EEXIST);
        }
        if flags & libc::O_DIRECTORY != 0 {
            return Err(libc::ENOTDIR);
        }
        if writes && !self.may_write(caller, place) {
            return Err(libc::EACCES);
        }
        let file = if writes { memory_file(place, WRITTEN) } else { Ok(self.looked_at(caller, place)?.0) };
        let mut file = File::from(file?);
        file.write_all(&text).map_err(number)?;
        io::Seek::rewind(&mut file).map_err(number)?;
        // What is written to a switch is carried out or refused; nothing is ever only kept.
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| error.raw_os_error())?;
        if writes {
            self.writers.store(true, Ordering::Relaxed);
        }
        listener.give(call, file.as_fd(), close_on_exec);
        Ok(None)
    }

    /// What tells the status of a place, and the mode that it lacks.
    fn look_at(&self, caller: &Caller, place: &Place) -> Result<(OwnedFd, Option<u32>), i32> {
        self.exists(place)?;
        if let Some(name) = self.folder_of(place) {
            let folder = File::open(name).map_err(number)?;
            return Ok((folder.into(), Some(libc::S_IFDIR | 0o555)));
        }
        let (file, key) = self.looked_at(caller, place)?;
        let copy = file.try_clone().map_err(number)?;
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        looked_at.push_back((key, file));
        if looked_at.len() > MOST {
            drop(looked_at.pop_front());
        }
        Ok((copy, None))
    }

    /// The folder that stands for a place, if it is one.
    fn folder_of(&self, place: &Place) -> Option<&Path> {
        match place {
            Place::Folder => Some(&self.folder_name),
            Place::Above => Some(Path::new(ABOVE_SWITCHES)),
            Place::Text(_) | Place::Switch(_) => None,
        }
    }

    /// The file of a place that this process has looked at and not opened, or a new one.
    fn looked_at(&self, caller: &Caller, place: &Place) -> Result<(OwnedFd, (i32, Place)), i32> {
        let key = (caller.process(), place.clone());
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let found = looked_at.iter().position(|(of, _)| *of == key).and_then(|at| looked_at.remove(at));
        match found {
            Some((_, file)) => Ok((file, key)),
            None => Ok((memory_file(place, READ)?, key)),
        }
    }

    fn access(&self, caller: &Caller, place: &Place, mode: i32) -> Result<Option<i64>, i32> {
        self.exists(place)?;
        let runs = mode & libc::X_OK != 0 && self.folder_of(place).is_none();
        let writes = mode & libc::W_OK != 0 && !self.may_write(caller, place);
        if runs || writes { Err(libc::EACCES) } else { Ok(Some(0)) }
    }

    fn may_write(&self, caller: &Caller, place: &Place) -> bool {
        matches!(place, Place::Switch(_)) && caller.user() == Some(self.user)
    }

    /// Says that there is no such file when there is none, or no director.
    fn exists(&self, place: &Place) -> Result<(), i32> {
        match place {
            // Reading a list of connections could take long; that there is a director says enough.
            Place::Text(_) | Place::Folder | Place::Above => self.client().map(drop),
            Place::Switch(_) => self.read(place).map(drop),
        }
    }

    fn read(&self, place: &Place) -> Result<Vec<u8>, i32> {
        self.client()?.read_file(&place.path()).map_err(errno)
    }

    /// A connection to the director, which may take a while to listen.
    fn client(&self) -> Result<Client, i32> {
        let began = Instant::now();
        loop {
            match Client::connect(&self.director) {
                Ok(client) => return Ok(client),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(libc::EACCES),
                Err(_) if began.elapsed() < FIRST => thread::sleep(LOOK),
                Err(_) => return Err(libc::ENOENT),
            }
        }
    }

    /// Writes to a switch that a descriptor of this name stands for. Any program can give a file in memory such a name,
    /// so it is the writer's rights that count, at each write, as they do for the kernel's switches.
    pub(super) fn write(&self, caller: &Caller, path: &str, text: &[u8]) -> Result<i64, i32> {
        if caller.user() != Some(self.user) {
            return Err(libc::EPERM);
        }
        self.client()?.write_file(path, text).map_err(errno)?;
        i64::try_from(text.len()).map_err(|_| libc::EINVAL)
    }
}

/// The path of the switch that a descriptor writes to, by what the kernel calls it.
pub(super) fn written(name: &str) -> Option<&str> {
    name.strip_prefix("/memfd:")?.strip_prefix(WRITTEN)?.split(' ').next()
}

/// A file in memory that looks like one of the kernel's.
fn memory_file(place: &Place, prefix: &str) -> Result<OwnedFd, i32> {
    let (name, mode) =
        (format!("{prefix}{}", place.path()), if prefix == WRITTEN { 0o644 } else { mode(place) });
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = rustix::fs::memfd_create(name, flags).and_then(|file| {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(file)
    });
    made.map_err(|error| error.raw_os_error())
}

const fn mode(place: &Place) -> u32 {
    match place {
        Place::Switch(_) => 0o644,
        Place::Text(_) | Place::Folder | Place::Above => 0o444,
    }
}

fn number(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn errno(error: ClientError) -> i32 {
    match error {
        ClientError::Refused(crate::control::Errno::Permission) => libc::EACCES,
        ClientError::Refused(errno) => errno.number(),
        ClientError::Io(error) => number(error),
        ClientError::Malformed => libc::EPROTO,
    }
}

/// What the names of files in memory begin with: those to be read, and those to be written to.
const READ: &str = "director-shows:";
const WRITTEN: &str = "director:";
/// Files that were looked at and not opened, at most.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_to_be_written_to_is_known_by_its_name() {
        let name = "/memfd:director:/proc/sys/net/ipv4/vs/sloppy_tcp (deleted)";
        assert_eq!(written(name), Some("/proc/sys/net/ipv4/vs/sloppy_tcp"));
        for name in ["/memfd:director-shows:/proc/net/ip_vs (deleted)", "/tmp/director:", "socket:[5]", ""] {
            assert_eq!(written(name), None, "{name}");
        }
    }
}
