//! Whether an owner is about to be none any more.

use core::time::Duration;
use std::fs;
use std::thread;
use std::time::Instant;

use super::OwnershipError;

/// Tries to take something, also for a while after its owner was killed: the kernel frees a process's memory before it
/// closes its descriptors, which takes a moment where there is much of it. A living owner is respected at once.
pub(super) fn patiently<T>(
    mut attempt: impl FnMut() -> Result<T, OwnershipError>,
) -> Result<T, OwnershipError> {
    let end = Instant::now() + GRACE;
    loop {
        match attempt() {
            Err(OwnershipError::Held { by: Some(pid), .. }) if is_going(pid) && Instant::now() < end => {
                thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// Whether a process has ended, is ending or was killed (`proc_pid_stat(5)`, `proc_pid_status(5)`).
fn is_going(pid: u32) -> bool {
    let (Ok(stat), Ok(status)) =
        (fs::read_to_string(format!("/proc/{pid}/stat")), fs::read_to_string(format!("/proc/{pid}/status")))
    else {
        return true;
    };
    // The name in brackets may have anything in it.
    let mut words = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
    let is_over = words.next().is_some_and(|state| matches!(state, "Z" | "X"));
    let is_ending =
        words.nth(5).and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & PF_EXITING != 0);
    let pending = |name: &str| {
        let bits = status.lines().find_map(|line| line.strip_prefix(name));
        bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
            .is_some_and(|bits| bits & SIGKILL != 0)
    };
    is_over || is_ending || pending("SigPnd:") || pending("ShdPnd:")
}

/// The flag of a process that is ending (`linux/sched.h`).
const PF_EXITING: u64 = 4;
/// The signal's bit.
const SIGKILL: u64 = 1 << 8;
/// How long an owner may take to end.
const GRACE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_killed_process_is_going_and_a_living_one_is_not() {
        assert!(!is_going(std::process::id()));
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        assert!(!is_going(child.id()));
        child.kill().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while !is_going(child.id()) {
            assert!(Instant::now() < end);
        }
        child.wait().unwrap();
        assert!(is_going(child.id()), "there is no such process");
    }
}
