//! A director on two links in memory: a client on one, a real server on the other.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::time::Instant;

use etherparse::{EtherType, NetHeaders, PacketBuilder, PacketHeaders, PayloadSlice, TransportHeader};
use lvs_core::{Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey};
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::{Forwarder, Options, PortId};
use lvs_std::device::{Device, PairOptions, pair};
use lvs_std::worker::{Handle, Worker, WorkerOptions};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
pub(crate) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 11];
/// The director's, on either link.
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 1, 1]];

/// The worker with the other ends of its links.
pub(crate) struct World {
    pub(crate) worker: Worker,
    pub(crate) handle: Handle,
    pub(crate) events: std::sync::mpsc::Receiver<lvs_core::Event>,
    pub(crate) client: Device,
    pub(crate) server: Device,
}

/// A service at the VIP's port 80 with one server, port 8080.
pub(crate) fn service() -> (ServiceKey, ServiceConfig) {
    let scheduler = Scheduler::from_name("rr").expect("there is round robin");
    (ServiceKey::tcp(VIP.into(), 80), ServiceConfig::new(scheduler))
}

pub(crate) fn server(method: Method) -> ServerConfig {
    ServerConfig::new(SocketAddr::new(SERVER.into(), 8_080), method)
}

pub(crate) fn director(connections: usize) -> Director<Heap> {
    Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(connections))
}

/// A forwarder between two links, which knows both neighbours.
pub(crate) fn forwarder() -> Box<Forwarder> {
    let mut host: Host = Host::new(Seed::from_bytes([8; 16]));
    for mac in MACS {
        host.add_port(Port::ethernet(MacAddress(mac), 1_500)).expect("a port");
    }
    host.add_address(PortId(0), [192, 0, 2, 254].into(), 24).expect("an address");
    host.add_address(PortId(1), [10, 0, 1, 254].into(), 24).expect("an address");
    host.add_virtual_address(VIP.into()).expect("the VIP");
    host.add_neighbour(PortId(0), CLIENT.into(), MacAddress(CLIENT_MAC)).expect("the client");
    host.add_neighbour(PortId(1), SERVER.into(), MacAddress(SERVER_MAC)).expect("the server");
    let everywhere = Prefix::new([0, 0, 0, 0].into(), 0).expect("a prefix");
    host.add_route(everywhere, Some(CLIENT.into()), PortId(0)).expect("a route");
    Box::new(Forwarder::new(host, Options::new()))
}

impl World {
    /// With a service and a server by `method`.
    pub(crate) fn new(method: Method, options: &PairOptions) -> Self {
        let world = Self::empty(options);
        let mut world = world;
        let (key, config) = service();
        world.worker.director().add_service(key, config).expect("a new service");
        world.worker.director().add_server(key, server(method)).expect("a new server");
        world
    }

    /// Without a service.
    pub(crate) fn empty(options: &PairOptions) -> Self {
        let (left, client) = pair(options).expect("a pair");
        let (right, server) = pair(options).expect("a pair");
        let (worker, handle, events) =
            Worker::new(director(1_000), forwarder(), vec![left, right], WorkerOptions::default())
                .expect("a worker");
        Self { worker, handle, events, client, server }
    }
}

/// Waits until a device has something, and takes it.
pub(crate) fn await_frames(device: &mut Device) -> Vec<Vec<u8>> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let frames = device.drain().expect("the pair stays");
        if !frames.is_empty() {
            return frames;
        }
        assert!(Instant::now() < until, "nothing came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A TCP segment as an Ethernet frame.
pub(crate) struct Segment<'a> {
    pub(crate) macs: ([u8; 6], [u8; 6]),
    pub(crate) from: (Ipv4Addr, u16),
    pub(crate) to: (Ipv4Addr, u16),
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) payload: &'a [u8],
}

impl Segment<'_> {
    /// The client's first.
    pub(crate) const fn syn(port: u16) -> Self {
        Self {
            macs: (CLIENT_MAC, MACS[0]),
            from: (CLIENT, port),
            to: (VIP, 80),
            syn: true,
            ack: false,
            payload: &[],
        }
    }

    /// The server's to the client.
    pub(crate) const fn reply(port: u16) -> Self {
        Self {
            macs: (SERVER_MAC, MACS[1]),
            from: (SERVER, 8_080),
            to: (CLIENT, port),
            syn: true,
            ack: true,
            payload: &[],
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut builder = PacketBuilder::ethernet2(self.macs.0, self.macs.1)
            .ipv4(self.from.0.octets(), self.to.0.octets(), 64)
            .tcp(self.from.1, self.to.1, 1_000, 4_096);
        if self.syn {
            builder = builder.syn();
        }
        if self.ack {
            builder = builder.ack(1);
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes, self.payload).expect("a frame can be written into memory");
        bytes
    }
}

/// What matters of a received frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) macs: ([u8; 6], [u8; 6]),
    pub(crate) from: (Ipv4Addr, u16),
    pub(crate) to: (Ipv4Addr, u16),
    pub(crate) payload: Vec<u8>,
}

/// Takes a TCP frame apart; its checksums must be right.
pub(crate) fn see(bytes: &[u8]) -> Seen {
    let packet = PacketHeaders::from_ethernet_slice(bytes).expect("a frame with whole headers");
    let link = packet.link.and_then(|link| link.ethernet2()).expect("Ethernet");
    assert_eq!(link.ether_type, EtherType::IPV4);
    let Some(NetHeaders::Ipv4(ip, _)) = packet.net else { panic!("no IPv4: {bytes:02x?}") };
    let Some(TransportHeader::Tcp(tcp)) = packet.transport else { panic!("no TCP: {bytes:02x?}") };
    let PayloadSlice::Tcp(payload) = packet.payload else { panic!("no payload of TCP") };
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).expect("a length that fits"));
    Seen {
        macs: (link.source, link.destination),
        from: (ip.source.into(), tcp.source_port),
        to: (ip.destination.into(), tcp.destination_port),
        payload: payload.to_vec(),
    }
}
