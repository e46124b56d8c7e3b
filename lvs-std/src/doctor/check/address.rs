//! Addresses that the kernel and the director must not both have.

use crate::config::{DeviceKind, Mac};
use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use crate::real_server::Step;

/// The director's own addresses are never the kernel's, and the virtual ones only where the director is a guest, by
/// packet sockets: the kernel would answer for them beside the director.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(configuration) = patient.configuration() else { return findings };
    for port in patient.ports() {
        let is_guest = port.mac == Mac::Same && port.device == DeviceKind::Packet;
        for (name, address, length) in &patient.addresses {
            let own = port.addresses.iter().any(|(own, _)| own == address);
            let is_virtual = configuration.virtual_addresses.contains(address);
            let remove = format!("ip address delete {address}/{length} dev {name}");
            if own {
                let what =
                    format!("{address} is the director's own address, and the kernel has it on {name} too");
                let mend = "take it from the kernel, or give the director another one";
                findings.push(Finding::error("address", what, mend).with_command(remove));
            } else if is_virtual && !is_guest && *name == port.name {
                let what =
                    format!("the kernel has the virtual address {address} on {name} and answers for it");
                findings
                    .push(Finding::error("address", what, "take it from the kernel").with_command(remove));
            } else if is_virtual
                && !is_guest
                && address.is_ipv4()
                && patient.effective(&port.name, "arp_ignore") == 0
            {
                let what = format!(
                    "the kernel has the virtual address {address} on {name}, and answers ARP for it on \
                                    {}",
                    port.name
                );
                findings.push(
                    Finding::error("address", what, "hide it from ARP")
                        .with_command(Step::sysctl(&port.name, "arp_ignore", "1").to_string()),
                );
            }
        }
    }
    findings
}
