//! A backup under sync messages, traffic and time, all drawn from bytes.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::conn::Expectation;
use lvs_core::service::Persistence;
use lvs_core::sync::SyncEntry;
use lvs_core::{
    Config, ConnId, Content, Director, Family, Flow, Heap, Inspected, Method, Packet, Protocol, Scheduler,
    Seed, ServerConfig, ServerId, ServiceConfig, ServiceKey, TcpFlags, Tick, Tunnel, Weight,
};

use crate::bytes::Bytes;

const CAPACITY: usize = 24;
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
const KEYS: [ServiceKey; 5] = [
    ServiceKey::tcp(VIP, 80),
    ServiceKey::udp(VIP, 53),
    ServiceKey::tcp(VIP, 443),
    ServiceKey::tcp(VIP, 21),
    ServiceKey::Mark { family: Family::V4, mark: 5 },
];
/// Time-outs that messages name, around those of the states and of the sweep's own limits.
const TIMEOUTS: [u32; 12] = [0, 1, 2, 9, 10, 61, 120, 900, 7_200, 20_000, 90_000, u32::MAX];

/// Runs what `data` stands for on a director that is master, backup or both.
///
/// # Panics
///
/// When after a full sweep anything is counted that is not listed, or the other way round.
pub fn backup(data: &[u8]) {
    let mut bytes = Bytes::of(data);
    let switches = bytes.next();
    let mut config = Config::new(Seed::from_bytes([switches; 16]));
    config.tuning.expire_nodest_conn = switches & 1 != 0;
    config.tuning.sloppy_tcp = switches & 2 != 0;
    config.tuning.schedule_icmp = switches & 4 != 0;
    config.tuning.conn_reuse_mode = u32::from(switches >> 3 & 3);
    let mut director = Director::new(config, crate::small_store(CAPACITY));
    director.set_sync_role(switches & 0x20 != 0, switches & 0x40 != 0);
    for (place, key) in KEYS.into_iter().enumerate() {
        let mut service = ServiceConfig::new(Scheduler::from_name("rr").unwrap_or_default());
        if place == 2 {
            service = service.with_persistence(Persistence::new(30));
        }
        assert!(director.add_service(key, service).is_ok());
        for number in 0..2 {
            let _ = director.add_server(key, server(number, place as u8));
        }
    }
    let mut now = Tick::from_millis(1_000);
    while !bytes.is_empty() {
        let kind = bytes.next();
        match kind % 16 {
            0..=4 => {
                if let Some(entry) = message(&mut bytes) {
                    let _ = director.apply_sync(now, &entry, None);
                }
            }
            5..=8 => {
                if let Some(packet) = packet(&mut bytes) {
                    let _ = director.decide(now, &packet, Inspected::Nothing);
                }
            }
            9 => now = now.plus_millis(u64::from(bytes.next()) * 40),
            10 => now = now.plus_secs(u64::from(bytes.next()) * u64::from(bytes.next())),
            11 => {
                let (key, number) = (key(bytes.next()), bytes.next());
                let _ = match number & 0x40 {
                    0 => director.remove_server(key, address(number)).is_ok(),
                    _ => director.add_server(key, server(number, number >> 3)).is_ok(),
                };
            }
            12 => {
                let mut config = director.config().clone();
                (config.timeouts.tcp, config.timeouts.udp) = (timeout(bytes.next()), timeout(bytes.next()));
                config.timeouts.tcp_fin = timeout(bytes.next());
                director.set_config(config);
            }
            13 => {
                let (control, port) =
                    (ConnId::from_index(u32::from(bytes.next() & 31)), u16::from(bytes.next() & 1));
                let _ = director.expect(now, control, Expectation::FromClient { server_port: 5_000 + port });
            }
            14 => {
                let _ = director.cut(now, ServerId::from_index(u32::from(bytes.next() & 7)), 0, 64);
            }
            _ => {
                director.sweep(now, usize::from(kind >> 4) * 4);
            }
        }
        if kind & 0x80 != 0 {
            director.sweep(now, usize::MAX);
            check(&director, now);
        }
    }
    director.sweep(now, usize::MAX);
    check(&director, now);
    // In the end all of it is over.
    for _ in 0..3 {
        now = now.plus_secs(u64::from(lvs_core::config::MAX_TIMEOUT_SECS));
        director.sweep(now, usize::MAX);
        check(&director, now);
    }
    assert_eq!(director.counters().live, 0);
}

