//! Whether servers of DR and TUN serve the virtual address.

use lvs_core::{Method, Tunnel};

use super::rp_filter;
use crate::doctor::asked::Answer;
use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use crate::health::Failure;

/// A connection that goes to a server as the director would send it is accepted, and answered directly.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    patient.answers.servers.iter().filter_map(|answer| judge(patient, answer)).collect()
}

fn judge(patient: &Patient, answer: &Answer) -> Option<Finding> {
    let Answer { service: Some(service), server, found, outcome } = answer else { return None };
    let (address, failure) = (server.address.ip(), outcome.as_ref().err()?);
    // What the server check says is worse; and answers that this machine drops show nothing.
    let unreachable = matches!(failure, Failure::Unreachable(errno) if *errno != libc::ENOPROTOOPT);
    if failure.is_ours() || unreachable || *found == Some(false) {
        return None;
    }
    if rp_filter::drops(patient, service.ip()).is_some() {
        return None;
    }
    let up = |rest: &str| format!("director realserver up --vip {} {rest}", service.ip());
    let finding = match (server.method, failure) {
        (Method::Direct | Method::Tunnel(_), Failure::Refused) => {
            let what = format!("nobody listens at {service} on the server {address}");
            Finding::error("decapsulation", what, "let its service listen at the virtual address too")
        }
        (Method::Direct, _) => {
            let what = format!("the server {address} does not answer for {service}: {failure}");
            Finding::error("decapsulation", what, "give it the virtual address").with_command(up("--mode dr"))
        }
        (Method::Tunnel(tunnel), _) => {
            let what = format!("the server {address} takes nothing for {service} out of a tunnel: {failure}");
            let finding = Finding::error(
                "decapsulation",
                what,
                "let its kernel or `director decap` unwrap, and give it the virtual address",
            );
            match tunnel {
                Tunnel::IpIp => finding.with_command(up("--mode tun")),
                Tunnel::Gre { .. } => finding.with_command(up("--mode tun --encapsulation gre")),
                Tunnel::Gue { .. } => finding.with_command(up(&format!(
                    "--mode tun --via director --interface IF --tunnel-address {address}/LENGTH"
                ))),
            }
        }
        (Method::Bypass | Method::Local | Method::Nat, _) => return None,
    };
    Some(finding.on_server(address))
}
