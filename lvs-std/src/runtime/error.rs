//! Why a director cannot be started, reloaded, asked, or has ended.

use core::error::Error;
use core::fmt;
use core::net::IpAddr;
use std::io;
use std::path::PathBuf;

use lvs_core::ServiceKey;

use super::SysctlError;
use crate::config::ReadError;
use crate::control::{Errno, JournalError, TableCommand};
use crate::filter::SyntaxError;
use crate::ownership::OwnershipError;
use crate::steering::Unsuited;
use crate::text::bytes;
use crate::worker::WorkerError;

/// Why a director cannot be started. Whatever had been started has ended again.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An own or virtual address cannot be the director's.
    Address {
        /// The address.
        address: IpAddr,
        /// Why not.
        error: Box<dyn Error + Send + Sync>,
    },
    /// The configuration cannot be applied.
    Configuration(ReloadError),
    /// An interface cannot be opened, or cannot be a port.
    Interface {
        /// The interface's name.
        name: String,
        /// Why not.
        error: Box<dyn Error + Send + Sync>,
    },
    /// Nobody can listen at a control socket.
    Listen {
        /// The socket. [`io::ErrorKind::AddrInUse`] says that another program has bound it,
        /// [`io::ErrorKind::AlreadyExists`] that something else is there.
        socket: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The machine has not the memory that the configuration's tables need.
    Memory {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are available; `None` when the machine seemed to have enough, and has refused.
        available: Option<u64>,
    },
    /// The configuration asks for no worker at all.
    NoWorker,
    /// Another director owns the state file, a socket or an interface, or this one has not claimed it.
    Ownership(OwnershipError),
    /// A processor that a worker is to run on is none of this process's.
    Processor {
        /// The processor that was asked for.
        cpu: usize,
        /// The processors that this process may use.
        allowed: Vec<usize>,
    },
    /// The state file cannot be used.
    State {
        /// The file.
        file: PathBuf,
        /// Why not.
        error: JournalError,
    },
    /// Something that every director needs of the machine is not to be had.
    System {
        /// What it was wanted for.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// Workers and their ports do not correspond.
    Worker(WorkerError),
}

impl StartError {
    /// For `map_err` where something of the machine is missing.
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }

    /// For `map_err` where an interface is at fault.
    pub(super) fn interface<E: Error + Send + Sync + 'static>(name: &str) -> impl FnOnce(E) -> Self {
        move |error| Self::Interface { name: name.to_owned(), error: Box::new(error) }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, error } => {
                write!(f, "{address} cannot be an address of the director: {error}")
            }
            Self::Configuration(error) => error.fmt(f),
            // The errors of devices name the interface themselves.
            Self::Interface { error, .. } => error.fmt(f),
            Self::Listen { socket, error } => {
                write!(f, "{} cannot be listened at: {error}", socket.display())
            }
            Self::Memory { needed, available } => {
                let needed = bytes(*needed);
                match available {
                    Some(available) => {
                        write!(f, "the director needs {needed} of memory, and {} are left", bytes(*available))
                    }
                    None => write!(f, "there is no memory for a table of {needed}"),
                }?;
                f.write_str(": lower `connections` in [tuning]; `director check` says what takes how much")
            }
            Self::Ownership(error) => error.fmt(f),
            Self::NoWorker => f.write_str("the director has no worker: it needs one at least"),
            Self::Processor { cpu, allowed } => {
                write!(f, "there is no processor {cpu} for this process; it may use {allowed:?}")
            }
            Self::State { error, .. } => error.fmt(f),
            Self::System { what, error } => write!(f, "{what}: {error}"),
            Self::Worker(error) => error.fmt(f),
        }
    }
}

impl Error for StartError {}

impl From<OwnershipError> for StartError {
    fn from(error: OwnershipError) -> Self {
        Self::Ownership(error)
    }
}

impl From<WorkerError> for StartError {
    fn from(error: WorkerError) -> Self {
        Self::Worker(error)
    }
}

/// Why a configuration was not applied. Unless it says otherwise nothing has changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReloadError {
    /// Real servers cannot be checked. Services and servers are as the configuration has them.
    Checks(io::Error),
    /// The director is ending.
    Ending,
    /// The director was not started with a configuration file.
    NoFile,
    /// The file cannot be used.
    Read(ReadError),
    /// The director refused a change; the command is the first one that it refused, if it was a command.
    Refused {
        /// What was refused.
        command: Option<Box<TableCommand>>,
        /// Why.
        errno: Errno,
    },
    /// A time-out or switch cannot be what the configuration says.
    Setting(SysctlError),
    /// The workers cannot share the work of a service.
    Unsuited {
        /// The service.
        service: ServiceKey,
        /// Why not.
        why: Unsuited,
    },
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checks(error) => write!(f, "real servers cannot be checked: {error}"),
            Self::Ending => f.write_str("the director is ending"),
            Self::NoFile => f.write_str("this director was not started with a configuration file"),
            Self::Read(error) => error.fmt(f),
            Self::Refused { command: Some(command), errno } => {
                write!(f, "nothing has changed: {command:?}: {errno}")
            }
            Self::Refused { command: None, errno } => write!(f, "nothing has changed: {errno}"),
            Self::Setting(error) => write!(f, "nothing has changed: {error}"),
            Self::Unsuited { service, why } => {
                write!(f, "nothing has changed: {service}: {why}; that takes a new start")
            }
        }
    }
}

impl Error for ReloadError {}

impl From<ReadError> for ReloadError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Why a packet cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExplainError {
    /// The director is ending.
    Ending,
    /// The flow or frame does not make sense.
    Syntax(SyntaxError),
    /// The director has no such interface.
    Interface(String),
    /// There is no memory for a copy.
    Memory,
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ending => f.write_str("the director is ending"),
            Self::Syntax(error) => error.fmt(f),
            Self::Interface(name) => write!(f, "`{name}` is no interface of the director"),
            Self::Memory => f.write_str("no memory for a copy of what the packet would meet"),
        }
    }
}

impl From<SyntaxError> for ExplainError {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

impl Error for ExplainError {}

/// Why a director has ended without having been told to.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// All interfaces are gone.
    Interfaces,
    /// A worker ended by a panic.
    Panic,
    /// A worker cannot stay on its processor.
    Processor(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interfaces => f.write_str("none of the interfaces can be used"),
            Self::Panic => f.write_str("a worker ended by a panic"),
            Self::Processor(error) => write!(f, "a worker cannot stay on its processor: {error}"),
        }
    }
}

impl Error for RunError {}
