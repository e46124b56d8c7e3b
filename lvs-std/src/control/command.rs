//! What is said about services, real servers and daemons, in the terms of the netlink interface.
//!
//! The values are those of the messages, not narrowed to what a director can do: what a client said is what a listing
//! shows it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::AddAssign;

use lvs_core::stats::{Rates, Traffic};
use lvs_core::{Family, ServiceKey};

/// What a virtual service is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "the two kinds of IPVS")]
pub enum ServiceName {
    /// By protocol, address and port.
    Address {
        /// IANA protocol number: 6, 17 or 132; IPVS takes any.
        protocol: u16,
        /// The virtual address.
        address: IpAddr,
        /// The virtual port; 0 for all.
        port: u16,
    },
    /// By firewall mark.
    Mark {
        /// The family of the marked packets.
        family: Family,
        /// The mark, not 0.
        mark: u32,
    },
}

impl ServiceName {
    /// The TCP service at an address.
    #[must_use]
    pub const fn tcp(at: SocketAddr) -> Self {
        Self::Address { protocol: 6, address: at.ip(), port: at.port() }
    }

    /// The UDP service at an address.
    #[must_use]
    pub const fn udp(at: SocketAddr) -> Self {
        Self::Address { protocol: 17, address: at.ip(), port: at.port() }
    }

    /// Reads what [`Display`](fmt::Display) writes.
    ///
    /// ```
    /// use lvs_std::control::ServiceName;
    /// let web = ServiceName::parse("TCP 10.99.0.1:80").unwrap();
    /// assert_eq!(web, ServiceName::tcp("10.99.0.1:80".parse()?));
    /// assert_eq!(ServiceName::parse("FWM 7 IPv6").map(|name| name.to_string()).as_deref(), Some("FWM 7 IPv6"));
    /// # Ok::<(), core::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // IPVS takes protocols that no director can balance; the others are keys as the core reads them.
        if let Some(rest) = text.strip_prefix("protocol ") {
            let (number, rest) = rest.split_once(' ')?;
            let at: SocketAddr = rest.parse().ok()?;
            return Some(Self::Address { protocol: number.parse().ok()?, address: at.ip(), port: at.port() });
        }
        Some(match text.parse().ok()? {
            ServiceKey::Address { protocol, address, port } => {
                Self::Address { protocol: protocol.number().into(), address, port }
            }
            ServiceKey::Mark { family, mark } => Self::Mark { family, mark },
        })
    }

    /// The family of its clients.
    #[must_use]
    pub const fn family(&self) -> Family {
        match *self {
            Self::Address { address, .. } => Family::of(address),
            Self::Mark { family, .. } => family,
        }
    }
}

impl fmt::Display for ServiceName {
    /// Such as `TCP 10.99.0.1:80`, `FWM 7`, `FWM 7 IPv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address { protocol, address, port } => {
                match protocol {
                    6 => f.write_str("TCP")?,
                    17 => f.write_str("UDP")?,
                    132 => f.write_str("SCTP")?,
                    other => write!(f, "protocol {other}")?,
                }
                write!(f, " {}", SocketAddr::new(address, port))
            }
            Self::Mark { family: Family::V4, mark } => write!(f, "FWM {mark}"),
            Self::Mark { family: Family::V6, mark } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// How a virtual service behaves (attributes 6 to 9 and 11 of `IPVS_CMD_ATTR_SERVICE`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the attributes of the interface")]
pub struct ServiceSpec {
    /// The scheduler's name, at most 15 bytes; `none` for a service that has none and so rejects every new connection.
    pub scheduler: String,
    /// The `IP_VS_SVC_F_*` bits, see [`flags`]. Unknown ones are kept.
    pub flags: u32,
    /// Seconds of persistence; kept even if [`flags::PERSISTENT`] is not set.
    pub timeout: u32,
    /// Which part of a client's address counts for persistence: the mask's bits as a number for IPv4 (255.255.255.0 is
    /// `0xffff_ff00`), the prefix length, 1 to 128, for IPv6.
    pub netmask: u32,
    /// The persistence engine, `sip`.
    pub engine: Option<String>,
}

impl ServiceSpec {
    /// A service with this scheduler and nothing else.
    #[must_use]
    pub fn new(family: Family, scheduler: impl Into<String>) -> Self {
        Self { scheduler: scheduler.into(), flags: 0, timeout: 0, netmask: whole(family), engine: None }
    }
}

/// The netmask that stands for whole addresses.
#[must_use]
pub const fn whole(family: Family) -> u32 {
    match family {
        Family::V4 => u32::MAX,
        Family::V6 => 128,
    }
}

