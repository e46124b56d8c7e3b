//! Addresses that the kernel and the director must not both have.

use super::whole;
use crate::config::{DeviceKind, Mac};
use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

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
                findings.push(Finding::error("address", what, "hide it from ARP").with_command(format!(
                    "sysctl -w net.ipv4.conf.{}.arp_ignore=1",
                    port.name.replace('.', "/")
                )));
            }
        }
    }
    // Its whole subnet would be led to this machine, or taken for its neighbours.
    for (name, address, length) in &patient.addresses {
        if configuration.virtual_addresses.contains(address) && *length != whole(*address) && *name == "lo" {
            let what = format!(
                "the virtual address {address} is on lo with a prefix of {length} bits: its neighbours \
                                are this machine then"
            );
            findings.push(
                Finding::error("netmask", what, "give it alone")
                    .with_command(format!("ip address delete {address}/{length} dev {name}"))
                    .with_command(format!("ip address add {address}/{} dev {name}", whole(*address))),
            );
        }
    }
    findings
}
