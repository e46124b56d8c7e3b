//! A running director at a glance.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::{ApiEvent, HealthRow};

/// Everything that a watcher shows. Counters only grow; a watcher makes rates of two answers.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct OverviewRow {
    /// Seconds by the workers' clock, when they published what they count: a rate is what came between two of these.
    /// Services are read when the answer is made.
    pub published: f64,
    /// Entries of the connection table.
    pub connections: u64,
    /// Entries that it can have.
    pub capacity: u64,
    /// What went through all services.
    pub traffic: TrafficRow,
    /// Packets that ended here, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// The workers.
    pub workers: Vec<WorkerRow>,
    /// The interfaces.
    pub interfaces: Vec<InterfaceRow>,
    /// The services, in the order of their names.
    pub services: Vec<WatchedServiceRow>,
    /// The checks, and what does not work as it should.
    pub health: HealthRow,
    /// What happened last, the newest first.
    pub events: Vec<PastEvent>,
}

/// What went through, or goes through in a second, as IPVS counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct TrafficRow {
    /// Connections that were made.
    pub connections: u64,
    /// Packets of clients.
    pub in_packets: u64,
    /// Packets of real servers, through the director.
    pub out_packets: u64,
    /// Bytes of clients.
    pub in_bytes: u64,
    /// Bytes of real servers, through the director.
    pub out_bytes: u64,
}

/// A worker at a glance.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct WorkerRow {
    /// Seconds in which it had nothing to do. Its busy share is one less their rate.
    pub waited: f64,
    /// Frames that it received.
    pub frames: u64,
}

/// An interface at a glance.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct InterfaceRow {
    /// The interface's name.
    pub name: String,
    /// Whether the interface's device is there.
    pub up: bool,
    /// Frames that it received.
    pub received: u64,
    /// Frames that it sent.
    pub sent: u64,
    /// Frames that it lost or refused, both ways.
    pub lost: u64,
}

/// A service at a glance.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct WatchedServiceRow {
    /// As listings name it: `TCP 10.99.0.1:80`, `FWM 7`.
    pub service: String,
    /// The name of the scheduler.
    pub scheduler: String,
    /// The real servers, the one added last first.
    pub servers: Vec<WatchedServerRow>,
}

/// A real server at a glance.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct WatchedServerRow {
    /// Address and port.
    pub address: SocketAddr,
    /// The forwarding method, as listings name it.
    pub method: String,
    /// The weight that was declared.
    pub weight: i32,
    /// The weight that the director works with; none while checks keep the server out.
    pub effective_weight: Option<i32>,
    /// Whether an operator wishes that it gets no new connections.
    pub draining: bool,
    /// Connections that count as active.
    pub active: u32,
    /// The others.
    pub inactive: u32,
    /// What went through it, up to the last two seconds.
    pub traffic: TrafficRow,
    /// What goes through it in a second, as `ipvsadm -Ln --rate` estimates it.
    pub rates: TrafficRow,
}

/// Something that happened.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct PastEvent {
    /// How many seconds ago.
    pub ago: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: ApiEvent,
}
