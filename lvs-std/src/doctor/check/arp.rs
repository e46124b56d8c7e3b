//! Who answers ARP for the virtual addresses.

use core::net::IpAddr;

use lvs_forward::host::MacAddress;

use crate::config::AnswerFor;
use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

/// Nobody but the director does: a server that does takes the clients to itself.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(configuration) = patient.configuration() else { return findings };
    for (port, heard) in &patient.heard {
        for (address, mac) in &heard.owners {
            let vip = IpAddr::V4(*address);
            // With VRRP, another machine may be the active one.
            let may_be_elsewhere = configuration.answer_for == AnswerFor::Host && !patient.has(vip);
            let is_virtual = configuration.virtual_addresses.contains(&vip);
            if !is_virtual || may_be_elsewhere || patient.is_own_mac(port, *mac) {
                continue;
            }
            let is_server = |of: &&(core::net::Ipv4Addr, [u8; 6])| of.1 == *mac && of.0 != *address;
            findings.push(match heard.owners.iter().find(is_server) {
                Some((server, _)) => Finding::error(
                    "arp",
                    format!("the server {server} answers ARP for the virtual address {address} on {port}"),
                    "hide the address there",
                )
                .on_server(IpAddr::V4(*server))
                .with_command("sysctl -w net.ipv4.conf.all.arp_ignore=1")
                .with_command("sysctl -w net.ipv4.conf.all.arp_announce=2"),
                None => Finding::error(
                    "arp",
                    format!(
                        "a host with the MAC address {} answers ARP for {address} on {port}",
                        MacAddress(*mac)
                    ),
                    "find it (another director, or a server that is not configured), and take the address from it",
                ),
            });
        }
    }
    findings
}
