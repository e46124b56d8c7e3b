//! What ipvsadm lists, as rows and as text.

use core::cmp::Ordering;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::{
    Connection, Director, Family, Mask, Schedule as _, SchedulerOf, Service, ServiceKey, Store, Template,
    TemplateTarget, Tick,
};

use super::control::ControlError;
use super::{Listing, Subject};

/// A service in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[non_exhaustive]
pub struct ServiceRow {
    /// `TCP`, `UDP`, `SCTP` or `FWM`.
    pub proto: String,
    /// Address and port, or the mark.
    pub addr: ServiceName,
    /// The scheduler's name.
    pub sched: String,
    /// Persistence and one-packet scheduling as listed.
    pub flags: String,
    /// Its servers, as a set.
    pub servers: Vec<ServerRow>,
}

/// What a service is known by in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(untagged)]
#[expect(clippy::exhaustive_enums, reason = "the two kinds of services")]
pub enum ServiceName {
    /// A firewall mark.
    Mark(u32),
    /// Address and port.
    Address(String),
}

/// A real server in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[non_exhaustive]
pub struct ServerRow {
    /// Address and port.
    pub addr: String,
    /// `Route`, `Tunnel` or `Masq`.
    pub fwd: String,
    /// Its weight.
    pub weight: u32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
}

/// A connection, or template, in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[non_exhaustive]
pub struct ConnectionRow {
    /// `TCP`, `UDP`, `SCTP` or `IP`.
    pub proto: String,
    /// The client.
    pub c: String,
    /// The virtual address and port.
    pub v: String,
    /// The real server.
    pub d: String,
    /// The state's name.
    pub state: String,
    /// Seconds left.
    pub expires: u64,
}

/// A listing as ipvsadm prints it, addresses and ports as numbers.
///
/// # Errors
///
/// [`ControlError::NoService`] for a service that there is not, [`ControlError::Unsupported`] for what this does not list:
/// counters, rates, thresholds, daemons.
pub fn text<S: Store>(director: &Director<S>, now: Tick, listing: &Listing) -> Result<String, ControlError> {
    let others = [listing.stats, listing.rate, listing.thresholds, listing.persistent_conn, listing.tun_info];
    if others.contains(&true) && listing.subject != Subject::Connections {
        return Err(ControlError::Unsupported);
    }
    match listing.subject {
        Subject::Services => {
            let title = format!("IP Virtual Server version 1.2.1 (size={})\n", director.capacity());
            Ok(title + &table(director, director.services().map(Service::key).collect()))
        }
        Subject::Service(key) if director.service(key).is_none() => Err(ControlError::NoService),
        Subject::Service(key) => Ok(table(director, vec![key])),
        Subject::Connections => Ok(connection_table(director, now)),
        Subject::Timeouts => {
            let timeouts = director.config().timeouts;
            let (tcp, fin, udp) = (timeouts.tcp, timeouts.tcp_fin, timeouts.udp);
            Ok(format!("Timeout (tcp tcpfin udp): {tcp} {fin} {udp}\n"))
        }
        Subject::Daemons => Err(ControlError::Unsupported),
    }
}

/// ipvsadm's exit status when it cannot list: 1 where there is no such service, unlike that of other commands.
#[must_use]
pub const fn status(error: ControlError) -> u8 {
    match error {
        ControlError::NoService => 1,
        ControlError::DaemonRuns
        | ControlError::DestinationExists
        | ControlError::Full
        | ControlError::Invalid
        | ControlError::NoDaemon
        | ControlError::NoDestination
        | ControlError::NoDevice
        | ControlError::NoScheduler
        | ControlError::NoServiceForServer
        | ControlError::Range
        | ControlError::ServiceExists
        | ControlError::Unsupported => error.status(),
    }
}

/// All services with their servers, in no particular order.
pub fn services<S: Store>(director: &Director<S>) -> Vec<ServiceRow> {
    director.services().map(|service| service_row(director, service)).collect()
}

/// All connections and templates, in no particular order.
pub fn connections<S: Store>(director: &Director<S>, now: Tick) -> Vec<ConnectionRow> {
    let connections = director.connections(now).map(|connection| connection_row(&connection));
    connections.chain(director.templates(now).map(|template| template_row(&template))).collect()
}

