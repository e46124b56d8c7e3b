//! What can go wrong while a real server is made ready.

use core::fmt;
use std::io;
use std::path::PathBuf;

use super::step::Step;
use crate::ownership::OwnershipError;

/// Why a machine is no real server, or still one.
#[derive(Debug)]
#[non_exhaustive]
pub enum RealServerError {
    /// The machine lacks what the steps need. Nothing was changed.
    Lacks(Vec<String>),
    /// The kernel refused a step. What had been changed by the same call is undone, but for the steps in `left`.
    Step {
        /// The step.
        step: Step,
        /// What the kernel says.
        error: io::Error,
        /// Steps that could not be undone; they stay in the record.
        left: Vec<Step>,
    },
    /// The kernel refused to undo a step. The record still has it, and those before it.
    Undo {
        /// The step.
        step: Step,
        /// What the kernel says.
        error: io::Error,
    },
    /// The record is somebody else's, or cannot be had.
    Record(OwnershipError),
    /// The record cannot be read or written.
    File {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// The record is of another network namespace.
    Elsewhere {
        /// The record.
        path: PathBuf,
    },
    /// Nothing can be asked of the kernel.
    Netlink(io::Error),
}

impl RealServerError {
    pub(super) const fn netlink(error: io::Error) -> Self {
        Self::Netlink(error)
    }
}

impl fmt::Display for RealServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(what) => write!(f, "nothing was changed: {}", what.join("; ")),
            Self::Step { step, error, left } => {
                write!(f, "`{step}` is refused: {error}{}", hint(step, error))?;
                match left.as_slice() {
                    [] => f.write_str("; what had been changed is undone"),
                    left => {
                        f.write_str("; `director realserver down` has to undo, for it did not work now:")?;
                        left.iter().try_for_each(|step| write!(f, " `{step}`"))
                    }
                }
            }
            Self::Undo { step, error } => write!(
                f,
                "`{step}` cannot be undone: {error}; mend that and run `director realserver down` again"
            ),
            Self::Record(error) => write!(f, "{error}"),
            Self::File { path, error } => {
                write!(f, "{} cannot be used: {error}; another file is named by --record", path.display())
            }
            Self::Elsewhere { path } => write!(
                f,
                "{} tells of another network namespace: run this there, or name another file by --record",
                path.display()
            ),
            Self::Netlink(error) => write!(f, "the kernel cannot be asked by rtnetlink: {error}"),
        }
    }
}

/// What to do about it, where the kernel's words do not say.
fn hint(step: &Step, error: &io::Error) -> String {
    match (step, error.raw_os_error()) {
        (Step::Link { tunnel, .. }, Some(libc::EOPNOTSUPP | libc::ENODEV)) => format!(
            ": this kernel has no such tunnels and no module {} to load; let the director's own program unwrap \
             instead: --via director --interface IF --tunnel-address ADDRESS/LENGTH",
            tunnel.module()
        ),
        (Step::Route { gateway, .. }, Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL)) => {
            format!(": {gateway} must be in a subnet of an interface of this machine that is up")
        }
        (Step::Link { .. } | Step::Address { .. } | Step::Route { .. } | Step::Sysctl { .. }, _) => {
            String::new()
        }
    }
}

impl core::error::Error for RealServerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Step { error, .. }
            | Self::Undo { error, .. }
            | Self::File { error, .. }
            | Self::Netlink(error) => Some(error),
            Self::Record(error) => Some(error),
            Self::Lacks(_) | Self::Elsewhere { .. } => None,
        }
    }
}
