//! Why something is not owned.

use core::fmt;
use std::io;

/// Why something could not be taken into possession. Nothing of it was touched.
#[derive(Debug)]
#[non_exhaustive]
pub enum OwnershipError {
    /// Another process owns it, most likely another director.
    Held {
        /// What was wanted, in words: `the state file /run/director/edge.sock.state`.
        what: String,
        /// The owner's process id, where it can be told.
        by: Option<u32>,
    },
    /// A descriptor that was handed over is not what it was said to be.
    Foreign {
        /// What it was said to be.
        what: String,
    },
    /// Whoever wants to use something has not claimed it.
    NotClaimed {
        /// What was wanted.
        what: String,
    },
    /// The kernel refused it.
    Io {
        /// What was wanted, in words.
        what: String,
        /// Why not.
        error: io::Error,
    },
}

impl fmt::Display for OwnershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { what, by } => {
                write!(f, "{what} is in use by another director")?;
                if let Some(pid) = by {
                    write!(f, " (process {pid})")?;
                }
                f.write_str(": stop that one, or give this one another")
            }
            Self::Foreign { what } => write!(f, "the descriptor handed over for {what} is something else"),
            Self::NotClaimed { what } => write!(f, "{what} was not claimed before it was used"),
            Self::Io { what, error } => write!(f, "{what} cannot be taken into possession: {error}"),
        }
    }
}

impl core::error::Error for OwnershipError {}