fn service_row<S: Store>(director: &Director<S>, service: &Service<SchedulerOf<S>>) -> ServiceRow {
    let (proto, addr) = match service.key() {
        ServiceKey::Address { protocol, address, port } => {
            (protocol.to_string(), ServiceName::Address(SocketAddr::new(address, port).to_string()))
        }
        ServiceKey::Mark { mark, .. } => ("FWM".to_owned(), ServiceName::Mark(mark)),
    };
    let servers = director.servers(service.key()).map(|(_, server)| ServerRow {
        addr: server.address().to_string(),
        fwd: server.method().to_string(),
        weight: server.weight(),
        active: server.active(),
        inactive: server.inactive(),
    });
    ServiceRow {
        proto,
        addr,
        sched: service.scheduler().name().to_owned(),
        flags: flags(service, false),
        servers: servers.collect(),
    }
}

fn connection_row(connection: &Connection) -> ConnectionRow {
    ConnectionRow {
        proto: connection.flow.protocol.to_string(),
        c: connection.flow.source().to_string(),
        v: connection.flow.destination().to_string(),
        d: connection.destination.to_string(),
        state: connection.state.to_string(),
        expires: connection.expires_in / 1_000,
    }
}

fn template_row(template: &Template<'_>) -> ConnectionRow {
    let (proto, v) = match template.target {
        TemplateTarget::Address { protocol, address } => (protocol.to_string(), address),
        // As the kernel has it: the mark instead of an address.
        TemplateTarget::Mark(mark) => ("IP".to_owned(), mark_address(mark, template.client)),
    };
    ConnectionRow {
        proto,
        c: SocketAddr::new(template.client, 0).to_string(),
        v: v.to_string(),
        d: template.destination.to_string(),
        state: if template.assured { "ASSURED" } else { "NONE" }.to_owned(),
        expires: template.expires_in / 1_000,
    }
}

fn mark_address(mark: u32, client: IpAddr) -> SocketAddr {
    let address = match client {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(mark)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::from(mark) << 96)),
    };
    SocketAddr::new(address, 0)
}

/// What a listing says of a service after its scheduler, with the persistence engine if asked for.
fn flags<P>(service: &Service<P>, engine: bool) -> String {
    let mut words = Vec::new();
    if let Some(persistence) = service.persistence() {
        words.push(format!("persistent {}", persistence.timeout));
        match (persistence.mask, service.key().family()) {
            (None, _) => {}
            (Some(mask), Family::V4) => words.push(format!("mask {}", mask.bits())),
            (Some(Mask::Prefix(len)), Family::V6) => words.push(format!("mask {len}")),
            (Some(Mask::Bits(_)), Family::V6) => {}
        }
        if let Some(engine) = persistence.engine.filter(|_| engine) {
            words.push(format!("pe {}", engine.name()));
        }
    }
    if service.one_packet() {
        words.push("ops".to_owned());
    }
    words.join(" ")
}

/// The lines of services and their servers, in ipvsadm's order.
fn table<S: Store>(director: &Director<S>, mut keys: Vec<ServiceKey>) -> String {
    keys.sort_by(order);
    let mut text = String::from(
        "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
    );
    for service in keys.iter().filter_map(|&key| director.service(key)) {
        let name = match service.key() {
            ServiceKey::Address { protocol, address, port } => {
                format!("{:<4} {}", protocol.to_string(), SocketAddr::new(address, port))
            }
            ServiceKey::Mark { family: Family::V4, mark } => format!("FWM  {mark}"),
            ServiceKey::Mark { family: Family::V6, mark } => format!("FWM  {mark} IPv6"),
        };
        text.push_str(&format!("{name} {}", service.scheduler().name()));
        for words in [scheduler_flags(service), flags(service, true)].iter().filter(|words| !words.is_empty())
        {
            text.push_str(&format!(" {words}"));
        }
        text.push('\n');
        let mut servers: Vec<_> = director.servers(service.key()).map(|(_, server)| server).collect();
        servers.sort_by_key(|server| (server.address().ip(), server.address().port()));
        for server in servers {
            text.push_str(&format!(
                "  -> {:<28} {:<7} {:<6} {:<10} {:<10}\n",
                server.address().to_string(),
                server.method().to_string(),
                server.weight(),
                server.active(),
                server.inactive()
            ));
        }
    }
    text
}

