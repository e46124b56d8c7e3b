//! Batches among more connections than the caches keep, where look-ups go another way: cells and slots are asked for
//! ahead of their use. The naive twin, a director that decides one by one, and directors that decide in batches, with a
//! lent read-ahead and without, must agree on every packet and on the whole table.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
#[expect(dead_code, reason = "the services of these tests never change")]
mod twin;

use core::cell::Cell;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use lvs_core::accel::ReadAhead;
use lvs_core::config::WhenFull;
use lvs_core::*;
use proptest::prelude::*;
use support::*;
use twin::fast::{By, verdicts};
use twin::{Answer, Manner, Twin};

/// Connections that there are from the start. Up to 8,192 of them a director takes its table to be in the caches.
const CROWD: u32 = 8_600;
const CAPACITY: usize = 9_000;

const WEB6: ServiceKey = ServiceKey::tcp(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1)), 80);
const SERVERS: u8 = 4;
/// Not 0, so that at tick 0 nothing has expired.
const START: Tick = Tick::from_millis(1_000);

thread_local! {
    /// How often a director has asked for the memory of several packets at one time.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// A read-ahead that brings nothing near, but takes note that it was called for a batch. A single address is where the
/// replies of a new connection will be found.
fn note(addresses: &[*const u8]) {
    if addresses.len() > 1 {
        ASKED.set(ASKED.get() + 1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Packets(Vec<Packet>),
    Wait(u64),
    Sweep,
}

/// The service that flow number `number` belongs to: mostly IPv4's.
fn service(number: u32) -> ServiceKey {
    match number % 8 {
        0..5 => WEB,
        5..7 => WEB6,
        _ => DNS,
    }
}

fn client(number: u32) -> SocketAddr {
    let [_, _, high, low] = number.to_be_bytes();
    let address = match service(number).family() {
        Family::V4 => IpAddr::from([198, 18, high, low]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, number as u16]),
    };
    SocketAddr::new(address, 1_000 + (number % 4) as u16)
}

fn server_of(key: ServiceKey, number: u8) -> SocketAddr {
    match key.family() {
        Family::V4 => address(number),
        Family::V6 => SocketAddr::new([0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(number)].into(), 80),
    }
}

fn servers(key: ServiceKey) -> impl Iterator<Item = ServerConfig> {
    let method = |number| match number {
        2 => Method::Direct,
        3 => Method::Tunnel(Tunnel::IpIp),
        _ => Method::Nat,
    };
    (1..=SERVERS).map(move |number| ServerConfig::new(server_of(key, number), method(number)))
}

/// A client's packet: a datagram where that is the service's protocol.
fn of_client(number: u32, content: Content) -> Packet {
    let key = service(number);
    let content = if key == DNS { Content::Udp } else { content };
    request(key, client(number).ip(), client(number).port(), content)
}

/// A packet to that client through the director, from a real server or, as under DR and TUN, from the virtual address.
fn to_client(number: u32, server: u8, content: Content) -> Packet {
    let request = of_client(number, content);
    let mut flow = request.flow.reversed();
    if (1..=SERVERS).contains(&server) {
        let address = server_of(service(number), server);
        flow = Flow::new(flow.protocol, address, flow.destination()).unwrap();
    }
    Packet { flow, ..request.passing() }
}

fn packet() -> impl Strategy<Value = Packet> {
    // Some of the crowd, some again and again, and some that are new; so that packets of one batch meet.
    let number = prop_oneof![
        4 => 0..CROWD,
        3 => 100_u32..116,
        2 => CROWD..CROWD + 16,
        1 => CROWD..CROWD + 1_000,
    ];
    let content = prop_oneof![10 => Just(ACK), 3 => Just(SYN), 1 => Just(FIN), 1 => Just(RST)];
    (number, content, 0..12_u8).prop_map(|(number, content, server)| match server {
        0..=SERVERS => to_client(number, server, content),
        _ => of_client(number, content),
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(packet(), 1..100).prop_map(Step::Packets),
        2 => prop_oneof![4 => 0_u64..2_000, 1 => 2_000_u64..130_000].prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ]
}

fn full_config() -> Config {
    let mut config = config();
    config.when_full = WhenFull::Refuse;
    config
}

/// The first two packets of each of the crowd.
fn crowd() -> impl Iterator<Item = [Packet; 2]> {
    (0..CROWD).map(|number| [of_client(number, SYN), of_client(number, ACK)])
}

/// The twin with the crowd in it, made once for all cases.
static TWIN: LazyLock<Twin> = LazyLock::new(|| {
    let mut twin = Twin::new(&full_config(), CAPACITY);
    for key in [WEB, WEB6, DNS] {
        twin.add_service(key, Manner { scheduler: "rr", persistence: None, one_packet: false });
        servers(key).for_each(|config| _ = twin.add_server(key, &config));
    }
    for [first, second] in crowd() {
        // Each connection is a new one. Not to look for it among thousands fills the table in a moment.
        twin.schedule(START.as_millis() / 4, &first);
        twin.decide(START, &second);
    }
    twin
});

fn director(ahead: Option<ReadAhead>) -> Director<Heap> {
    let mut director = Director::new(full_config(), Heap::with_capacity(CAPACITY));
    director.set_read_ahead(ahead);
    for key in [WEB, WEB6, DNS] {
        director.add_service(key, scheduler("rr")).unwrap();
        servers(key).for_each(|config| _ = director.add_server(key, config).unwrap());
    }
    for packet in crowd().flatten() {
        assert!(forwarded(director.decide(START, &packet, Inspected::Nothing)).is_some());
        while director.poll_event().is_some() {}
    }
    assert!(director.counters().live > 8_192);
    director
}

fn events(director: &mut Director<Heap>) -> Vec<Event> {
    core::iter::from_fn(|| director.poll_event()).collect()
}

/// Everything that packets have changed in a director.
fn assert_same_tables(one: &Director<Heap>, other: &Director<Heap>, how: &str) {
    assert!(one.connections(Tick::ZERO).eq(other.connections(Tick::ZERO)), "connections, {how}");
    for key in [WEB, WEB6, DNS] {
        let live = |director: &Director<Heap>| {
            let servers: Vec<_> = director.servers(key).map(|(_, server)| server.meter().live()).collect();
            (director.service(key).unwrap().meter().live(), servers)
        };
        assert_eq!(live(one), live(other), "traffic, {how}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn batches_among_many_connections_equal_the_naive_twin(steps in prop::collection::vec(step(), 1..24)) {
        let mut twin = TWIN.clone();
        let mut single = director(None);
        let mut others = [
            ("fast with read-ahead", By::Fast, director(Some(note))),
            ("fast without", By::Fast, director(None)),
            ("batches with read-ahead", By::Batch, director(Some(note))),
        ];
        let mut now = START;
        ASKED.set(0);
        let first = (0..CROWD).step_by(97).map(|number| of_client(number, ACK)).collect();
        for step in [Step::Packets(first)].iter().chain(&steps) {
            match step {
                Step::Packets(packets) => {
                    let expected = verdicts(&mut single, now, packets, By::One);
                    for (packet, verdict) in packets.iter().zip(&expected) {
                        prop_assert_eq!(Answer::of(&single, *verdict), twin.decide(now, packet), "{:?}", packet);
                    }
                    for (how, by, director) in &mut others {
                        prop_assert_eq!(&verdicts(director, now, packets, *by), &expected, "{}", how);
                    }
                    prop_assert!(ASKED.get() > 0, "the read-ahead is used");
                }
                Step::Wait(millis) => now = now.plus_millis(*millis),
                Step::Sweep => {
                    twin.sweep(now);
                    single.sweep(now, usize::MAX);
                    others.iter_mut().for_each(|(_, _, director)| _ = director.sweep(now, usize::MAX));
                }
            }
            let happened = events(&mut single);
            for (how, _, director) in &mut others {
                prop_assert_eq!(director.counters(), single.counters(), "{}", how);
                prop_assert_eq!(&events(director), &happened, "{}", how);
            }
            prop_assert_eq!(single.counters().live as usize, twin.live());
        }
        for (how, _, director) in &others {
            assert_same_tables(director, &single, how);
        }
        for key in [WEB, WEB6, DNS] {
            let listed: Vec<_> = single
                .servers(key)
                .map(|(_, server)| (server.address(), server.active(), server.inactive(), server.is_overloaded()))
                .collect();
            prop_assert_eq!(listed, twin.servers(key));
        }
    }
}