/// What the director counts, counted once more from its listings.
fn check(director: &Director<Heap>, now: Tick) {
    let (connections, templates) = (director.connections(now), director.templates(now));
    let (connections, templates): (Vec<_>, Vec<_>) = (connections.collect(), templates.collect());
    assert_eq!(director.counters().live as usize, connections.len() + templates.len(), "all that is listed");
    for id in (0..64).map(ServerId::from_index) {
        let Some(server) = director.server(id) else { continue };
        let of = |of: &&lvs_core::conn::Connection| of.server == id;
        assert_eq!(
            server.active() + server.inactive(),
            connections.iter().filter(of).count() as u32,
            "{server:?}"
        );
        assert_eq!(server.persistent(), templates.iter().filter(|of| of.server == id).count() as u32);
    }
    for template in &templates {
        let of = connections.iter().filter(|of| of.controller == Some(template.id)).count();
        assert_eq!(template.connections as usize, of, "{template:?}");
    }
}

fn timeout(byte: u8) -> u32 {
    TIMEOUTS[usize::from(byte) % TIMEOUTS.len()]
}

fn key(byte: u8) -> ServiceKey {
    KEYS[usize::from(byte) % KEYS.len()]
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 11 + number % 3], 80))
}

fn server(number: u8, method: u8) -> ServerConfig {
    let method = match method % 4 {
        0 | 2 => Method::Nat,
        1 => Method::Direct,
        _ => Method::Tunnel(Tunnel::IpIp),
    };
    ServerConfig::new(address(number), method).with_weight(Weight::from(1))
}

fn client(byte: u8) -> SocketAddr {
    let port = if byte & 0x80 == 0 { 1_024 + u16::from(byte >> 2 & 1) } else { 0 };
    SocketAddr::from(([192, 0, 2, byte & 3], port))
}

fn target(byte: u8) -> (Protocol, SocketAddr) {
    let (protocol, port) = match byte % 6 {
        0 => (Protocol::Tcp, 80),
        1 => (Protocol::Udp, 53),
        2 => (Protocol::Tcp, 443),
        3 => (Protocol::Tcp, 21),
        4 => (Protocol::Tcp, 5_000 + u16::from(byte >> 3 & 1)),
        _ => (Protocol::Sctp, 80),
    };
    (protocol, SocketAddr::new(VIP, port))
}

fn message(bytes: &mut Bytes<'_>) -> Option<SyncEntry> {
    let (from, to, options, time) = (bytes.next(), bytes.next(), bytes.next(), bytes.next());
    let (protocol, virt) = target(to);
    let mut entry = SyncEntry::new(protocol.number(), client(from), virt, address(to >> 4))?;
    entry.state = u16::from(options & 15);
    entry.timeout = timeout(time);
    entry.flags = SyncEntry::SYNC | u32::from(time >> 5);
    for (bit, flag) in
        [SyncEntry::INACTIVE, SyncEntry::NO_CLIENT_PORT, SyncEntry::TEMPLATE].into_iter().enumerate()
    {
        if options & 0x10 << bit != 0 {
            entry.flags |= flag;
        }
    }
    if entry.is_template() {
        (entry.client_port, entry.state) = (0, entry.state & 1);
    }
    entry.mark = if options & 0x80 == 0 { 0 } else { 5 };
    Some(entry)
}

fn packet(bytes: &mut Bytes<'_>) -> Option<Packet> {
    let (from, to, what) = (bytes.next(), bytes.next(), bytes.next());
    let (protocol, virt) = target(to);
    let content = match (what & 0x80, protocol) {
        (0, Protocol::Tcp) => Content::Tcp(TcpFlags::from_byte(what & 31)),
        (0, Protocol::Udp) => Content::Udp,
        (0, Protocol::Sctp) => Content::Sctp(lvs_core::packet::Chunk::from_type(what & 31)),
        _ => Content::Error,
    };
    let mark = if what & 0x40 == 0 { 0 } else { 5 };
    Some(if what & 0x20 == 0 {
        Packet::new(Flow::new(protocol, client(from), virt)?, content, 60).marked(mark)
    } else {
        Packet::new(Flow::new(protocol, address(to >> 4), client(from))?, content, 60).passing()
    })
}