/// By mark, family, protocol, address and port.
fn order(one: &ServiceKey, other: &ServiceKey) -> Ordering {
    let parts = |key: &ServiceKey| match *key {
        ServiceKey::Address { protocol, address, port } => {
            (0, address.is_ipv6(), protocol.number(), Some(address), port)
        }
        ServiceKey::Mark { family, mark } => (mark, family == Family::V6, 0, None, 0),
    };
    parts(one).cmp(&parts(other))
}

/// What a listing says of a scheduler's flags.
fn scheduler_flags<P: lvs_core::Schedule>(service: &Service<P>) -> String {
    let [one, two] = match service.scheduler().name() {
        "sh" => ["sh-fallback", "sh-port"],
        "mh" => ["mh-fallback", "mh-port"],
        _ => ["flag-1", "flag-2"],
    };
    let flags = service.flags();
    match (flags.fallback, flags.port) {
        (false, false) => String::new(),
        (true, false) => format!("({one})"),
        (false, true) => format!("({two})"),
        (true, true) => format!("({one},{two})"),
    }
}

fn connection_table<S: Store>(director: &Director<S>, now: Tick) -> String {
    let mut text = String::from(
        "IPVS connection entries\npro expire state       source             virtual            destination\n",
    );
    for row in connections(director, now) {
        let left = format!("{:02}:{:02}", row.expires / 60, row.expires % 60);
        text.push_str(&format!(
            "{:<3} {left:<6} {:<11} {:<18} {:<18} {}\n",
            row.proto, row.state, row.c, row.v, row.d
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use lvs_core::{Config, Heap, Scheduler, Seed};

    use super::*;
    use crate::ipvsadm::{Command, Numeric, control, parse};

    fn director(lines: &[&str]) -> Director<Heap> {
        let store: Heap<Scheduler> = Heap::with_capacity(16);
        let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
        for line in lines {
            let command = parse(line.split_whitespace(), &Numeric).unwrap();
            control::carry_out(&mut director, &command).unwrap();
        }
        director
    }

    fn listed(director: &Director<Heap>, line: &str) -> Result<String, ControlError> {
        let Ok(Command::List(listing)) = parse(line.split_whitespace(), &Numeric) else { panic!("{line}") };
        text(director, Tick::ZERO, &listing)
    }

    #[test]
    fn services_are_listed_as_by_ipvsadm() {
        let director = director(&[
            "-A -t [2001:db8:99::1]:80 -s rr",
            "-a -t [2001:db8:99::1]:80 -r [2001:db8:1::12]:8080 -m -w 7",
            "-A -f 3 -6 -s wrr -p 30 -M 64",
            "-A -u 10.99.0.1:53 -s sh -b sh-port,sh-fallback -o",
            "-A -t 10.99.0.9:0 -s rr -p 600 -M 255.255.255.0",
            "-A -t 10.99.0.1:80 -s wlc",
            "-a -t 10.99.0.1:80 -r 10.0.1.12 -i",
            "-a -t 10.99.0.1:80 -r 10.0.1.11",
        ]);
        let expected = "\
IP Virtual Server version 1.2.1 (size=16)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.99.0.1:80 wlc
  -> 10.0.1.11:80                 Route   1      0          0         \n  \
-> 10.0.1.12:80                 Tunnel  1      0          0         
TCP  10.99.0.9:0 rr persistent 600 mask 255.255.255.0
UDP  10.99.0.1:53 sh (sh-fallback,sh-port) ops
TCP  [2001:db8:99::1]:80 rr
  -> [2001:db8:1::12]:8080        Masq    7      0          0         
FWM  3 IPv6 wrr persistent 30 mask 64
";
        assert_eq!(listed(&director, "-Ln").unwrap(), expected);
    }

    #[test]
    fn time_outs_and_connections_have_their_own_listings() {
        let director = director(&["--set 800 0 100"]);
        assert_eq!(listed(&director, "-L --timeout").unwrap(), "Timeout (tcp tcpfin udp): 800 120 100\n");
        let titles = listed(&director, "-Lnc").unwrap();
        assert_eq!(titles.lines().count(), 2);
        assert_eq!(listed(&director, "-Ln -t 10.99.0.1:80"), Err(ControlError::NoService));
        assert_eq!(listed(&director, "-Ln --stats"), Err(ControlError::Unsupported));
    }
}