/// Bits of [`ServiceSpec::flags`].
pub mod flags {
    /// Clients stay with their server (`IP_VS_SVC_F_PERSISTENT`).
    pub const PERSISTENT: u32 = 1;
    /// The kernel's own, set in every answer (`IP_VS_SVC_F_HASHED`).
    pub const HASHED: u32 = 2;
    /// Every UDP datagram is scheduled anew (`IP_VS_SVC_F_ONEPACKET`).
    pub const ONE_PACKET: u32 = 4;
    /// The scheduler's first flag (`IP_VS_SVC_F_SCHED1`): `sh-fallback`, `mh-fallback`.
    pub const SCHED_1: u32 = 8;
    /// The scheduler's second flag (`IP_VS_SVC_F_SCHED2`): `sh-port`, `mh-port`.
    pub const SCHED_2: u32 = 16;
    /// The scheduler's third flag (`IP_VS_SVC_F_SCHED3`).
    pub const SCHED_3: u32 = 32;
}

/// How a real server is used (attributes 3 to 6 and 13 to 15 of `IPVS_CMD_ATTR_DEST`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the attributes of the interface")]
pub struct ServerSpec {
    /// The forwarding method, see [`method`]; only the lowest three bits count.
    pub method: u32,
    /// The share of new connections, 0 to 2^31 - 1.
    pub weight: i32,
    /// Upper threshold in connections; 0 for none.
    pub upper: u32,
    /// Lower threshold in connections; 0 for three quarters of the upper one.
    pub lower: u32,
    /// 0 IPIP, 1 GUE, 2 GRE ([`tunnel`]); other methods keep it too.
    pub tunnel_type: u8,
    /// UDP port of GUE.
    pub tunnel_port: u16,
    /// 0 without checksum, 1 with, 2 remote checksum ([`tunnel`]).
    pub tunnel_flags: u16,
}

impl ServerSpec {
    /// A server of this method and weight, without thresholds; a tunnel is IPIP.
    #[must_use]
    pub const fn new(method: u32, weight: i32) -> Self {
        Self {
            method,
            weight,
            upper: 0,
            lower: 0,
            tunnel_type: tunnel::IPIP,
            tunnel_port: 0,
            tunnel_flags: 0,
        }
    }
}

/// Values of [`ServerSpec::method`] (`IP_VS_CONN_F_FWD_MASK`).
pub mod method {
    use lvs_core::method::MethodKind;

    /// Network address translation.
    pub const MASQUERADING: u32 = MethodKind::Nat.number() as u32;
    /// To this host.
    pub const LOCAL: u32 = MethodKind::Local.number() as u32;
    /// Tunnelling.
    pub const TUNNEL: u32 = MethodKind::Tunnel.number() as u32;
    /// Direct routing.
    pub const DIRECT: u32 = MethodKind::Direct.number() as u32;
    /// To the packet's own destination.
    pub const BYPASS: u32 = MethodKind::Bypass.number() as u32;
    /// The bits that count.
    pub const MASK: u32 = 7;
}

/// Values of [`ServerSpec::tunnel_type`] and [`ServerSpec::tunnel_flags`].
pub mod tunnel {
    use lvs_core::method::TunnelKind;

    /// IP in IP.
    pub const IPIP: u8 = TunnelKind::IpIp.number();
    /// Generic UDP encapsulation.
    pub const GUE: u8 = TunnelKind::Gue.number();
    /// Generic routing encapsulation.
    pub const GRE: u8 = TunnelKind::Gre.number();
    /// Outer checksum filled in.
    pub const CSUM: u16 = 1;
    /// Remote checksum offload of GUE.
    pub const REMCSUM: u16 = 2;
}

/// Counters and rates of a service or server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the two halves of the interface's statistics")]
pub struct Stats {
    /// What was counted, up to the last two seconds.
    pub traffic: Traffic,
    /// Per second.
    pub rates: Rates,
}

impl AddAssign for Stats {
    /// What several directors have, together.
    fn add_assign(&mut self, other: Self) {
        self.traffic += other.traffic;
        self.rates += other.rates;
    }
}

/// A service as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the attributes of the interface")]
pub struct ServiceReport {
    /// What it is known by.
    pub name: ServiceName,
    /// How it behaves.
    pub spec: ServiceSpec,
    /// What went through it.
    pub stats: Stats,
}

/// A real server as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the attributes of the interface")]
pub struct ServerReport {
    /// The server's address and port.
    pub address: SocketAddr,
    /// How it is used.
    pub spec: ServerSpec,
    /// Connections that count as active.
    pub active: u32,
    /// The others.
    pub inactive: u32,
    /// Persistence templates that send clients to it.
    pub persistent: u32,
    /// What went through it.
    pub stats: Stats,
}

/// A side of connection synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Role {
    /// Sends (`IP_VS_STATE_MASTER`, 1).
    Master,
    /// Receives (`IP_VS_STATE_BACKUP`, 2).
    Backup,
}

/// How a sync daemon talks. In listings everything is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the attributes of the interface")]
pub struct DaemonSpec {
    /// Which side it is.
    pub role: Role,
    /// The interface, at most 15 bytes.
    pub interface: String,
    /// The id of its group of directors.
    pub sync_id: u32,
    /// Longest message in bytes; by default what the interface's MTU allows.
    pub max_len: Option<u16>,
    /// Multicast group. Default 224.0.0.81.
    pub group: Option<IpAddr>,
    /// UDP port. Default 8848.
    pub port: Option<u16>,
    /// TTL or hop limit. Default 1.
    pub ttl: Option<u8>,
}

