//! The process that is called, the supervisor's first thread, and what is looked at before both.

use core::mem::MaybeUninit;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};

use super::link::{FIRST, LOOK};
use super::supervisor::Supervisor;
use super::{ExecError, Launch, filter};
use crate::control::{Client, ClientError, Command as Asked, Errno, Query};
use crate::sys::seccomp::{Listener, fork, forward_signals, lead, outlive_signals};

pub(super) fn run(launch: Launch) -> Result<u8, ExecError> {
    // A daemon changes its folder.
    let director = std::path::absolute(&launch.director).unwrap_or(launch.director);
    let launch = Launch { director, ..launch };
    look_at(&launch.program)?;
    reach(&launch.director)?;
    let failed = ExecError::Supervisor;
    // What is buffered would be printed twice.
    io::stdout().flush().map_err(failed)?;
    let (own, supervisors) = UnixStream::pair().map_err(failed)?;
    if fork().map_err(failed)? {
        drop(own);
        supervise(&launch, supervisors);
    }
    drop(supervisors);
    forward_signals(own.try_clone().map_err(failed)?.into()).map_err(failed)?;
    let mut word = [0; WORD];
    (&own).read_exact(&mut word).map_err(failed)?;
    let [kind, a, b, c, d] = word;
    let number = i32::from_ne_bytes([a, b, c, d]);
    let error = || io::Error::from_raw_os_error(number);
    match kind {
        ENDED => Ok(number as u8),
        NO_PROGRAM => Err(ExecError::Program { program: launch.program, error: error() }),
        NO_SECCOMP => Err(ExecError::Seccomp(error())),
        _ => Err(failed(error())),
    }
}

/// Whether the director is there and obeys; it may take a moment to start.
fn reach(director: &Path) -> Result<(), ExecError> {
    let began = Instant::now();
    let socket = || director.to_owned();
    loop {
        let asked = match Client::connect(director) {
            Ok(mut client) => client.call(&Asked::Query(Query::Info)).map(drop),
            Err(error) => Err(ClientError::Io(error)),
        };
        let error = match asked {
            Ok(()) => return Ok(()),
            Err(ClientError::Refused(Errno::Permission)) => {
                return Err(ExecError::NotAllowed { socket: socket() });
            }
            Err(ClientError::Io(error)) => error,
            Err(error) => io::Error::other(error),
        };
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Err(ExecError::NotAllowed { socket: socket() });
        }
        let absent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind());
        if !absent || began.elapsed() >= FIRST {
            return Err(ExecError::NoDirector { socket: socket(), error });
        }
        thread::sleep(LOOK);
    }
}

/// Whether the program is one that can be led.
fn look_at(program: &OsStr) -> Result<(), ExecError> {
    let Some(path) = find(program) else {
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        return Err(ExecError::Program { program: program.to_owned(), error });
    };
    // What cannot be looked at may be executable all the same.
    let Ok(status) = fs::metadata(&path) else { return Ok(()) };
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mode = status.mode();
    let as_another = (mode & libc::S_ISUID != 0 && status.uid() != user)
        || (mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0 && status.gid() != group)
        || rustix::fs::getxattr(&path, "security.capability", &mut [0; 64][..]).is_ok();
    let may = capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN));
    if as_another && !may && status.is_file() {
        return Err(ExecError::Privileged { program: path });
    }
    let mut head = [0; 5];
    if status.is_file()
        && File::open(&path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && head == *b"\x7fELF\x01"
    {
        return Err(ExecError::Foreign { program: path });
    }
    Ok(())
}

