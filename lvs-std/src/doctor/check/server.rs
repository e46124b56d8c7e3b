//! Whether real servers are there.

use lvs_core::Method;

use crate::doctor::asked::Answer;
use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use crate::health::Failure;

/// A server must be found on its link, and by NAT accept connections at its own address.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    patient.answers.servers.iter().filter_map(judge).collect()
}

fn judge(answer: &Answer) -> Option<Finding> {
    let Answer { server, found, outcome, .. } = answer;
    let (address, failure) = (server.address.ip(), outcome.as_ref().err()?);
    if failure.is_ours() {
        let what = format!("the server {address} cannot be asked from here: {failure}");
        return Some(Finding::error("server", what, "mend that first: its checks cannot ask it either"));
    }
    // A host that knows no such tunnel says so, and is there.
    if let Failure::Unreachable(errno) = failure
        && *errno != libc::ENOPROTOOPT
    {
        let what = format!("this machine's kernel has no way to the server {address}: {failure}");
        let mend = "give the kernel an address in the servers' network: checks of servers come from it";
        return Some(Finding::error("server", what, mend));
    }
    if *found == Some(false) {
        let what = format!("nobody on the link has the server's address {address}");
        return Some(Finding::error(
            "server",
            what,
            "start the server, and look at its cable and its address",
        ));
    }
    match (server.method, failure) {
        (Method::Nat, Failure::Refused) => {
            let what = format!("nobody listens at {} on the server {address}", server.address);
            Some(Finding::error("server", what, "start its service").on_server(address))
        }
        (Method::Nat, _) => {
            let what = format!("the server {address} does not answer at {}: {failure}", server.address);
            Some(Finding::error("server", what, "look at its firewall and its routes").on_server(address))
        }
        (Method::Bypass | Method::Direct | Method::Local | Method::Tunnel(_), _) => None,
    }
}
