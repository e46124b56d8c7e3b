//! What a director has done, as a table.

use lvs_core::Reason;
use lvs_core::sched::Schedule;
use lvs_core::stats::Traffic;
use lvs_forward::{DropReason, PassReason};
use lvs_std::worker::{Snapshot, WorkerCounters};
use lvs_support::text::{bytes, columns};

use crate::run::{LargeGroup, LargeWorker};
use lvs_std::config::Configuration;

/// Everything that was counted: frames by what became of them, and traffic by service and real server.
pub(crate) fn describe(
    configuration: &Configuration,
    workers: &mut [LargeWorker],
    group: &LargeGroup,
) -> String {
    let mut text = String::from("frames\n");
    let Some(mut snapshot) = group.snapshot() else { return text };
    // What was published last may be older.
    let mut all = workers.iter_mut();
    if let Some(first) = all.next() {
        (snapshot.director, snapshot.forwarder) =
            (first.director().counters(), first.forwarder().counters().clone());
    }
    for worker in all {
        snapshot.director += worker.director().counters();
        snapshot.forwarder += worker.forwarder().counters();
    }
    text.push_str(&columns(&frames(&snapshot.director, &snapshot.forwarder, &snapshot.worker), &[0]));
    let director = snapshot.director;
    text.push_str(&format!(
        "connections\n  {} opened, {} expired, {} given up for new ones, {} left\n",
        director.traffic.connections, director.expired, director.reclaimed, director.live
    ));
    text.push_str("interfaces\n");
    text.push_str(&columns(&interfaces(configuration, &snapshot), &[1, 2, 3, 4, 5, 6]));
    if workers.len() > 1 {
        text.push_str("workers\n");
        text.push_str(&columns(&each_worker(group), &[1, 2, 3, 4, 5]));
    }
    text.push_str("services\n");
    text.push_str(&columns(&services(configuration, workers), &[1, 2, 3, 4, 5]));
    text
}

/// What each worker did of it.
fn each_worker(group: &LargeGroup) -> Vec<Vec<String>> {
    let mut rows = vec![["", "in", "out", "conns", "handed on", "lost"].map(str::to_owned).to_vec()];
    for (number, handle) in group.handles().iter().enumerate() {
        let shown = handle.snapshot();
        let received = shown.ports.iter().map(|port| port.received.frames).sum::<u64>();
        let sent = shown.ports.iter().map(|port| port.transmitted.frames).sum::<u64>();
        let connections = shown.director.traffic.connections;
        let numbers = [received, sent, connections, shown.worker.handed_over, shown.worker.handover_lost];
        rows.push(
            core::iter::once(number)
                .map(|number| number.to_string())
                .chain(numbers.map(|number| number.to_string()))
                .collect(),
        );
    }
    rows
}

/// One line for each thing that became of frames, if it did of any.
pub(crate) fn frames(
    director: &lvs_core::stats::Counters,
    forwarder: &lvs_forward::Counters,
    worker: &WorkerCounters,
) -> Vec<Vec<String>> {
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
    lines.into_iter().map(|(count, what)| vec![count.to_string(), what]).collect()
}

fn interfaces(configuration: &Configuration, snapshot: &Snapshot) -> Vec<Vec<String>> {
    let mut rows = vec![["", "in", "merged", "lost", "out", "merged", "lost"].map(str::to_owned).to_vec()];
    for (interface, port) in configuration.interfaces.iter().zip(&snapshot.ports) {
        let (received, sent) = (port.received, port.transmitted);
        let lost = received.lost + received.cut + received.invalid;
        let mut row = vec![interface.name.clone()];
        let numbers = [received.frames, received.merged, lost, sent.frames, sent.merged, sent.lost()];
        row.extend(numbers.map(|number| number.to_string()));
        rows.push(row);
    }
    rows
}

fn services(configuration: &Configuration, workers: &mut [LargeWorker]) -> Vec<Vec<String>> {
    let mut rows =
        vec![["", "conns", "packets in", "bytes in", "packets out", "bytes out"].map(str::to_owned).to_vec()];
    for service in &configuration.services {
        let mut all = None;
        for worker in workers.iter_mut() {
            if let Some(shown) = worker.director().service(service.key) {
                let (_, traffic) = all.get_or_insert_with(|| (shown.scheduler().name(), Traffic::default()));
                *traffic += shown.traffic();
            }
        }
        let Some((scheduler, traffic)) = all else { continue };
        rows.push(row(format!("{}, {scheduler}", service.key), traffic));
        for server in &service.servers {
            let mut all = None;
            for worker in workers.iter_mut() {
                let mut servers = worker.director().servers(service.key);
                if let Some((_, shown)) = servers.find(|(_, shown)| shown.address() == server.address) {
                    *all.get_or_insert_with(Traffic::default) += shown.traffic();
                }
            }
            rows.extend(all.map(|traffic| row(format!("  {}", server.address), traffic)));
        }
    }
    rows
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
