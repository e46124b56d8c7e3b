//! The director's knobs. Each says what it means, its unit, its default, and what a turn costs.

use core::ops::{BitOr, BitOrAssign};

use crate::model::seed::Seed;

/// How a director behaves. Sizes are the [`Store`](crate::Store)'s.
///
/// ```
/// use lvs_core::{Config, Seed};
/// use lvs_core::config::WhenFull;
/// let mut config = Config::new(Seed::from_bytes([7; 16]));
/// config.timeouts.udp = 60;
/// config.when_full = WhenFull::Refuse;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Key of the tables' hashes and source of chance.
    pub seed: Seed,
    /// How long idle connections stay, by the three values that `ipvsadm --set` has.
    pub timeouts: Timeouts,
    /// What a new connection finds when every slot is taken. Default [`WhenFull::Reclaim`].
    pub when_full: WhenFull,
    /// The switches that IPVS has under `net.ipv4.vs`, by the same names.
    pub tuning: Tuning,
}

impl Config {
    /// The defaults of IPVS.
    #[must_use]
    pub const fn new(seed: Seed) -> Self {
        Self { seed, timeouts: Timeouts::DEFAULT, when_full: WhenFull::Reclaim, tuning: Tuning::DEFAULT }
    }
}

/// Idle time-outs in seconds, each from 1 to [`MAX_TIMEOUT_SECS`](crate::config::MAX_TIMEOUT_SECS) (others are taken as
/// the nearest of these). The other states have IPVS's fixed values. A change applies from a connection's next packet
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Timeouts {
    /// TCP connections in state ESTABLISHED. Default 900. Idle ones that last longer are forgotten, and
    /// their next packet is left to the host, which answers with a reset.
    pub tcp: u32,
    /// TCP connections in state FIN-WAIT. Default 120.
    pub tcp_fin: u32,
    /// UDP flows, counted from the last datagram of either direction that was seen. Default 300.
    pub udp: u32,
}

impl Timeouts {
    const DEFAULT: Self = Self { tcp: 900, tcp_fin: 120, udp: 300 };
}

