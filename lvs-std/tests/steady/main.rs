//! What a worker does not do for packets of known connections: it allocates nothing, over real interfaces.
//!
//! `AF_XDP` takes privileges of the machine itself. Where this process has none, its test is left out, which is said;
//! that is an error if `LVS_REQUIRE_XDP` is 1.

#[path = "../support/counting.rs"]
mod counting;

use core::time::Duration;
use std::process::ExitCode;
use std::time::Instant;

use etherparse::PacketBuilder;
use lvs_core::{
    Config, Director, Heap, Method, Protocol, Scheduler, ServerConfig, ServiceConfig, ServiceKey,
};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Options};
use lvs_std::device::Device;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::device::xdp::{self, XdpOptions};
use lvs_std::lab::harness::{self, Outcome, REQUIRE_XDP, Trial, left_out, trial};
use lvs_std::lab::{Lab, Node};
use lvs_std::worker::{Handle, Worker, WorkerOptions};

fn main() -> ExitCode {
    harness::start(None, |_| {
        let (lab, xdp) = match Lab::privileged() {
            Ok(lab) => (lab, harness::probe_xdp(lab, &XdpOptions::default())),
            Err(refused) => (Lab::new()?, Err(refused.into())),
        };
        Ok(trials(lab, xdp))
    })
}

/// A test for each kind of device, of which `AF_XDP` can be had as `xdp` says.
fn trials(lab: Lab, xdp: Outcome) -> Vec<Trial> {
    let by_packet = move || allocates_nothing(lab, by_packet);
    let by_xdp = move || allocates_nothing(lab, by_xdp);
    let over_xdp = "no packet makes a worker allocate over AF_XDP";
    vec![
        trial("no packet makes a worker allocate over packet sockets", by_packet),
        match xdp {
            Ok(()) => trial(over_xdp, by_xdp),
            Err(error) => left_out(REQUIRE_XDP, over_xdp, error),
        },
    ]
}

/// The director's ports, and how the program of `AF_XDP` is told of its addresses.
type Opened = (Vec<Device>, Option<xdp::AddressFilter>);

/// Requests and replies of known connections, some thousands of each: every turn is counted.
fn allocates_nothing(lab: Lab, open: fn(&Node) -> Outcome<Opened>) -> Outcome {
    let (client, middle, server) = (lab.node("client")?, lab.node("middle")?, lab.node("server")?);
    for node in [&client, &middle, &server] {
        // The kernels' own router solicitations would be counted.
        node.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    }
    lab.connect((&client, "eth0"), (&middle, "eth0"))?;
    lab.connect((&server, "eth0"), (&middle, "eth1"))?;
    client.add_address("eth0", CLIENT.into(), 24)?;
    server.add_address("eth0", SERVER.into(), 24)?;
    let (devices, filter) = open(&middle)?;
    let mut worker = worker(devices)?;
    if let Some(filter) = &filter {
        worker.fill_address_filter(filter, [])?;
    }
    let mut outside = end(&client)?;
    let mut inside = end(&server)?;

    // Connections and neighbours become known.
    let began = Instant::now();
    let mut known = [0, 0];
    while known.into_iter().any(|count| count < usize::from(PORTS)) {
        if began.elapsed() > PATIENCE {
            return Err(format!("of {PORTS} requests and replies, {known:?} arrive").into());
        }
        known = exchange(&mut outside, &mut inside, &mut worker)?.0;
    }
    let mut arrived = 0;
    for round in 0..ROUNDS {
        let (counts, allocations) = exchange(&mut outside, &mut inside, &mut worker)?;
        assert_eq!(allocations, 0, "round {round}");
        arrived += counts[0] + counts[1];
    }
    assert_eq!(arrived, ROUNDS * 2 * usize::from(PORTS));
    Ok(())
}

