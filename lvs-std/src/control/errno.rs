//! The kernel's error numbers.

use core::fmt;

use crate::worker::WorkerGone;

/// Why a command was refused, as the kernel would say it. Linux numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the numbers that the interface has")]
#[repr(i32)]
pub enum Errno {
    /// `EPERM`: the client is not privileged.
    Permission = 1,
    /// `ENOENT`: no such scheduler, persistence engine, real server, family or file.
    NoEntry = 2,
    /// `ESRCH`: no such service, or no such daemon.
    NoService = 3,
    /// `EIO`: the state file cannot be written, so nothing was done.
    Io = 5,
    /// `ENOMEM`: the director has no place for it.
    Memory = 12,
    /// `EBUSY`: a dump is under way, or too many changes wait for the disk.
    Busy = 16,
    /// `EEXIST`: it is there already.
    Exists = 17,
    /// `ENODEV`: no such interface.
    NoDevice = 19,
    /// `EINVAL`: the request makes no sense.
    Invalid = 22,
    /// `ENOSPC`: no space is left on the disk of the state file, so nothing was done.
    NoSpace = 28,
    /// `EROFS`: the state file's disk cannot be written to, so nothing was done.
    ReadOnly = 30,
    /// `ERANGE`: a number is out of range.
    Range = 34,
    /// `EOPNOTSUPP`: no such command.
    Unsupported = 95,
    /// `EAFNOSUPPORT`: no such address family.
    Family = 97,
}

impl Errno {
    /// All of them.
    const ALL: [Self; 14] = [
        Self::Permission,
        Self::NoEntry,
        Self::NoService,
        Self::Io,
        Self::Memory,
        Self::Busy,
        Self::Exists,
        Self::NoDevice,
        Self::Invalid,
        Self::NoSpace,
        Self::ReadOnly,
        Self::Range,
        Self::Unsupported,
        Self::Family,
    ];

    /// The number, positive.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The error with this (positive) number, if it is one of these.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|errno| errno.number() == number)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permission => "operation not permitted",
            Self::NoEntry => "no such scheduler, persistence engine or real server",
            Self::NoService => "no such service or daemon",
            Self::Io => "the state file cannot be written",
            Self::NoSpace => "no space is left for the state file",
            Self::ReadOnly => "the state file's disk cannot be written to",
            Self::Memory => "the director has no place for it",
            Self::Busy => "a listing is under way",
            Self::Exists => "it exists already",
            Self::NoDevice => "no such interface",
            Self::Invalid => "invalid argument",
            Self::Range => "number out of range",
            Self::Unsupported => "no such command",
            Self::Family => "address family not supported",
        })
    }
}

impl core::error::Error for Errno {}

/// Why a command was not carried out on a running director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "nobody is there to do it, or who is does not")]
pub enum CommandError<E = Errno> {
    /// The worker has stopped: the program is at its end. Of several workers some may have carried it out.
    Gone,
    /// The director refused it, and nothing has changed.
    Refused(E),
}

impl<E: fmt::Display> fmt::Display for CommandError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => WorkerGone.fmt(f),
            Self::Refused(why) => why.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for CommandError<E> {}

impl From<Errno> for CommandError {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

impl<E> From<WorkerGone> for CommandError<E> {
    fn from(WorkerGone: WorkerGone) -> Self {
        Self::Gone
    }
}

impl From<CommandError> for Errno {
    /// The number that a client is told.
    fn from(error: CommandError) -> Self {
        match error {
            // The kernel has no number for a director that is ending. This one says that what a client talked to is no
            // longer there.
            CommandError::Gone => Self::NoDevice,
            CommandError::Refused(errno) => errno,
        }
    }
}
