//! What IPVS counts: `node_ipvs_*` under `node_exporter`'s names, and the traffic of each real server.

use core::net::SocketAddr;
use std::collections::HashMap;

use lvs_core::stats::Traffic;

use super::families::{Families, Label};
use crate::control::proc::protocol_name;
use crate::control::{Answer, Command, CommandError, Query, ServerReport, ServerStatus, ServiceName};
use crate::runtime::{RuntimeController, RuntimeHandle, Statistics};
use crate::worker::WorkerGone;

/// So many services are listed before the controller is let go for others.
const SERVICES_AT_ONCE: usize = 64;

/// A real server with the labels that name it.
struct Backend {
    labels: [Label; 6],
    report: ServerReport,
    status: ServerStatus,
}

/// A number of a real server.
type Read = fn(&Backend) -> f64;

pub(super) fn gather(
    of: &RuntimeHandle,
    statistics: &Statistics,
    families: &mut Families,
) -> Result<(), WorkerGone> {
    let traffic = statistics.total.director.traffic;
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
    let backends = backends(of)?;
    let gauges: [(&str, &str, Read); 5] = [
        (
            "node_ipvs_backend_connections_active",
            "The current active connections by local and remote address.",
            |of| of.report.active.into(),
        ),
        (
            "node_ipvs_backend_connections_inactive",
            "The current inactive connections by local and remote address.",
            |of| of.report.inactive.into(),
        ),
        ("node_ipvs_backend_weight", "The current backend weight by local and remote address.", |of| {
            of.report.spec.weight.into()
        }),
        (
            "lvs_server_draining",
            "1 while a real server gets no new connections and keeps those that it has.",
            |of| f64::from(of.status.draining),
        ),
        ("lvs_server_absent", "1 while its checks keep a real server out.", |of| f64::from(of.status.absent)),
    ];
    for (name, help, value) in gauges {
        families.gauges(name, help, backends.iter().map(|of| (&of.labels, value(of))));
    }
    let connections = backends.iter().map(|of| (&of.labels, of.report.stats.traffic.connections as f64));
    families.counters("lvs_server_connections_total", "Connections sent to a real server.", connections);
    let directions = |read: fn(&Traffic) -> [u64; 2]| {
        backends.iter().flat_map(move |of| {
            let values = ["in", "out"].into_iter().zip(read(&of.report.stats.traffic));
            values.map(|(direction, value)| {
                let mut labels = of.labels.to_vec();
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
    Ok(())
}

/// All real servers. What is removed meanwhile is left out.
fn backends(of: &RuntimeHandle) -> Result<Vec<Backend>, WorkerGone> {
    let names: Vec<ServiceName> =
        of.with_controller(|controller| controller.desired().services().map(|(name, _)| name).collect());
    let mut backends = Vec::new();
    for names in names.chunks(SERVICES_AT_ONCE) {
        let listed = of.with_controller(|controller| list(controller, names))?;
        backends.extend(listed);
    }
    Ok(backends)
}

fn list(controller: &mut RuntimeController, names: &[ServiceName]) -> Result<Vec<Backend>, WorkerGone> {
    let queries: Vec<Command> = names.iter().map(|name| Query::Servers(*name).into()).collect();
    let answers = controller.submit_each(&queries);
    let mut backends = Vec::new();
    for (name, answer) in names.iter().zip(answers) {
        let servers = match answer {
            Ok(Answer::Servers(servers)) => servers,
            Err(CommandError::Gone) => return Err(WorkerGone),
            // It has just been removed.
            Ok(_) | Err(_) => continue,
        };
        let Some(declared) = controller.desired().service(*name) else { continue };
        let statuses: HashMap<SocketAddr, ServerStatus> =
            declared.servers.iter().map(|server| (server.address, server.status)).collect();
        backends.extend(servers.into_iter().map(|report| Backend {
            labels: labels(name, report.address),
            status: statuses.get(&report.address).copied().unwrap_or_default(),
            report,
        }));
    }
    Ok(backends)
}

/// As `node_exporter` has them: a service by mark has no address, and port 0.
fn labels(service: &ServiceName, server: SocketAddr) -> [Label; 6] {
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
