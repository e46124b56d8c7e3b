//! An overview as it is told.

use lvs_core::stats::{Rates, Traffic};
use lvs_forward::DropReason;

use super::{Overview, WatchedServer, WatchedService};
use crate::control::api::{
    InterfaceRow, OverviewRow, TrafficRow, WatchedServerRow, WatchedServiceRow, WorkerRow,
};
use crate::worker::{PortSnapshot, Snapshot};

impl Overview {
    /// What is told of it at the JSON socket and to the web page.
    #[must_use]
    pub fn row(&self) -> OverviewRow {
        let dropped = DropReason::ALL.map(|reason| (reason.to_string(), self.total.forwarder.drops(reason)));
        OverviewRow {
            published: self.total.at.as_millis() as f64 / 1_000.0,
            connections: self.total.director.live.into(),
            capacity: self.capacity,
            traffic: traffic(self.total.director.traffic),
            dropped: dropped.into_iter().filter(|(_, count)| *count > 0).collect(),
            workers: self.workers.iter().map(worker).collect(),
            interfaces: self.interfaces.iter().zip(&self.total.ports).map(interface).collect(),
            services: self.services.iter().map(service).collect(),
            health: self.health.clone(),
            events: self.events.clone(),
        }
    }
}

const fn traffic(of: Traffic) -> TrafficRow {
    TrafficRow {
        connections: of.connections,
        in_packets: of.in_packets,
        out_packets: of.out_packets,
        in_bytes: of.in_bytes,
        out_bytes: of.out_bytes,
    }
}

const fn rates(of: Rates) -> TrafficRow {
    TrafficRow {
        connections: of.connections,
        in_packets: of.in_packets,
        out_packets: of.out_packets,
        in_bytes: of.in_bytes,
        out_bytes: of.out_bytes,
    }
}

fn worker(of: &Snapshot) -> WorkerRow {
    WorkerRow {
        waited: of.worker.waited.as_secs_f64(),
        frames: of.ports.iter().map(|port| port.received.frames).sum(),
    }
}

fn interface((name, of): (&String, &PortSnapshot)) -> InterfaceRow {
    let received = of.received;
    InterfaceRow {
        name: name.clone(),
        up: !of.failed,
        received: received.frames,
        sent: of.transmitted.frames,
        lost: received.lost + received.cut + received.invalid + of.transmitted.lost(),
    }
}

fn service(of: &WatchedService) -> WatchedServiceRow {
    WatchedServiceRow {
        service: of.name.to_string(),
        scheduler: of.scheduler.clone(),
        servers: of.servers.iter().map(server).collect(),
    }
}

fn server(of: &WatchedServer) -> WatchedServerRow {
    let declared = &of.declared;
    let report = of.report.as_ref();
    WatchedServerRow {
        address: declared.address,
        method: declared.spec.method.to_string(),
        weight: declared.spec.weight,
        effective_weight: (!declared.status.absent).then(|| declared.effective_weight()),
        draining: declared.status.draining,
        active: report.map_or(0, |report| report.active),
        inactive: report.map_or(0, |report| report.inactive),
        traffic: report.map_or_else(TrafficRow::default, |report| traffic(report.stats.traffic)),
        rates: report.map_or_else(TrafficRow::default, |report| rates(report.stats.rates)),
    }
}
