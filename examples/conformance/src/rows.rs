//! What a director in memory has, as the rows of recorded snapshots.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::conn::{Connection, Template, TemplateTarget};
use lvs_core::sched::Schedule as _;
use lvs_core::service::{Mask, SchedulerOf, Service};
use lvs_core::{Director, Family, ServiceKey, Store, Tick};

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
    /// The service's servers, as a set.
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
    /// The server's weight.
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

/// All services with their servers, in no particular order.
pub(crate) fn services<S: Store>(director: &Director<S>) -> Vec<ServiceRow> {
    director.services().map(|service| service_row(director, service)).collect()
}

/// All connections and templates, in no particular order.
pub(crate) fn connections<S: Store>(director: &Director<S>, now: Tick) -> Vec<ConnectionRow> {
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
        flags: flags(service),
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

/// What a snapshot says of a service after its scheduler.
fn flags<P>(service: &Service<P>) -> String {
    let mut words = Vec::new();
    if let Some(persistence) = service.persistence() {
        words.push(format!("persistent {}", persistence.timeout));
        match (persistence.mask, service.key().family()) {
            (None, _) => {}
            (Some(mask), Family::V4) => words.push(format!("mask {}", mask.bits())),
            (Some(Mask::Prefix(len)), Family::V6) => words.push(format!("mask {len}")),
            (Some(Mask::Bits(_)), Family::V6) => {}
        }
    }
    if service.one_packet() {
        words.push("ops".to_owned());
    }
    words.join(" ")
}
