//! A director at work in a [`Cluster`].

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use lvs_core::config::Capacity;
use lvs_core::{
    Config, Director, Event, Family, Heap, Method, Seed, ServerConfig, ServiceConfig, ServiceKey, Tunnel,
};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Decapsulator, Forwarder, GUE_PORT, Options, PortId};

use super::{Arms, Cluster, LabError, Node};
use crate::device::packet::Tap;
use crate::device::xdp::{self, AddressFilter, XdpOptions};
use crate::device::{Device, Fan, packet};
use crate::offload::{self, FlowOffload};
use crate::steering::Steer;
use crate::tunnel_end::{Inner, TunnelEnd, TunnelEndCounters};
use crate::worker::{End, Handle, Snapshot, Worker, WorkerGroup, WorkerOptions};

/// A virtual service for [`Cluster::balance`], with its real servers in the order in which they are added.
pub type Balanced = (ServiceKey, ServiceConfig, Vec<ServerConfig>);

/// The real director in a cluster: a worker, or several, over packet sockets in the director's node, and, for
/// tunnelling, a tunnel end in each real server. All of it stops when this value is dropped.
pub struct Balancer {
    director: Node,
    group: WorkerGroup,
    handle: Handle,
    events: Mutex<Receiver<Event>>,
    workers: Vec<JoinHandle<End>>,
    ends: Vec<EndThread>,
}

/// A tunnel end's thread, which ends when its wire is cut.
struct EndThread {
    server: Node,
    wire: UnixStream,
    thread: JoinHandle<io::Result<TunnelEndCounters>>,
}

/// What was counted until a [`Balancer`] was stopped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BalancerCounters {
    /// By the director: by all its workers together.
    pub director: Snapshot,
    /// By each of them.
    pub workers: Vec<Snapshot>,
    /// By the tunnel ends, in the order of the servers; empty without tunnels.
    pub tunnel_ends: Vec<TunnelEndCounters>,
}

/// A port of the director's before it is opened: its interface, MAC address and addresses.
type NamedPort<'a> = (&'a str, MacAddress, Vec<(IpAddr, u8)>);

