//! Open files.

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

/// The director needs some for each worker on each interface, for each check under way, and for clients of its sockets.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let Some(configuration) = patient.configuration() else { return Vec::new() };
    let probes: usize =
        configuration.services.iter().map(|of| of.health.probes.iter().map(Vec::len).sum::<usize>()).sum();
    let ports = configuration.interfaces.len() * configuration.workers.count.max(1);
    let needed = (FIXED + PORT * ports + PROBE * probes) as u64;
    let (process, limit) = patient.descriptors;
    let Some(limit) = limit.filter(|limit| *limit < needed) else { return Vec::new() };
    let what = format!("a director may have {limit} descriptors open here, and needs up to {needed}");
    let mend = "raise the limit (LimitNOFILE= in a systemd unit), and start it anew unless it runs";
    vec![Finding::error("descriptors", what, mend).with_command(match process {
        Some(pid) => format!("prlimit --pid {pid} --nofile={needed}:{needed}"),
        None => format!("ulimit -n {needed}"),
    })]
}

/// Files, sockets and clients of these.
const FIXED: usize = 128;
/// Sockets, programs and maps of a worker's port.
const PORT: usize = 8;
/// Sockets of an attempt.
const PROBE: usize = 3;
