//! The switches below `net.ipv4.vs`, by the kernel's names.

use lvs_core::config::{Defence, Tuning};
use lvs_forward::Options;

/// Where they are in the file system.
pub(super) const FOLDER: &str = "/proc/sys/net/ipv4/vs/";

/// The names of all switches, in the order of the alphabet.
pub fn names() -> impl Iterator<Item = &'static str> {
    SWITCHES.iter().map(|switch| switch.name)
}

/// What a switch is set to, as its file shows it.
///
/// ```
/// use lvs_core::{Config, Seed};
/// use lvs_forward::Options;
/// use lvs_std::control::sysctl;
/// let (mut tuning, mut options) = (Config::new(Seed::from_bytes([0; 16])).tuning, Options::new());
/// sysctl::set(&mut tuning, &mut options, "sloppy_tcp", "1").unwrap();
/// assert_eq!(sysctl::get(&tuning, &options, "sloppy_tcp").as_deref(), Some("1"));
/// ```
#[must_use]
pub fn get(tuning: &Tuning, options: &Options, name: &str) -> Option<String> {
    find(name).map(|switch| (switch.get)(tuning, options))
}

/// Sets a switch from what is written to its file.
///
/// # Errors
/// [`SysctlError`]; nothing has changed then.
pub fn set(tuning: &mut Tuning, options: &mut Options, name: &str, value: &str) -> Result<(), SysctlError> {
    let switch = find(name).ok_or(SysctlError::Unknown)?;
    (switch.set)(tuning, options, value.trim()).ok_or(SysctlError::Value)
}

/// Why a switch was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SysctlError {
    /// There is no switch of this name.
    Unknown,
    /// It has no such value.
    Value,
}

impl core::fmt::Display for SysctlError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no switch of this director has this name",
            Self::Value => "the switch has no such value",
        })
    }
}

impl core::error::Error for SysctlError {}

struct Switch {
    name: &'static str,
    get: fn(&Tuning, &Options) -> String,
    set: fn(&mut Tuning, &mut Options, &str) -> Option<()>,
}

fn find(name: &str) -> Option<&'static Switch> {
    SWITCHES.iter().find(|switch| switch.name == name)
}

/// A switch that is a field of [`Tuning`] under the same name.
macro_rules! tuning {
    ($name:ident, $read:expr, $show:expr) => {
        Switch {
            name: stringify!($name),
            get: |tuning, _| $show(tuning.$name),
            set: |tuning, _, value| {
                tuning.$name = $read(value)?;
                Some(())
            },
        }
    };
}

const SWITCHES: &[Switch] = &[
    tuning!(am_droprate, number, show::<u32>),
    tuning!(amemthresh, number, show::<u32>),
    tuning!(backup_only, flag, bit),
    tuning!(cache_bypass, flag, bit),
    tuning!(conn_reuse_mode, number, show::<u32>),
    tuning!(drop_entry, defence, mode),
    tuning!(drop_packet, defence, mode),
    tuning!(expire_nodest_conn, flag, bit),
    tuning!(expire_quiescent_template, flag, bit),
    tuning!(lblc_expiration, number, show::<u32>),
    tuning!(lblcr_expiration, number, show::<u32>),
    tuning!(nat_icmp_send, flag, bit),
    Switch {
        name: "pmtu_disc",
        get: |_, options| bit(options.pmtu_disc),
        set: |_, options, value| {
            options.pmtu_disc = flag(value)?;
            Some(())
        },
    },
    tuning!(run_estimation, flag, bit),
    tuning!(schedule_icmp, flag, bit),
    tuning!(secure_tcp, defence, mode),
    tuning!(sloppy_sctp, flag, bit),
    tuning!(sloppy_tcp, flag, bit),
    tuning!(sync_persist_mode, flag, bit),
    tuning!(sync_refresh_period, number, show::<u32>),
    tuning!(sync_retries, |value| small(value, 3), show::<u8>),
    Switch {
        name: "sync_threshold",
        get: |tuning, _| format!("{}\t{}", tuning.sync_threshold, tuning.sync_period),
        set: |tuning, _, value| {
            let mut words = value.split_whitespace().map(number);
            let (threshold, period) = (words.next()??, words.next()??);
            if words.next().is_some() || (period != 0 && threshold >= period) {
                return None;
            }
            (tuning.sync_threshold, tuning.sync_period) = (threshold, period);
            Some(())
        },
    },
    tuning!(sync_version, |value| small(value, 1), show::<u8>),
];

fn flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn number(value: &str) -> Option<u32> {
    value.parse().ok()
}

fn small(value: &str, most: u8) -> Option<u8> {
    value.parse().ok().filter(|number| *number <= most)
}

fn defence(value: &str) -> Option<Defence> {
    Defence::from_number(number(value)?)
}

fn show<T: ToString>(value: T) -> String {
    value.to_string()
}

fn bit(value: bool) -> String {
    u8::from(value).to_string()
}

fn mode(value: Defence) -> String {
    let number = match value {
        Defence::Never => 0,
        Defence::Automatic => 1,
        Defence::Always => 3,
    };
    show(number)
}

/// Switches of how the kernel does it that change nothing of what it does to packets: whether netfilter keeps entries of its own,
/// re-routes replies by source, looks into what is tunnelled to it, and how its sync threads queue. Tools write and read them, so
/// they are kept; nothing here depends on them. With the kernel's defaults.
pub(super) const KEPT: [(&str, u32); 6] = [
    ("conntrack", 0),
    ("ignore_tunneled", 0),
    ("snat_reroute", 1),
    ("sync_ports", 1),
    ("sync_qlen_max", 30_513),
    ("sync_sock_size", 0),
];
