//! The switches of IPVS by the kernel's names: `net.ipv4.vs.*`, and those of the host that a director looks at.
//!
//! Whoever turns one comes here: [`Setting::Sysctl`](super::Setting::Sysctl) submitted to a
//! [`Controller`](super::Controller), by `director sysctl` or by writing to a file below `/proc/sys`, and the table
//! `[sysctl]` of a configuration file. A new switch is a field of [`Tuning`] and a line of the list here.

use lvs_core::Seed;
use lvs_core::config::{Config, Defence, Tuning};
use lvs_forward::Options;

use super::Errno;

/// Where the switches below `net.ipv4.vs` are in the file system.
pub(super) const FOLDER: &str = "/proc/sys/net/ipv4/vs/";

/// A switch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Switch {
    /// The switch's name: without `net.ipv4.vs.` if it is one of these, else whole.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// The numbers that it takes; for `sync_threshold` each of its two.
    pub range: core::ops::RangeInclusive<u32>,
    get: fn(&Tuning, &Options) -> String,
    set: fn(&mut Tuning, &mut Options, &str) -> Option<()>,
    /// Why it cannot be turned, if it cannot.
    fixed: Option<&'static str>,
}

impl Switch {
    /// The switch of this name, with `net.ipv4.vs.` or without.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        SWITCHES.iter().find(|switch| switch.name == name)
    }

    /// The whole name: with `net.ipv4.vs.` if the switch is one of these.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.name.contains('.') { self.name.to_owned() } else { format!("{PREFIX}{}", self.name) }
    }

    /// What it is set to where nobody has turned it.
    #[must_use]
    pub fn default_value(&self) -> String {
        (self.get)(&Config::new(Seed::from_bytes([0; 16])).tuning, &Options::new())
    }

    /// The switch that a file below `/proc/sys` is.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        match path.strip_prefix(FOLDER) {
            Some(name) if !name.contains('.') => Self::find(name),
            Some(_) => None,
            None => Self::find(&path.strip_prefix("/proc/sys/")?.replace('/', ".")),
        }
    }

    /// The switch's file below `/proc/sys`.
    pub(super) fn path(&self) -> String {
        if self.name.contains('.') {
            format!("/proc/sys/{}", self.name.replace('.', "/"))
        } else {
            format!("{FOLDER}{}", self.name)
        }
    }

    /// Whether it has one value only, which a journal need not keep.
    pub(crate) const fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// Whether its number is shared out among workers, each of which has its part.
    pub(super) fn is_shared_out(&self) -> bool {
        self.name == ICMP_RATE || self.name == ICMP6_RATE
    }
}

/// What each of several workers has of a number that they share, such as ICMP errors per second; 0 stands for any
/// number.
///
/// ```
/// use lvs_std::control::sysctl::worker_share;
/// assert_eq!(worker_share(1_000, 3), 334);
/// assert_eq!(worker_share(0, 3), 0);
/// ```
#[must_use]
pub fn worker_share(number: u32, workers: usize) -> u32 {
    // Rounded up, so that a number above 0 never becomes the 0 that stands for any number.
    number.div_ceil(u32::try_from(workers).unwrap_or(u32::MAX).max(1))
}

/// All switches.
pub fn all() -> impl Iterator<Item = &'static Switch> {
    SWITCHES.iter()
}

/// The names of the switches below `net.ipv4.vs`, without that, in the order of the alphabet.
pub fn names() -> impl Iterator<Item = &'static str> {
    SWITCHES.iter().map(|switch| switch.name).filter(|name| !name.contains('.'))
}

/// What a switch is set to, as its file shows it. `None` if there is no such switch.
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
    Switch::find(name).map(|switch| (switch.get)(tuning, options))
}

/// Sets a switch from what is written to its file.
///
/// # Errors
/// [`SysctlError`]; nothing has changed then.
pub fn set(tuning: &mut Tuning, options: &mut Options, name: &str, value: &str) -> Result<(), SysctlError> {
    let switch = Switch::find(name).ok_or(SysctlError::Unknown)?;
    (switch.set)(tuning, options, value.trim()).ok_or(match switch.fixed {
        Some(why) => SysctlError::Fixed(why),
        None => SysctlError::Value,
    })
}

/// Why a switch was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SysctlError {
    /// There is no switch of this name.
    Unknown,
    /// The switch has no such value.
    Value,
    /// The switch has one value only in a director, for this reason.
    Fixed(&'static str),
    /// The switch stays as it is, for it could not be kept: the state file cannot be written, with this number.
    NotKept(Errno),
}

