//! Whether servers of NAT answer by the director.

use core::net::IpAddr;

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

/// A server that answers a neighbour's ping, and a stranger's not by this machine, has another way to clients.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (port, heard) in &patient.heard {
        for server in &heard.near {
            if heard.back.contains(server) {
                continue;
            }
            let address = IpAddr::V4(*server);
            let what = format!(
                "the server {server} does not answer clients by the director on {port}, as NAT needs"
            );
            let finding =
                Finding::error("gateway", what, "make the director its default route").on_server(address);
            let own = patient.ports().iter().filter(|of| of.name == *port).flat_map(|of| &of.addresses);
            let own = own.map(|(own, _)| *own).find(|own| own.is_ipv4());
            let vip = patient.virtual_address_of(address);
            findings.push(match (own, vip) {
                (Some(own), Some(vip)) => finding
                    .with_command(format!("director realserver up --mode nat --vip {vip} --gateway {own}")),
                _ => finding,
            });
        }
    }
    findings
}
