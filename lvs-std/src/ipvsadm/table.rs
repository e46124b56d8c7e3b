//! The listings of services and their servers.

use core::net::{Ipv4Addr, SocketAddr};

use crate::control::{
    Info, ServerReport, ServerSpec, ServiceName, ServiceReport, Stats, flags, method, tunnel, whole,
};
use lvs_core::Family;
use lvs_core::method::{MethodKind, TunnelKind};

use super::options::SCHEDULER_FLAGS;
use super::order;
use super::{Listing, Names};

/// A service with its servers.
pub(super) type Entry = (ServiceReport, Vec<ServerReport>);

/// Puts services and servers into ipvsadm's order.
pub(super) fn sort(entries: Vec<Entry>) -> Vec<Entry> {
    let sorted =
        entries.into_iter().map(|(service, servers)| (service, order::sort(servers, &order::servers)));
    order::sort(sorted.collect(), &|one, other| order::services(&one.0.name, &other.0.name))
}

/// The first line of a listing of all services.
pub(super) fn version_line(info: Info) -> String {
    let [_, major, minor, patch] = info.version.to_be_bytes();
    format!("IP Virtual Server version {major}.{minor}.{patch} (size={})\n", info.table_size)
}

/// The titles, services and servers of a listing, in the order in which they are given.
pub(super) fn table(listing: &Listing, entries: &[Entry], names: &dyn Names) -> String {
    let kind = Kind::of(listing);
    let mut text = kind.titles().to_owned();
    for (service, servers) in entries {
        let mut name = service_name(&service.name, names);
        if service.name.family() == Family::V4 {
            cut(&mut name, SERVICE_COLUMN);
        }
        let line = match kind.numbers(&service.stats) {
            Some(numbers) => format!("{name:<SERVICE_COLUMN$}{}", row(numbers, listing.exact, 0)),
            None => format!("{name} {}{}", service.spec.scheduler, options(service)),
        };
        text.push_str(&line);
        text.push('\n');
        let protocol = protocol(&service.name);
        for server in servers {
            let mut name = endpoint(server.address, protocol, names);
            if server.address.is_ipv4() {
                cut(&mut name, SERVER_COLUMN);
            }
            text.push_str(&format!("  -> {name:<SERVER_COLUMN$}"));
            text.push_str(&kind.server(server, listing.exact));
            text.push('\n');
        }
    }
    text
}

/// What a listing says of servers. The first that is asked for wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Stats,
    Rate,
    Thresholds,
    Persistent,
    Tunnels,
}

impl Kind {
    const fn of(listing: &Listing) -> Self {
        if listing.stats {
            Self::Stats
        } else if listing.rate {
            Self::Rate
        } else if listing.thresholds {
            Self::Thresholds
        } else if listing.persistent_conn {
            Self::Persistent
        } else if listing.tun_info {
            Self::Tunnels
        } else {
            Self::Plain
        }
    }

    const fn titles(self) -> &'static str {
        match self {
            Self::Plain => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
            }
            Self::Stats => {
                "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
                 -> RemoteAddress:Port\n"
            }
            Self::Rate => {
                "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  \
                 -> RemoteAddress:Port\n"
            }
            Self::Thresholds => {
                "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
                 -> RemoteAddress:Port\n"
            }
            Self::Persistent => {
                "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  \
                 -> RemoteAddress:Port\n"
            }
            Self::Tunnels => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
            }
        }
    }

    /// What `--stats` and `--rate` show instead of scheduler and flags.
    const fn numbers(self, stats: &Stats) -> Option<[u64; 5]> {
        let (traffic, rates) = (&stats.traffic, &stats.rates);
        match self {
            Self::Stats => Some([
                traffic.connections,
                traffic.in_packets,
                traffic.out_packets,
                traffic.in_bytes,
                traffic.out_bytes,
            ]),
            Self::Rate => Some([
                rates.connections,
                rates.in_packets,
                rates.out_packets,
                rates.in_bytes,
                rates.out_bytes,
            ]),
            Self::Plain | Self::Thresholds | Self::Persistent | Self::Tunnels => None,
        }
    }

    /// The rest of a server's line.
    fn server(self, server: &ServerReport, exact: bool) -> String {
        let ServerReport { spec, active, inactive, persistent, .. } = server;
        let ServerSpec { weight, upper, lower, .. } = spec;
        let counts = format!("{active:<10} {inactive:<10}");
        match self {
            Self::Plain => format!(" {:<7} {weight:<6} {counts}", method_name(spec)),
            Self::Stats => {
                self.numbers(&server.stats).map_or_else(String::new, |numbers| row(numbers, exact, 0))
            }
            // ipvsadm shortens only the last two of a server.
            Self::Rate => {
                self.numbers(&server.stats).map_or_else(String::new, |numbers| row(numbers, exact, 3))
            }
            Self::Thresholds => format!(" {upper:<10} {lower:<10} {counts}"),
            Self::Persistent => format!(" {weight:<9} {persistent:<11} {counts}"),
            Self::Tunnels => {
                format!(" {:<7} {:<13} {weight:<6} {counts}", method_name(spec), tunnel_info(spec))
            }
        }
    }
}