impl Cluster {
    /// Starts a director with these services as the host for which the address plan has room: it answers for its own
    /// addresses and the virtual ones. With a tunnelling method, the tunnel ends are started too. When this returns,
    /// the director has found its real servers (or has looked for them for a second).
    ///
    /// # Errors
    /// When the kernel refuses a socket, or the director a service or a real server.
    pub fn balance(&self, config: Config, services: Vec<Balanced>) -> Result<Balancer, LabError> {
        let seed = config.seed;
        let (count, by) = self.plan.workers;
        let steer = Steer::new(seed, count, by);
        let Opened { lines, offloads, filter, fans } = self.open_ports(steer)?;
        let mut offloads = offloads.into_iter();
        let (mut workers, mut handles, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for (index, line) in (0..).zip(lines) {
            let mut config = config.clone();
            // Chance is each worker's own.
            config.seed = if index == 0 { seed } else { seed.derive(index) };
            let seed = config.seed;
            let mut director = Director::new(config, Heap::new(Capacity::new(CONNECTIONS)));
            for (key, service, servers) in &services {
                director
                    .add_service(*key, service.clone())
                    .map_err(|error| refusal(&self.director, "add a service", error))?;
                for server in servers {
                    director
                        .add_server(*key, *server)
                        .map_err(|error| refusal(&self.director, "add a server", error))?;
                }
            }
            let mut host = Host::new(seed);
            let mut devices = Vec::new();
            for (port, device) in line {
                add_port(&self.director, &mut host, port.mac, port.mtu, &port.addresses)?;
                devices.push(device);
            }
            for family in FAMILIES {
                host.add_virtual_address(Self::vip(family))
                    .map_err(|error| refusal(&self.director, "add a virtual address", error))?;
            }
            let forwarder = Box::new(Forwarder::new(host, Options::new()));
            let (mut worker, handle, fetch) =
                Worker::new(director, forwarder, devices, WorkerOptions::default())
                    .map_err(|error| refusal(&self.director, "make a worker", error))?;
            if let Some(offload) = offloads.next() {
                worker.set_offload(offload);
            }
            workers.push(worker);
            handles.push(handle);
            events.push(fetch);
        }
        let ends = match self.plan.method {
            Method::Bypass | Method::Direct | Method::Local | Method::Nat => Vec::new(),
            Method::Tunnel(tunnel) => self.start_tunnel_ends(tunnel, seed)?,
        };
        let nobody = || refusal(&self.director, "make a worker", io::Error::from(io::ErrorKind::NotFound));
        let handle = handles.first().cloned().ok_or_else(nobody)?;
        let first_events = events.into_iter().next().ok_or_else(nobody)?;
        let group = WorkerGroup::new(&mut workers, handles, steer, fans);
        if let (Some(filter), Some(worker)) = (filter, workers.first_mut()) {
            self.steer(&filter, worker, &handle)?;
        }
        let mut threads = Vec::new();
        for mut worker in workers {
            threads.push(self.director.spawn("director", move || worker.run())?);
        }
        group.handles().iter().for_each(wait_for_neighbours);
        let director = self.director.clone();
        Ok(Balancer { director, group, handle, events: Mutex::new(first_events), workers: threads, ends })
    }

    /// The director's ports for each of its workers, with its own addresses on them.
    fn open_ports(&self, steer: Steer) -> Result<Opened, LabError> {
        let to_clients = FAMILIES.map(|family| (Self::director_to_clients(family), Self::prefix(family)));
        let to_servers = FAMILIES.map(|family| (Self::director_to_servers(family), Self::prefix(family)));
        let [first, second] = DIRECTOR_MAC;
        let ports = match self.plan.arms {
            Arms::One => vec![("eth0", first, [to_clients, to_servers].concat())],
            Arms::Two => {
                vec![("eth0", first, to_clients.to_vec()), ("eth1", second, to_servers.to_vec())]
            }
        };
        let mut known: Vec<IpAddr> = FAMILIES.map(Self::vip).to_vec();
        known
            .extend(ports.iter().flat_map(|(_, _, addresses)| addresses.iter().map(|(address, _)| *address)));
        if let Some(options) = &self.plan.xdp {
            return self.open_xdp(steer, options, ports, &known);
        }
        let (mut lines, mut fans) =
            ((0..steer.workers()).map(|_| Vec::new()).collect::<Vec<_>>(), Vec::new());
        let mut offloads = Vec::new();
        if self.plan.offload {
            for _ in 0..steer.workers() {
                let offload = FlowOffload::new(offload::CONNECTIONS);
                offloads.push(offload.map_err(|error| refusal(&self.director, "make an offload", error))?);
            }
        }
        for ((name, mac, addresses), at) in ports.into_iter().zip(0..) {
            if steer.workers() == 1 {
                let packet = open_device(&self.director, name, mac, RECEIVE_SLOTS)?;
                self.add_taps(&mut offloads, PortId(at), &[packet.tap])?;
                let port = PlannedPort { mac, mtu: packet.mtu, addresses };
                if let Some(line) = lines.first_mut() {
                    line.push((port, packet.device));
                }
                continue;
            }
            let options = packet_options(mac, RECEIVE_SLOTS);
            let fanned = self
                .director
                .run(|| packet::open_fanned(name, &options, steer, &known))?
                .map_err(|error| refusal(&self.director, "open packet sockets", error))?;
            for (line, device) in lines.iter_mut().zip(fanned.devices) {
                line.push((PlannedPort { mac, mtu: fanned.mtu, addresses: addresses.clone() }, device));
            }
            self.add_taps(&mut offloads, PortId(at), &fanned.taps)?;
            fans.push((PortId(at), fanned.fan));
        }
        Ok(Opened { lines, offloads, filter: None, fans })
    }

    /// The ports as `AF_XDP` sockets.
    fn open_xdp(
        &self,
        steer: Steer,
        options: &XdpOptions,
        ports: Vec<NamedPort<'_>>,
        known: &[IpAddr],
    ) -> Result<Opened, LabError> {
        let names: Vec<_> = ports.iter().map(|(name, mac, _)| (*name, Some(mac.0))).collect();
        let (opened, filter) = self
            .director
            .run(|| xdp::open_fanned(&names, options, &steer, known))?
            .map_err(|error| refusal(&self.director, "open AF_XDP sockets", error))?;
        let mut lines: Vec<Vec<_>> = (0..steer.workers()).map(|_| Vec::new()).collect();
        let mut fans = Vec::new();
        for ((opened, (_, mac, addresses)), at) in opened.into_iter().zip(ports).zip(0..) {
            for (line, device) in lines.iter_mut().zip(opened.devices) {
                line.push((
                    PlannedPort { mac, mtu: opened.properties.mtu, addresses: addresses.clone() },
                    device,
                ));
            }
            fans.push((PortId(at), opened.fan));
        }
        Ok(Opened { lines, offloads: Vec::new(), filter: Some(filter), fans })
    }

    /// Puts each worker's offload, if there are any, at an interface.
    fn add_taps(&self, offloads: &mut [FlowOffload], port: PortId, taps: &[Tap]) -> Result<(), LabError> {
        for (offload, tap) in offloads.iter_mut().zip(taps) {
            self.director
                .run(|| offload.add_port(port, tap))?
                .map_err(|error| refusal(&self.director, "attach an offload", error))?;
        }
        Ok(())
    }

    /// Tells the XDP program of the director's addresses, now and as they change.
    fn steer(&self, filter: &AddressFilter, worker: &mut Worker, handle: &Handle) -> Result<(), LabError> {
        let refused = |error: Box<dyn core::error::Error + Send + Sync>| {
            refusal(&self.director, "tell the XDP program of addresses", error)
        };
        worker.fill_address_filter(filter, []).map_err(|error| refused(error.into()))?;
        let handle = handle.clone();
        self.director
            .run(|| handle.keep_address_filter(filter, |error| eprintln!("{error}")))?
            .map_err(|error| refused(error.into()))
            .map(drop)
    }

    /// A tunnel end in each server.
    fn start_tunnel_ends(&self, tunnel: Tunnel, seed: Seed) -> Result<Vec<EndThread>, LabError> {
        let gue_port = match tunnel {
            Tunnel::Gue { port, .. } => port,
            Tunnel::IpIp | Tunnel::Gre { .. } => GUE_PORT,
        };
        let mut ends = Vec::new();
        for (server, number) in self.servers.iter().zip(1..) {
            let mut host = Host::new(seed);
            let addresses =
                FAMILIES.map(|family| (Self::tunnel_address(number, family), Self::prefix(family)));
            let mac = MacAddress([2, 0, 0x5e, 0, 0x53, 0x20 + number]);
            let outer = open_port(server, "eth0", mac, &mut host, &addresses)?;
            let [ours, kernels] = Self::INNER;
            let inner =
                Inner::Ethernet { kernel: server.interface(kernels)?.mac, own: server.interface(ours)?.mac };
            let device =
                open_device(server, ours, MacAddress([2, 0, 0x5e, 0, 0x53, 0x30 + number]), 1)?.device;
            let decapsulator = Box::new(Decapsulator::new(host, gue_port));
            let mut end = TunnelEnd::new(decapsulator, outer, device, inner);
            let (wire, cut) = UnixStream::pair().map_err(|error| refusal(server, "make a pipe", error))?;
            let thread = server.spawn("tunnel end", move || {
                end.run(&cut)?;
                Ok(end.counters())
            })?;
            ends.push(EndThread { server: server.clone(), wire, thread });
        }
        Ok(ends)
    }
}

/// What a director works with.
struct Opened {
    /// For each worker its ports with their devices.
    lines: Vec<Vec<(PlannedPort, Device)>>,
    /// For each worker, or none.
    offloads: Vec<FlowOffload>,
    filter: Option<AddressFilter>,
    fans: Vec<(PortId, Fan)>,
}

/// What the host has to know of a port.
struct PlannedPort {
    mac: MacAddress,
    mtu: usize,
    addresses: Vec<(IpAddr, u8)>,
}

impl Balancer {
    /// Commands the director, and tells of it.
    #[must_use]
    pub const fn group(&self) -> &WorkerGroup {
        &self.group
    }

