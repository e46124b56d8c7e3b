//! The names of commands and options, and which go together.

/// What ipvsadm does in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Clear,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
    Help,
    Version,
}

/// An option, in the order in which ipvsadm checks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opt {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Method,
    Weight,
    Upper,
    Lower,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxLen,
    TunInfo,
    TunType,
    TunPort,
    TunNoCsum,
    TunCsum,
    TunRemCsum,
}

/// How an option and a command go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Must,
    May,
    /// One of those that have this rule.
    OneOf,
    Not,
}

/// What a word of the command line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Verb(Verb),
    /// An option whose name is enough to know what it says.
    Opt(Opt),
    Tcp,
    Udp,
    Sctp,
    Mark,
    Six,
    Direct,
    Tunnel,
    Nat,
    /// Accepted, and without effect.
    Nothing,
}

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value,
    /// The next word, unless that begins with a dash.
    Maybe,
}

/// An option as it is written.
#[derive(Debug)]
pub(super) struct Spelling {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes: Takes,
    pub(super) meaning: Meaning,
}

/// A name that `-b` knows, and that listings show.
#[derive(Debug)]
pub(super) struct SchedulerFlag {
    pub(super) name: &'static str,
    /// Which of a service's three flags it means, from 0.
    pub(super) number: usize,
    /// The only scheduler under which the flag has this name.
    pub(super) of: Option<&'static str>,
}

/// Every name of a scheduler's flag.
pub(super) const SCHEDULER_FLAGS: &[SchedulerFlag] = {
    const fn f(name: &'static str, number: usize, of: Option<&'static str>) -> SchedulerFlag {
        SchedulerFlag { name, number, of }
    }
    &[
        f("flag-1", 0, None),
        f("flag-2", 1, None),
        f("flag-3", 2, None),
        f("sh-fallback", 0, Some("sh")),
        f("sh-port", 1, Some("sh")),
        f("mh-fallback", 0, Some("mh")),
        f("mh-port", 1, Some("mh")),
    ]
};

/// Every option.
pub(super) const SPELLINGS: &[Spelling] = {
    use Meaning as M;
    use Takes::{Maybe, Nothing, Value};
    const fn s(long: &'static str, short: char, takes: Takes, meaning: Meaning) -> Spelling {
        Spelling { long, short: if short == ' ' { None } else { Some(short) }, takes, meaning }
    }
    &[
        s("add-service", 'A', Nothing, M::Verb(Verb::AddService)),
        s("edit-service", 'E', Nothing, M::Verb(Verb::EditService)),
        s("delete-service", 'D', Nothing, M::Verb(Verb::DeleteService)),
        s("clear", 'C', Nothing, M::Verb(Verb::Clear)),
        s("list", 'L', Nothing, M::Verb(Verb::List)),
        s("list", 'l', Nothing, M::Verb(Verb::List)),
        s("add-server", 'a', Nothing, M::Verb(Verb::AddServer)),
        s("delete-server", 'd', Nothing, M::Verb(Verb::DeleteServer)),
        s("edit-server", 'e', Nothing, M::Verb(Verb::EditServer)),
        s("set", ' ', Nothing, M::Verb(Verb::Set)),
        s("start-daemon", ' ', Value, M::Verb(Verb::StartDaemon)),
        s("stop-daemon", ' ', Value, M::Verb(Verb::StopDaemon)),
        s("restore", 'R', Nothing, M::Verb(Verb::Restore)),
        s("save", 'S', Nothing, M::Verb(Verb::Save)),
        s("zero", 'Z', Nothing, M::Verb(Verb::Zero)),
        s("help", 'h', Nothing, M::Verb(Verb::Help)),
        s("version", 'v', Nothing, M::Verb(Verb::Version)),
        s("tcp-service", 't', Value, M::Tcp),
        s("udp-service", 'u', Value, M::Udp),
        s("sctp-service", ' ', Value, M::Sctp),
        s("fwmark-service", 'f', Value, M::Mark),
        s("ipv6", '6', Nothing, M::Six),
        s("scheduler", 's', Value, M::Opt(Opt::Scheduler)),
        s("persistent", 'p', Maybe, M::Opt(Opt::Persistent)),
        s("netmask", 'M', Value, M::Opt(Opt::Netmask)),
        s("pe", ' ', Value, M::Opt(Opt::Engine)),
        s("ops", 'o', Nothing, M::Opt(Opt::OnePacket)),
        s("sched-flags", 'b', Value, M::Opt(Opt::SchedFlags)),
        s("real-server", 'r', Value, M::Opt(Opt::Server)),
        s("gatewaying", 'g', Nothing, M::Direct),
        s("ipip", 'i', Nothing, M::Tunnel),
        s("masquerading", 'm', Nothing, M::Nat),
        s("weight", 'w', Value, M::Opt(Opt::Weight)),
        s("u-threshold", 'x', Value, M::Opt(Opt::Upper)),
        s("l-threshold", 'y', Value, M::Opt(Opt::Lower)),
        s("tun-type", ' ', Value, M::Opt(Opt::TunType)),
        s("tun-port", ' ', Value, M::Opt(Opt::TunPort)),
        s("tun-nocsum", ' ', Nothing, M::Opt(Opt::TunNoCsum)),
        s("tun-csum", ' ', Nothing, M::Opt(Opt::TunCsum)),
        s("tun-remcsum", ' ', Nothing, M::Opt(Opt::TunRemCsum)),
        s("numeric", 'n', Nothing, M::Opt(Opt::Numeric)),
        s("connection", 'c', Nothing, M::Opt(Opt::Connection)),
        s("timeout", ' ', Nothing, M::Opt(Opt::Timeout)),
        s("daemon", ' ', Nothing, M::Opt(Opt::Daemon)),
        s("stats", ' ', Nothing, M::Opt(Opt::Stats)),
        s("rate", ' ', Nothing, M::Opt(Opt::Rate)),
        s("thresholds", ' ', Nothing, M::Opt(Opt::Thresholds)),
        s("persistent-conn", ' ', Nothing, M::Opt(Opt::PersistentConn)),
        s("tun-info", ' ', Nothing, M::Opt(Opt::TunInfo)),
        s("nosort", ' ', Nothing, M::Opt(Opt::NoSort)),
        s("sort", ' ', Nothing, M::Nothing),
        s("exact", 'X', Nothing, M::Opt(Opt::Exact)),
        s("syncid", ' ', Value, M::Opt(Opt::SyncId)),
        s("mcast-interface", ' ', Value, M::Opt(Opt::McastInterface)),
        s("mcast-group", ' ', Value, M::Opt(Opt::McastGroup)),
        s("mcast-port", ' ', Value, M::Opt(Opt::McastPort)),
        s("mcast-ttl", ' ', Value, M::Opt(Opt::McastTtl)),
        s("sync-maxlen", ' ', Value, M::Opt(Opt::SyncMaxLen)),
    ]
};

