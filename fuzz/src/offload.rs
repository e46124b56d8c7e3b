//! The offload's programs, interpreted, against the director that they stand in for.
//!
//! Two identical worlds get the same frames. In one the director gets all of them. In the other it gets those that the
//! programs leave to it, and hears of the others when the offload is synced. Nobody may be able to tell the two apart:
//! each frame leaves as the same bytes by the same port, and after a sync the directors have counted the same and list
//! the same connections.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::{Config, Director, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick};
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::{
    Checksum, Forwarder, Frame, HEADROOM, Merged, MergedKind, Offload, Options, Outcome, PortId,
};
use lvs_std::offload::simulation::{Arrival as Arrived, AtInterface, Simulation};

use crate::arrival::{ACK, Arrival, Flow, KNOWN, SYN};
use crate::forward::{Buffer, METHODS, OWN_MAC, Site, WORLD};

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
/// The director's address at the inner port.
const INNER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Merged frames after which a flow is shown to the programs, and some more.
const BULK: u8 = 20;

/// The first two bytes choose the method and options. Every four bytes after them are frames, or something else that
/// happens: what kind, who sends, what, and how much of it.
///
/// # Panics
///
/// When the two worlds differ in anything that can be seen of them, when both or neither of socket and interface have a
/// frame, or when a program does what the kernel would not let it do.
pub fn offload(data: &[u8]) {
    let Some((&[method, options], mut rest)) = data.split_first_chunk() else { return };
    let method = METHODS[usize::from(method) % METHODS.len()];
    let mut worlds = Worlds::new(method, options);
    let mut last = Arrival::new(Vec::new());
    while let Some((&[kind, who, what, count], behind)) = rest.split_first_chunk() {
        rest = behind;
        let flow = Flow::new(who % (2 * KNOWN), what & !0x1a, method);
        match kind % 8 {
            0 | 1 => {
                last = bulk(&flow, what, count);
                for _ in 0..BULK {
                    worlds.arrive(&last);
                }
            }
            2 => {
                for at in 0..=count % 4 {
                    last = Arrival::new(flow.frame(ACK, count.wrapping_add(at), 64));
                    worlds.arrive(&last);
                }
            }
            3 | 4 => {
                last = Arrival::odd(&flow, kind & !0x20, what & 0x7f, count);
                worlds.arrive(&last);
            }
            5 | 6 => {
                // The last one once more, with a few bytes that are others, and another end.
                change(&mut last.bytes, kind, who, what, count);
                worlds.arrive(&last);
            }
            _ => worlds.happen(who, what, count),
        }
    }
    worlds.compare();
}

/// A merged frame of a bulk transfer.
fn bulk(flow: &Flow, what: u8, count: u8) -> Arrival {
    let mut arrival = Arrival::new(flow.frame(ACK, count, 64));
    let v6 = what & 1 != 0;
    let kind = if v6 { MergedKind::TcpV6 } else { MergedKind::TcpV4 };
    arrival.offload.merged = Some(Merged { kind, segment: 1 + u16::from(count) / 2, ecn: false });
    arrival
}

/// What the kernel says of a frame: whoever merges segments leaves their checksum to be finished.
fn said(arrival: &Arrival) -> Offload {
    let mut offload = arrival.offload;
    if let Some(merged) = offload.merged {
        let start = if merged.kind == MergedKind::TcpV6 { 54 } else { 34 };
        offload.checksum = Checksum::Partial { start, offset: 16 };
    }
    offload
}

