//! A director in the middle, by either kind of device.

use core::error::Error;
use core::net::IpAddr;
use std::fs;

use lvs_core::config::Capacity;
use lvs_core::{
    Config, Director, Heap, Method, Protocol, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey,
};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Options, PortId};
use lvs_std::device::Device;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::device::xdp::{self, XdpOptions};
use lvs_std::offload::{self, FlowOffload, FlowOffloadError};
use lvs_std::steering::{By, Steer};
use lvs_std::worker::{Handle, Worker, WorkerGroup, WorkerOptions};

use super::stage::{DIRECTOR_INSIDE, DIRECTOR_OUTSIDE, DIRECTOR_PROCESSOR, SERVER, SERVICE, Stage, pin};

/// What the director is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duty {
    pub(super) protocol: Protocol,
    pub(super) method: Method,
    /// Of the service at the virtual address; the server's is its own, except under direct routing.
    pub(super) port: u16,
    /// Whether it keeps to a processor of its own.
    pub(super) pinned: bool,
    pub(super) bulk: Bulk,
}

/// How bulk transfers go by packet sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bulk {
    /// Through the director, copied.
    Copied,
    /// By the offload.
    Offload,
    /// As `director run` has it by itself: by the offload where that can be had.
    Auto,
}

impl Duty {
    /// NAT of UDP, on a processor of its own.
    pub(super) const PACKETS: Self = Self {
        protocol: Protocol::Udp,
        method: Method::Nat,
        port: SERVICE.port(),
        pinned: true,
        bulk: Bulk::Auto,
    };
}

/// A director at work, until it is stopped.
pub(super) struct Running {
    /// The director's MAC address on the side of the source.
    pub(super) mac: [u8; 6],
    /// Where the kernel tells how long its thread has had a processor.
    schedule: String,
    end: Box<dyn FnOnce()>,
}

impl Running {
    pub(super) fn stop(self) {
        (self.end)();
    }

    /// Nanoseconds that it has had a processor.
    pub(super) fn busy(&self) -> Result<u64, Box<dyn Error>> {
        let text = fs::read_to_string(&self.schedule)?;
        Ok(text.split_whitespace().next().ok_or("no time of the thread's")?.parse()?)
    }
}

/// By packet sockets.
pub(super) fn by_packet(stage: &Stage, duty: Duty) -> Result<Running, Box<dyn Error>> {
    let open = |(name, mac): (&str, [u8; 6])| {
        let mut options = PacketOptions::default();
        options.mac = Some(mac);
        packet::open(name, &options)
    };
    let opened = stage.middle.run(|| {
        let packets = PORTS.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let attach = || {
            let mut offload = FlowOffload::new(offload::CONNECTIONS)?;
            packets.iter().zip(0..).try_for_each(|(packet, at)| offload.add_port(PortId(at), &packet.tap))?;
            Ok::<_, FlowOffloadError>(offload)
        };
        let offload = match duty.bulk {
            Bulk::Copied => None,
            Bulk::Offload => Some(attach()?),
            Bulk::Auto => attach().ok(),
        };
        let devices = packets.into_iter().map(|packet| packet.device).collect();
        Ok::<(Vec<Device>, _), Box<dyn Error + Send + Sync>>((devices, offload))
    })?;
    let (devices, offload) = opened.map_err(|error| -> Box<dyn Error> { error })?;
    let seed = lvs_std::random_seed()?;
    let (mut worker, handle) = worker(devices, duty, seed)?;
    if let Some(offload) = offload {
        worker.set_offload(offload);
    }
    start(stage, vec![worker], WorkerGroup::from(handle), duty)
}