/// Idle time-outs in seconds (`ipvsadm --set`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the attributes of the interface")]
pub struct Timeouts {
    /// Established TCP connections.
    pub tcp: u32,
    /// TCP connections in FIN-WAIT.
    pub tcp_fin: u32,
    /// UDP flows.
    pub udp: u32,
}

/// What a director says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the attributes of the interface")]
pub struct Info {
    /// Version of IPVS as a number: `0x00010201` is 1.2.1.
    pub version: u32,
    /// The size of the connection table that listings show.
    pub table_size: u32,
}

/// Something that a director is asked to do: the commands of the generic netlink family `IPVS`, and its switches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever carries commands out must handle each")]
pub enum Command {
    /// Changes services and servers.
    Table(TableCommand),
    /// Starts or stops a sync daemon.
    Daemon(DaemonCommand),
    /// Sets time-outs or a switch.
    Setting(Setting),
    /// `ZERO`: counters of a service and its servers, or of everything.
    Zero(Option<ServiceName>),
    /// Asks, and changes nothing.
    Query(Query),
}

/// A change to the table of services and servers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever carries commands out must handle each")]
pub enum TableCommand {
    /// `NEW_SERVICE`.
    NewService(ServiceName, ServiceSpec),
    /// `SET_SERVICE`; bits of the flags outside the mask stay as they are.
    SetService(ServiceName, ServiceSpec, u32),
    /// `DEL_SERVICE`: a service goes, with its servers.
    DelService(ServiceName),
    /// `NEW_DEST`.
    NewServer(ServiceName, SocketAddr, ServerSpec),
    /// `SET_DEST`.
    SetServer(ServiceName, SocketAddr, ServerSpec),
    /// `DEL_DEST`.
    DelServer(ServiceName, SocketAddr),
    /// `FLUSH`: all services go.
    Flush,
}

impl TableCommand {
    /// The service that it is about; `None` if it is about all.
    #[must_use]
    pub const fn service(&self) -> Option<ServiceName> {
        match self {
            Self::NewService(name, _)
            | Self::SetService(name, ..)
            | Self::DelService(name)
            | Self::NewServer(name, ..)
            | Self::SetServer(name, ..)
            | Self::DelServer(name, _) => Some(*name),
            Self::Flush => None,
        }
    }

    /// Whether it adds or edits, and removes nothing. Of such changes many can be carried out between the same two
    /// batches of packets, with the same result as one after the other.
    pub(crate) const fn declares(&self) -> bool {
        match self {
            Self::NewService(..) | Self::SetService(..) | Self::NewServer(..) | Self::SetServer(..) => true,
            Self::DelService(_) | Self::DelServer(..) | Self::Flush => false,
        }
    }
}

/// What is done to a sync daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever carries commands out must handle each")]
pub enum DaemonCommand {
    /// `NEW_DAEMON`.
    Start(DaemonSpec),
    /// `DEL_DAEMON`.
    Stop(Role),
}

/// Something that holds for the whole director. A [journal](super::Journal) keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever carries commands out must handle each")]
pub enum Setting {
    /// `SET_CONFIG`: those that are given and not 0 change.
    Timeouts(Timeouts),
    /// A [switch](super::sysctl) by its name, with `net.ipv4.vs.` or without, and the text that its file would be
    /// written.
    Sysctl(String, String),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever answers must handle each")]
pub enum Query {
    /// `GET_SERVICE` of one.
    Service(ServiceName),
    /// `GET_SERVICE` as a dump.
    Services,
    /// `GET_DEST`: the servers of a service, the one added last first.
    Servers(ServiceName),
    /// `GET_DAEMON`.
    Daemons,
    /// `GET_CONFIG`.
    Timeouts,
    /// `GET_INFO`.
    Info,
    /// What a [switch](super::sysctl) is set to.
    Sysctl(String),
}

impl From<TableCommand> for Command {
    fn from(command: TableCommand) -> Self {
        Self::Table(command)
    }
}

impl From<DaemonCommand> for Command {
    fn from(command: DaemonCommand) -> Self {
        Self::Daemon(command)
    }
}

impl From<Setting> for Command {
    fn from(setting: Setting) -> Self {
        Self::Setting(setting)
    }
}

impl From<Query> for Command {
    fn from(query: Query) -> Self {
        Self::Query(query)
    }
}

/// What a director answers to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever reads answers must handle each")]
pub enum Answer {
    /// The command is done.
    Done,
    /// To [`Query::Service`].
    Service(Box<ServiceReport>),
    /// To [`Query::Services`].
    Services(Vec<ServiceReport>),
    /// To [`Query::Servers`].
    Servers(Vec<ServerReport>),
    /// To [`Query::Daemons`]: master before backup.
    Daemons(Vec<DaemonSpec>),
    /// To [`Query::Timeouts`].
    Timeouts(Timeouts),
    /// To [`Query::Info`].
    Info(Info),
    /// To [`Query::Sysctl`], as the switch's file shows it.
    Sysctl(String),
}