impl core::fmt::Display for SysctlError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown => f.write_str("no switch of this director has this name"),
            Self::Value => f.write_str("the switch has no such value"),
            Self::NotKept(errno) => write!(f, "the switch stays as it is: {errno}"),
            Self::Fixed(why) => write!(f, "the switch cannot be turned: {why}"),
        }
    }
}

impl core::error::Error for SysctlError {}

impl From<SysctlError> for Errno {
    fn from(error: SysctlError) -> Self {
        match error {
            SysctlError::Unknown => Self::NoEntry,
            SysctlError::Value | SysctlError::Fixed(_) => Self::Invalid,
            SysctlError::NotKept(errno) => errno,
        }
    }
}

/// What a switch's number stands for.
trait Number: Copy {
    fn from_number(number: u32) -> Option<Self>;
    fn number(self) -> u32;
}

impl Number for bool {
    fn from_number(number: u32) -> Option<Self> {
        (number < 2).then_some(number == 1)
    }

    fn number(self) -> u32 {
        self.into()
    }
}

impl Number for u8 {
    fn from_number(number: u32) -> Option<Self> {
        number.try_into().ok()
    }

    fn number(self) -> u32 {
        self.into()
    }
}

impl Number for u32 {
    fn from_number(number: u32) -> Option<Self> {
        Some(number)
    }

    fn number(self) -> u32 {
        self
    }
}

impl Number for Defence {
    fn from_number(number: u32) -> Option<Self> {
        Self::from_number(number)
    }

    fn number(self) -> u32 {
        match self {
            Self::Never => 0,
            Self::Automatic => 1,
            Self::Always => 3,
        }
    }
}

fn read<T: Number>(value: &str, range: core::ops::RangeInclusive<u32>) -> Option<T> {
    value.parse().ok().filter(|number| range.contains(number)).and_then(T::from_number)
}

fn show(value: impl Number) -> String {
    value.number().to_string()
}

/// A switch that is a field of [`Tuning`] under its own name.
macro_rules! tuning {
    ($name:ident, $range:expr, $about:literal) => {
        Switch {
            name: stringify!($name),
            about: $about,
            range: $range,
            get: |tuning, _| show(tuning.$name),
            set: |tuning, _, value| {
                tuning.$name = read(value, $range)?;
                Some(())
            },
            fixed: None,
        }
    };
}

/// A switch that is a field of [`Options`].
macro_rules! option {
    ($name:expr, $field:ident, $range:expr, $about:literal) => {
        Switch {
            name: $name,
            about: $about,
            range: $range,
            get: |_, options| show(options.$field),
            set: |_, options, value| {
                options.$field = read(value, $range)?;
                Some(())
            },
            fixed: None,
        }
    };
}

/// A switch of how the kernel does it. Its one value says what is true of a director, and any other is refused: a
/// switch that is taken and does nothing would be a lie to whoever relies on it.
macro_rules! fixed {
    ($name:literal, $number:literal, $why:literal) => {
        Switch {
            name: $name,
            about: $why,
            range: $number..=$number,
            get: |_, _| u32::to_string(&$number),
            set: |_, _, value| read::<u32>(value, $number..=$number).map(drop),
            fixed: Some($why),
        }
    };
}

const ANY: core::ops::RangeInclusive<u32> = 0..=u32::MAX;
const PREFIX: &str = "net.ipv4.vs.";
const ICMP_RATE: &str = "net.ipv4.icmp_ratelimit";
const ICMP6_RATE: &str = "net.ipv6.icmp.ratelimit";

