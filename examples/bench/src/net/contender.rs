//! Who may be in the middle of a flood.

use core::error::Error;
use core::net::SocketAddrV4;
use core::time::Duration;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use super::director::{self, Duty};
use super::flood::{Entrance, Flood};
use super::stage::{KERNEL_OUTSIDE, SERVER, SERVICE, Stage};

/// One way to get packets from the source to the sink.
pub(super) struct Running {
    pub(super) entrance: Entrance,
    pub(super) arrives_at: SocketAddrV4,
    end: Box<dyn FnOnce()>,
}

impl Running {
    pub(super) fn stop(self) {
        (self.end)();
    }
}

/// Puts one in the middle.
pub(super) type Start = fn(&Stage) -> Result<Running, Box<dyn Error>>;

/// One turn: makes sure that what arrives is right, and counts packets per second.
pub(super) fn packets(stage: &Stage, start: Start) -> Result<f64, Box<dyn Error>> {
    let running = start(stage)?;
    let flood = Flood::start(stage, running.entrance)?;
    let arrives = stage.check_arrival(running.arrives_at);
    thread::sleep(WARM_UP);
    let (began, first) = (Instant::now(), stage.arrived()?);
    thread::sleep(TURN);
    let (last, took) = (stage.arrived()?, began.elapsed());
    flood.stop();
    running.stop();
    arrives?;
    Ok(last.saturating_sub(first) as f64 / took.as_secs_f64())
}

/// Packets to the real server itself.
pub(super) fn kernel_forward(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    Ok(Running { entrance: kernel(stage, SERVER)?, arrives_at: SERVER, end: Box::new(|| {}) })
}

pub(super) fn kernel_nat(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    let end = Box::new(nat_by_kernel(stage, "udp", SERVICE)?);
    Ok(Running { entrance: kernel(stage, SERVICE)?, arrives_at: SERVER, end })
}

pub(super) fn af_packet(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    director::by_packet(stage, Duty::PACKETS).map(behind)
}

pub(super) fn af_xdp(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    director::by_xdp(stage, Duty::PACKETS, 1).map(behind)
}

pub(super) fn af_xdp_by_two(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    director::by_xdp(stage, Duty::PACKETS, 2).map(behind)
}

/// The way through a director.
fn behind(director: director::Running) -> Running {
    Running {
        entrance: Entrance { mac: director.mac, to: SERVICE },
        arrives_at: SERVER,
        end: Box::new(move || director.stop()),
    }
}

fn kernel(stage: &Stage, to: SocketAddrV4) -> Result<Entrance, Box<dyn Error>> {
    Ok(Entrance { mac: stage.middle.interface("eth0")?.mac, to })
}

/// The kernel's destination NAT for connections to an address of its own: where they are to go, and what ends it.
pub(super) fn tcp_by_kernel(
    stage: &Stage,
) -> Result<(SocketAddrV4, impl FnOnce() + 'static), Box<dyn Error>> {
    let to = SocketAddrV4::new(KERNEL_OUTSIDE, SERVICE.port());
    Ok((to, nat_by_kernel(stage, "tcp", to)?))
}

/// Makes the kernel in the middle translate what goes to an address; the result ends that.
fn nat_by_kernel(
    stage: &Stage,
    protocol: &str,
    to: SocketAddrV4,
) -> Result<impl FnOnce() + 'static, Box<dyn Error>> {
    let rule = format!(
        "table ip wire {{\nchain nat {{\ntype nat hook prerouting priority -100;\n\
         ip daddr {} {protocol} dport {} dnat to {SERVER}\n}}\n}}\n",
        to.ip(),
        to.port(),
    );
    nft(stage, &rule)?;
    let middle = stage.middle.clone();
    Ok(move || drop(middle.run(|| Command::new("nft").args(["delete", "table", "ip", "wire"]).status())))
}

/// Gives the kernel in the middle a rule.
fn nft(stage: &Stage, rule: &str) -> Result<(), Box<dyn Error>> {
    let start = || Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut nft = stage.middle.run(start)?.map_err(|error| format!("nft cannot be started: {error}"))?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(rule.as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("nft refuses the rule: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// For flows to be known.
const WARM_UP: Duration = Duration::from_millis(600);
/// What is counted.
const TURN: Duration = Duration::from_secs(1);
