//! The real keepalived and the real ipvsadm drive a running director under `director exec`, in the namespaces of a
//! lab.
//!
//! Without keepalived there is nothing to test, which is said loudly; it is an error if `LVS_REQUIRE_TOOLS` is 1.

mod cell;
mod gateway;
mod reconnect;
mod recording;
mod replay;
mod servers;
mod tutorial;
mod vrrp;
mod web;

use core::time::Duration;
use std::process::{Command, ExitCode, Stdio};

use lvs_std::lab::harness::{self, Outcome, REQUIRE_TOOLS, Trial};
use lvs_std::lab::{Lab, undisturbed};

fn main() -> ExitCode {
    if let Some(missing) = TOOLS.into_iter().find(|tool| !is_there(tool)) {
        let why =
            format!("{missing} is missing. Install it (Debian: keepalived, ipvsadm, util-linux, iproute2).");
        return harness::nothing_tested(REQUIRE_TOOLS, why);
    }
    // Nearly all of the time is spent waiting for what was recorded, so all run at once.
    harness::run(Some(32), trials)
}

fn trials(lab: Lab) -> Vec<Trial> {
    let mut trials = replay::trials(lab);
    trials.push(trial("the tutorial's cluster survives a server under load", move || {
        tutorial::failure_under_load(lab)
    }));
    trials.push(trial("a director that was killed and started again hears of every change", move || {
        reconnect::restart(lab)
    }));
    for setup in &SETUPS {
        let name = format!("the virtual address moves when the active director is gone, {}", setup.name);
        trials.push(trial(name, move || vrrp::takeover(lab, setup)));
    }
    for way in [gateway::Way::Direct, gateway::Way::Nat, gateway::Way::Tunnel] {
        let name = format!("ipvsadm's service works behind a router that has the address, {way:?}");
        trials.push(trial(name, move || gateway::by(lab, way)));
    }
    trials
}

/// A test that counts on a machine that does not stand still for so long that checks time out.
fn trial(name: impl Into<String>, test: impl Fn() -> Outcome + Send + 'static) -> Trial {
    harness::trial(name, move || undisturbed(BEARABLE, &test))
}

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Shorter gaps leave every table within what the comparison allows.
const BEARABLE: Duration = Duration::from_millis(300);
const TOOLS: [&str; 5] = ["keepalived", "ipvsadm", "unshare", "mount", "ip"];
/// What the tutorials have, by packet sockets.
const SETUPS: [vrrp::Setup; 3] = [
    vrrp::Setup { name: "from lo to lo by DR", two_armed: false, on_loopback: true, device: "packet" },
    vrrp::Setup { name: "from eth0 to eth0 by DR", two_armed: false, on_loopback: false, device: "packet" },
    vrrp::Setup { name: "from eth0 to eth0 by NAT", two_armed: true, on_loopback: false, device: "packet" },
];
