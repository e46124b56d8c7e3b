//! Subnets as the director and the kernel know them.

use lvs_forward::host::Prefix;

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use crate::sys::rtnetlink::whole;

/// An address of the director in a subnet of the kernel's has that subnet's length. (That the director has a way to
/// each server is a rule of the configuration.)
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = on_loopback(patient);
    for port in patient.ports() {
        for (own, length) in &port.addresses {
            let other = patient.addresses.iter().find(|(name, address, kernels)| {
                // An address of the link is in a subnet that is everywhere.
                let is_subnet = *name == port.name && *kernels < whole(*address) && kernels != length;
                let covers = |a: core::net::IpAddr, bits: u8, b| {
                    Prefix::new(a, bits).is_some_and(|prefix| prefix.contains(b))
                };
                is_subnet && (covers(*address, *kernels, *own) || covers(*own, *length, *address))
            });
            let Some((name, address, kernels)) = other else { continue };
            let finding = Finding::error(
                "netmask",
                format!(
                    "the director has {own}/{length} on {name}, where the kernel has {address}/{kernels}"
                ),
                format!("write \"{own}/{kernels}\" in the configuration, unless the kernel is wrong"),
            );
            findings.push(match patient.source.as_ref().and_then(|source| source.file.as_ref()) {
                Some(file) => finding.with_command(format!(
                    "sed -i 's|\"{own}/{length}\"|\"{own}/{kernels}\"|' '{}'",
                    file.display()
                )),
                None => finding,
            });
        }
    }
    findings
}

/// A virtual address on `lo` is there alone. With a subnet around it, its neighbours would be this machine.
fn on_loopback(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(configuration) = patient.configuration() else { return findings };
    for (name, address, length) in &patient.addresses {
        if configuration.virtual_addresses.contains(address) && *length != whole(*address) && *name == "lo" {
            let what = format!(
                "the virtual address {address} is on lo with a prefix of {length} bits: its neighbours are this \
                 machine then"
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