/// A request and a reply of each connection: how many of them arrived, and how often the worker allocated meanwhile.
fn exchange(outside: &mut Device, inside: &mut Device, worker: &mut Worker) -> Outcome<([usize; 2], usize)> {
    for port in 0..PORTS {
        outside.send(&datagram(MACS[0], CLIENT, 1_024 + port, VIRTUAL, 80)?)?;
        inside.send(&datagram(MACS[1], SERVER, 8_080, CLIENT, 1_024 + port)?)?;
    }
    let before = counting::allocations();
    // The kernel may need a moment; a turn that finds nothing counts as well.
    for _ in 0..8 {
        while worker.turn() > 0 {}
    }
    let allocations = counting::allocations() - before;
    let count = |frames: Vec<Vec<u8>>, at: u16| {
        let ports = |frame: &Vec<u8>| frame.get(36..38) == Some(&at.to_be_bytes()[..]);
        frames
            .iter()
            .filter(|frame| frame.get(23) == Some(&17))
            .filter(|frame| at == 0 || ports(frame))
            .count()
    };
    Ok(([count(inside.drain()?, 8_080), count(outside.drain()?, 0)], allocations))
}

fn datagram(mac: [u8; 6], from: [u8; 4], source: u16, to: [u8; 4], port: u16) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 7], mac)
        .ipv4(from, to, 64)
        .udp(source, port)
        .write(&mut bytes, b"eighteen bytes ...")?;
    Ok(bytes)
}

/// A packet socket at a cable's far end.
fn end(node: &Node) -> Outcome<Device> {
    let mut options = PacketOptions::default();
    options.receive_slots = 255;
    Ok(node.run(|| packet::open("eth0", &options))??.device)
}

fn by_packet(node: &Node) -> Outcome<Opened> {
    let mut devices = Vec::new();
    for (name, mac) in NAMES.into_iter().zip(MACS) {
        let mut options = PacketOptions::default();
        (options.mac, options.receive_slots) = (Some(mac), 255);
        devices.push(node.run(|| packet::open(name, &options))??.device);
    }
    Ok((devices, None))
}

fn by_xdp(node: &Node) -> Outcome<Opened> {
    let ports = [(NAMES[0], Some(MACS[0])), (NAMES[1], Some(MACS[1]))];
    let (opened, filter) = node.run(|| xdp::open(&ports, &XdpOptions::default()))??;
    Ok((opened.into_iter().map(|opened| opened.device).collect(), Some(filter)))
}

/// A director with one UDP service and one server behind NAT.
fn worker(devices: Vec<Device>) -> Outcome<Worker> {
    let seed = lvs_std::random_seed()?;
    let mut host: Host = Host::new(seed);
    for (mac, address) in MACS.into_iter().zip([[192, 0, 2, 254], [10, 0, 1, 254]]) {
        let port = host.add_port(Port::ethernet(MacAddress(mac), 1_500))?;
        host.add_address(port, address.into(), 24)?;
    }
    host.add_virtual_address(VIRTUAL.into())?;
    let mut director = Director::new(Config::new(seed), Heap::with_capacity(1_000));
    let service = ServiceKey::Address { protocol: Protocol::Udp, address: VIRTUAL.into(), port: 80 };
    director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap_or_default()))?;
    director.add_server(service, ServerConfig::new((SERVER, 8_080).into(), Method::Nat))?;
    let forwarder = Box::new(Forwarder::new(host, Options::new()));
    let (worker, _, _): (Worker, Handle, _) =
        Worker::new(director, forwarder, devices, WorkerOptions::default())?;
    Ok(worker)
}

const CLIENT: [u8; 4] = [192, 0, 2, 7];
const VIRTUAL: [u8; 4] = [192, 0, 2, 100];
const SERVER: [u8; 4] = [10, 0, 1, 11];
/// The director's ports.
const NAMES: [&str; 2] = ["eth0", "eth1"];
const MACS: [[u8; 6]; 2] = [[2, 0, 0x5e, 0, 0x53, 1], [2, 0, 0x5e, 0, 0x53, 2]];
/// Connections, all of whose packets are under way at a time.
const PORTS: u16 = 50;
const ROUNDS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(10);
