//! Real kernels on both sides of a real director: clients, director and real servers in namespaces of this process.
//!
//! No root is needed. Where the kernel refuses user namespaces, the whole set fails and says what to change.

mod arms;
mod balancer;
mod ftp;
mod guest;
mod health;
mod interfaces;
mod layout;
mod local;
mod methods;
mod traffic;
mod vlan;
mod word;
mod workers;

use std::process::ExitCode;

use lvs_core::Method;
use lvs_std::lab::{Plan, harness};

fn main() -> ExitCode {
    // Building and tearing down namespaces is mostly waiting for the kernel, so more tests run at a time than there are
    // processors; each takes about 140 MiB for its packet rings.
    harness::run(Some(4), |lab| {
        layout::trials(lab)
            .into_iter()
            .chain(methods::over(lab, "", Plan::new))
            .chain(ftp::over(lab, "", Plan::new(Method::Nat)))
            .chain(health::trials(lab))
            .chain(workers::over(lab, "", Plan::new))
            .chain(interfaces::over(lab, "packet"))
            .chain(guest::trials(lab))
            .chain(local::over(lab, "packet"))
            .chain(vlan::trials(lab))
            .collect()
    })
}
