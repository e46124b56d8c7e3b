//! keepalived's clusters with directors that work by `AF_XDP`, beside the kernel of their machines. BPF takes
//! privileges of the machine itself, which no user namespace gives: without them nothing is tested, which is said
//! loudly; it is an error if `LVS_REQUIRE_XDP` is 1.

#[expect(dead_code, reason = "other tests of keepalived's ask for more")]
mod cell;
mod vrrp;
#[expect(dead_code, reason = "other tests of keepalived's ask for more")]
mod web;

use core::time::Duration;
use std::process::{Command, ExitCode, Stdio};

use lvs_std::device::xdp::XdpOptions;
use lvs_std::lab::harness::{self, REQUIRE_TOOLS, Trial};
use lvs_std::lab::{Lab, undisturbed};

fn main() -> ExitCode {
    let tool =
        Command::new("keepalived").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if tool.is_err() {
        return harness::nothing_tested(
            REQUIRE_TOOLS,
            "keepalived is missing. Install it (Debian: keepalived).",
        );
    }
    harness::run_privileged(Some(4), |lab| harness::probe_xdp(lab, &XdpOptions::default()), trials)
}

fn trials(lab: Lab) -> Vec<Trial> {
    let trial = |setup: &'static vrrp::Setup| {
        let name =
            format!("the virtual address moves by AF_XDP when the active director is gone, {}", setup.name);
        harness::trial(name, move || undisturbed(BEARABLE, || vrrp::takeover(lab, setup)))
    };
    SETUPS.iter().map(trial).collect()
}

/// Shorter gaps leave VRRP within what the test allows.
const BEARABLE: Duration = Duration::from_millis(300);
const SETUPS: [vrrp::Setup; 2] = [
    vrrp::Setup { name: "from eth0 to eth0 by DR", two_armed: false, on_loopback: false, device: "xdp" },
    vrrp::Setup { name: "from eth0 to eth0 by NAT", two_armed: true, on_loopback: false, device: "xdp" },
];