const SWITCHES: &[Switch] = &[
    tuning!(am_droprate, ANY, "with drop_packet 3, one of so many new connections is refused"),
    tuning!(amemthresh, ANY, "free pages below which automatic defences are on"),
    tuning!(backup_only, 0..=1, "a backup leaves clients' packets alone"),
    tuning!(cache_bypass, 0..=1, "marked packets that no server takes go to their own destination"),
    tuning!(conn_reuse_mode, ANY, "whether a SYN on a closing connection's tuple starts a new one"),
    fixed!("conntrack", 0, "a director makes no netfilter entries"),
    tuning!(
        drop_entry,
        0..=3,
        "entries that look unimportant are given up: 0 never, 1 when memory or the table is short, 3 always"
    ),
    tuning!(
        drop_packet,
        0..=3,
        "part of the new connections is refused: 0 never, 1 when memory or the table is short, 3 always"
    ),
    tuning!(expire_nodest_conn, 0..=1, "connections of a removed server end at once"),
    tuning!(expire_quiescent_template, 0..=1, "a server of weight 0 loses its persistent clients"),
    fixed!("ignore_tunneled", 0, "no kernel takes a tunnelled packet apart before a director sees it"),
    tuning!(lblc_expiration, ANY, "seconds for which lblc remembers an address that nobody asks for"),
    tuning!(lblcr_expiration, ANY, "seconds for which lblcr remembers an address that nobody asks for"),
    tuning!(nat_icmp_send, 0..=1, "a server's reply to no connection is answered by port unreachable"),
    option!("pmtu_disc", pmtu_disc, 0..=1, "clients are told of a smaller path MTU inside tunnels"),
    tuning!(run_estimation, 0..=1, "rates are estimated every two seconds"),
    tuning!(schedule_icmp, 0..=1, "ICMP errors about unknown connections are scheduled"),
    tuning!(
        secure_tcp,
        0..=3,
        "NAT connections count once the server acknowledged: 0 never, 1 when memory or the table is short, 3 always"
    ),
    tuning!(sloppy_sctp, 0..=1, "any SCTP packet but ABORT starts an association"),
    tuning!(sloppy_tcp, 0..=1, "any TCP segment without RST starts a connection"),
    fixed!("snat_reroute", 1, "a director routes replies by its own table, after they were rewritten"),
    tuning!(sync_persist_mode, 0..=1, "of persistent connections backups get the template alone"),
    fixed!("sync_ports", 1, "a director has one sync daemon of each role"),
    fixed!("sync_qlen_max", 30_513, "no kernel queue lies between a director and its sync daemon"),
    tuning!(
        sync_refresh_period,
        ANY,
        "seconds after which an unchanged connection is sent again, 0 for never"
    ),
    tuning!(sync_retries, 0..=3, "how often that is repeated within a period"),
    fixed!(
        "sync_sock_size",
        0,
        "sync messages leave by the director's own devices, and no socket has a buffer for them"
    ),
    Switch {
        name: "sync_threshold",
        about: "with which packet a connection is first sent to backups, and with every how manieth again",
        range: ANY,
        get: |tuning, _| format!("{}\t{}", tuning.sync_threshold, tuning.sync_period),
        set: |tuning, _, value| {
            let mut words = value.split_whitespace().map(|word| read::<u32>(word, ANY));
            let (threshold, period) = (words.next()??, words.next()??);
            if words.next().is_some() || (period != 0 && threshold >= period) {
                return None;
            }
            (tuning.sync_threshold, tuning.sync_period) = (threshold, period);
            Some(())
        },
        fixed: None,
    },
    tuning!(sync_version, 0..=1, "the format of sync messages"),
    option!("net.ipv4.ip_forward", ip_forward, 0..=1, "packets of no service are forwarded as a router does"),
    option!(
        "net.ipv6.conf.all.forwarding",
        ip_forward,
        0..=1,
        "as net.ipv4.ip_forward, of which it is one: of both families or none"
    ),
    option!(ICMP_RATE, icmp_rate, ANY, "ICMP errors a second"),
    option!(ICMP6_RATE, icmp_rate, ANY, "ICMP errors a second, of both families together"),
    fixed!("net.ipv4.conf.all.rp_filter", 0, "a director does not look where a source would be reached"),
    fixed!("net.ipv4.conf.all.send_redirects", 0, "a director sends no redirects"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_takes_the_ends_of_its_range_and_nothing_beyond() {
        for switch in all() {
            let (mut tuning, mut options) = (Config::new(Seed::from_bytes([0; 16])).tuning, Options::new());
            let mut set = |value: &str| set(&mut tuning, &mut options, switch.name, value);
            assert_eq!(set(&switch.default_value()), Ok(()), "{}", switch.name);
            assert!(set("").is_err() && set("-1").is_err() && set("nonsense").is_err(), "{}", switch.name);
            if switch.name == "sync_threshold" {
                continue;
            }
            let (low, high) = (*switch.range.start(), *switch.range.end());
            assert_eq!((set(&low.to_string()), set(&high.to_string())), (Ok(()), Ok(())), "{}", switch.name);
            assert!(set(&(u64::from(high) + 1).to_string()).is_err(), "{}", switch.name);
        }
    }

    #[test]
    fn a_switch_of_the_kernels_own_says_why_it_cannot_be_turned() {
        let (mut tuning, mut options) = (Config::new(Seed::from_bytes([0; 16])).tuning, Options::new());
        let error = set(&mut tuning, &mut options, "net.ipv4.vs.conntrack", "1").unwrap_err();
        assert_eq!(error.to_string(), "the switch cannot be turned: a director makes no netfilter entries");
    }

    #[test]
    fn a_file_is_found_by_the_path_that_it_has() {
        for switch in all() {
            assert_eq!(Switch::at(&switch.path()).map(|found| found.name), Some(switch.name));
        }
        assert!(Switch::at("/proc/sys/net/ipv4/vs/nonsense").is_none());
    }
}
