//! `AF_XDP` sockets over veth, and every forwarding method by them.
//!
//! BPF takes privileges of the machine itself, which no user namespace gives. Where this process has none, nothing is
//! tested, which is said loudly; it is an error if `LVS_REQUIRE_XDP` is 1.

#[path = "../netns/arms.rs"]
mod arms;
#[path = "../netns/balancer.rs"]
mod balancer;
mod cable;
mod director;
#[path = "../netns/ftp.rs"]
mod ftp;
#[path = "../netns/interfaces.rs"]
mod interfaces;
#[path = "../netns/local.rs"]
mod local;
#[path = "../netns/methods.rs"]
mod methods;
mod queues;
#[path = "../netns/traffic.rs"]
mod traffic;
#[path = "../netns/workers.rs"]
mod workers;

use std::process::ExitCode;

use lvs_core::Method;
use lvs_std::device::xdp::{Attach, XdpOptions};
use lvs_std::lab::harness::{self, Trial};
use lvs_std::lab::{Lab, Plan};

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(cable::HOLD) {
        return harness::exit_code(cable::hold(&name));
    }
    harness::run_privileged(Some(4), |lab| harness::probe_xdp(lab, &options(Attach::Native)), trials)
}

fn trials(lab: Lab) -> Vec<Trial> {
    let finished = |method| Plan::new(method).with_finished_checksums().with_xdp(options(Attach::Native));
    let partial = |method| Plan::new(method).with_xdp(options(Attach::Native));
    cable::trials(lab)
        .into_iter()
        .chain(queues::trials(lab))
        .chain(director::trials(lab))
        .chain(methods::over(lab, "AF_XDP: ", finished))
        .chain(workers::over(lab, "AF_XDP: ", partial))
        .chain(interfaces::over(lab, "xdp"))
        .chain(local::over(lab, "xdp"))
        .chain(ftp::over(lab, "AF_XDP: ", finished(Method::Nat)))
        .chain(methods::over(lab, "AF_XDP with partial checksums: ", partial).into_iter().filter(|trial| {
            // What else there is does not depend on checksums.
            ["carries", "echoes"].iter().any(|about| trial.name().contains(about))
        }))
        .collect()
}

/// Options for tests: less memory than usual, since many run at a time.
fn options(attach: Attach) -> XdpOptions {
    let mut options = XdpOptions::default();
    options.attach = attach;
    options.receive_frames = 2_048;
    options
}
