//! Why a state file cannot be used, or not be written.

use core::fmt;
use std::io;
use std::path::PathBuf;

use crate::control::Errno;

/// Why a state file cannot be used, or why something could not be kept in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// The file is something else: it does not begin as a state file does.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later version of the director has written the file. It is left as it is.
    Newer {
        /// The file.
        path: PathBuf,
        /// The version that the file names.
        version: u32,
    },
    /// The file cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What was to be done with it.
        what: &'static str,
        /// Why that failed.
        error: io::Error,
    },
}

impl JournalError {
    /// The number that a client is told whose command could not be kept.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull => Errno::NoSpace,
            Self::Io { error, .. } if error.kind() == io::ErrorKind::QuotaExceeded => Errno::NoSpace,
            Self::Io { error, .. } if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Errno::ReadOnly,
            Self::Io { .. } | Self::Foreign { .. } | Self::Newer { .. } => Errno::Io,
        }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { path } => {
                write!(f, "{} is no state file of a director: move it away or name another", path.display())
            }
            Self::Newer { path, version } => write!(
                f,
                "{} is of version {version}, which a later director has written; this one reads versions 1 and 2. \
                 Start that director, or name another file",
                path.display()
            ),
            Self::Io { path, what, error } => write!(f, "state file {}: {what}: {error}", path.display()),
        }
    }
}

impl core::error::Error for JournalError {}
