//! The offload for bulk TCP: every forwarding method with it at hand, and what is the director's all the same.
//!
//! BPF takes privileges of the machine itself, which no user namespace gives. Where this process has none, or where the
//! kernel is older than Linux 6.6, nothing is tested, which is said loudly; it is an error if `LVS_REQUIRE_XDP` is 1.

#[path = "../netns/balancer.rs"]
mod balancer;
mod charge;
#[path = "../netns/methods.rs"]
mod methods;
#[path = "../netns/traffic.rs"]
mod traffic;

use std::process::ExitCode;

use lvs_forward::PortId;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::lab::harness::{self, Outcome, Trial};
use lvs_std::lab::{Lab, Plan};
use lvs_std::offload::FlowOffload;

fn main() -> ExitCode {
    harness::run_privileged(Some(4), probe, trials)
}

fn trials(lab: Lab) -> Vec<Trial> {
    let mut trials = charge::trials(lab);
    let at_hand = methods::over(lab, "with an offload at hand: ", |method| Plan::new(method).with_offload());
    // The rest has nothing to do with it.
    let concerned = ["carries megabytes", "leaves others alone", "in fragments"];
    trials.extend(
        at_hand.into_iter().filter(|trial| concerned.iter().any(|about| trial.name().contains(about))),
    );
    trials
}

/// Whether the programs can be had at all.
fn probe(lab: Lab) -> Outcome {
    let (left, right) = (lab.node("left")?, lab.node("right")?);
    lab.connect((&left, "eth0"), (&right, "eth0"))?;
    let mut options = PacketOptions::default();
    options.receive_slots = 1;
    left.run(|| {
        let mut offload = FlowOffload::new(1).map_err(|error| error.to_string())?;
        let packet = packet::open("eth0", &options).map_err(|error| error.to_string())?;
        offload.add_port(PortId(0), &packet.tap).map_err(|error| error.to_string())
    })??;
    Ok(())
}
