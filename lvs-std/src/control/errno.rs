//! The kernel's error numbers.

use core::fmt;

use crate::worker::WorkerGone;

/// Why a command was refused, as the kernel would say it. Linux numbers.
///
/// Reasons that have a number in common are told apart by words that stand beside it (`NLMSGERR_ATTR_MSG` of
/// `linux/netlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the numbers that the interface has")]
pub enum Errno {
    /// `EPERM`: the client is not privileged.
    Permission,
    /// `ENOENT`: no such scheduler, persistence engine, real server, family or file.
    NoEntry,
    /// `ESRCH`: no such service, or no such daemon.
    NoService,
    /// `EIO`: the state file cannot be written, so nothing was done.
    Io,
    /// `ENOMEM`: the director has no memory for it.
    Memory,
    /// `ENOMEM` with words: there are as many services as there can be.
    ServicesFull,
    /// `ENOMEM` with words: there are as many real servers as there can be, removed ones that still have connections
    /// included.
    ServersFull,
    /// `ENOMEM` with words: the scheduler's look-up table would be more than these may take together.
    TablesFull,
    /// `EBUSY`: a dump is under way, or too many changes wait for the disk.
    Busy,
    /// `EEXIST`: it is there already.
    Exists,
    /// `ENODEV`: no such interface.
    NoDevice,
    /// `EINVAL`: the request makes no sense.
    Invalid,
    /// `ENOSPC`: no space is left on the disk of the state file, so nothing was done.
    NoSpace,
    /// `EROFS`: the state file's disk cannot be written to, so nothing was done.
    ReadOnly,
    /// `ERANGE`: a number is out of range.
    Range,
    /// `EOPNOTSUPP`: no such command.
    Unsupported,
    /// `EAFNOSUPPORT`: no such address family.
    Family,
    /// `ESHUTDOWN` with words: the director is ending.
    Ending,
}

impl Errno {
    /// All of them. Of those with a number in common, first the one that has no words.
    const ALL: [Self; 18] = [
        Self::Permission,
        Self::NoEntry,
        Self::NoService,
        Self::Io,
        Self::Memory,
        Self::ServicesFull,
        Self::ServersFull,
        Self::TablesFull,
        Self::Busy,
        Self::Exists,
        Self::NoDevice,
        Self::Invalid,
        Self::NoSpace,
        Self::ReadOnly,
        Self::Range,
        Self::Unsupported,
        Self::Family,
        Self::Ending,
    ];

    /// The number, positive.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Permission => 1,
            Self::NoEntry => 2,
            Self::NoService => 3,
            Self::Io => 5,
            Self::Memory | Self::ServicesFull | Self::ServersFull | Self::TablesFull => 12,
            Self::Busy => 16,
            Self::Exists => 17,
            Self::NoDevice => 19,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::ReadOnly => 30,
            Self::Range => 34,
            Self::Unsupported => 95,
            Self::Family => 97,
            Self::Ending => 108,
        }
    }

    /// What is said besides the number, where that does not say enough.
    #[must_use]
    pub const fn words(self) -> Option<&'static str> {
        match self {
            Self::ServicesFull => {
                Some("there are as many services as there can be: set a higher `services` in [tuning]")
            }
            Self::ServersFull => {
                Some("there are as many real servers as there can be: set a higher `servers` in [tuning]")
            }
            Self::TablesFull => Some(
                "the look-up tables of schedulers take as much memory as they may: set a higher `scheduler-memory` in \
                 [tuning]",
            ),
            Self::Ending => Some("the director is ending, and takes no commands any more"),
            Self::Permission
            | Self::NoEntry
            | Self::NoService
            | Self::Io
            | Self::Memory
            | Self::Busy
            | Self::Exists
            | Self::NoDevice
            | Self::Invalid
            | Self::NoSpace
            | Self::ReadOnly
            | Self::Range
            | Self::Unsupported
            | Self::Family => None,
        }
    }

    /// The error with this (positive) number and these words, if it is one of these.
    pub(crate) fn from_words(number: i32, words: Option<&str>) -> Option<Self> {
        let said = Self::ALL.into_iter().find(|errno| errno.number() == number && errno.words() == words);
        // Another version may have other words.
        said.or_else(|| Self::from_number(number))
    }

    /// The error with this (positive) number, if it is one of these; of several, the one without words.
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
            Self::Memory => "the director has no memory for it",
            Self::ServicesFull | Self::ServersFull | Self::TablesFull | Self::Ending => {
                self.words().unwrap_or_default()
            }
            Self::Busy => "too much is under way: try again",
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
            CommandError::Gone => Self::Ending,
            CommandError::Refused(errno) => errno,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_told_from_all_others_by_its_number_and_words() {
        for errno in Errno::ALL {
            assert_eq!(Errno::from_words(errno.number(), errno.words()), Some(errno));
            let others = Errno::ALL.iter().filter(|other| other.number() == errno.number());
            assert!(others.count() == 1 || errno.words().is_some() || errno == Errno::Memory, "{errno:?}");
        }
    }

    #[test]
    fn a_client_of_a_director_that_is_ending_is_told_so() {
        let told = Errno::from(CommandError::from(WorkerGone));
        assert_eq!((told, told.number()), (Errno::Ending, 108));
        assert!(told.to_string().contains("the director is ending"), "{told}");
    }
}
