//! The director's interfaces.

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

/// Each one must be there, up, and have a carrier.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    for port in patient.ports() {
        let name = &port.name;
        findings.extend(match patient.links.get(name) {
            None => {
                let there: Vec<&str> = patient.links.keys().map(String::as_str).collect();
                Some(Finding::error(
                    "interface",
                    format!("there is no interface {name}"),
                    format!("name another one in the configuration; there are {}", there.join(", ")),
                ))
            }
            Some(link) if !link.up => Some(
                Finding::error("interface", format!("{name} is down"), "bring it up")
                    .with_command(format!("ip link set {name} up")),
            ),
            Some(link) if !link.running => Some(Finding::error(
                "interface",
                format!("{name} is up and has no carrier"),
                "look at the cable, and at the other end of it",
            )),
            Some(_) => None,
        });
    }
    findings
}
