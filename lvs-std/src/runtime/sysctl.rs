//! Switches of a running director by their names.

use core::fmt;

use super::SharedController;
use crate::control::{CommandError, sysctl};

/// Why a switch was not set, or a time-out of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what was asked for, and why not")]
pub struct SysctlError {
    /// The switch by its whole name, or the time-out's key, such as `timeouts.udp`.
    pub key: String,
    /// The value that was asked for.
    pub value: String,
    /// Why.
    pub why: CommandError<sysctl::SysctlError>,
}

impl fmt::Display for SysctlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, why } = self;
        match why {
            CommandError::Gone => f.write_str("the director is ending"),
            CommandError::Refused(sysctl::SysctlError::Unknown) => {
                write!(f, "{key} is no switch of this director")
            }
            CommandError::Refused(sysctl::SysctlError::Value) => write!(f, "{key} cannot be `{value}`"),
            CommandError::Refused(sysctl::SysctlError::Fixed(why)) => {
                write!(f, "{key} cannot be `{value}`: {why}")
            }
            CommandError::Refused(error @ sysctl::SysctlError::NotKept(_)) => write!(f, "{key}: {error}"),
        }
    }
}

impl core::error::Error for SysctlError {}

/// Sets a switch, by its whole name: what is said without a prefix is no name that `sysctl` has.
pub(super) fn set(controller: &SharedController, key: &str, value: &str) -> Result<(), SysctlError> {
    let set = if key.contains('.') {
        controller.lock().set_sysctl(key, value)
    } else {
        Err(CommandError::Refused(sysctl::SysctlError::Unknown))
    };
    set.map_err(|why| SysctlError { key: key.to_owned(), value: value.to_owned(), why })
}