impl Verb {
    /// The name in errors, which for `-C` is not the one that it is called by.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Clear => "flush",
            Self::List => "list",
            Self::AddServer => "add-server",
            Self::DeleteServer => "delete-server",
            Self::EditServer => "edit-server",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Zero => "zero",
            Self::Help => "help",
            Self::Version => "version",
        }
    }

    /// What it thinks of an option.
    pub(super) fn rule(self, option: Opt) -> Rule {
        use Opt as O;
        let (must, may): (&[Opt], &[Opt]) = match self {
            Self::AddService | Self::EditService => (
                &[O::Service],
                &[O::Scheduler, O::Persistent, O::Netmask, O::OnePacket, O::Engine, O::SchedFlags],
            ),
            Self::DeleteService => (&[O::Service], &[]),
            Self::AddServer | Self::EditServer => (
                &[O::Service, O::Server],
                &[
                    O::Method,
                    O::Weight,
                    O::Upper,
                    O::Lower,
                    O::TunType,
                    O::TunPort,
                    O::TunNoCsum,
                    O::TunCsum,
                    O::TunRemCsum,
                ],
            ),
            Self::DeleteServer => (&[O::Service, O::Server], &[]),
            Self::List => (
                &[],
                &[
                    O::Numeric,
                    O::Stats,
                    O::Rate,
                    O::Thresholds,
                    O::PersistentConn,
                    O::NoSort,
                    // Without effect here.
                    O::SyncId,
                    O::Exact,
                    O::TunInfo,
                ],
            ),
            Self::Save => (&[], &[O::Numeric]),
            Self::Zero => (&[], &[O::Service]),
            Self::StartDaemon => (
                &[],
                &[O::McastInterface, O::SyncId, O::McastGroup, O::McastPort, O::McastTtl, O::SyncMaxLen],
            ),
            Self::StopDaemon => (&[], &[O::SyncId]),
            Self::Clear | Self::Set | Self::Restore | Self::Help | Self::Version => (&[], &[]),
        };
        let subjects = [O::Connection, O::Service, O::Timeout, O::Daemon];
        if must.contains(&option) {
            Rule::Must
        } else if may.contains(&option) {
            Rule::May
        } else if self == Self::List && subjects.contains(&option) {
            Rule::OneOf
        } else {
            Rule::Not
        }
    }
}

impl Opt {
    pub(super) const ALL: [Self; 34] = [
        Self::Numeric,
        Self::Connection,
        Self::Service,
        Self::Scheduler,
        Self::Persistent,
        Self::Netmask,
        Self::Server,
        Self::Method,
        Self::Weight,
        Self::Upper,
        Self::Lower,
        Self::McastInterface,
        Self::Timeout,
        Self::Daemon,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::PersistentConn,
        Self::NoSort,
        Self::SyncId,
        Self::Exact,
        Self::OnePacket,
        Self::Engine,
        Self::SchedFlags,
        Self::McastGroup,
        Self::McastPort,
        Self::McastTtl,
        Self::SyncMaxLen,
        Self::TunInfo,
        Self::TunType,
        Self::TunPort,
        Self::TunNoCsum,
        Self::TunCsum,
        Self::TunRemCsum,
    ];

    /// The name by which error messages call the option, whether the user wrote its long or its short form.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::Service => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::Server => "real-server",
            Self::Method => "forwarding-method",
            Self::Weight => "weight",
            Self::Upper => "u-threshold",
            Self::Lower => "l-threshold",
            Self::McastInterface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConn => "persistent-conn",
            Self::NoSort => "nosort",
            Self::SyncId => "syncid",
            Self::Exact => "exact",
            Self::OnePacket => "ops",
            Self::Engine => "pe",
            Self::SchedFlags => "sched-flags",
            Self::McastGroup => "mcast-group",
            Self::McastPort => "mcast-port",
            Self::McastTtl => "mcast-ttl",
            Self::SyncMaxLen => "sync-maxlen",
            Self::TunInfo => "tun-info",
            Self::TunType => "tun-type",
            Self::TunPort => "tun-port",
            Self::TunNoCsum => "tun-nocsum",
            Self::TunCsum => "tun-csum",
            Self::TunRemCsum => "tun-remcsum",
        }
    }
}
