//! The kernel's reverse path filter (`rp_filter`), where it drops what it should not.

use core::net::IpAddr;

use lvs_core::Method;

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use crate::real_server::Step;

/// Answers of DR and TUN servers to checks come from the virtual address: a strict filter drops them where the kernel
/// would send to that by another interface. And no client is behind a tunnel's inner interface.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let loosen = |name: &str| Step::sysctl(name, "rp_filter", "2").to_string();
    for service in patient.configuration().into_iter().flat_map(|of| &of.services) {
        let lvs_core::ServiceKey::Address { address, .. } = service.key else { continue };
        let direct = |method| matches!(method, Method::Direct | Method::Tunnel(_));
        if !service.servers.iter().any(|server| direct(server.method)) {
            continue;
        }
        if let Some(name) = drops(patient, address) {
            let filter = patient.effective(&name, "rp_filter");
            let what = format!(
                "net.ipv4.conf.{name}.rp_filter is {filter}: the kernel drops what servers answer to checks from \
                 {address}"
            );
            findings.push(match patient.routes.get(&address) {
                Some(_) => Finding::error("rp-filter", what, "ask for some way back only")
                    .with_command(loosen(&name)),
                // Without any way back, a loose filter drops it too.
                None => Finding::error("rp-filter", what, "give the kernel a way to that address")
                    .with_command(format!("ip route add {address} dev {name}")),
            });
        }
    }
    for (name, link) in &patient.links {
        if TUNNELS.contains(&link.hardware) && link.up && patient.effective(name, "rp_filter") == 1 {
            let what = format!(
                "net.ipv4.conf.{name}.rp_filter is 1: the kernel drops what clients send by the tunnel"
            );
            let finding =
                Finding::error("rp-filter", what, "ask for some way back only").with_command(loosen(name));
            findings.push(finding);
        }
    }
    findings
}

/// The interface on which the kernel drops what comes from a virtual address, by what it would do with an answer to it.
pub(super) fn drops(patient: &Patient, address: IpAddr) -> Option<String> {
    let strict = |name: &str| match (patient.routes.get(&address), patient.effective(name, "rp_filter")) {
        (_, 0) => false,
        (Some(route), 1) => route != name,
        (Some(_), _) => false,
        (None, _) => true,
    };
    // IPv6 has no such filter.
    let mut ports = patient.ports().iter().filter(|_| address.is_ipv4());
    ports.find(|port| strict(&port.name)).map(|port| port.name.clone())
}

/// `ARPHRD_NONE` (TUN), `ARPHRD_TUNNEL`, `ARPHRD_TUNNEL6`, `ARPHRD_IPGRE`, `ARPHRD_IP6GRE`.
const TUNNELS: [u16; 5] = [0xfffe, 768, 769, 778, 823];
