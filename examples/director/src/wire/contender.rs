//! Who may be in the middle.

use core::error::Error;
use core::net::SocketAddrV4;
use std::io::Write;
use std::process::{Command, Stdio};

use lvs_core::{
    Capacity, Config, Director, Heap, Method, Protocol, Scheduler, ServerConfig, ServiceConfig, ServiceKey,
};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Options};
use lvs_std::device::Device;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::device::xdp::{self, Steering, XdpOptions};
use lvs_std::worker::{Handle, Worker, WorkerOptions};

use super::flood::Entrance;
use super::stage::{DIRECTOR_INSIDE, DIRECTOR_OUTSIDE, DIRECTOR_PROCESSOR, SERVER, SERVICE, Stage, pin};

/// One way to get packets from the source to the sink.
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// With which other one it is compared, and the ratio to it that is the aim.
    pub(super) against: Option<(&'static str, f64)>,
    pub(super) start: fn(&Stage) -> Result<Running, Box<dyn Error>>,
}

/// All of them.
pub(super) const CONTENDERS: [Contender; 4] = [
    Contender {
        name: "kernel-forward",
        title: "the kernel, plain forwarding",
        against: None,
        start: kernel_forward,
    },
    Contender {
        name: "kernel-nat",
        title: "the kernel, destination NAT (nftables)",
        against: Some(("kernel-forward", 1.0)),
        start: kernel_nat,
    },
    Contender {
        name: "af-packet",
        title: "a director by AF_PACKET, against the kernel's NAT",
        against: Some(("kernel-nat", 0.8)),
        start: by_packet,
    },
    Contender {
        name: "af-xdp",
        title: "a director by AF_XDP, against plain forwarding",
        against: Some(("kernel-forward", 1.0)),
        start: by_xdp,
    },
];

/// A contender at work.
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

/// Packets to the real server itself.
fn kernel_forward(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    Ok(Running { entrance: kernel(stage, SERVER)?, arrives_at: SERVER, end: Box::new(|| {}) })
}

fn kernel_nat(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    let rule = format!(
        "table ip wire {{\nchain nat {{\ntype nat hook prerouting priority -100;\nip daddr {} udp dport {} dnat to {}\n}}\n}}\n",
        SERVICE.ip(),
        SERVICE.port(),
        SERVER
    );
    nft(stage, &rule)?;
    let middle = stage.middle.clone();
    let end =
        move || drop(middle.run(|| Command::new("nft").args(["delete", "table", "ip", "wire"]).status()));
    Ok(Running { entrance: kernel(stage, SERVICE)?, arrives_at: SERVER, end: Box::new(end) })
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

fn kernel(stage: &Stage, to: SocketAddrV4) -> Result<Entrance, Box<dyn Error>> {
    Ok(Entrance { mac: stage.middle.interface("eth0")?.mac, to })
}

fn by_packet(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    let open = |(name, mac): (&str, [u8; 6])| {
        let mut options = PacketOptions::default();
        options.mac = Some(mac);
        packet::open(name, &options).map(|packet| packet.device)
    };
    let opened: Result<Vec<Device>, _> = stage.middle.run(|| PORTS.into_iter().map(open).collect())?;
    director(stage, opened?, None)
}

fn by_xdp(stage: &Stage) -> Result<Running, Box<dyn Error>> {
    let ports = PORTS.map(|(name, mac)| (name, Some(mac)));
    let mut options = XdpOptions::default();
    // The source finishes its checksums.
    options.partial_checksums = xdp::PartialChecksums::Ignore;
    let (opened, steering) = stage.middle.run(|| xdp::open(&ports, &options))??;
    director(stage, opened.into_iter().map(|opened| opened.device).collect(), Some(&steering))
}

/// A director with one service and one server, on a processor of its own.
fn director(
    stage: &Stage,
    devices: Vec<Device>,
    steering: Option<&Steering>,
) -> Result<Running, Box<dyn Error>> {
    let seed = lvs_std::random_seed()?;
    let mut host: Host = Host::new(seed);
    for ((_, mac), address) in PORTS.into_iter().zip([DIRECTOR_OUTSIDE, DIRECTOR_INSIDE]) {
        let port = host.add_port(Port::ethernet(MacAddress(mac), 1_500))?;
        host.add_address(port, address.into(), 24)?;
    }
    host.add_virtual_address((*SERVICE.ip()).into())?;
    let mut director = Director::new(Config::new(seed), Heap::new(Capacity::new(CONNECTIONS)));
    let service = ServiceKey::Address {
        protocol: Protocol::Udp,
        address: (*SERVICE.ip()).into(),
        port: SERVICE.port(),
    };
    director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap_or_default()))?;
    director.add_server(service, ServerConfig::new(SERVER.into(), Method::Nat))?;
    let forwarder = Box::new(Forwarder::new(host, Options::new()));
    let (mut worker, handle, events): (Worker, Handle, _) =
        Worker::new(director, forwarder, devices, WorkerOptions::default())?;
    if let Some(steering) = steering {
        steering.follow_worker(&worker, [])?;
    }
    let thread = stage.middle.spawn("director", move || {
        pin(DIRECTOR_PROCESSOR);
        let _ = worker.run();
    })?;
    let [(_, mac), _] = PORTS;
    let end = move || {
        handle.stop();
        drop(thread.join());
        drop(events);
    };
    Ok(Running { entrance: Entrance { mac, to: SERVICE }, arrives_at: SERVER, end: Box::new(end) })
}

/// The director's ports with its MAC addresses there.
const PORTS: [(&str, [u8; 6]); 2] =
    [("eth0", [2, 0, 0x5e, 0, 0x53, 0xfe]), ("eth1", [2, 0, 0x5e, 0, 0x53, 0xff])];
/// Twice as many as there are flows.
const CONNECTIONS: usize = 1 << 17;
