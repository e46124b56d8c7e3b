//! Whether configured checks of servers ask somebody who answers.

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use crate::health::Failure;

/// A check that fails although its server serves has the wrong target, or asks for the wrong thing. One that fails with
/// its server is no news.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (probe, server, failure) in &patient.answers.checks {
        let mut of_server =
            patient.answers.servers.iter().filter(|answer| answer.server.address.ip() == *server);
        if of_server.any(|answer| answer.outcome.is_err()) {
            continue;
        }
        let what = format!(
            "the check `{probe}` of the server {server} fails, so that it gets no clients: {failure}"
        );
        let mend = if let Failure::Refused = failure {
            "start what it asks for, or name another `check-address` or port"
        } else if let Failure::Unreachable(_) | Failure::TimedOut { .. } = failure {
            "name a `check-address` that is there, or look at the firewall on the way"
        } else {
            "let the check expect what the server answers"
        };
        findings.push(Finding::error("check-target", what, mend));
    }
    findings
}
