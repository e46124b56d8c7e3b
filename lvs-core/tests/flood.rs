//! Floods of forged packets against the table: a new client is served, and nobody who has proved who it is pays for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::config::Defence;
use lvs_core::event::Cause;
use lvs_core::packet::Chunk;
use lvs_core::service::Persistence;
use lvs_core::*;
use proptest::prelude::*;
use support::*;

const SCTP: ServiceKey = ServiceKey::Address { protocol: Protocol::Sctp, address: VIP, port: 80 };
const SYN_ACK: Content = Content::Tcp(TcpFlags::SYN.with(TcpFlags::ACK));
const CAPACITY: usize = 128;

/// A director, its time, and the method of its servers.
struct World {
    director: Director<Heap>,
    now: Tick,
    method: Method,
}

impl World {
    fn new(method: Method, persistent: bool, defence: Defence, capacity: usize) -> Self {
        let mut config = config();
        config.tuning.sloppy_tcp = true;
        (config.tuning.drop_entry, config.tuning.secure_tcp) = (defence, defence);
        let mut director = Director::new(config, Heap::with_capacity(capacity));
        for key in [WEB, DNS, SCTP] {
            let mut service = scheduler("rr");
            if persistent {
                service = service.with_persistence(Persistence::new(300));
            }
            director.add_service(key, service).unwrap();
            director.add_server(key, server(1, method, 1)).unwrap();
        }
        Self { director, now: Tick::from_millis(1_000), method }
    }

    fn send(&mut self, key: ServiceKey, client: [u8; 4], port: u16, content: Content) -> Option<ConnId> {
        let verdict =
            self.director.decide(self.now, &request(key, client, port, content), Inspected::Nothing);
        forwarded(verdict).map(|forward| forward.connection)
    }

