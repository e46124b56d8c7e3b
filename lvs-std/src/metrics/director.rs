//! What IPVS has no word for: `lvs_*`.

use lvs_forward::{DropReason, PassReason};

use super::Overview;
use super::families::{Families, Label};
use crate::worker::{PortSnapshot, Snapshot};

const NO_LABEL: [Label; 0] = [];

pub(super) fn gather(of: &Overview, families: &mut Families) {
    connections(of, families);
    packets(&of.total, families);
    interfaces(&of.interfaces, &of.total.ports, families);
    workers(&of.workers, families);
    health(of, families);
}

fn connections(of: &Overview, families: &mut Families) {
    let (director, capacity) = (&of.total.director, of.capacity as f64);
    let live = [(NO_LABEL, f64::from(director.live))];
    families.gauges("lvs_connections", "Entries of the connection table.", live);
    let help = "Entries that the connection table can have.";
    families.gauges("lvs_connections_capacity", help, [(NO_LABEL, capacity)]);
    families.counters(
        "lvs_connections_ended_total",
        "Entries of the connection table that ended, by cause.",
        [
            ([("cause", "expired".to_owned())], director.expired as f64),
            ([("cause", "made room".to_owned())], director.reclaimed as f64),
            ([("cause", "made room, one-way".to_owned())], director.reclaimed_one_way as f64),
        ],
    );
    let lost = director.events_lost + of.total.worker.events_lost;
    families.counters(
        "lvs_events_lost_total",
        "Events that nobody fetched in time.",
        [(NO_LABEL, lost as f64)],
    );
}

fn packets(total: &Snapshot, families: &mut Families) {
    let forwarder = &total.forwarder;
    let sent = [
        ("server", forwarder.requests),
        ("client", forwarder.replies),
        ("route", forwarder.routed),
        ("answer", forwarder.answers),
        ("icmp-error", forwarder.icmp_errors),
    ];
    families.counters(
        "lvs_packets_sent_total",
        "Packets sent to real servers, to clients and routed, and the director's own answers and ICMP errors.",
        sent.map(|(to, count)| ([("to", to.to_owned())], count as f64)),
    );
    families.counters(
        "lvs_packets_dropped_total",
        "Packets that the director ended, by reason.",
        DropReason::ALL.map(|reason| (by_reason(&reason), forwarder.drops(reason) as f64)),
    );
    families.counters(
        "lvs_packets_passed_total",
        "Packets left to this machine, by reason.",
        PassReason::ALL.map(|reason| (by_reason(&reason), forwarder.passes(reason) as f64)),
    );
    families.counters(
        "lvs_decisions_total",
        "Packets that the director did not forward, by reason.",
        total.director.by_reason().map(|(reason, count)| (by_reason(&reason), count as f64)),
    );
}

fn by_reason(reason: &impl core::fmt::Display) -> [Label; 1] {
    [("reason", reason.to_string())]
}

fn interfaces(names: &[String], ports: &[PortSnapshot], families: &mut Families) {
    let ports = || names.iter().zip(ports);
    let both = |read: fn(&PortSnapshot) -> [u64; 2]| {
        ports().flat_map(move |(name, port)| {
            let values = ["in", "out"].into_iter().zip(read(port));
            values.map(move |(direction, value)| {
                ([("interface", name.clone()), ("direction", direction.to_owned())], value as f64)
            })
        })
    };
    families.counters(
        "lvs_interface_frames_total",
        "Frames that an interface's device received and sent.",
        both(|port| [port.received.frames, port.transmitted.frames]),
    );
    families.counters(
        "lvs_interface_bytes_total",
        "Bytes that an interface's device received and sent.",
        both(|port| [port.received.bytes, port.transmitted.bytes]),
    );
    let lost = ports().flat_map(|(name, port)| {
        let (received, sent) = (&port.received, &port.transmitted);
        let lost = [
            ("in", "lost", received.lost),
            ("in", "cut", received.cut),
            ("in", "invalid", received.invalid),
            ("out", "down", sent.down),
            ("out", "full", sent.full),
            ("out", "refused", sent.refused),
            ("out", "too-long", sent.too_long),
            ("out", "unsupported", sent.unsupported),
        ];
        lost.map(|(direction, reason, value)| {
            let labels = [("interface", name.as_str()), ("direction", direction), ("reason", reason)];
            (labels.map(|(label, value)| (label, value.to_owned())), value as f64)
        })
    });
    families.counters("lvs_interface_lost_total", "Frames that a device lost or refused, by reason.", lost);
    families.gauges(
        "lvs_interface_up",
        "0 while an interface's device is gone.",
        ports().map(|(name, port)| ([("interface", name.clone())], f64::from(!port.failed))),
    );
}

fn workers(each: &[Snapshot], families: &mut Families) {
    let workers = || each.iter().enumerate();
    let of = |number: usize| [("worker", number.to_string())];
    families.counters(
        "lvs_worker_waiting_seconds_total",
        "Time in which a worker had nothing to do: one less its rate is the worker's busy share.",
        workers().map(|(number, shown)| (of(number), shown.worker.waited.as_secs_f64())),
    );
    families.counters(
        "lvs_worker_frames_total",
        "Frames that a worker received.",
        workers().map(|(number, shown)| {
            (of(number), shown.ports.iter().map(|port| port.received.frames).sum::<u64>() as f64)
        }),
    );
    families.counters(
        "lvs_worker_handed_over_total",
        "Copies of frames that a worker handed to others.",
        workers().map(|(number, shown)| (of(number), shown.worker.handed_over as f64)),
    );
}

fn health(of: &Overview, families: &mut Families) {
    let ready = [(NO_LABEL, f64::from(of.health.ready))];
    families.gauges("lvs_health_ready", "1 when each check of a real server has had an answer.", ready);
    families.gauges(
        "lvs_probe_up",
        "1 while a check finds its real server well.",
        of.health
            .probes
            .iter()
            .map(|report| ([("probe", report.probe.clone())], f64::from(report.state == "up"))),
    );
    families.gauges(
        "lvs_problem",
        "1 for each part of the director that does not work as it should.",
        of.health.problems.iter().map(|problem| ([("part", problem.part.clone())], 1.0)),
    );
}