    /// The first worker's handle, which is the director's if it has no others.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The first worker's events, as they come.
    pub fn events(&self) -> MutexGuard<'_, Receiver<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops everything and says what was counted.
    ///
    /// # Errors
    /// When a device had failed meanwhile.
    ///
    /// # Panics
    /// When one of the threads has panicked.
    pub fn stop(mut self) -> Result<BalancerCounters, LabError> {
        self.group.stop();
        for thread in self.workers.drain(..) {
            match join(thread) {
                End::Stopped => {}
                End::Ended | End::Failed => {
                    return Err(refusal(
                        &self.director,
                        "keep the director at work",
                        io::Error::from(io::ErrorKind::NotConnected),
                    ));
                }
            }
        }
        let workers: Vec<Snapshot> = self.group.handles().iter().map(Handle::snapshot).collect();
        let mut director = self.handle.snapshot();
        workers.iter().skip(1).for_each(|worker| director += worker);
        let mut tunnel_ends = Vec::new();
        for EndThread { server, wire, thread } in self.ends.drain(..) {
            drop(wire);
            tunnel_ends
                .push(join(thread).map_err(|error| refusal(&server, "keep the tunnel end at work", error))?);
        }
        Ok(BalancerCounters { director, workers, tunnel_ends })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.group.stop();
        for thread in self.workers.drain(..) {
            // Their ends do not matter any more: whoever wants to know calls `stop`.
            drop(thread.join());
        }
        for EndThread { wire, thread, .. } in self.ends.drain(..) {
            drop(wire);
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("tunnel_ends", &self.ends.len()).finish_non_exhaustive()
    }
}

/// Opens an interface as the next port of `host`, with a MAC address and addresses of the host's own.
fn open_port(
    node: &Node,
    interface: &str,
    mac: MacAddress,
    host: &mut Host,
    addresses: &[(IpAddr, u8)],
) -> Result<Device, LabError> {
    let packet = open_device(node, interface, mac, RECEIVE_SLOTS)?;
    add_port(node, host, mac, packet.mtu, addresses)?;
    Ok(packet.device)
}

fn add_port(
    node: &Node,
    host: &mut Host,
    mac: MacAddress,
    mtu: usize,
    addresses: &[(IpAddr, u8)],
) -> Result<(), LabError> {
    let port = host
        .add_port(Port::ethernet(mac, u16::try_from(mtu).unwrap_or(u16::MAX)))
        .map_err(|error| refusal(node, "add a port", error))?;
    for &(address, prefix) in addresses {
        host.add_address(port, address, prefix).map_err(|error| refusal(node, "add an address", error))?;
    }
    Ok(())
}

fn open_device(
    node: &Node,
    interface: &str,
    mac: MacAddress,
    slots: usize,
) -> Result<packet::Packet, LabError> {
    let options = packet_options(mac, slots);
    node.run(|| packet::open(interface, &options))?
        .map_err(|error| refusal(node, "open a packet socket", error))
}

fn packet_options(mac: MacAddress, slots: usize) -> packet::PacketOptions {
    packet::PacketOptions { mac: Some(mac.0), receive_slots: slots, ..packet::PacketOptions::default() }
}

fn refusal(node: &Node, step: &str, error: impl Into<Box<dyn core::error::Error + Send + Sync>>) -> LabError {
    LabError::Setup { node: node.name().to_owned(), step: step.to_owned(), source: io::Error::other(error) }
}

/// Waits until the director can send to every real server.
fn wait_for_neighbours(handle: &Handle) {
    let began = Instant::now();
    loop {
        let all = handle.with(|director, forwarder, now| {
            let mut services = director.services();
            services.all(|service| {
                let mut servers = director.servers(service.key());
                servers.all(|(_, server)| forwarder.host_mut().look_for(now, server.address().ip()))
            })
        });
        if all.unwrap_or(true) || began.elapsed() > PATIENCE {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The result of a thread; its panic goes on here.
fn join<R>(thread: JoinHandle<R>) -> R {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const PATIENCE: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 1 << 16;
/// The director's MAC addresses: locally administered.
const DIRECTOR_MAC: [MacAddress; 2] =
    [MacAddress([2, 0, 0x5e, 0, 0x53, 0xfe]), MacAddress([2, 0, 0x5e, 0, 0x53, 0xff])];
/// Slots of a receiving ring. Every one takes 64 KiB of kernel memory that cannot be swapped out.
const RECEIVE_SLOTS: usize = 510;
