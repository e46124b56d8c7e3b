//! A thread that waits for an answer to a system call: its memory, its descriptors, who it is.
//!
//! All of that is found by the thread's number, which another thread may have once this one has been killed. As long as
//! it waits it keeps its number. So what was read counts if it still waits afterwards, and only who still waits is
//! written to.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::sys::seccomp::{self, Call, Listener};

/// A thread of a led program.
#[derive(Debug)]
pub(super) struct Caller {
    thread: i32,
    /// The thread's folder below `/proc`.
    folder: String,
    /// What the thread waits for, if for anything.
    call: Option<(Arc<Listener>, Call)>,
}

impl Caller {
    /// The thread that made a call.
    pub(super) fn new(listener: &Arc<Listener>, call: Call) -> Self {
        Self { call: Some((Arc::clone(listener), call)), ..Self::of(call.thread) }
    }

    /// A thread by its number in this process's pid namespace.
    fn of(thread: i32) -> Self {
        Self { thread, folder: format!("/proc/{}", in_proc(thread)), call: None }
    }

    /// A thread of this process.
    #[cfg(test)]
    pub(super) fn own() -> Self {
        Self::of(rustix::thread::gettid().as_raw_pid())
    }

    /// Whether the number is still this thread's.
    fn is_there(&self) -> bool {
        self.call.as_ref().is_none_or(|(listener, call)| listener.waits(call))
    }

    /// What was found by the number, if that was this thread's.
    fn found<T>(&self, found: T) -> Option<T> {
        self.is_there().then_some(found)
    }

    /// Bytes of its memory.
    pub(super) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, i32> {
        let mut bytes = vec![0; length];
        if length > 0 {
            seccomp::read_memory(self.thread, address, &mut bytes).map_err(|_| libc::EFAULT)?;
        }
        self.found(bytes).ok_or(libc::ESRCH)
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
        if !self.is_there() {
            return Err(libc::ESRCH);
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
        self.link(&format!("fd/{number}"))
    }

    /// The folder that it is in.
    pub(super) fn current_folder(&self) -> Option<PathBuf> {
        self.link("cwd")
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        self.found(fs::read_link(format!("{}/{name}", self.folder)).ok()?)
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
        let descriptor = pidfd_getfd(process, number, PidfdGetfdFlags::empty())?;
        self.found(descriptor).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The number of its process.
    pub(super) fn process(&self) -> i32 {
        // One number for each pid namespace from that of `/proc` to the caller's own: the one in this process's stands
        // where this process's own last one does.
        let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let depth = numbers(&own).map_or(1, |numbers| numbers.split_ascii_whitespace().count());
        let text = self.status().unwrap_or_default();
        let number =
            numbers(&text).and_then(|numbers| numbers.split_ascii_whitespace().nth(depth.saturating_sub(1)));
        number.and_then(|number| number.parse().ok()).unwrap_or(self.thread)
    }

    /// The effective user, as this process's user namespace calls it.
    pub(super) fn user(&self) -> Option<u32> {
        field(&self.status()?, "Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// The thread's effective capabilities.
    pub(super) fn capabilities(&self) -> Option<u64> {
        set(&self.status()?, "CapEff:")
    }

    /// What its call results in when a signal waits that it handles, which the call keeps from it.
    pub(super) fn interruption(&self) -> Option<i32> {
        interruption(&self.status()?)
    }

    /// The name of its network namespace.
    pub(super) fn network(&self) -> Option<PathBuf> {
        self.link("ns/net")
    }

    /// The thread's network namespace.
    pub(super) fn open_network(&self) -> io::Result<fs::File> {
        let file = fs::File::open(format!("{}/ns/net", self.folder))?;
        self.found(file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The thread's folder below `/proc`.
    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    fn status(&self) -> Option<String> {
        self.found(fs::read_to_string(format!("{}/status", self.folder)).ok()?)
    }
}

/// A line of a thread's status (proc(5)), without its name.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// A line that is a set of bits.
fn set(status: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(field(status, name)?, 16).ok()
}

/// What a call results in whose thread has this status. `None` if no signal waits that the thread handles.
fn interruption(status: &str) -> Option<i32> {
    let set = |name| set(status, name).unwrap_or(0);
    let handled = set("SigCgt:") & !set("SigBlk:");
    if set("SigPnd:") & handled != 0 {
        return Some(RESTART);
    }
    // One that the process waits for may be taken by another thread meanwhile. The kernel begins a call anew only in a
    // thread that gets a signal; any other would see the number.
    let alone = field(status, "Threads:") == Some("1");
    (set("ShdPnd:") & handled != 0).then_some(if alone { RESTART } else { libc::EINTR })
}

/// The numbers of a process, by pid namespace.
fn numbers(status: &str) -> Option<&str> {
    field(status, "NStgid:")
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

/// `ERESTARTSYS`: the kernel begins the call anew when the signal is handled, or ends it, as the program has said.
const RESTART: i32 = 512;
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
        Caller::own()
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
        assert_eq!(caller.interruption(), None);
        assert!(caller.capabilities().is_some());
    }

    #[test]
    fn a_call_begins_anew_only_where_the_thread_itself_gets_the_signal() {
        let status = |threads: u32, own: u64, shared: u64, blocked: u64| {
            interruption(&format!(
                "Threads:\t{threads}\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n\
                 SigCgt:\t0000000000000003\n"
            ))
        };
        assert_eq!(status(1, 0, 0, 0), None);
        assert_eq!(status(1, 0, 4, 0), None, "not handled");
        assert_eq!(status(1, 1, 2, 3), None, "blocked");
        assert_eq!(status(1, 0, 2, 0), Some(RESTART));
        assert_eq!(status(4, 1, 2, 0), Some(RESTART));
        assert_eq!(status(4, 0, 2, 0), Some(libc::EINTR), "another thread may get it");
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
