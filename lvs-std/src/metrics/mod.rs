//! A running director's numbers, by Prometheus's conventions.
//!
//! ```text
//! Watched --> Overview --> families --> JSON (director stats), Prometheus's text (GET /metrics)
//!                 |        ipvs      node_ipvs_*, as node_exporter's collector names them
//!                 |        director  lvs_*, what IPVS has no word for
//!                 +------> row ------> JSON (director top, GET /overview.json for the page at /)
//! ```
//!
//! Counters without labels, as `/proc/net/ip_vs_stats` has them: `node_ipvs_connections_total`,
//! `node_ipvs_incoming_packets_total`, `node_ipvs_outgoing_packets_total`, `node_ipvs_incoming_bytes_total` and
//! `node_ipvs_outgoing_bytes_total`.
//!
//! By real server, with the labels `local_address`, `local_port`, `remote_address`, `remote_port`, `proto` and
//! `local_mark`:
//!
//! | family | kind | what |
//! |---|---|---|
//! | `node_ipvs_backend_connections_active`, `.._inactive` | gauge | connections, as `/proc/net/ip_vs` has them |
//! | `node_ipvs_backend_weight` | gauge | the weight, as it is there |
//! | `lvs_server_connections_total` | counter | connections that it was chosen for |
//! | `lvs_server_packets_total`, `lvs_server_bytes_total` | counter | traffic, by `direction` |
//! | `lvs_server_draining`, `lvs_server_absent` | gauge | 1 while it is drained, or its checks keep it out |
//!
//! Of the director:
//!
//! | family | kind | labels | what |
//! |---|---|---|---|
//! | `lvs_connections`, `lvs_connections_capacity` | gauge | | the connection table, used and whole |
//! | `lvs_connections_ended_total` | counter | `cause` | entries that expired, or made room for others |
//! | `lvs_packets_sent_total` | counter | `to` | packets sent, and the director's own answers |
//! | `lvs_packets_dropped_total` | counter | `reason` | packets that ended here |
//! | `lvs_packets_passed_total` | counter | `reason` | packets that were left to this machine |
//! | `lvs_decisions_total` | counter | `reason` | packets that the director did not forward |
//! | `lvs_interface_frames_total`, `lvs_interface_bytes_total` | counter | `interface`, `direction` | a device's |
//! | `lvs_interface_lost_total` | counter | these and `reason` | frames that a device lost or refused |
//! | `lvs_interface_up` | gauge | `interface` | 0 while its device is gone |
//! | `lvs_worker_waiting_seconds_total` | counter | `worker` | time in which a worker had nothing to do |
//! | `lvs_worker_frames_total`, `lvs_worker_handed_over_total` | counter | `worker` | received, and handed to others |
//! | `lvs_events_lost_total` | counter | | events that nobody fetched in time |
//! | `lvs_health_ready` | gauge | | 1 when each check has had an answer |
//! | `lvs_probe_up` | gauge | `probe` | 1 while the check finds its server well |
//! | `lvs_problem` | gauge | `part` | 1 for each part that does not work as it should |
//!
//! A worker's busy share is one less the rate of its waiting seconds.
//!
//! [`families()`] tells them as data. With the feature `metrics`, `text` tells them in Prometheus's format, for
//! programs that have an HTTP server of their own, and `MetricsListener` answers at an address of the program's choice:
//! with the metrics, and with a page for people.

mod director;
mod families;
#[cfg(feature = "metrics")]
mod http;
mod ipvs;
mod overview;
mod row;
#[cfg(feature = "metrics")]
mod text;

use std::collections::BTreeMap;

use self::families::Families;
pub use self::families::{Family, Kind, Sample};
#[cfg(feature = "metrics")]
pub use self::http::{MetricsListener, MetricsServer};
pub use self::overview::{Overview, Watched, WatchedServer, WatchedService};

/// What a text of [`text()`] is called in HTTP's `Content-Type`.
#[cfg(feature = "metrics")]
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A running director's metrics by the names of their families; families without a sample are left out.
#[must_use]
pub fn families(of: &Overview) -> BTreeMap<String, Family> {
    gather(of).0.into_iter().collect()
}

/// A running director's metrics in Prometheus's text format, version 0.0.4; families without a sample are left out.
#[cfg(feature = "metrics")]
#[must_use]
pub fn text(of: &Overview) -> String {
    text::encode(&gather(of))
}

fn gather(of: &Overview) -> Families {
    let mut families = Families::default();
    ipvs::gather(of, &mut families);
    director::gather(of, &mut families);
    families
}