    /// What the server says, where that comes by here.
    fn reply(&mut self, key: ServiceKey, client: [u8; 4], port: u16, content: Content) {
        if self.method == Method::Nat {
            let ServiceKey::Address { protocol, .. } = key else { panic!("no address") };
            let verdict = self.director.decide(
                self.now,
                &answer(protocol, 1, client, port, content),
                Inspected::Nothing,
            );
            assert!(matches!(verdict, Verdict::Forward(_) | Verdict::Pass(_)), "{verdict:?}");
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        self.director.sweep_briefly(self.now, CAPACITY);
    }

    /// A client that is one: false when any of its packets is not forwarded.
    fn talks(&mut self, client: [u8; 4], port: u16) -> bool {
        let opened = self.send(WEB, client, port, SYN);
        self.reply(WEB, client, port, SYN_ACK);
        self.wait(30);
        opened.is_some() && self.says(client, port) && self.says(client, port)
    }

    fn says(&mut self, client: [u8; 4], port: u16) -> bool {
        // `sloppy_tcp` would let it begin anew.
        let known = self.knows(client, port);
        let sent = self.send(WEB, client, port, ACK);
        self.reply(WEB, client, port, ACK);
        known && sent.is_some()
    }

    fn knows(&self, client: [u8; 4], port: u16) -> bool {
        let source = (client, port).into();
        self.director.connections(self.now).any(|of| of.flow.source() == source)
    }

    /// Tries as a client's stack does, at once and after a second.
    fn serves_within_a_second(&mut self, client: [u8; 4]) -> bool {
        for port in 1..=2 {
            if self.talks(client, port) {
                return true;
            }
            for _ in 0..100 {
                self.wait(10);
            }
        }
        false
    }

    /// Counts of the servers and of the table agree with what is listed.
    fn balances(&mut self) {
        self.director.sweep(self.now, usize::MAX);
        let connections = self.director.connections(self.now).count();
        let templates = self.director.templates(self.now).count();
        assert_eq!(self.director.counters().live as usize, connections + templates);
        let servers = [WEB, DNS, SCTP].map(|key| {
            self.director.servers(key).map(|(_, of)| of.active() + of.inactive()).sum::<u32>() as usize
        });
        assert_eq!(servers.iter().sum::<usize>(), connections);
    }
}

/// What a forged source sends, and what the server says to it.
#[derive(Clone, Debug)]
struct Forged {
    key: ServiceKey,
    packets: Vec<Content>,
    /// The replies of a server that takes the packets for what they are.
    replies: Vec<Content>,
}

fn forged() -> impl Strategy<Value = Forged> {
    let tcp = [
        (vec![SYN], vec![SYN_ACK]),
        (vec![SYN, ACK], vec![SYN_ACK, RST]),
        (vec![SYN, ACK], vec![]),
        // An acknowledgement out of the window is answered by one; then the handshake is offered once more.
        (vec![SYN, ACK], vec![SYN_ACK, ACK, SYN_ACK]),
        (vec![SYN, ACK, ACK, ACK], vec![SYN_ACK]),
        (vec![ACK; 3], vec![RST]),
        (vec![ACK; 40], vec![]),
        (vec![SYN, FIN], vec![]),
        (vec![SYN, ACK, FIN], vec![]),
        (vec![SYN, RST], vec![]),
        (vec![Content::Tcp(TcpFlags::from_byte(0))], vec![]),
    ]
    .map(|(packets, replies)| Forged { key: WEB, packets, replies });
    let others = [
        Forged { key: DNS, packets: vec![Content::Udp], replies: vec![] },
        Forged { key: DNS, packets: vec![Content::Udp; 20], replies: vec![] },
        Forged { key: DNS, packets: vec![Content::Udp], replies: vec![Content::Udp] },
        Forged { key: DNS, packets: vec![Content::Udp; 40], replies: vec![Content::Udp] },
        Forged {
            key: SCTP,
            packets: vec![Content::Sctp(Chunk::Init)],
            replies: vec![Content::Sctp(Chunk::InitAck)],
        },
        Forged {
            key: SCTP,
            packets: [Chunk::Init, Chunk::CookieEcho, Chunk::Data].map(Content::Sctp).to_vec(),
            replies: [Chunk::InitAck, Chunk::Abort].map(Content::Sctp).to_vec(),
        },
    ];
    prop::sample::select(tcp.into_iter().chain(others).collect::<Vec<_>>())
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![Just(Method::Nat), Just(Method::Direct), Just(Method::Tunnel(Tunnel::IpIp))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn after_any_flood_a_new_client_is_served_and_who_has_talked_both_ways_is_still_there(
        method in method(),
        persistent in any::<bool>(),
        automatic in any::<bool>(),
        kinds in prop::collection::vec(forged(), 1..3),
        // Up to two entries for each, in a table of 128.
        clients in 0_u8..50,
        times in 1_u32..4,
        pace in prop_oneof![Just(0_u64), Just(1), Just(20)],
    ) {
        let defence = if automatic { Defence::Automatic } else { Defence::Never };
        let mut world = World::new(method, persistent, defence, CAPACITY);
        for client in 0..clients {
            prop_assert!(world.talks([198, 51, 100, client], 5_000));
        }
        for number in 0..times * CAPACITY as u32 {
            let Forged { key, packets, replies } = &kinds[number as usize % kinds.len()];
            let [.., high, low] = number.to_be_bytes();
            let from = [11, 7, high, low];
            for &content in packets {
                world.send(*key, from, 1_000, content);
            }
            for &content in replies {
                world.reply(*key, from, 1_000, content);
            }
            world.wait(pace);
        }
        prop_assert!(world.serves_within_a_second([203, 0, 113, 1]), "a new client");
        if method == Method::Nat {
            for client in 0..clients {
                prop_assert!(world.says([198, 51, 100, client], 5_000), "client {client} is gone");
            }
        }
        world.balances();
    }
}

#[test]
fn a_client_comes_through_its_handshake_while_the_flood_goes_on() {
    for method in [Method::Nat, Method::Direct] {
        let mut world = World::new(method, false, Defence::Never, 4_096);
        let mut number = 0_u32;
        let mut flood = |world: &mut World, millis: u64| {
            // 1,000 forged connections a second, of two packets each: the table is gone through in 4 s.
            for _ in 0..millis {
                number += 1;
                let [_, a, b, c] = number.to_be_bytes();
                for content in [SYN, ACK] {
                    world.send(WEB, [11, a, b, c], 1_000, content);
                }
                world.wait(1);
            }
        };
        flood(&mut world, 10_000);
        for port in 1_001..=1_020 {
            let client = [203, 0, 113, 1];
            assert!(world.send(WEB, client, port, SYN).is_some());
            world.reply(WEB, client, port, SYN_ACK);
            flood(&mut world, 300);
            assert!(world.says(client, port), "{method:?}: gone within 300 ms");
            for _ in 0..20 {
                flood(&mut world, 50);
                assert!(world.says(client, port), "{method:?}: gone within a second");
            }
        }
    }
}

#[test]
fn a_long_one_way_connection_outlives_a_flood_of_short_ones() {
    let mut world = World::new(Method::Direct, false, Defence::Never, CAPACITY);
    let client = [203, 0, 113, 1];
    for content in [SYN; 1].into_iter().chain([ACK; 30]) {
        world.send(WEB, client, 1, content);
    }
    for number in 0..20_000_u32 {
        let [.., high, low] = number.to_be_bytes();
        for content in [SYN, ACK, ACK] {
            world.send(WEB, [11, 7, high, low], 1_000, content);
        }
        world.wait(5);
    }
    assert!(world.says(client, 1));
    let counters = world.director.counters();
    assert!(counters.reclaimed_one_way > 19_000, "{counters:?}");
    let events = core::iter::from_fn(|| world.director.poll_event());
    let causes =
        events.filter_map(|event| if let Event::Closed { cause, .. } = event { Some(cause) } else { None });
    assert!(causes.into_iter().all(|cause| cause == Cause::OneWay));
}

#[test]
fn the_one_forged_entry_among_a_thousand_proven_connections_makes_room() {
    let capacity = 1_024;
    let mut world = World::new(Method::Nat, false, Defence::Never, capacity);
    for number in 0..capacity as u32 - 1 {
        let [.., high, low] = number.to_be_bytes();
        assert!(world.talks([198, 51, high, low], 5_000));
    }
    for port in 1..=1_000 {
        world.send(WEB, [11, 0, 0, 1], port, SYN);
    }
    assert_eq!(world.director.counters().live as usize, capacity);
    assert!(world.serves_within_a_second([203, 0, 113, 1]));
    // Now nothing is left that could go, and whoever comes is refused.
    assert!(!world.serves_within_a_second([203, 0, 113, 2]));
    assert!(world.director.counters().of(Reason::TableFull) > 0);
    for number in 0..capacity as u32 - 1 {
        let [.., high, low] = number.to_be_bytes();
        assert!(world.says([198, 51, high, low], 5_000));
    }
}

#[test]
fn automatic_defences_are_on_while_the_table_is_short() {
    let mut config = config();
    config.tuning.drop_packet = Defence::Automatic;
    let mut director = Director::new(config, Heap::with_capacity(160));
    director.add_service(WEB, scheduler("rr")).unwrap();
    director.add_server(WEB, server(1, Method::Direct, 1)).unwrap();
    let mut refused = |from: u16, to: u16, second| {
        let now = Tick::from_millis(1_000).plus_secs(second);
        director.sweep(now, usize::MAX);
        (from..to)
            .filter(|&port| {
                let packet = request(WEB, [192, 0, 2, 7], port, SYN);
                director.decide(now, &packet, Inspected::Nothing) == Verdict::Drop(Reason::Defence)
            })
            .count()
    };
    assert_eq!(refused(1_001, 1_152, 0), 0, "a sixteenth of it would still be free");
    assert_eq!(refused(1_152, 1_252, 2), 10, "one in am_droprate");
    assert_eq!(refused(1_252, 1_352, 100), 0, "they have expired");
}

#[test]
fn a_ftp_control_connection_outlives_the_data_connection_that_was_given_up() {
    let mut config = config();
    config.tuning.sloppy_tcp = true;
    let ftp = ServiceKey::tcp(VIP, 21);
    let mut director = Director::new(config, Heap::with_capacity(4));
    director.add_service(ftp, scheduler("rr")).unwrap();
    let config = ServerConfig::new("10.0.0.11:21".parse().unwrap(), Method::Nat);
    director.add_server(ftp, config).unwrap();
    let now = Tick::from_millis(1_000);
    let client = [203, 0, 113, 1];
    let control = forwarded(director.decide(now, &request(ftp, client, 1, SYN), Inspected::Nothing)).unwrap();
    let flow = Flow::new(Protocol::Tcp, config.address, (client, 1).into()).unwrap();
    for content in [SYN_ACK, ACK] {
        let _ = director.decide(now, &request(ftp, client, 1, ACK), Inspected::Nothing);
        let _ = director.decide(now, &Packet::new(flow, content, 60).passing(), Inspected::Nothing);
    }
    let expected = conn::Expectation::FromClient { server_port: 5_000 };
    director.expect(now, control.connection, expected).unwrap();
    let now = now.plus_secs(30);
    for port in 100..120 {
        assert!(
            forwarded(director.decide(now, &request(ftp, [11, 0, 0, 1], port, SYN), Inspected::Nothing))
                .is_some()
        );
    }
    assert!(director.connection(control.connection, now).is_some_and(|of| of.flow.source_port == 1));
}
