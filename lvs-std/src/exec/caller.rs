//! A thread that waits for an answer to a system call: its memory, its descriptors, who it is.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::sys::seccomp;

/// A thread of a led program.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    thread: i32,
    /// Its folder below `/proc`.
    folder: String,
}

impl Caller {
    /// A thread by its number in this process's pid namespace.
    pub(super) fn new(thread: i32) -> Self {
        Self { thread, folder: format!("/proc/{}", in_proc(thread)) }
    }

    /// Bytes of its memory.
    pub(super) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, i32> {
        let mut bytes = vec![0; length];
        if length > 0 {
            seccomp::read_memory(self.thread, address, &mut bytes).map_err(|_| libc::EFAULT)?;
        }
        Ok(bytes)
    }

    /// A text of its memory, without the NUL at its end.
    pub(super) fn text(&self, mut address: u64) -> Result<Vec<u8>, i32> {
        let mut text = Vec::new();
        while text.len() < LONGEST_TEXT {
            // What is read at once lies in one page: the next one may not be there.
            let piece = self.read(address, (PAGE - address % PAGE) as usize)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend(piece.into_iter().take(end));
                return Ok(text);
            }
            address = address.wrapping_add(piece.len() as u64);
            text.extend(piece);
        }
        Err(libc::ENAMETOOLONG)
    }

    /// A number of its memory.
    pub(super) fn word(&self, address: u64) -> Result<u64, i32> {
        let bytes = self.read(address, 8)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
    }

    pub(super) fn int(&self, address: u64) -> Result<u32, i32> {
        let bytes = self.read(address, 4)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)))
    }

    /// Writes to its memory.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), i32> {
        if bytes.is_empty() {
            return Ok(());
        }
        seccomp::write_memory(self.thread, address, bytes).map_err(|_| libc::EFAULT)
    }

    /// Pieces of its memory, as a `struct iovec` array lists them: address and length of each.
    pub(super) fn pieces(&self, address: u64, count: u64) -> Result<Vec<(u64, u64)>, i32> {
        let count =
            usize::try_from(count).ok().filter(|count| *count <= MOST_PIECES).ok_or(libc::EMSGSIZE)?;
        let words = self.read(address, count * 16)?;
        let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        Ok(words.chunks_exact(16).map(|pair| (word(pair), word(pair.get(8..).unwrap_or_default()))).collect())
    }

    /// What a descriptor of its is, as the kernel names it: a path, or `socket:[INODE]` and the like.
    pub(super) fn descriptor_name(&self, number: i32) -> Option<PathBuf> {
        fs::read_link(format!("{}/fd/{number}", self.folder)).ok()
    }

    /// The folder that it is in.
    pub(super) fn current_folder(&self) -> Option<PathBuf> {
        fs::read_link(format!("{}/cwd", self.folder)).ok()
    }

    /// A duplicate of one of its descriptors.
    pub(super) fn descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        let of = |pid, flags| {
            let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
            Ok::<_, io::Error>(pidfd_open(pid, flags)?)
        };
        let process = of(self.thread, PidfdFlags::empty())
            .or_else(|_| of(self.thread, PidfdFlags::from_bits_retain(PIDFD_THREAD)))
            .or_else(|_| of(self.process(), PidfdFlags::empty()))?;
        Ok(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?)
    }

    /// The number of its process.
    pub(super) fn process(&self) -> i32 {
        // One number for each pid namespace from that of `/proc` to the caller's own: the one in this process's stands
        // where this process's own last one does.
        let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let depth = numbers(&own).map_or(1, |numbers| numbers.split_ascii_whitespace().count());
        let text = fs::read_to_string(format!("{}/status", self.folder)).unwrap_or_default();
        let number =
            numbers(&text).and_then(|numbers| numbers.split_ascii_whitespace().nth(depth.saturating_sub(1)));
        number.and_then(|number| number.parse().ok()).unwrap_or(self.thread)
    }

    /// The effective user, as this process's user namespace calls it.
    pub(super) fn user(&self) -> Option<u32> {
        self.status("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// Its effective capabilities.
    pub(super) fn capabilities(&self) -> Option<u64> {
        u64::from_str_radix(self.status("CapEff:")?.trim(), 16).ok()
    }

    /// Whether a signal waits that it handles, which its system call keeps from it.
    pub(super) fn has_signal(&self) -> bool {
        let set =
            |name| self.status(name).and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
        (set("SigPnd:") | set("ShdPnd:")) & !set("SigBlk:") & set("SigCgt:") != 0
    }

    /// Its network namespace, as a file that can be opened.
    pub(super) fn network(&self) -> String {
        format!("{}/ns/net", self.folder)
    }

    /// Its folder below `/proc`.
    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    fn status(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(format!("{}/status", self.folder)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
    }
}

/// The numbers of a process, by pid namespace.
fn numbers(status: &str) -> Option<&str> {
    status.lines().find_map(|line| line.strip_prefix("NStgid:"))
}

/// What a thread is called below `/proc`, which may be that of a pid namespace further out, as after `unshare --pid`
/// without `--mount-proc`.
fn in_proc(thread: i32) -> i32 {
    let own = fs::read_link("/proc/self").ok().and_then(|name| name.to_str()?.parse::<u32>().ok());
    if own == Some(std::process::id()) {
        return thread;
    }
    // The kernel says of a descriptor for a process which number that has where `/proc` belongs to.
    let number = || {
        let pid = Pid::from_raw(thread)?;
        let process = pidfd_open(pid, PidfdFlags::empty())
            .or_else(|_| pidfd_open(pid, PidfdFlags::from_bits_retain(PIDFD_THREAD)))
            .ok()?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&process);
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
    };
    number().unwrap_or(thread)
}

/// `PIDFD_THREAD` (Linux 6.9).
const PIDFD_THREAD: u32 = libc::O_EXCL.cast_unsigned();
/// `PATH_MAX`.
const LONGEST_TEXT: usize = 4_096;
const PAGE: u64 = 4_096;
/// `UIO_MAXIOV`.
const MOST_PIECES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Caller {
        Caller::new(rustix::thread::gettid().as_raw_pid())
    }

    #[test]
    fn memory_is_read_and_written() {
        let room = vec![0_u8; 10_000];
        let address = room.as_ptr() as u64;
        own().write(address + 4_000, &[b'x'; 200]).unwrap();
        assert_eq!(own().text(address + 4_000).unwrap(), [b'x'; 200], "across pages");
        assert_eq!(own().read(0, 1), Err(libc::EFAULT));
        assert_eq!(own().write(8, &[1]), Err(libc::EFAULT));
        drop(room);
    }

    #[test]
    fn a_thread_is_known_by_its_status() {
        let caller = own();
        assert_eq!(caller.user(), Some(rustix::process::geteuid().as_raw()));
        assert_eq!(caller.process().unsigned_abs(), std::process::id());
        assert!(!caller.has_signal());
        assert!(caller.capabilities().is_some());
    }

    #[test]
    fn descriptors_are_duplicated() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let name = own().descriptor_name(number).unwrap();
        assert!(name.to_str().unwrap().starts_with("socket:["), "{name:?}");
        let copy = own().descriptor(number).unwrap();
        assert_eq!(own().descriptor_name(std::os::fd::AsRawFd::as_raw_fd(&copy)), Some(name));
    }
}
