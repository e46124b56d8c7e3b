//! The director against its naive twin, by operations read from bytes.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::config::{MAX_TIMEOUT_SECS, WhenFull};
use lvs_core::service::Persistence;
use lvs_core::{
    Config, Content, Director, Family, Fixed, Flow, Method, Packet, Protocol, Scheduler, Seed, ServerConfig,
    ServiceKey, Store, TcpFlags, Tick, Tunnel, Weight,
};

use twin::fast::{By, verdicts};
use twin::{Answer, Manner, Twin};

use crate::bytes::Bytes;

#[path = "../../lvs-core/tests/twin/mod.rs"]
#[expect(clippy::unwrap_used, reason = "the twin is test code: it stops where it cannot go on")]
mod twin;

const CAPACITY: usize = 16;

/// Runs the operations that `data` stands for on a `Heap` director (one by one), others (in batches, and by the fast
/// tier), a `Fixed` one and the twin.
///
/// # Panics
///
/// When they do not all agree on every packet and every list of servers.
pub fn director(data: &[u8]) {
    let mut bytes = Bytes::of(data);
    let mut config = Config::new(Seed::from_bytes([bytes.next(); 16]));
    let switches = bytes.next();
    config.when_full = WhenFull::Refuse;
    config.tuning.expire_nodest_conn = switches & 1 != 0;
    config.tuning.sloppy_tcp = switches & 2 != 0;
    config.tuning.conn_reuse_mode = u32::from(switches >> 2 & 3);
    config.tuning.expire_quiescent_template = switches & 16 != 0;
    // The twin forgets nothing.
    (config.tuning.lblc_expiration, config.tuning.lblcr_expiration) = (MAX_TIMEOUT_SECS, MAX_TIMEOUT_SECS);
    let mut twin = Twin::new(&config, CAPACITY);
    let mut single = Director::new(config.clone(), crate::small_store(CAPACITY));
    let mut batched = Director::new(config.clone(), crate::small_store(CAPACITY));
    let mut fast = Director::new(config.clone(), crate::small_store(CAPACITY));
    let mut fixed = Director::new(config, Fixed::<CAPACITY, 8, 64, 8, 256>::new());
    let mut now = Tick::from_millis(1_000);
    // A server takes a place until its connections are gone; 64 places are never all taken by these few addresses.
    while !bytes.is_empty() {
        let step = Step::read(&mut bytes);
        if let Step::Wait(millis) = step {
            now = now.plus_millis(millis);
        }
        let expected = expect(&mut twin, now, &step);
        assert_eq!(apply(&mut single, now, &step, By::One), expected, "{step:?}");
        assert_eq!(apply(&mut batched, now, &step, By::Batch), expected, "in a batch: {step:?}");
        assert_eq!(apply(&mut fast, now, &step, By::Fast), expected, "by the fast tier: {step:?}");
        assert_eq!(apply(&mut fixed, now, &step, By::One), expected, "fixed: {step:?}");
        for key in KEYS {
            let show =
                |s: &lvs_core::service::Server| (s.address(), s.active(), s.inactive(), s.is_overloaded());
            let listed: Vec<_> = single.servers(key).map(|(_, server)| show(server)).collect();
            assert_eq!(listed, twin.servers(key));
        }
        assert_eq!(single.counters().live as usize, twin.live());
        let server = |id| single.server(id).map(lvs_core::service::Server::address);
        let mut templates: Vec<_> = single
            .templates(now)
            .filter_map(|template| Some((template.client, server(template.server)?, template.connections)))
            .collect();
        templates.sort();
        assert_eq!(templates, twin.templates(now));
    }
}

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
const KEYS: [ServiceKey; 4] = [
    ServiceKey::tcp(VIP, 80),
    ServiceKey::udp(VIP, 53),
    ServiceKey::Mark { family: Family::V4, mark: 5 },
    ServiceKey::tcp(VIP, 0),
];

#[derive(Debug)]
enum Step {
    Packets(Vec<Packet>),
    AddService(ServiceKey, Manner),
    EditService(ServiceKey, Manner),
    RemoveService(ServiceKey),
    AddServer(ServiceKey, ServerConfig),
    EditServer(ServiceKey, ServerConfig),
    RemoveServer(ServiceKey, SocketAddr),
    Wait(u64),
    Sweep,
}

impl Step {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let kind = bytes.next();
        let key = KEYS[usize::from(kind >> 4) % KEYS.len()];
        match kind % 12 {
            0 => Self::AddService(key, manner(bytes)),
            1 => Self::EditService(key, manner(bytes)),
            2 => Self::RemoveService(key),
            3 | 4 => Self::AddServer(key, server(bytes)),
            5 => Self::EditServer(key, server(bytes)),
            6 => Self::RemoveServer(key, address(bytes.next())),
            7 => Self::Wait(u64::from(bytes.next()) * u64::from(bytes.next()) * 4),
            8 => Self::Sweep,
            _ => Self::Packets((0..=bytes.next() % 40).map(|_| packet(bytes)).collect()),
        }
    }
}

