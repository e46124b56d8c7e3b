//! What a director has done: numbers, and the table that `director run` prints at its end.

use core::fmt;
use core::net::SocketAddr;
use std::collections::BTreeMap;

use lvs_core::sched::Schedule as _;
use lvs_core::stats::{self, Traffic};
use lvs_core::{Director, Heap, Reason, ServiceKey};
use lvs_forward::{Counters, DropReason, PassReason};

use super::{RuntimeGroup, RuntimeWorker};
use crate::config::Configuration;
use crate::text::{bytes, columns};
use crate::worker::{Snapshot, WorkerCounters, WorkerGone};

/// What a director has done: frames by what became of them, and traffic by service and real server.
///
/// Shown, it is a table for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// All workers together: counters of director and forwarder as they are now, the devices' as they were published
    /// last, at most a second ago.
    pub total: Snapshot,
    /// What each worker published last.
    pub workers: Vec<Snapshot>,
    /// The names of the interfaces, in the order of the snapshots' ports.
    pub interfaces: Vec<String>,
    /// The services of the configuration that was applied last, in its order.
    pub services: Vec<ServiceTraffic>,
}

/// What has gone by a service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceTraffic {
    /// The service.
    pub key: ServiceKey,
    /// The name of the scheduler.
    pub scheduler: &'static str,
    /// What all its servers together had.
    pub traffic: Traffic,
    /// By real server.
    pub servers: Vec<(SocketAddr, Traffic)>,
}

/// Whose statistics they are.
pub(super) struct Subject<'a> {
    pub(super) group: &'a RuntimeGroup,
    pub(super) interfaces: &'a [String],
    pub(super) configuration: Option<Configuration>,
}

/// One worker's numbers.
type Part = (stats::Counters, Counters, Vec<Option<ServiceTraffic>>);

impl Statistics {
    /// Statistics of a running director.
    pub(super) fn read(of: &Subject<'_>) -> Result<Self, WorkerGone> {
        let keys = keys(of);
        let read =
            move |_: usize, director: &mut Director<Heap>, forwarder: &mut lvs_forward::Forwarder, _| {
                (director.counters(), forwarder.counters().clone(), services(director, &keys))
            };
        let parts = of.group.with_each(read)?;
        Self::of_parts(of, parts).ok_or(WorkerGone)
    }

    /// Statistics of a director that has ended.
    pub(super) fn of_workers(of: &Subject<'_>, workers: &mut [RuntimeWorker]) -> Option<Self> {
        let keys = keys(of);
        let part = |worker: &mut RuntimeWorker| {
            let counters = worker.forwarder().counters().clone();
            (worker.director().counters(), counters, services(worker.director(), &keys))
        };
        let parts = workers.iter_mut().map(part).collect();
        Self::of_parts(of, parts)
    }

    fn of_parts(of: &Subject<'_>, parts: Vec<Part>) -> Option<Self> {
        let mut total = of.group.snapshot()?;
        let mut all: Vec<Option<ServiceTraffic>> = Vec::new();
        for (at, (director, forwarder, services)) in parts.into_iter().enumerate() {
            // What was published last may be older than what is read now, which replaces it.
            if at == 0 {
                (total.director, total.forwarder, all) = (director, forwarder, services);
                continue;
            }
            total.director += director;
            total.forwarder += &forwarder;
            all.iter_mut().zip(services).for_each(|(sum, one)| add(sum, one));
        }
        let workers = of.group.handles().iter().map(crate::worker::Handle::snapshot).collect();
        let (interfaces, services) = (of.interfaces.to_vec(), all.into_iter().flatten().collect());
        Some(Self { total, workers, interfaces, services })
    }

    /// How many frames each thing became of, by its name in words.
    #[must_use]
    pub fn counted(&self) -> BTreeMap<String, u64> {
        let rows = frame_rows(&self.total.director, &self.total.forwarder, &self.total.worker);
        rows.into_iter().map(|(count, what)| (what, count)).collect()
    }

    fn interface_rows(&self) -> Vec<Vec<String>> {
        let mut rows =
            vec![["", "in", "merged", "lost", "out", "merged", "lost"].map(str::to_owned).to_vec()];
        for (name, port) in self.interfaces.iter().zip(&self.total.ports) {
            let (received, sent) = (port.received, port.transmitted);
            let lost = received.lost + received.cut + received.invalid;
            let numbers = [received.frames, received.merged, lost, sent.frames, sent.merged, sent.lost()];
            rows.push(
                core::iter::once(name.clone()).chain(numbers.map(|number| number.to_string())).collect(),
            );
        }
        rows
    }