fn change(bytes: &mut Vec<u8>, kind: u8, at: u8, value: u8, more: u8) {
    if let Some(byte) = bytes.get_mut(usize::from(at) % 96) {
        *byte ^= value;
    }
    if kind & 0x10 != 0 {
        let len = bytes.len() + usize::from(more % 8);
        bytes.resize(len, more);
    }
    if kind & 0x20 != 0 {
        bytes.truncate(usize::from(more));
    }
    let is_v4 = bytes.get(12..14) == Some(&[8, 0]);
    if kind & 0x40 == 0
        && is_v4
        && let Some(header) = bytes.get_mut(14..34)
    {
        header[10..12].fill(0);
        let checksum = lvs_forward::checksum::Sum::ZERO.bytes(header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Whether the programs cannot know of which connection it is: a fragment, or one with options before TCP's header.
fn is_odd(bytes: &[u8]) -> bool {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    match (byte(12), byte(13)) {
        (8, 0) => byte(14) != 0x45 || byte(20) & 0x3f != 0 || byte(21) != 0,
        (0x86, 0xdd) => byte(20) != 6,
        _ => false,
    }
}

struct Worlds {
    method: Method,
    now: Tick,
    /// The director gets everything.
    plain: Site,
    /// Some of it passes the director by.
    bypassed: Site,
    programs: Simulation,
}

impl Worlds {
    fn new(method: Method, options: u8) -> Self {
        let now = Tick::from_millis(1_000);
        let mut programs = Simulation::new(8);
        let chooses = options & 2 != 0;
        for (port, mac) in [(OUTSIDE, OWN_MAC), (INSIDE, INNER_MAC)] {
            // Without the inner one, only what leaves by the port where it came in can pass.
            if port == OUTSIDE || options & 4 == 0 {
                let added = programs.add_port(port, MacAddress(mac), 5 + u32::from(port.0), chooses);
                assert!(added.is_ok(), "{added:?}");
            }
        }
        let site = || site(method, options);
        let mut worlds = Self { method, now, plain: site(), bypassed: site(), programs };
        for (client, what) in (0..KNOWN).flat_map(|client| (0..2).map(move |what| (client, what))) {
            let flow = Flow::new(client, what, method);
            worlds.arrive(&Arrival::new(flow.frame(SYN, 0, 64)));
            worlds.arrive(&Arrival::new(flow.frame(ACK, 0, 64)));
        }
        worlds
    }

    /// A frame comes in: by the outer port, or by the inner one if it is from a server.
    fn arrive(&mut self, arrival: &Arrival) {
        let mut bytes = arrival.bytes.clone();
        let from_server = [(26, 30), (22, 38)].into_iter().zip(&WORLD).any(|((start, end), world)| {
            let octets = match world.server {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            bytes.get(start..end) == Some(octets.as_slice())
        });
        let port = if from_server { INSIDE } else { OUTSIDE };
        if from_server && bytes.get(..6) == Some(&OWN_MAC) {
            bytes[..6].copy_from_slice(&INNER_MAC);
        }
        let mut buffer = Buffer::new(&bytes);
        let mut frame = buffer.frame(port).with_offload(said(arrival));
        let arrived = self.programs.arrive(&mut frame).unwrap_or_else(|error| panic!("{error}"));
        let outcome = match arrived {
            Arrived { to_director: true, at_interface: AtInterface::Stack } => {
                assert_eq!(frame.bytes(), bytes, "nobody has changed it");
                let Site { director, forwarder } = &mut self.bypassed;
                self.programs.process(self.now, director, forwarder, &mut frame)
            }
            Arrived { to_director: false, at_interface: AtInterface::Sent(_) } => Outcome::Send,
            Arrived { to_director: false, at_interface: AtInterface::Stack } => {
                // To another host: no socket that chooses has it, in either world.
                let own = if from_server { INNER_MAC } else { OWN_MAC };
                let to = bytes.get(..6).unwrap_or_default();
                assert!(to != own && to.first().is_none_or(|first| first & 1 == 0), "kept from everybody");
                return;
            }
            Arrived { .. } => panic!("{arrived:?}: {bytes:02x?}"),
        };
        let left = Left::new(outcome, &frame);
        buffer.check_fences();
        // Behind options the programs do not look for flags. What closes a connection there is found by the next sync,
        // a tenth of a second later at most.
        if arrived.to_director && is_odd(&bytes) {
            self.sync();
        }
        let mut buffer = Buffer::new(&bytes);
        let mut frame = buffer.frame(port).with_offload(said(arrival));
        let outcome = self.plain.forwarder.process(&mut self.plain.director, self.now, &mut frame);
        assert_eq!(left, Left::new(outcome, &frame), "{arrived:?}: {bytes:02x?}");
    }

    /// Time goes by, or something is changed.
    fn happen(&mut self, who: u8, what: u8, count: u8) {
        self.sync();
        match who % 8 {
            0..=3 => {
                self.now = self.now.plus_millis(u64::from(what) * u64::from(count) * 20);
                for site in [&mut self.plain, &mut self.bypassed] {
                    let _ = site.director.sweep(self.now, 64);
                }
            }
            change => {
                let (now, method) = (self.now, self.method);
                for site in [&mut self.plain, &mut self.bypassed] {
                    site.change(now, change, what, count, method);
                }
            }
        }
        self.sync();
        self.compare();
    }

    fn sync(&mut self) {
        let Site { director, forwarder } = &mut self.bypassed;
        self.programs.sync(self.now, director, forwarder);
    }

    fn compare(&mut self) {
        self.sync();
        assert_eq!(self.programs.counters().lost, 0, "what was kept from the director has passed");
        let now = self.now;
        let (plain, bypassed) = (&mut self.plain, &mut self.bypassed);
        assert_eq!(bypassed.own_frames(now), plain.own_frames(now));
        assert_eq!(bypassed.events(), plain.events());
        bypassed.assert_counts_as(plain, now);
    }
}

/// All that can be seen of a frame afterwards.
#[derive(Debug, PartialEq)]
struct Left {
    outcome: Outcome,
    bytes: Vec<u8>,
    port: PortId,
    offload: Offload,
}

impl Left {
    fn new(outcome: Outcome, frame: &Frame<'_>) -> Self {
        Self { outcome, bytes: frame.bytes().to_vec(), port: frame.port, offload: frame.offload }
    }
}

/// A director between clients and servers.
fn site(method: Method, options: u8) -> Site {
    let seed = Seed::from_bytes([3; 16]);
    let mut director = Director::new(Config::new(seed), crate::small_store(16));
    for world in &WORLD {
        let key = ServiceKey::tcp(world.vip, 80);
        let added = director.add_service(key, ServiceConfig::new(Scheduler::default()));
        assert!(added.is_ok(), "{added:?}");
        let server = SocketAddr::new(world.server, 8_080);
        let added = director.add_server(key, ServerConfig::new(server, method));
        assert!(added.is_ok(), "{added:?}");
    }
    let mut set = Options::new();
    set.ip_forward = options & 1 != 0;
    let host = host(seed);
    let host = host.unwrap_or_else(|error| panic!("{error}"));
    Site { director, forwarder: Box::new(Forwarder::new(host, set)) }
}

impl Site {
    /// What an operator, a neighbour or the machine changes.
    fn change(&mut self, now: Tick, change: u8, what: u8, count: u8, method: Method) {
        let world = &WORLD[usize::from(what & 1)];
        let key = ServiceKey::tcp(world.vip, 80);
        let server = SocketAddr::new(world.server, 8_080);
        let host = self.forwarder.host_mut();
        // What is refused is refused in both worlds.
        match change {
            4 => _ = self.director.remove_server(key, server).ok(),
            5 => _ = self.director.add_server(key, ServerConfig::new(server, method)).ok(),
            6 => {
                let mac = MacAddress([2, 0, 0, 0, 1, count]);
                _ = host.add_neighbour(INSIDE, world.server, mac).ok();
            }
            _ if what & 2 != 0 => _ = host.remove_address(world.vip),
            _ => _ = host.add_virtual_address(world.vip).ok(),
        }
        let _ = now;
    }

    fn own_frames(&mut self, now: Tick) -> Vec<Vec<u8>> {
        let mut own = Vec::new();
        let mut spare = vec![0; HEADROOM + 2_048];
        while let Some(frame) = self.forwarder.poll_transmit(now, &mut spare) {
            own.push(frame.bytes().to_vec());
        }
        own
    }
}

/// Clients behind a gateway on the outer port, servers on the inner one.
fn host(seed: Seed) -> Result<Host, Box<dyn core::error::Error>> {
    let v6 = |subnet, last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, subnet, 0, 0, 0, 0, last));
    let v4 = |subnet, last| IpAddr::from(Ipv4Addr::new(10, 0, subnet, last));
    let mut host = Host::new(seed);
    let outside = host.add_port(Port::ethernet(MacAddress(OWN_MAC), 300))?;
    let inside = host.add_port(Port::ethernet(MacAddress(INNER_MAC), 200))?;
    let families = [
        (v4(0, 254), v4(0, 1), v4(1, 254), 24, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        (v6(0, 0xfe), v6(0, 1), v6(1, 0xfe), 64, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    ];
    for ((outer, gateway, inner, len, any), world) in families.into_iter().zip(&WORLD) {
        host.add_address(outside, outer, len)?;
        host.add_address(inside, inner, len)?;
        host.add_virtual_address(world.vip)?;
        host.add_route(Prefix::new(any, 0).ok_or("a prefix")?, Some(gateway), outside)?;
        host.add_neighbour(outside, gateway, MacAddress([2, 0, 0, 0, 0, 0xaa]))?;
        host.add_neighbour(inside, world.server, MacAddress([2, 0, 0, 0, 1, 0x11]))?;
    }
    Ok(host)
}
