//! Switches of a running director by their names.

use core::fmt;

use super::{RuntimeGroup, SharedController};
use crate::config::part_of_rate;
use crate::control::{CommandHandler as _, Errno};

/// Why a switch was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SysctlError {
    /// The director is ending.
    Ending,
    /// What the host does anyway cannot be switched.
    Fixed {
        /// The switch.
        key: String,
        /// The value that it has.
        is: &'static str,
        /// The value that was asked for.
        value: String,
    },
    /// There is no such switch.
    Unknown(String),
    /// The switch has no such value.
    Value {
        /// The switch.
        key: String,
        /// The value that was asked for.
        value: String,
    },
}

impl fmt::Display for SysctlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ending => f.write_str("the director is ending"),
            Self::Fixed { key, is, value } => write!(f, "{key} is {is} and cannot be `{value}`"),
            Self::Unknown(key) => write!(f, "{key} is no switch of this director"),
            Self::Value { key, value } => write!(f, "{key} cannot be `{value}`"),
        }
    }
}

impl core::error::Error for SysctlError {}

/// Sets a switch. Those of IPVS go through the controller as if their files were written, so that every tool sees the new value.
pub(super) fn set(
    controller: &SharedController,
    group: &RuntimeGroup,
    key: &str,
    value: &str,
) -> Result<(), SysctlError> {
    let no_value = || SysctlError::Value { key: key.to_owned(), value: value.to_owned() };
    if let Some(name) = key.strip_prefix("net.ipv4.vs.") {
        let file = format!("/proc/sys/net/ipv4/vs/{name}");
        let written = controller.lock().write_file(&file, value.as_bytes());
        return match written {
            Err(Errno::NoEntry) => Err(SysctlError::Unknown(key.to_owned())),
            Err(Errno::Invalid) => Err(no_value()),
            // What is left says that the worker is gone.
            done => done.map_err(|_| SysctlError::Ending),
        };
    }
    let fixed = |is: &'static str| {
        let refused = || SysctlError::Fixed { key: key.to_owned(), is, value: value.to_owned() };
        if value == is { Ok(()) } else { Err(refused()) }
    };
    let read = || {
        let read = group.with_first(|_, forwarder, _| forwarder.options().ip_forward);
        read.map_err(|_| SysctlError::Ending)
    };
    let workers = group.handles().len();
    match key {
        "net.ipv4.ip_forward" => {
            let on = match value {
                "0" => false,
                "1" => true,
                _ => return Err(no_value()),
            };
            change(group, move |options| options.ip_forward = on)
        }
        "net.ipv6.conf.all.forwarding" => fixed(if read()? { "1" } else { "0" }),
        "net.ipv4.conf.all.rp_filter" | "net.ipv4.conf.all.send_redirects" => fixed("0"),
        "net.ipv4.icmp_ratelimit" | "net.ipv6.icmp.ratelimit" => {
            let rate = part_of_rate(value.parse().map_err(|_| no_value())?, workers);
            change(group, move |options| options.icmp_rate = rate)
        }
        _ => Err(SysctlError::Unknown(key.to_owned())),
    }
}

/// Changes the options of each worker's forwarder.
fn change(
    group: &RuntimeGroup,
    change: impl Fn(&mut lvs_forward::Options) + Clone + Send + 'static,
) -> Result<(), SysctlError> {
    let done = group.with_each(move |_, _, forwarder, _| {
        let mut options = *forwarder.options();
        change(&mut options);
        forwarder.set_options(options);
    });
    done.map(drop).map_err(|_| SysctlError::Ending)
}
