//! Processes that end with this one, however it ends: `F_SETOWN` and `F_SETSIG` (`fcntl(2)`).
//!
//! A parent-death signal (`PR_SET_PDEATHSIG`) would reach the program alone, not what it has started, and setting it
//! takes a `fork` of this process with all its memory: every page that a worker writes to afterwards would be copied.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal};

/// As long as this is there, a process group gets SIGKILL when this process ends, SIGKILL included. Dropping it sets
/// the group free.
///
/// A tether is a pair of connected sockets, each of which signals the group when the other one is closed. As the
/// process ends, the kernel closes them one after the other. A copy of the process that is not executed anew
/// (`fork(2)`) holds them open. The kernel knows the group by itself, not by its number, so no later group is hit.
#[derive(Debug)]
pub(crate) struct Tether([OwnedFd; 2]);

impl Tether {
    /// Ties a group of this user's.
    pub(crate) fn tie(group: Pid) -> io::Result<Self> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let tether = Self([one, other]);
        for end in &tether.0 {
            set(end, libc::F_SETOWN, -group.as_raw_pid())?;
            set(end, F_SETSIG, Signal::KILL.as_raw())?;
        }
        // Only now: a closed end must not be the other one's default signal to whoever owns it by then.
        for end in &tether.0 {
            set(end, libc::F_SETFL, libc::O_ASYNC)?;
        }
        Ok(tether)
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        for end in &self.0 {
            // Nothing of it can fail on an open socket.
            let _ = set(end, libc::F_SETFL, 0);
        }
    }
}

fn set(end: &OwnedFd, operation: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open, and these operations take a number: the kernel touches no memory of ours.
    let result = unsafe { libc::fcntl(end.as_raw_fd(), operation, value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `asm-generic/fcntl.h`.
const F_SETSIG: i32 = 10;

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::fs::File;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command};
    use std::time::Instant;

    use super::*;

    fn group() -> (Child, Tether) {
        // It has a child, and both ignore what a program may ignore.
        let script = "trap '' TERM HUP IO; sleep 600 & wait";
        let child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let tether = Tether::tie(Pid::from_child(&child)).unwrap();
        (child, tether)
    }

    /// Whether anybody of a group is there who is no zombie.
    fn lives(group: u32) -> bool {
        std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let mut words = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
            let zombie = words.next().is_none_or(|state| state == "Z");
            !zombie && words.nth(1) == Some(&group.to_string())
        })
    }

    #[test]
    fn whichever_end_is_closed_first_ends_the_whole_group() {
        for first in [0, 1] {
            let (mut child, mut tether) = group();
            assert!(lives(child.id()));
            // As the kernel does when the process ends: the other end is still armed.
            tether.0[first] = File::open("/dev/null").unwrap().into();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
            let end = Instant::now() + Duration::from_secs(30);
            while lives(child.id()) {
                assert!(Instant::now() < end, "what it has started goes on");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn a_group_that_is_set_free_lives_on() {
        let (mut child, tether) = group();
        drop(tether);
        // A signal of the kernel's would be there by the time that its call returns.
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(lives(child.id()));
        rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
    }
}
