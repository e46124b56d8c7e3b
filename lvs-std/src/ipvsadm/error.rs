//! What ipvsadm says to words that it does not take.

use core::fmt;

use super::options::{Opt, Verb};

/// Why a command line is refused. Shown as ipvsadm shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UsageError {
    /// Two options exclude each other.
    Conflict {
        /// The later one in ipvsadm's list.
        option: &'static str,
        /// The other.
        other: &'static str,
        /// Of which command, or tunnel type.
        of: String,
    },
    /// An option that this command, or tunnel type, does not have.
    Forbidden {
        /// The option.
        option: &'static str,
        /// Of which command, or tunnel type.
        of: String,
    },
    /// The line does not begin with a command.
    Hint,
    /// A flag that is not this scheduler's.
    IncompatibleFlag(String),
    /// A flag that is no scheduler's.
    InvalidFlag(String),
    /// An option's value is out of its range.
    Illegal(Value),
    /// Two kinds of listing exclude each other.
    ListConflict,
    /// An option without its value.
    MissingValue(String),
    /// An option that this command, or tunnel type, must have.
    Needs {
        /// The option.
        option: &'static str,
        /// Of which command, or tunnel type.
        of: String,
    },
    /// One-packet scheduling of another protocol than UDP.
    OnePacketNotUdp,
    /// Server and service are of different families without a tunnel.
    OtherFamily,
    /// A second command.
    SecondCommand(String),
    /// `--set` with fewer than three values.
    SetIncomplete,
    /// `-6` without `-f` before it.
    SixBeforeMark,
    /// Options of tunnels without `-i`.
    TunnelOptions,
    /// An option is there twice.
    Twice(&'static str),
    /// A word that belongs to nothing.
    Unexpected(String),
    /// An option that does not exist.
    Unknown(String),
    /// Port 0 without persistence.
    ZeroPort,
}

/// A value that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// `-t`, `-u`, `--sctp-service`.
    ServiceAddress,
    /// `-r`.
    ServerAddress,
    /// `-f`.
    Mark(String),
    /// `-p`, `--set`.
    Timeout(String),
    /// `-M` of IPv4.
    Mask,
    /// `-M` of IPv6.
    MaskV6,
    /// `-w`.
    Weight,
    /// `-x`.
    Upper,
    /// `-y`.
    Lower,
    /// `--tun-type`.
    TunnelType,
    /// `--tun-port`.
    TunnelPort,
    /// `--syncid`.
    SyncId,
    /// `--mcast-group` of IPv4.
    Group(String),
    /// `--mcast-group` of IPv6.
    GroupV6(String),
    /// `--mcast-port`.
    McastPort,
    /// `--mcast-ttl`.
    McastTtl,
    /// `--sync-maxlen`.
    SyncMaxLen,
    /// The role after `--start-daemon`.
    StartDaemon,
    /// The role after `--stop-daemon`.
    StopDaemon,
}

impl UsageError {
    /// ipvsadm's exit status.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Hint | Self::MissingValue(_) | Self::Unknown(_) => 255,
            Self::Conflict { .. }
            | Self::Forbidden { .. }
            | Self::IncompatibleFlag(_)
            | Self::InvalidFlag(_)
            | Self::Illegal(_)
            | Self::ListConflict
            | Self::Needs { .. }
            | Self::OnePacketNotUdp
            | Self::OtherFamily
            | Self::SecondCommand(_)
            | Self::SetIncomplete
            | Self::SixBeforeMark
            | Self::TunnelOptions
            | Self::Twice(_)
            | Self::Unexpected(_)
            | Self::ZeroPort => 2,
        }
    }

    pub(super) fn of_verb(verb: Verb) -> String {
        format!("'{}' command", verb.name())
    }

    pub(super) fn of_tunnel(kind: &str) -> String {
        format!("'{kind}' tunnel type")
    }

    pub(super) const fn twice(option: Opt) -> Self {
        Self::Twice(option.name())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { option, other, of } => {
                write!(f, "The option '{option}' conflicts with the '{other}' option in the {of}")
            }
            Self::Forbidden { option, of } => write!(f, "Illegal '{option}' option with the {of}"),
            Self::Hint => f.write_str(&hint("ipvsadm")),
            Self::IncompatibleFlag(flag) => write!(f, "incompatible scheduler flag `{flag}'"),
            Self::InvalidFlag(flag) => write!(f, "invalid scheduler flag `{flag}'"),
            Self::Illegal(value) => value.fmt(f),
            Self::ListConflict => f.write_str("options conflicts in the list command"),
            Self::MissingValue(option) => write!(f, "{option}: missing argument"),
            Self::Needs { option, of } => {
                write!(f, "You need to supply the '{option}' option for the {of}")
            }
            Self::OnePacketNotUdp => f.write_str("One-Packet Scheduling is only for UDP virtual services"),
            Self::OtherFamily => {
                f.write_str("Different address family is allowed only for tunneling servers")
            }
            Self::SecondCommand(option) => write!(f, "invalid option `{option}'"),
            Self::SetIncomplete => f.write_str("--set option requires 3 timeout values"),
            // The blank line after it is ipvsadm's.
            Self::SixBeforeMark => f.write_str("-6 used before -f\n"),
            Self::TunnelOptions => f.write_str("Tunnel options conflict with forward method"),
            Self::Twice(option) => write!(f, "multiple '{option}' options specified"),
            Self::Unexpected(word) => write!(f, "unexpected argument {word}"),
            Self::Unknown(option) => write!(f, "{option}: unknown option"),
            Self::ZeroPort => f.write_str("Zero port specified for non-persistent service"),
        }
    }
}

impl core::error::Error for UsageError {}

/// An error in the words of a program that was called by this name; ipvsadm's hint has it.
#[must_use]
pub fn said_by(program: &str, error: &UsageError) -> String {
    if *error == UsageError::Hint { hint(program) } else { error.to_string() }
}

fn hint(program: &str) -> String {
    format!("Try `{program} -h' or '{program} --help' for more information.")
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Mark(text) => return write!(f, "invalid fwmark value `{text}' specified"),
            Self::Timeout(text) => return write!(f, "invalid timeout value `{text}' specified"),
            Self::Group(text) => return write!(f, "invalid IPv4 mcast-group `{text}'"),
            Self::GroupV6(text) => return write!(f, "invalid IPv6 mcast-group `{text}'"),
            Self::ServiceAddress => "virtual server address[:port]",
            Self::ServerAddress => "real server address[:port]",
            Self::Mask => "virtual server persistent mask",
            Self::MaskV6 => "ipv6 netmask",
            Self::Weight => "weight",
            Self::Upper => "u_threshold",
            Self::Lower => "l_threshold",
            Self::TunnelType => "tunnel type",
            Self::TunnelPort => "tunnel port",
            Self::SyncId => "syncid",
            Self::McastPort => "mcast-port",
            Self::McastTtl => "mcast-ttl",
            Self::SyncMaxLen => "sync-maxlen",
            Self::StartDaemon => "start-daemon parameter",
            Self::StopDaemon => "start_daemon",
        };
        write!(f, "illegal {what} specified")
    }
}
