//! The director's knobs. Each says what it means, its unit, its default, and what a turn costs.

use crate::hash::Seed;

/// How a director behaves. Sizes are the [`Store`](crate::Store)'s.
///
/// ```
/// use lvs_core::{Config, Seed, WhenFull};
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

/// Idle time-outs in seconds, each from 1 to [`MAX_TIMEOUT_SECS`](crate::MAX_TIMEOUT_SECS) (others are taken as the
/// nearest of these). The other states have IPVS's fixed values. A change applies from a connection's next packet on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What happens to a new connection when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every policy")]
pub enum WhenFull {
    /// Gives up one other entry out of a bounded look around the table: an expired one; else a TCP or SCTP
    /// connection that is closing; else one that never completed its handshake; else a UDP flow. An
    /// established connection is never given up: then the new one is dropped as under `Refuse`.
    Reclaim,
    /// Drops the packet, counted as [`Reason::TableFull`](crate::Reason::TableFull), as IPVS does when it cannot make
    /// an entry. Expired entries that no sweep has freed yet take their places too.
    Refuse,
}

/// Switches that IPVS has, under its names (`net.ipv4.vs.*`) and with its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// Whether a SYN (or SCTP INIT) on the tuple of a connection in TIME-WAIT or CLOSE starts a new one: 0 no,
    /// 1 yes, bit 1 (value 2) also from FIN-WAIT if the replies bypass the director. Default 1.
    pub conn_reuse_mode: u32,
    /// Whether connections of a removed real server end at once, so that their next packet is scheduled as if it
    /// were the first. Default false: they are silently dropped until they time out, and resume if
    /// the server is added again.
    pub expire_nodest_conn: bool,
    /// How long `lblc` remembers the server of a virtual address that nobody asks for, in seconds, at most
    /// [`MAX_TIMEOUT_SECS`](crate::MAX_TIMEOUT_SECS). Looked at every half hour. Default 86,400.
    pub lblc_expiration: u32,
    /// The same for `lblcr`, and how long its sets of servers stay as they are until they lose the most loaded one.
    /// Default 86,400.
    pub lblcr_expiration: u32,
    /// Whether any SCTP packet but ABORT starts an association. Default false: only INIT does.
    pub sloppy_sctp: bool,
    /// Whether any TCP segment without RST starts a connection. Default false: only those with SYN do.
    /// Useful while taking over from another director without its connection table.
    pub sloppy_tcp: bool,
}

impl Tuning {
    const DEFAULT: Self = Self {
        conn_reuse_mode: 1,
        expire_nodest_conn: false,
        lblc_expiration: 86_400,
        lblcr_expiration: 86_400,
        sloppy_sctp: false,
        sloppy_tcp: false,
    };
}