fn manner(bytes: &mut Bytes<'_>) -> Manner {
    let scheduler = twin::SCHEDULERS[usize::from(bytes.next()) % twin::SCHEDULERS.len()];
    let how = bytes.next();
    let timeout = 1 + u32::from(how >> 2) * 4;
    let persistence = match how & 3 {
        0 | 1 => None,
        2 => Some(Persistence::new(timeout)),
        _ => Some(Persistence::new(timeout).with_mask(bytes.next() % 33)),
    };
    Manner { scheduler, persistence, one_packet: how & 0x80 != 0 }
}

fn address(byte: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, 11 + byte % 4).into(), 80)
}

fn server(bytes: &mut Bytes<'_>) -> ServerConfig {
    let (at, options) = (bytes.next(), bytes.next());
    let method = match options % 3 {
        0 => Method::Nat,
        1 => Method::Direct,
        _ => Method::Tunnel(Tunnel::IpIp),
    };
    let (upper, lower) = [(0, 0), (3, 0), (4, 2), (1, 1)][usize::from(options >> 2 & 3)];
    ServerConfig::new(address(at), method)
        .with_weight(Weight::from(u16::from(options >> 4 & 3)))
        .with_thresholds(upper, lower)
}

fn packet(bytes: &mut Bytes<'_>) -> Packet {
    let (who, what) = (bytes.next(), bytes.next());
    let client = SocketAddr::new(
        Ipv4Addr::new(192, 0, 2, who & 3).into(),
        if who & 0x3c == 0x3c { 20 } else { 1_000 + u16::from(who >> 2 & 3) },
    );
    let protocol = if who & 0x40 == 0 { Protocol::Tcp } else { Protocol::Udp };
    let content = match (what & 0x0f, protocol) {
        (0, _) => Content::Error,
        (1, _) => Content::Fragment,
        (flags, Protocol::Tcp) => Content::Tcp(TcpFlags::from_byte(flags | (what >> 1 & 0x10))),
        (_, Protocol::Udp | Protocol::Sctp) => Content::Udp,
    };
    // By its mark a packet may go to any address.
    let marked = what & 0x90 == 0x90;
    let vip = if marked && who & 2 != 0 { IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2)) } else { VIP };
    let vip = SocketAddr::new(vip, if protocol == Protocol::Tcp { 80 } else { 53 });
    let addresses = |source, destination| Flow::new(protocol, source, destination);
    let (flow, passing) = match what >> 5 & 3 {
        0 => (addresses(address(who >> 4), client), true),
        1 if what & 0x80 != 0 => (addresses(vip, client), true),
        _ => (addresses(client, vip), false),
    };
    // Both ends are IPv4.
    let flow = flow.unwrap_or(Flow {
        protocol,
        addresses: lvs_core::packet::Addresses::V4 {
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::UNSPECIFIED,
        },
        source_port: 0,
        destination_port: 0,
    });
    let packet = Packet::new(flow, content, 60).marked(if marked { 5 } else { 0 });
    if passing { packet.passing() } else { packet }
}

fn expect(twin: &mut Twin, now: Tick, step: &Step) -> (bool, Vec<Answer>) {
    let done = match *step {
        Step::Packets(ref packets) => {
            return (true, packets.iter().map(|packet| twin.decide(now, packet)).collect());
        }
        Step::AddService(key, manner) => twin.add_service(key, manner),
        Step::EditService(key, manner) => twin.edit_service(key, manner),
        Step::RemoveService(key) => twin.remove_service(key),
        Step::AddServer(key, ref config) => twin.add_server(key, config),
        Step::EditServer(key, ref config) => twin.edit_server(key, config),
        Step::RemoveServer(key, address) => twin.remove_server(key, address),
        Step::Wait(_) => true,
        Step::Sweep => {
            twin.sweep(now);
            true
        }
    };
    (done, Vec::new())
}

fn apply<S: Store<Scheduler = Scheduler>>(
    director: &mut Director<S>,
    now: Tick,
    step: &Step,
    by: By,
) -> (bool, Vec<Answer>) {
    let done = match *step {
        Step::Packets(ref packets) => {
            let verdicts = verdicts(director, now, packets, by);
            return (true, verdicts.into_iter().map(|verdict| Answer::of(director, verdict)).collect());
        }
        Step::AddService(key, manner) => director.add_service(key, manner.config()).is_ok(),
        Step::EditService(key, manner) => director.edit_service(key, manner.config()).is_ok(),
        Step::RemoveService(key) => director.remove_service(key).is_ok(),
        Step::AddServer(key, config) => director.add_server(key, config).is_ok(),
        Step::EditServer(key, config) => director.edit_server(key, config).is_ok(),
        Step::RemoveServer(key, address) => director.remove_server(key, address).is_ok(),
        Step::Wait(_) => true,
        Step::Sweep => {
            director.sweep(now, usize::MAX);
            true
        }
    };
    (done, Vec::new())
}
