//! Programs that configure IPVS, led to a director: ipvsadm, keepalived, anything that speaks the netlink family `IPVS`
//! or reads `/proc/net/ip_vs`, dynamic or static, in any language, with its threads and the programs that it starts.
//!
//! ```no_run
//! use lvs_std::control::socket_path;
//! use lvs_std::exec::Launch;
//! // In a process that has one thread.
//! let status = Launch::new(socket_path("default"), "ipvsadm").argument("-Ln").run()?;
//! # Ok::<(), lvs_std::exec::ExecError>(())
//! ```
//!
//! The kernel asks this module before it carries out certain system calls of these programs (seccomp user
//! notification, Linux 5.9; `seccomp_unotify(2)`). A filter picks them by number and arguments; what it cannot tell
//! apart is asked about too, and passed on.
//!
//! | system calls | what becomes of them |
//! |---|---|
//! | `socket` for generic netlink | one end of a pair; what is for `IPVS` goes to the director, else to the kernel |
//! | `send`, `read`, `poll`, `epoll`, `dup` and the like on it | the kernel's own business |
//! | `bind`, `getsockname`, options; receiving with the sender's address | as the kernel's socket behind the pair |
//! | those that name `/proc/net/ip_vs*` or `/proc/sys/net/ipv4/vs/*` by any path | the director's text in memory |
//! | `write` to a switch | carried out or refused |
//! | `getdents64` of the folders in which these stand | has these too |
//! | `execve` of `modprobe` for `ip_vs`, the old interface's socket options | `ENOENT`, `ENOPROTOOPT` |
//! | `io_uring_setup` | `ENOSYS`: no filter sees what a ring does |
//!
//! # Processes
//!
//! [`run`](Launch::run) makes a second process, the supervisor. It starts the command, and answers for it and for all
//! that it starts. When the command ends, so does `run`, with its status; the supervisor stays while one of the
//! command's children lives, such as a daemon. Signals that are sent to the process that called `run` go on to the
//! command. The command ends when the supervisor does.
//!
//! # When the director goes away
//!
//! A request for which the director has gone away is sent again when it is back, for which it has 5 s.
//!
//! # Limits
//!
//! Nobody is kept from anything by this: a program that wants to can reach the kernel's own files and families. What it
//! can do at the director is what its user may.
//!
//! Without `CAP_SYS_ADMIN`, programs that gain privileges as they start (setuid) do not gain them, and are refused.
//! 32-bit programs are refused. The switches' folder cannot be the current one (`chdir`), as the kernel has none.
//! Nobody else can supervise these programs by seccomp meanwhile. Before Linux 5.19 a signal in the wrong moment makes
//! a program lose a datagram that it was about to receive.

mod caller;
mod files;
mod filter;
mod folder;
mod kernel;
mod launcher;
mod link;
mod message;
mod place;
mod receive;
mod socket;
mod supervisor;

use core::fmt;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// A command that is to be executed and led to a director.
#[derive(Clone, Debug)]
pub struct Launch {
    director: PathBuf,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Launch {
    /// A command, to be found as a shell finds it, and the director's [socket](crate::control::socket_path()).
    #[must_use]
    pub fn new(director: impl Into<PathBuf>, program: impl Into<OsString>) -> Self {
        Self { director: director.into(), program: program.into(), arguments: Vec::new() }
    }

    /// Another word for the command.
    #[must_use]
    pub fn argument(mut self, word: impl Into<OsString>) -> Self {
        self.arguments.push(word.into());
        self
    }

    /// Executes the command and waits for its end: its exit status, or 128 and the number of the signal that ended it.
    /// Takes over the signals of this process, which must have one thread.
    ///
    /// # Errors
    /// [`ExecError`]: the command was not executed.
    pub fn run(self) -> Result<u8, ExecError> {
        launcher::run(self)
    }
}

/// Why a command was not executed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecError {
    /// No director answers at this socket.
    NoDirector {
        /// Where it was expected.
        socket: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The director there obeys the superuser and the user that it runs as, and this is neither.
    NotAllowed {
        /// The director's socket.
        socket: PathBuf,
    },
    /// The program gains privileges as it starts, which the kernel denies to one that is led.
    Privileged {
        /// The program.
        program: PathBuf,
    },
    /// The program is for another processor, or a 32-bit one, whose system calls are not known here.
    Foreign {
        /// The program.
        program: PathBuf,
    },
    /// The program cannot be found or executed.
    Program {
        /// The program as it was named.
        program: OsString,
        /// What happened.
        error: io::Error,
    },
    /// The kernel does not offer seccomp user notification (Linux 5.9) here.
    Seccomp(io::Error),
    /// The supervisor cannot be started.
    Supervisor(io::Error),
}

impl ExecError {
    /// The exit status that goes with it: 127 and 126 as a shell's when the program cannot be found or executed, 2 as
    /// ipvsadm's when there is no director or not for this user, else 1.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::NoDirector { .. } | Self::NotAllowed { .. } => 2,
            Self::Program { error, .. } if error.kind() == io::ErrorKind::NotFound => 127,
            Self::Privileged { .. } | Self::Foreign { .. } | Self::Program { .. } => 126,
            Self::Seccomp(_) | Self::Supervisor(_) => 1,
        }
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDirector { socket, error } => write!(
                f,
                "no director answers at {}: {error}; start one (director run), or say which one (--director)",
                socket.display()
            ),
            Self::NotAllowed { socket } => write!(
                f,
                "not allowed: the director at {} obeys the superuser and the user that it runs as",
                socket.display()
            ),
            Self::Privileged { program } => write!(
                f,
                "{} gains privileges as it starts, so it cannot be led; execute it as the superuser",
                program.display()
            ),
            Self::Foreign { program } => {
                write!(f, "{} is no 64-bit program of this processor, so it cannot be led", program.display())
            }
            Self::Program { program, error } => {
                write!(f, "{} cannot be executed: {error}", program.display())
            }
            Self::Seccomp(error) => write!(
                f,
                "the kernel does not lead programs here: {error}; it takes seccomp user notification (Linux 5.9), and \
                 no other supervisor that uses it"
            ),
            Self::Supervisor(error) => write!(f, "the supervisor cannot be started: {error}"),
        }
    }
}

impl core::error::Error for ExecError {}
