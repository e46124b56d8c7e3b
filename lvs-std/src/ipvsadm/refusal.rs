//! What ipvsadm says when the director refuses something.

use crate::control::Errno;

use super::{ChannelError, Command};

/// The words for an error, and the exit status.
pub(super) fn refusal(line: &Command, error: &ChannelError) -> (String, u8) {
    let text = match error {
        ChannelError::Refused(errno) => words(line, *errno).to_owned(),
        ChannelError::Lost(_) => error.to_string(),
    };
    (text, status(line))
}

/// ipvsadm's words for an error number, which mean something else of each command.
const fn words(line: &Command, errno: Errno) -> &'static str {
    match (errno, line) {
        (Errno::Permission, _) => "Permission denied (you must be root)",
        (Errno::NoEntry, Command::AddService(..) | Command::EditService(..)) => {
            "Scheduler or persistence engine not found"
        }
        (Errno::NoEntry, Command::EditServer(..) | Command::DeleteServer(..)) => "No such destination",
        (Errno::NoEntry, _) => "No such file or directory",
        (
            Errno::NoService,
            Command::EditService(..) | Command::DeleteService(_) | Command::Zero(_) | Command::List(_),
        ) => "No such service",
        (Errno::NoService, Command::AddServer(..) | Command::EditServer(..) | Command::DeleteServer(..)) => {
            "Service not defined"
        }
        (Errno::NoService, Command::StopDaemon(_)) => "No daemon is running",
        (Errno::NoService, _) => "No such process",
        (Errno::Exists, Command::AddService(..)) => "Service already exists",
        (Errno::Exists, Command::AddServer(..)) => "Destination already exists",
        (Errno::Exists, Command::StartDaemon(..)) => "Daemon has already run",
        (Errno::Exists, _) => "File exists",
        (Errno::Memory, _) => "Memory allocation problem",
        (Errno::ServicesFull, _) => SERVICES_FULL,
        (Errno::ServersFull, _) => SERVERS_FULL,
        (Errno::TablesFull, _) => TABLES_FULL,
        (Errno::Invalid, _) => INVALID,
        (Errno::Unsupported, _) => "Operation not supported with IPv6",
        (Errno::Family, _) => "Operation not supported with specified address family",
        // What the C library calls them.
        (Errno::Busy, _) => "Device or resource busy",
        (Errno::NoDevice, _) => "No such device",
        // The C library's words for this number would be about sockets.
        (Errno::Ending, _) => "The director is ending",
        (Errno::Io, _) => "Input/output error",
        (Errno::NoSpace, _) => "No space left on device",
        (Errno::ReadOnly, _) => "Read-only file system",
        (Errno::Range, _) => "Numerical result out of range",
    }
}

/// A listing fails with 1, all else with 255.
const fn status(line: &Command) -> u8 {
    match line {
        Command::List(_) => 1,
        Command::AddService(..)
        | Command::EditService(..)
        | Command::DeleteService(_)
        | Command::Clear
        | Command::Restore
        | Command::Save { .. }
        | Command::AddServer(..)
        | Command::EditServer(..)
        | Command::DeleteServer(..)
        | Command::Zero(_)
        | Command::Set { .. }
        | Command::StartDaemon(..)
        | Command::StopDaemon(_)
        | Command::Help
        | Command::Version => 255,
    }
}

/// ipvsadm's words, and what can be done, which it does not know.
const SERVICES_FULL: &str = "Memory allocation problem: there are as many services as there can be, set a higher \
                             `services' in [tuning] of the director's configuration";
const SERVERS_FULL: &str = "Memory allocation problem: there are as many real servers as there can be, set a higher \
                            `servers' in [tuning] of the director's configuration";
const TABLES_FULL: &str = "Memory allocation problem: the look-up tables of schedulers take as much as they may, set a \
                           higher `scheduler-memory' in [tuning] of the director's configuration";
/// With the two blanks that ipvsadm has.
const INVALID: &str = "Invalid operation.  Possibly wrong module version, address not unicast, ...";