/// Five numbers, of which the first `plain` are never shortened.
fn row(numbers: [u64; 5], exact: bool, plain: usize) -> String {
    let cells = numbers
        .iter()
        .enumerate()
        .map(|(at, &number)| if exact || at < plain { format!(" {number:>8}") } else { short(number) });
    cells.collect()
}

/// A number in nine places, from 100,000,000 on in thousands, millions, ..
fn short(number: u64) -> String {
    let (unit, letter) = match number {
        ..100_000_000 => return format!(" {number:>8}"),
        100_000_000..1_000_000_000 => (1_000, 'K'),
        1_000_000_000..100_000_000_000 => (1_000_000, 'M'),
        100_000_000_000..100_000_000_000_000 => (1_000_000_000, 'G'),
        100_000_000_000_000.. => (1_000_000_000_000, 'T'),
    };
    format!("{:>8}{letter}", number / unit)
}

/// A service as the first column has it.
fn service_name(name: &ServiceName, names: &dyn Names) -> String {
    match *name {
        ServiceName::Address { protocol, address, port } => {
            let at = endpoint(SocketAddr::new(address, port), protocol, names);
            match protocol {
                6 => format!("TCP  {at}"),
                17 => format!("UDP  {at}"),
                132 => format!("SCTP {at}"),
                other => format!("{other:<4} {at}"),
            }
        }
        ServiceName::Mark { family: Family::V4, mark } => format!("FWM  {}", mark.cast_signed()),
        ServiceName::Mark { family: Family::V6, mark } => format!("FWM  {} IPv6", mark.cast_signed()),
    }
}

/// The protocol whose ports a service's and its servers' are; those of marks are of none, and have no names.
pub(super) const fn protocol(name: &ServiceName) -> u16 {
    match *name {
        ServiceName::Address { protocol, .. } => protocol,
        ServiceName::Mark { .. } => 0,
    }
}

/// Address and port, by their names where they have any.
pub(super) fn endpoint(at: SocketAddr, protocol: u16, names: &dyn Names) -> String {
    let host = names.host_of(at.ip()).unwrap_or_else(|| at.ip().to_string());
    let port = names.port_of(at.port(), protocol).unwrap_or_else(|| at.port().to_string());
    if at.is_ipv6() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What stands after a service's scheduler.
fn options(service: &ServiceReport) -> String {
    let mut text = String::new();
    let spec = &service.spec;
    if let Some(flags) = scheduler_flags(service) {
        text.push_str(&format!(" ({flags})"));
    }
    if spec.flags & flags::PERSISTENT != 0 {
        text.push_str(&format!(" persistent {}", spec.timeout));
        if let Some(mask) = mask(service) {
            text.push_str(&format!(" mask {mask}"));
        }
        if let Some(engine) = &spec.engine {
            text.push_str(&format!(" pe {engine}"));
        }
    }
    if spec.flags & flags::ONE_PACKET != 0 {
        text.push_str(" ops");
    }
    text
}

/// The flags by the names that they have under this scheduler. Under `sh` and `mh` the third has none and is not shown.
pub(super) fn scheduler_flags(service: &ServiceReport) -> Option<String> {
    let scheduler = service.spec.scheduler.as_str();
    // A scheduler with names of its own shows no others.
    let own = SCHEDULER_FLAGS.iter().any(|flag| flag.of == Some(scheduler)).then_some(scheduler);
    let bits = [flags::SCHED_1, flags::SCHED_2, flags::SCHED_3];
    let set = service.spec.flags;
    let is_set = |number: usize| bits.get(number).is_some_and(|bit| set & bit != 0);
    let shown = SCHEDULER_FLAGS.iter().filter(|flag| flag.of == own && is_set(flag.number));
    let shown: Vec<&str> = shown.map(|flag| flag.name).collect();
    (set & bits.iter().sum::<u32>() != 0).then(|| shown.join(","))
}

/// The persistence mask, unless it is that of whole addresses.
pub(super) fn mask(service: &ServiceReport) -> Option<String> {
    let family = service.name.family();
    let mask = Some(service.spec.netmask).filter(|&mask| mask != whole(family))?;
    Some(match family {
        Family::V4 => Ipv4Addr::from_bits(mask).to_string(),
        Family::V6 => mask.to_string(),
    })
}

const fn method_name(spec: &ServerSpec) -> &'static str {
    match MethodKind::from_number(spec.method & method::MASK) {
        Some(kind) => kind.ipvsadm_name(),
        None => MethodKind::Bypass.ipvsadm_name(),
    }
}

fn tunnel_info(spec: &ServerSpec) -> String {
    if spec.method & method::MASK != method::TUNNEL {
        return "n/a".to_owned();
    }
    let checksum = match spec.tunnel_flags {
        tunnel::CSUM => "+c",
        tunnel::REMCSUM => "r+c",
        _ => "-c",
    };
    match spec.tunnel_type {
        tunnel::IPIP => TunnelKind::IpIp.name().to_owned(),
        tunnel::GUE => format!("{}:{}:{checksum}", TunnelKind::Gue.name(), spec.tunnel_port),
        tunnel::GRE => format!("{}:{checksum}", TunnelKind::Gre.name()),
        other => format!("type {other}"),
    }
}

/// Cuts a text to so many bytes, between characters.
fn cut(text: &mut String, len: usize) {
    let mut end = text.len().min(len);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

const SERVICE_COLUMN: usize = 33;
const SERVER_COLUMN: usize = 28;
