//! Room for tunnels' headers.

use lvs_core::{Family, Method};
use lvs_forward::method::encap::overhead;

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

/// The smallest packet that every path must pass whole (RFC 791, RFC 8200) must fit into a tunnel; and a common one
/// should.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(configuration) = patient.configuration() else { return findings };
    for service in &configuration.services {
        for server in &service.servers {
            let (Method::Tunnel(tunnel), address) = (server.method, server.address.ip()) else { continue };
            let Some(port) = patient.port_to(address) else { continue };
            let Some(link) = patient.links.get(&port.name) else { continue };
            let outer = if address.is_ipv4() { Family::V4 } else { Family::V6 };
            let (name, header) = (&port.name, overhead(tunnel, outer));
            let least = header + if service.key.family() == Family::V4 { 576 } else { 1_280 };
            let raise = format!("ip link set {name} mtu {}", COMMON + header);
            if link.mtu < least {
                let what = format!(
                    "the MTU of {name} is {}: packets that clients may not make shorter do not fit into tunnels to \
                     {address}, which take {header} bytes more",
                    link.mtu
                );
                let mend = "raise it, on the servers and the switch too";
                findings.push(Finding::error("mtu", what, mend).with_command(raise));
            } else if link.mtu < COMMON + header {
                let what = format!(
                    "the MTU of {name} is {}: packets of {COMMON} bytes do not fit into tunnels to {address}, which \
                     take {header} bytes more, so that each client must heed an ICMP error first",
                    link.mtu
                );
                let mend = "raise it, on the servers and the switch too; or let servers offer a smaller segment size";
                findings.push(Finding::hint("mtu", what, mend).with_command(raise));
            }
        }
    }
    findings
}

/// What clients on Ethernet send.
const COMMON: usize = 1_500;