/// The file that a command names: itself if there is a slash in it, else the first in the folders of `PATH`.
fn find(program: &OsStr) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 || path.has_root() {
        return path.exists().then(|| path.to_owned());
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Is the supervisor: starts the command, says how it ended, and stays while anything that it started lives.
fn supervise(launch: &Launch, control: UnixStream) -> ! {
    let (mut child, thread) = match start(launch) {
        Ok(started) => started,
        Err((kind, error)) => {
            say(&control, kind, error.raw_os_error().unwrap_or(libc::EIO));
            process::exit(1);
        }
    };
    let ended = accompany(&mut child, &control);
    leave();
    match ended {
        Ok(status) => {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            say(&control, ENDED, code.unwrap_or(1));
        }
        Err(error) => say(&control, NO_SUPERVISOR, error.raw_os_error().unwrap_or(libc::EIO)),
    }
    drop(control);
    // Those that the command left behind are children of this process now.
    while !matches!(rustix::process::wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {}
    drop(thread.join());
    process::exit(0);
}

type Started = (Child, JoinHandle<Result<(), io::Error>>);

fn start(launch: &Launch) -> Result<Started, (u8, io::Error)> {
    let other = |error: io::Error| (NO_SUPERVISOR, error);
    let processor = filter::PROCESSOR.and_then(filter::program);
    let program = processor.ok_or_else(|| (NO_SECCOMP, io::Error::from_raw_os_error(libc::ENOSYS)))?;
    outlive_signals().map_err(other)?;
    // So it stays an ancestor of all programs that it leads, also of daemons: some systems let nobody else look into
    // their memory (`kernel.yama.ptrace_scope`).
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| other(error.into()))?;
    let (from, to) = UnixDatagram::pair().map_err(other)?;
    let director = launch.director.clone();
    // The command's execution is a call that is asked about, so somebody must answer before it has begun.
    let answers = move || {
        Supervisor::new(listener(&from)?, director)?.run();
        Ok(())
    };
    let thread = thread::Builder::new().name("calls".to_owned()).spawn(answers).map_err(other)?;
    let mut command = Command::new(&launch.program);
    command.args(&launch.arguments);
    lead(&mut command, program, to.into());
    let spawned = command.spawn();
    // Its end of the pair goes with it, so that a command that was never there is noticed.
    drop(command);
    match spawned {
        Ok(child) => Ok((child, thread)),
        Err(error) => Err(match thread.join() {
            Ok(Err(seccomp)) if seccomp.raw_os_error().is_some() => (NO_SECCOMP, seccomp),
            Ok(_) => (NO_PROGRAM, error),
            Err(_) => (NO_SUPERVISOR, error),
        }),
    }
}

/// The listener that the command sends before it is executed.
fn listener(from: &UnixDatagram) -> io::Result<Listener> {
    let mut number = [0; 4];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut pieces = [IoSliceMut::new(&mut number)];
    let received = rustix::net::recvmsg(from, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message { Some(descriptors) } else { None }
    });
    let descriptor: Option<OwnedFd> = descriptors.flatten().next();
    match descriptor {
        Some(descriptor) => Ok(Listener::new(descriptor)),
        None if received.bytes == number.len() => {
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
        }
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Waits for the command's end, and passes signals on to it meanwhile.
fn accompany(child: &mut Child, control: &UnixStream) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(child);
    let ends = pidfd_open(pid, PidfdFlags::empty())?;
    let mut called = true;
    loop {
        let mut descriptors = vec![PollFd::from_borrowed_fd(ends.as_fd(), PollFlags::IN)];
        if called {
            descriptors.push(PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN));
        }
        // Interrupted is as good as nothing to do.
        let _ = poll(&mut descriptors, None);
        let ready: Vec<bool> = descriptors.iter().map(|one| !one.revents().is_empty()).collect();
        if ready.first() == Some(&true) {
            return child.wait();
        }
        if ready.get(1) == Some(&true) {
            let mut signals = [0; 16];
            let mut control = control;
            match control.read(&mut signals) {
                // Who called is gone, and so cannot have been ended by a signal that can be passed on.
                Ok(0) | Err(_) => {
                    called = false;
                    child.kill()?;
                }
                Ok(count) => {
                    for signal in signals.iter().take(count) {
                        if let Some(signal) = Signal::from_named_raw(i32::from(*signal)) {
                            let _ = kill_process(pid, signal);
                        }
                    }
                }
            }
        }
    }
}

/// Lets go of what the caller had: a terminal, pipes whose other ends wait for their end, a folder.
fn leave() {
    if let Ok(nowhere) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&nowhere);
        let _ = rustix::stdio::dup2_stdout(&nowhere);
        let _ = rustix::stdio::dup2_stderr(&nowhere);
    }
    drop(std::env::set_current_dir("/"));
}

/// Tells the process that was called. If it is gone, nobody wants to know.
fn say(mut control: &UnixStream, kind: u8, number: i32) {
    let [a, b, c, d] = number.to_ne_bytes();
    drop(control.write_all(&[kind, a, b, c, d]));
}

/// What the supervisor says: a kind and a number.
const WORD: usize = 5;
const ENDED: u8 = 0;
const NO_PROGRAM: u8 = 1;
const NO_SECCOMP: u8 = 2;
const NO_SUPERVISOR: u8 = 3;
/// Where a shell looks without the variable.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(find(OsStr::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(find(OsStr::new("/bin/sh")), Some("/bin/sh".into()));
        assert_eq!(find(OsStr::new("/nowhere/sh")), None);
        assert_eq!(find(OsStr::new("no-such-program")), None);
    }

    #[test]
    fn a_director_that_is_not_there_is_named() {
        let socket = std::env::temp_dir().join(format!("lvs-exec-none-{}", process::id()));
        let error = reach(&socket).unwrap_err();
        assert_eq!(error.status(), 2);
        assert!(
            error.to_string().starts_with(&format!("no director answers at {}", socket.display())),
            "{error}"
        );
    }
}