impl Default for Timeouts {
    /// The time-outs of IPVS.
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What happens to a new connection when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[expect(clippy::exhaustive_enums, reason = "matches must name every policy")]
pub enum WhenFull {
    /// Gives up one other entry out of a bounded look around the table, the one that has proved least: an expired one;
    /// else one that is closed or closing; else one that never completed its handshake; else a UDP flow or a connection
    /// that its client's packets alone speak for, by how many they were. What was seen within the last second counts as
    /// if it had had eight packets. A TCP or SCTP connection whose server has answered is never given up while it is
    /// open, and in a table of nothing else the new one is dropped as under `Refuse`.
    Reclaim,
    /// Drops the packet, counted as [`Reason::TableFull`](crate::Reason::TableFull), as IPVS does when it cannot make
    /// an entry. Expired entries that no sweep has freed yet take their places too.
    Refuse,
}

/// Switches that IPVS has, under its names (`net.ipv4.vs.*`) and with its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default, rename_all = "snake_case"))]
#[non_exhaustive]
pub struct Tuning {
    /// With [`drop_packet`](Self::drop_packet) always on, one of so many new connections is refused. Default 10; 1
    /// refuses all, 0 none.
    pub am_droprate: u32,
    /// Available memory, in the unit of [`Director::report_available`](crate::Director::report_available), below which
    /// automatic defences are on. Default 1024.
    pub amemthresh: u32,
    /// Whether clients' packets are left alone while this director is a backup of another (see
    /// [`Director::set_sync_role`](crate::Director::set_sync_role)). Default false.
    pub backup_only: bool,
    /// Whether packets of a marked service that no real server takes go to their own destination
    /// ([`Method::Bypass`](crate::Method::Bypass)) instead of being rejected. Default false.
    pub cache_bypass: bool,
    /// Whether a SYN (or SCTP INIT) on the tuple of a connection in TIME-WAIT or CLOSE starts a new one: 0 no,
    /// 1 yes, bit 1 (value 2) also from FIN-WAIT if the replies bypass the director. Default 1.
    pub conn_reuse_mode: u32,
    /// Whether entries that look unimportant are given up, a 32nd of the table looked at each second: handshakes that
    /// were not completed, templates that nothing was established from, and some of the connections with at most 8
    /// packets that have been idle for a minute. Default never.
    pub drop_entry: Defence,
    /// Whether a part of the new connections is refused: the more the shorter memory is; one in
    /// [`am_droprate`](Self::am_droprate) when always on, or while the connection table is short. Default never.
    pub drop_packet: Defence,
    /// Whether connections of a removed real server end at once, so that their next packet is scheduled as if it
    /// were the first; also those of a quiesced one whose client begins anew. Default false: they are silently
    /// dropped until they time out, and resume if the server is added again.
    pub expire_nodest_conn: bool,
    /// Whether a quiesced real server (weight 0) loses the clients that persistence sent to it. Default false: they
    /// stay.
    pub expire_quiescent_template: bool,
    /// How long `lblc` remembers the server of a virtual address that nobody asks for, in seconds, at most
    /// [`MAX_TIMEOUT_SECS`](crate::config::MAX_TIMEOUT_SECS). Looked at every half hour. Default 86,400.
    pub lblc_expiration: u32,
    /// How long `lblcr` remembers a virtual address, in seconds as for `lblc`, and how long its sets of servers stay as
    /// they are until they lose the most loaded one. Default 86,400.
    pub lblcr_expiration: u32,
    /// Whether a real server whose reply belongs to no connection is told so by port unreachable. Default false: the
    /// reply leaves with the server's own address.
    pub nat_icmp_send: bool,
    /// Whether rates are estimated and shown counters brought up to date, every 2 s. Default true.
    pub run_estimation: bool,
    /// Whether an ICMP error about an unknown connection is scheduled as that connection's first packet would be.
    /// Default false: it is left to the host.
    pub schedule_icmp: bool,
    /// Whether TCP connections of NAT count as established only after the server's own acknowledgement. Default never.
    pub secure_tcp: Defence,
    /// Whether any SCTP packet but ABORT starts an association. Default false: only INIT does.
    pub sloppy_sctp: bool,
    /// Whether any TCP segment without RST starts a connection. Default false: only those with SYN do.
    /// Useful while taking over from another director without its connection table.
    pub sloppy_tcp: bool,
    /// How often a connection is sent to the backup: at packets [`sync_threshold`](Self::sync_threshold) + n times
    /// this. Default 50; 0 for never again.
    pub sync_period: u32,
    /// Whether connections from a template are not sent to the backup, only the template is. Default false.
    pub sync_persist_mode: bool,
    /// Seconds after which an unchanged connection is sent to the backup again; 0, the default, for by packets alone.
    pub sync_refresh_period: u32,
    /// With which of its packets a connection is first sent to the backup. Default 3.
    pub sync_threshold: u32,
    /// How often the sending is repeated within a refresh period, 0 (default) to 3.
    pub sync_retries: u8,
    /// Which messages backups get, 0 or 1 (default). With 0 what controls a connection is sent only along with it.
    pub sync_version: u8,
}

impl Tuning {
    const DEFAULT: Self = Self {
        am_droprate: 10,
        amemthresh: 1_024,
        backup_only: false,
        cache_bypass: false,
        conn_reuse_mode: 1,
        drop_entry: Defence::Never,
        drop_packet: Defence::Never,
        expire_nodest_conn: false,
        expire_quiescent_template: false,
        lblc_expiration: 86_400,
        lblcr_expiration: 86_400,
        nat_icmp_send: false,
        run_estimation: true,
        schedule_icmp: false,
        secure_tcp: Defence::Never,
        sloppy_sctp: false,
        sloppy_tcp: false,
        sync_period: 50,
        sync_persist_mode: false,
        sync_refresh_period: 0,
        sync_threshold: 3,
        sync_retries: 0,
        sync_version: 1,
    };
}

impl Default for Tuning {
    /// The values of IPVS.
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// When a defence against floods is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[expect(clippy::exhaustive_enums, reason = "matches must name every mode")]
pub enum Defence {
    /// Never: 0 in IPVS.
    Never,
    /// While memory or the connection table is short: 1 in IPVS, which shows it as 2 while it is, and knows of memory
    /// alone. The table is short when less than a sixteenth of it is free.
    Automatic,
    /// Always: 3 in IPVS.
    Always,
}

impl Defence {
    /// The mode of IPVS's number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Never),
            1 | 2 => Some(Self::Automatic),
            3 => Some(Self::Always),
            _ => None,
        }
    }

    pub(crate) const fn is_on(self, short: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Automatic => short,
            Self::Always => true,
        }
    }
}

/// Options of the hashing schedulers (ipvsadm `-b`).
///
/// ```
/// use lvs_core::sched::ScheduleFlags;
/// let both = ScheduleFlags::FALLBACK | ScheduleFlags::PORT;
/// assert!(both.fallback && both.port);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default, rename_all = "kebab-case"))]
#[expect(clippy::exhaustive_structs, reason = "two switches with the names of ipvsadm")]
pub struct ScheduleFlags {
    /// A client whose server is unusable gets another one (`sh-fallback`, `mh-fallback`) instead of being rejected.
    pub fallback: bool,
    /// The client's port is hashed too (`sh-port`, `mh-port`), which spreads one client's connections.
    pub port: bool,
}

impl ScheduleFlags {
    /// [`fallback`](Self::fallback) alone.
    pub const FALLBACK: Self = Self { fallback: true, port: false };
    /// [`port`](Self::port) alone.
    pub const PORT: Self = Self { fallback: false, port: true };
}

impl BitOr for ScheduleFlags {
    type Output = Self;

    /// The flags of both.
    fn bitor(self, other: Self) -> Self {
        Self { fallback: self.fallback | other.fallback, port: self.port | other.port }
    }
}

impl BitOrAssign for ScheduleFlags {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}
