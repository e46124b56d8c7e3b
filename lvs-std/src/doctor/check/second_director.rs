//! Another director on the same interfaces.

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

/// Who has an interface must be who has the control socket.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let Some((socket, holder)) = &patient.socket else { return Vec::new() };
    let director = holder.as_ref().map(|holder| holder.process);
    let mut findings = Vec::new();
    for (name, of) in &patient.held {
        // Whose process cannot be seen may be the director.
        if director == Some(of.process) || (of.process.is_none() && director.is_some()) {
            continue;
        }
        let who = of
            .process
            .map_or_else(|| "a process that cannot be seen".to_owned(), |pid| format!("process {pid}"));
        let finding = Finding::error(
            "second-director",
            format!("{who} has {name}, and is not the director at {}", socket.display()),
            "stop it, or look at that director by --director NAME",
        );
        findings.push(match of.process {
            Some(pid) => finding.with_command(format!("kill {pid}")),
            None => finding,
        });
    }
    findings
}