/// By `AF_XDP`, with so many workers.
pub(super) fn by_xdp(stage: &Stage, duty: Duty, workers: usize) -> Result<Running, Box<dyn Error>> {
    let ports = PORTS.map(|(name, mac)| (name, Some(mac)));
    let mut options = XdpOptions::default();
    // The source finishes its checksums.
    options.partial_checksums = xdp::PartialChecksums::Ignore;
    let seed = lvs_std::random_seed()?;
    let steer = Steer::new(seed, workers, By::Endpoint);
    let own = [*SERVICE.ip(), DIRECTOR_OUTSIDE, DIRECTOR_INSIDE].map(IpAddr::from);
    let (opened, filter) = stage.middle.run(|| xdp::open_fanned(&ports, &options, &steer, &own))??;
    let mut lines: Vec<Vec<Device>> = (0..workers).map(|_| Vec::new()).collect();
    let mut fans = Vec::new();
    for (opened, at) in opened.into_iter().zip(0..) {
        lines.iter_mut().zip(opened.devices).for_each(|(line, device)| line.push(device));
        fans.push((PortId(at), opened.fan));
    }
    let (mut made, mut handles) = (Vec::new(), Vec::new());
    for (line, number) in lines.into_iter().zip(0..) {
        let (worker, handle) = worker(line, duty, seed.derive(number))?;
        made.push(worker);
        handles.push(handle);
    }
    if let Some(worker) = made.first() {
        worker.fill_address_filter(&filter, [])?;
    }
    let group = WorkerGroup::new(&mut made, handles, steer, fans);
    start(stage, made, group, duty)
}

/// A worker of a director of one service with one server.
fn worker(devices: Vec<Device>, duty: Duty, seed: Seed) -> Result<(Worker, Handle), Box<dyn Error>> {
    let Duty { protocol, method, port, .. } = duty;
    let mut host: Host = Host::new(seed);
    for ((_, mac), address) in PORTS.into_iter().zip([DIRECTOR_OUTSIDE, DIRECTOR_INSIDE]) {
        let port = host.add_port(Port::ethernet(MacAddress(mac), 1_500))?;
        host.add_address(port, address.into(), 24)?;
    }
    host.add_virtual_address((*SERVICE.ip()).into())?;
    let mut director = Director::new(Config::new(seed), Heap::new(Capacity::new(CONNECTIONS)));
    let service = ServiceKey::Address { protocol, address: (*SERVICE.ip()).into(), port };
    director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap_or_default()))?;
    director.add_server(service, ServerConfig::new(SERVER.into(), method))?;
    let forwarder = Box::new(Forwarder::new(host, Options::new()));
    // What happens to connections is lost, and counted.
    let (worker, handle, _) = Worker::new(director, forwarder, devices, WorkerOptions::default())?;
    Ok((worker, handle))
}

/// Sets the workers to work: the first on a processor of its own, if that is the director's duty, all others anywhere.
fn start(
    stage: &Stage,
    workers: Vec<Worker>,
    group: WorkerGroup,
    duty: Duty,
) -> Result<Running, Box<dyn Error>> {
    let (tell, told) = std::sync::mpsc::sync_channel(workers.len());
    let mut threads = Vec::new();
    for (mut worker, number) in workers.into_iter().zip(0..) {
        let (tell, pinned) = (tell.clone(), duty.pinned && number == 0);
        threads.push(stage.middle.spawn("director", move || {
            if number == 0 {
                let _ = tell.send(rustix::thread::gettid());
            }
            if pinned {
                pin(DIRECTOR_PROCESSOR);
            }
            let _ = worker.run();
        })?);
    }
    let schedule = format!("/proc/self/task/{}/schedstat", told.recv()?.as_raw_nonzero());
    let [(_, mac), _] = PORTS;
    let end = move || {
        group.stop();
        threads.into_iter().for_each(|thread| drop(thread.join()));
    };
    Ok(Running { mac, schedule, end: Box::new(end) })
}

/// The director's ports with its MAC addresses there.
const PORTS: [(&str, [u8; 6]); 2] =
    [("eth0", [2, 0, 0x5e, 0, 0x53, 0xfe]), ("eth1", [2, 0, 0x5e, 0, 0x53, 0xff])];
/// Twice as many as there are flows.
const CONNECTIONS: usize = 1 << 17;
