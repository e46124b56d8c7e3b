//! What the process must be allowed to do.

use crate::config::Mac;
use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

/// A director needs `CAP_NET_RAW` for its sockets, and `CAP_NET_ADMIN` where it shares an interface with the kernel.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let (raw, admin) = patient.may;
    let shares = patient.ports().iter().any(|port| port.mac == Mac::Same);
    let mut missing = Vec::new();
    if !raw {
        missing.push("CAP_NET_RAW");
    }
    if !admin && (shares || patient.ports().is_empty()) {
        missing.push("CAP_NET_ADMIN");
    }
    if missing.is_empty() {
        return Vec::new();
    }
    let program =
        std::env::current_exe().map_or_else(|_| "director".to_owned(), |path| path.display().to_string());
    let what =
        format!("this process lacks {}, so no director can be started like this", missing.join(" and "));
    vec![
        Finding::error("capability", what, "run it as root, or give the program the capabilities")
            .with_command(format!("setcap cap_net_raw,cap_net_admin+ep {program}")),
    ]
}
