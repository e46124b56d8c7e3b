//! An external program, whose exit status is the answer.

use core::net::SocketAddr;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::{env, io};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{Attempt, Checker, Expiry, PASSED, Pass, Progress};
use crate::health::{Doing, Failure};
use crate::sys::tether::Tether;

/// A target is up when a program says so by its exit status (keepalived's `MISC_CHECK`): 0 is good, everything else is
/// not.
///
/// If it is [`dynamic`](Self::dynamic), it also advises a weight: 0 stands for the operator's, 1 is a failure, and `n`
/// from 2 on is a good answer with the weight `n - 2`.
///
/// The program runs in a process group of its own, without input and output. Its environment has the target in
/// `CHECK_ADDRESS` and `CHECK_PORT`, and of this process's environment `PATH`, `LANG` and `TZ` alone: secrets of the
/// director are none of its checks'. When its time is up, the group gets SIGTERM, a second later SIGKILL. The
/// group ends with the check's engine, and with this process, also when that is killed. A process that leaves the group
/// (`setsid(2)`) is the program's own to end. Needs Linux 5.3.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Program {
    /// The program's path; without a slash it is looked for in `PATH`.
    pub path: String,
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// Whether its exit status is also a weight.
    pub dynamic: bool,
}

impl Program {
    /// A program with arguments, not dynamic.
    #[must_use]
    pub const fn new(path: String, arguments: Vec<String>) -> Self {
        Self { path, arguments, dynamic: false }
    }
}

impl Checker for Program {
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
        let started = Command::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(KEPT.iter().filter_map(|name| Some((name, env::var_os(name)?))))
            .env("CHECK_ADDRESS", target.ip().to_string())
            .env("CHECK_PORT", target.port().to_string())
            // Nobody reads what it says, and a pipe that is full would stop it.
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that what the program starts can be ended with it.
            .process_group(0)
            .spawn();
        let hindered = |step, error: &io::Error| Failure::Hindered {
            step,
            errno: error.raw_os_error().unwrap_or_default(),
        };
        let child = started.map_err(|error| hindered("start the program", &error))?;
        let pid = Pid::from_child(&child);
        // Where something fails from here on, the program ends as this value is dropped.
        let mut child = Running { child: Some(child), tether: None };
        child.tether = Some(Tether::tie(pid).map_err(|error| hindered("watch the program", &error))?);
        // Such a descriptor becomes readable when the process ends, so a program is waited for as a socket is.
        let end = pidfd_open(pid, PidfdFlags::empty());
        let end = end.map_err(|errno| hindered("watch the program", &errno.into()))?;
        Ok(Box::new(Waiting { child, end, dynamic: self.dynamic, late: None }))
    }
}

/// What an exit status means.
fn judge(status: ExitStatus, dynamic: bool) -> Result<Pass, Failure> {
    match (status.code(), dynamic) {
        (Some(0), _) => PASSED,
        (Some(code @ 2..), true) => Ok(Pass { advice: u32::try_from(code - 2).ok() }),
        (Some(code), _) => Err(Failure::Exit(code)),
        (None, _) => Err(Failure::Signal(status.signal().unwrap_or_default())),
    }
}

/// A program that leaves no zombie.
#[derive(Debug)]
struct Running {
    child: Option<Child>,
    /// Ends the group when this process ends. `None` only until it is tied.
    tether: Option<Tether>,
}

impl Running {
    fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(Pid::from_child)
    }

    /// To all of its group. It cannot be another's by now: the number is taken until somebody asked for its end.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // Who is gone already needs no signal.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        // Its end may take a moment, which this thread has not. Without another thread it stays a zombie until the
        // process ends.
        let _ = thread::Builder::new().name("reaper".to_owned()).spawn(move || child.wait());
    }
}

#[derive(Debug)]
struct Waiting {
    child: Running,
    /// Readable when it has ended.
    end: OwnedFd,
    dynamic: bool,
    /// The failure that it is, whatever its status: its time was up.
    late: Option<Failure>,
}

impl Attempt for Waiting {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    fn proceed(&mut self) -> Progress {
        if self.late.is_some() {
            // It has ended: whatever it started ends with it, while its number is still its own.
            self.child.signal(Signal::KILL);
        }
        let Some(child) = &mut self.child.child else { return Progress::Waits };
        match child.try_wait() {
            Ok(None) => Progress::Waits,
            Ok(Some(status)) => {
                self.child.child = None;
                Progress::Done(self.late.take().map_or_else(|| judge(status, self.dynamic), Err))
            }
            Err(error) => Progress::Done(Err(Failure::Hindered {
                step: "wait for the program",
                errno: error.raw_os_error().unwrap_or_default(),
            })),
        }
    }

    fn expire(&mut self, after: Duration) -> Expiry {
        if let Some(late) = self.late.take() {
            // What is left of it is killed as this attempt is dropped.
            return Expiry::Ends(Err(late));
        }
        self.late = Some(Failure::TimedOut { doing: Doing::Program, after });
        self.child.signal(Signal::TERM);
        Expiry::Lingers(GRACE)
    }
}

/// What of this process's environment a program has too.
const KEPT: [&str; 3] = ["PATH", "LANG", "TZ"];
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_mean_what_they_mean_to_keepalived() {
        let of = |code: i32, dynamic| judge(ExitStatus::from_raw(code << 8), dynamic);
        let advice = |weight| Ok(Pass { advice: Some(weight) });
        assert_eq!((of(0, false), of(0, true)), (PASSED, PASSED));
        assert_eq!((of(1, false), of(1, true)), (Err(Failure::Exit(1)), Err(Failure::Exit(1))));
        assert_eq!((of(2, false), of(2, true)), (Err(Failure::Exit(2)), advice(0)));
        assert_eq!((of(255, false), of(255, true)), (Err(Failure::Exit(255)), advice(253)));
        assert_eq!(judge(ExitStatus::from_raw(9), true), Err(Failure::Signal(9)));
    }
}
