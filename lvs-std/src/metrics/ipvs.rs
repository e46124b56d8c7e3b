//! What IPVS counts: `node_ipvs_*` under `node_exporter`'s names, and the traffic of each real server.

use core::net::SocketAddr;

use lvs_core::stats::Traffic;

use super::families::{Families, Label};
use super::{Overview, WatchedServer};
use crate::control::proc::protocol_name;
use crate::control::{ServerReport, ServiceName};

/// The labels that name a real server of a service.
type Labels = [Label; 6];

pub(super) fn gather(of: &Overview, families: &mut Families) {
    let traffic = of.total.director.traffic;
    let totals = [
        ("node_ipvs_connections_total", "The total number of connections made.", traffic.connections),
        ("node_ipvs_incoming_packets_total", "The total number of incoming packets.", traffic.in_packets),
        ("node_ipvs_outgoing_packets_total", "The total number of outgoing packets.", traffic.out_packets),
        ("node_ipvs_incoming_bytes_total", "The total amount of incoming data.", traffic.in_bytes),
        ("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data.", traffic.out_bytes),
    ];
    for (name, help, value) in totals {
        families.counters(name, help, [([], value as f64)]);
    }
    let declared: Vec<(Labels, &WatchedServer)> = of
        .services
        .iter()
        .flat_map(|service| service.servers.iter().map(|of| (labels(&service.name, of.declared.address), of)))
        .collect();
    // Listings leave out those that checks keep out.
    let listed: Vec<(&Labels, &ServerReport)> =
        declared.iter().filter_map(|(labels, of)| Some((labels, of.report.as_ref()?))).collect();
    let of_listed =
        |read: fn(&ServerReport) -> f64| listed.iter().map(move |&(labels, report)| (labels, read(report)));
    families.gauges(
        "node_ipvs_backend_connections_active",
        "The current active connections by local and remote address.",
        of_listed(|of| of.active.into()),
    );
    families.gauges(
        "node_ipvs_backend_connections_inactive",
        "The current inactive connections by local and remote address.",
        of_listed(|of| of.inactive.into()),
    );
    families.gauges(
        "node_ipvs_backend_weight",
        "The current backend weight by local and remote address.",
        of_listed(|of| of.spec.weight.into()),
    );
    families.counters(
        "lvs_server_connections_total",
        "Connections sent to a real server.",
        of_listed(|of| of.stats.traffic.connections as f64),
    );
    let directions = |read: fn(&Traffic) -> [u64; 2]| {
        listed.iter().flat_map(move |(of, report)| {
            let values = ["in", "out"].into_iter().zip(read(&report.stats.traffic));
            values.map(|(direction, value)| {
                let mut labels = of.to_vec();
                labels.push(("direction", direction.to_owned()));
                (labels, value as f64)
            })
        })
    };
    families.counters(
        "lvs_server_packets_total",
        "Packets to a real server (in), and from it through the director (out).",
        directions(|traffic| [traffic.in_packets, traffic.out_packets]),
    );
    families.counters(
        "lvs_server_bytes_total",
        "Bytes to a real server (in), and from it through the director (out).",
        directions(|traffic| [traffic.in_bytes, traffic.out_bytes]),
    );
    families.gauges(
        "lvs_server_draining",
        "1 while a real server gets no new connections and keeps those that it has.",
        declared.iter().map(|(labels, of)| (labels, of.declared.status.draining.into())),
    );
    families.gauges(
        "lvs_server_absent",
        "1 while its checks keep a real server out.",
        declared.iter().map(|(labels, of)| (labels, of.declared.status.absent.into())),
    );
}

/// As `node_exporter` has them: a service by mark has no address, and port 0.
fn labels(service: &ServiceName, server: SocketAddr) -> Labels {
    let (address, port, proto, mark) = match service {
        ServiceName::Address { protocol, address, port } => {
            (address.to_string(), *port, protocol_name(*protocol).to_owned(), String::new())
        }
        ServiceName::Mark { mark, .. } => (String::new(), 0, "FWM".to_owned(), format!("{mark:08X}")),
    };
    [
        ("local_address", address),
        ("local_port", port.to_string()),
        ("remote_address", server.ip().to_string()),
        ("remote_port", server.port().to_string()),
        ("proto", proto),
        ("local_mark", mark),
    ]
}
