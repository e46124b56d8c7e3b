//! A director in memory with connections, and frames for it: IPv4 TCP acknowledgements of 60 bytes.

use core::net::Ipv4Addr;

use lvs_core::batch::BATCH;
use lvs_core::{
    Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick, Tunnel,
};
use lvs_forward::checksum::Sum;
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Frame, HEADROOM, Options, Outcome, PortId};

/// The ways that packets are measured on: name, method, and whether they are replies.
pub(crate) const WAYS: [(&str, Method, bool); 5] = [
    ("nat-request", Method::Nat, false),
    ("nat-reply", Method::Nat, true),
    ("dr", Method::Direct, false),
    ("tun-ipip", Method::Tunnel(Tunnel::IpIp), false),
    ("tun-gue", Method::Tunnel(Tunnel::Gue { port: 6080, checksum: false }), false),
];

const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LENGTH: usize = 14 + 46;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A frame in its buffer.
pub(crate) type Buffer = [u8; HEADROOM + LENGTH];

/// The frame of client number `number`, or the real server's answer to it.
fn build(number: u32, flags: u8, reply: bool) -> Buffer {
    let mut buffer = [0; HEADROOM + LENGTH];
    let frame = &mut buffer[HEADROOM..];
    let client = (Ipv4Addr::from_bits(0x0b00_0000 + number / 16), 1_024 + (number % 16) as u16);
    let (source, destination) = if reply { ((SERVER, 80), client) } else { (client, (VIP, 80)) };
    frame[..6].copy_from_slice(&OWN_MAC);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xaa]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let ip = &mut frame[14..];
    ip[..12].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    ip[12..16].copy_from_slice(&source.0.octets());
    ip[16..20].copy_from_slice(&destination.0.octets());
    let checksum = Sum::default().bytes(&ip[..20]).checksum();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip[20..22].copy_from_slice(&source.1.to_be_bytes());
    ip[22..24].copy_from_slice(&destination.1.to_be_bytes());
    (ip[32], ip[33]) = (0x50, flags);
    let checksum = Sum::pseudo_v4(source.0, destination.0, 6, 26).bytes(&ip[20..46]).checksum();
    ip[36..38].copy_from_slice(&checksum.to_be_bytes());
    buffer
}

pub(crate) fn frame(buffer: &mut Buffer) -> Frame<'_> {
    Frame::new(buffer, HEADROOM, HEADROOM + LENGTH, PortId(0)).unwrap()
}

/// A director with connections, and the frames of their clients or servers.
pub(crate) struct World {
    pub(crate) director: Director<Heap>,
    pub(crate) forwarder: Box<Forwarder>,
    connections: u32,
    next: u32,
    reply: bool,
}

impl World {
    pub(crate) fn new(connections: u32, method: Method, reply: bool) -> Self {
        Self::with_room(connections, 0, method, reply)
    }

    /// A world whose director has room for so many further connections.
    pub(crate) fn with_room(connections: u32, room: u32, method: Method, reply: bool) -> Self {
        let seed = Seed::from_bytes([7; 16]);
        let capacity = (connections + room) as usize;
        let mut director = Director::new(Config::new(seed), Heap::with_capacity(capacity));
        director.set_read_ahead(lvs_std::cpu::read_ahead());
        director.set_hash_together(lvs_std::cpu::hash_together());
        let service = ServiceKey::tcp(VIP.into(), 80);
        director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
        director.add_server(service, ServerConfig::new((SERVER, 80).into(), method)).unwrap();
        let mut host = Host::new(seed);
        let port = host.add_port(Port::ethernet(MacAddress(OWN_MAC), 1500)).unwrap();
        host.add_address(port, Ipv4Addr::new(10, 0, 1, 254).into(), 24).unwrap();
        host.add_virtual_address(VIP.into()).unwrap();
        host.add_neighbour(port, SERVER.into(), MacAddress([2, 0, 0, 0, 1, 0x11])).unwrap();
        let gateway = Ipv4Addr::new(10, 0, 1, 1).into();
        host.add_route(
            "0.0.0.0".parse().map(|any| lvs_forward::host::Prefix::new(any, 0).unwrap()).unwrap(),
            Some(gateway),
            port,
        )
        .unwrap();
        host.add_neighbour(port, gateway, MacAddress([2, 0, 0, 0, 0, 0xaa])).unwrap();
        let forwarder = Box::new(Forwarder::new(host, Options::new()));
        let mut world = Self { director, forwarder, connections, next: 1, reply };
        for number in 0..connections {
            for flags in [SYN, ACK] {
                let mut buffer = build(number, flags, false);
                let outcome =
                    world.forwarder.process(&mut world.director, Tick::ZERO, &mut frame(&mut buffer));
                assert_eq!(outcome, Outcome::Send);
            }
            while world.director.poll_event().is_some() {}
        }
        world
    }

    /// Frames of clients in an order that no cache foresees: a full-period step through all of them.
    pub(crate) fn frames(&mut self) -> [Buffer; BATCH] {
        core::array::from_fn(|_| {
            self.next = self.next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            build((self.next >> 4) % self.connections, ACK, self.reply)
        })
    }

    /// First packets of clients that are new every time.
    pub(crate) fn new_clients(&mut self) -> [Buffer; BATCH] {
        core::array::from_fn(|_| {
            self.connections += 1;
            build(self.connections, SYN, false)
        })
    }
}