    fn worker_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["", "in", "out", "conns", "handed on", "lost"].map(str::to_owned).to_vec()];
        for (number, shown) in self.workers.iter().enumerate() {
            let received = shown.ports.iter().map(|port| port.received.frames).sum::<u64>();
            let sent = shown.ports.iter().map(|port| port.transmitted.frames).sum::<u64>();
            let connections = shown.director.traffic.connections;
            let numbers = [received, sent, connections, shown.worker.handed_over, shown.worker.handover_lost];
            rows.push(
                core::iter::once(number as u64).chain(numbers).map(|number| number.to_string()).collect(),
            );
        }
        rows
    }

    fn service_rows(&self) -> Vec<Vec<String>> {
        let head = ["", "conns", "packets in", "bytes in", "packets out", "bytes out"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for service in &self.services {
            rows.push(row(format!("{}, {}", service.key, service.scheduler), service.traffic));
            rows.extend(service.servers.iter().map(|(server, traffic)| row(format!("  {server}"), *traffic)));
        }
        rows
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let director = &self.total.director;
        let frames = frame_rows(director, &self.total.forwarder, &self.total.worker).into_iter();
        let frames: Vec<_> = frames.map(|(count, what)| vec![count.to_string(), what]).collect();
        write!(f, "frames\n{}", columns(&frames, &[0]))?;
        writeln!(
            f,
            "connections\n  {} opened, {} expired, {} given up for new ones (of them {} one-way), {} left",
            director.traffic.connections,
            director.expired,
            director.reclaimed,
            director.reclaimed_one_way,
            director.live
        )?;
        write!(f, "interfaces\n{}", columns(&self.interface_rows(), &[1, 2, 3, 4, 5, 6]))?;
        if self.workers.len() > 1 {
            write!(f, "workers\n{}", columns(&self.worker_rows(), &[1, 2, 3, 4, 5]))?;
        }
        write!(f, "services\n{}", columns(&self.service_rows(), &[1, 2, 3, 4, 5]))
    }
}

/// The services of the configuration, with the addresses of their real servers.
fn keys(of: &Subject<'_>) -> Vec<(ServiceKey, Vec<SocketAddr>)> {
    let services = of.configuration.as_ref().map_or(&[][..], |configuration| &configuration.services);
    let addresses = |service: &crate::config::VirtualService| {
        service.servers.iter().map(|server| server.address).collect()
    };
    services.iter().map(|service| (service.key, addresses(service))).collect()
}

/// What has gone by each of these services in one director; `None` for one that it does not have.
fn services(
    director: &Director<Heap>,
    keys: &[(ServiceKey, Vec<SocketAddr>)],
) -> Vec<Option<ServiceTraffic>> {
    let one = |(key, addresses): &(ServiceKey, Vec<SocketAddr>)| {
        let shown = director.service(*key)?;
        let traffic = |address: &SocketAddr| {
            let mut servers = director.servers(*key);
            let (_, server) = servers.find(|(_, server)| server.address() == *address)?;
            Some((*address, server.traffic()))
        };
        let servers = addresses.iter().filter_map(traffic).collect();
        let scheduler = shown.scheduler().name();
        Some(ServiceTraffic { key: *key, scheduler, traffic: shown.traffic(), servers })
    };
    keys.iter().map(one).collect()
}

/// Adds another worker's part.
fn add(sum: &mut Option<ServiceTraffic>, one: Option<ServiceTraffic>) {
    let (Some(sum), Some(one)) = (sum, one) else { return };
    sum.traffic += one.traffic;
    for (address, traffic) in one.servers {
        match sum.servers.iter_mut().find(|(known, _)| *known == address) {
            Some((_, all)) => *all += traffic,
            None => sum.servers.push((address, traffic)),
        }
    }
}

/// How many frames each thing became of, with the thing in words. What became of none is left out.
#[must_use]
pub fn frame_rows(
    director: &stats::Counters,
    forwarder: &Counters,
    worker: &WorkerCounters,
) -> Vec<(u64, String)> {
    let mut lines = vec![
        (forwarder.requests, "sent to real servers".to_owned()),
        (forwarder.replies, "sent to clients".to_owned()),
        (forwarder.routed, "routed".to_owned()),
        (forwarder.answers, "answers to ARP, neighbour discovery and pings".to_owned()),
        (forwarder.icmp_errors, "ICMP errors sent".to_owned()),
        (forwarder.icmp_suppressed, "ICMP errors not sent".to_owned()),
        (forwarder.waited, "waited for a neighbour's address".to_owned()),
        (worker.offload.packets, "of bulk transfers, past the director in the kernel".to_owned()),
        (
            worker.offload.lost,
            "lost on that way: another program on the interface takes them, so none go it any more"
                .to_owned(),
        ),
        (worker.cut, "cut into pieces".to_owned()),
        (worker.unsendable, "lost: cannot be sent".to_owned()),
        (worker.handed_over, "handed from worker to worker, copies included".to_owned()),
        (worker.handover_lost, "lost: between workers".to_owned()),
    ];
    for reason in DropReason::ALL {
        lines.push((forwarder.drops(reason), format!("dropped: {reason}")));
    }
    for reason in PassReason::ALL {
        lines.push((forwarder.passes(reason), format!("not for the director: {reason}")));
    }
    let rejected = director.of(Reason::NoServer);
    lines.push((rejected, "refused: no real server can take them".to_owned()));
    lines.retain(|(count, _)| *count > 0);
    if lines.is_empty() {
        lines.push((0, "frames came in".to_owned()));
    }
    lines
}

fn row(name: String, traffic: Traffic) -> Vec<String> {
    vec![
        name,
        traffic.connections.to_string(),
        traffic.in_packets.to_string(),
        bytes(traffic.in_bytes),
        traffic.out_packets.to_string(),
        bytes(traffic.out_bytes),
    ]
}
