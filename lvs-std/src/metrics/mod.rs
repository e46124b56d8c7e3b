//! A running director's numbers for Prometheus.
//!
//! ```text
//! RuntimeHandle --gather--> families --text--> GET /metrics
//!                             ipvs      node_ipvs_*, as node_exporter's collector names them
//!                             director  lvs_*, what IPVS has no word for
//! ```
//!
//! | family | kind | labels | what |
//! |---|---|---|---|
//! | `node_ipvs_connections_total`, `node_ipvs_incoming_packets_total`, `node_ipvs_outgoing_packets_total`, `node_ipvs_incoming_bytes_total`, `node_ipvs_outgoing_bytes_total` | counter | none | what `/proc/net/ip_vs_stats` has |
//! | `node_ipvs_backend_connections_active`, `node_ipvs_backend_connections_inactive`, `node_ipvs_backend_weight` | gauge | `local_address`, `local_port`, `remote_address`, `remote_port`, `proto`, `local_mark` | what `/proc/net/ip_vs` has |
//! | `lvs_server_connections_total`, `lvs_server_packets_total`, `lvs_server_bytes_total` | counter | those, and `direction` but for connections | traffic by real server |
//! | `lvs_server_draining`, `lvs_server_absent` | gauge | those | 1 for a server that is drained, or taken out by its checks |
//! | `lvs_connections`, `lvs_connections_capacity` | gauge | none | entries of the connection table, and how many it can have |
//! | `lvs_connections_ended_total` | counter | `cause` | entries that expired, or gave way to others in a full table |
//! | `lvs_packets_sent_total` | counter | `to` | packets to real servers, to clients, routed, and the director's own answers and errors |
//! | `lvs_packets_dropped_total`, `lvs_packets_passed_total` | counter | `reason` | packets that ended here, and those that were left to this machine |
//! | `lvs_decisions_total` | counter | `reason` | packets that the director did not forward |
//! | `lvs_interface_frames_total`, `lvs_interface_bytes_total` | counter | `interface`, `direction` | frames of each device |
//! | `lvs_interface_lost_total` | counter | `interface`, `direction`, `reason` | frames that a device lost or refused |
//! | `lvs_interface_up` | gauge | `interface` | 0 while a device is gone |
//! | `lvs_worker_waiting_seconds_total` | counter | `worker` | time in which a worker had nothing to do: one less its rate is the worker's busy share |
//! | `lvs_worker_frames_total`, `lvs_worker_handed_over_total` | counter | `worker` | frames received, and copies handed to other workers |
//! | `lvs_events_lost_total` | counter | none | events that nobody fetched in time |
//! | `lvs_health_ready` | gauge | none | 1 when each check has had an answer |
//! | `lvs_probe_up` | gauge | `probe` | 1 while the check finds its server well |
//! | `lvs_problem` | gauge | `part` | 1 for each part that does not work as it should |
//!
//! A [`MetricsListener`] answers at an address of the program's choice; [`gather`] and [`text`] serve programs that have
//! an HTTP server of their own.

mod director;
mod families;
mod http;
mod ipvs;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder as _, TextEncoder};

use self::families::Families;
pub use self::http::{MetricsListener, MetricsServer};
use crate::runtime::RuntimeHandle;
use crate::worker::WorkerGone;

/// What a text of [`text`] is called in HTTP's `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All families of a running director, those without a sample left out. Services are read some at a time, so that
/// neither packets nor commands wait for a long table: a server's numbers are of one moment, those of two services need
/// not be.
///
/// # Errors
/// [`WorkerGone`], when the director ends.
pub fn gather(of: &RuntimeHandle) -> Result<Vec<MetricFamily>, WorkerGone> {
    let mut families = Families::default();
    let statistics = of.statistics()?;
    ipvs::gather(of, &statistics, &mut families)?;
    director::gather(of, &statistics, &mut families)?;
    Ok(families.into())
}

/// The families in Prometheus's text format, version 0.0.4.
#[must_use]
pub fn text(families: &[MetricFamily]) -> String {
    let mut text = Vec::new();
    // Families without a sample are what it refuses, and there are none. Writing to memory does not fail.
    let _ = TextEncoder::new().encode(families, &mut text);
    String::from_utf8(text).unwrap_or_default()
}
