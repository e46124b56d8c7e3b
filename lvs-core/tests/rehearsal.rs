//! What a rehearsal says is what the director then does, and it leaves no trace: a twin that was never asked goes on
//! the same. All schedulers, persistence of every kind, methods, thresholds, weights, draining, tables with and without
//! room, chance.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::{IpAddr, Ipv6Addr};

use lvs_core::config::WhenFull;
use lvs_core::conn::Expectation;
use lvs_core::service::{Persistence, PersistenceEngine};
use lvs_core::*;
use proptest::prelude::*;
use support::*;

const FTP: ServiceKey = ServiceKey::tcp(VIP, 21);
const EVERY: ServiceKey = ServiceKey::tcp(VIP, 0);
const SIP: ServiceKey = ServiceKey::udp(VIP, 5060);
const MARK: ServiceKey = ServiceKey::Mark { family: Family::V4, mark: 7 };
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const WEB6: ServiceKey = ServiceKey::tcp(VIP6, 80);
const DATA_PORT: u16 = 45_000;

/// What the services are, and how the director behaves.
#[derive(Clone, Debug)]
struct Setting {
    schedulers: Vec<usize>,
    persistent: u8,
    one_packet: bool,
    capacity: usize,
    when_full: WhenFull,
    switches: u16,
    weights: Vec<u16>,
    thresholds: bool,
    seed: u8,
}

#[derive(Clone, Debug)]
enum Step {
    Packet(Packet, u8),
    Expect,
    Weight(u8, u16),
    Remove(u8),
    Wait(u64),
    Sweep,
}

const SERVICES: [ServiceKey; 7] = [WEB, DNS, FTP, EVERY, SIP, MARK, WEB6];

fn setting() -> impl Strategy<Value = Setting> {
    let schedulers = prop::collection::vec(any::<prop::sample::Index>(), SERVICES.len());
    let capacity = prop_oneof![Just(3), Just(9), Just(48), Just(600), Just(1_000)];
    let weights = prop::collection::vec(prop_oneof![4 => 1_u16..4, 1 => Just(0)], 4);
    let when_full = prop_oneof![Just(WhenFull::Refuse), Just(WhenFull::Reclaim)];
    (
        schedulers,
        any::<u8>(),
        any::<bool>(),
        capacity,
        when_full,
        any::<u16>(),
        weights,
        any::<bool>(),
        any::<u8>(),
    )
        .prop_map(
            |(
                schedulers,
                persistent,
                one_packet,
                capacity,
                when_full,
                switches,
                weights,
                thresholds,
                seed,
            )| {
                let of = |index: prop::sample::Index| index.index(Scheduler::NAMES.len());
                let schedulers = schedulers.into_iter().map(of).collect();
                Setting {
                    schedulers,
                    persistent,
                    one_packet,
                    capacity,
                    when_full,
                    switches,
                    weights,
                    thresholds,
                    seed,
                }
            },
        )
}

fn packet() -> impl Strategy<Value = Packet> {
    let client = (1_u8..40).prop_map(|last| [192, 0, 2, last]);
    let port = prop_oneof![9 => 1_000_u16..1_030, 1 => Just(0), 1 => Just(20)];
    let content = prop_oneof![
        6 => Just(SYN), 4 => Just(ACK), 1 => Just(FIN), 1 => Just(RST), 1 => Just(Content::Error),
    ];
    let to = prop_oneof![
        3 => Just(WEB), 2 => Just(DNS), 1 => Just(FTP), 1 => Just(ServiceKey::tcp(VIP, 4_000)), 2 => Just(SIP),
        1 => Just(ServiceKey::tcp(VIP, DATA_PORT)), 1 => Just(WEB6), 1 => Just(ServiceKey::udp(VIP, 9)),
    ];
    (client, port, content, to, 0_u8..9, 0_u8..6).prop_map(|(client, port, content, key, number, marked)| {
        let ServiceKey::Address { protocol, .. } = key else { unreachable!() };
        let content =
            if protocol == Protocol::Udp && content != Content::Error { Content::Udp } else { content };
        let from: IpAddr = if key == WEB6 {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, client[3].into()))
        } else {
            client.into()
        };
        let mut asked = request(key, from, port, content);
        asked.mark = if marked == 0 { 7 } else { 0 };
        match number {
            1..4 if key != WEB6 => answer(protocol, number, client, port, content),
            4 => Packet { flow: asked.flow.reversed(), ..asked.passing() },
            5 if marked == 0 => Packet { path: Path::Captured, ..asked },
            _ => asked,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (packet(), 0_u8..3).prop_map(|(packet, call)| Step::Packet(packet, call)),
        1 => Just(Step::Expect),
        1 => (1_u8..5, 0_u16..4).prop_map(|(number, weight)| Step::Weight(number, weight)),
        1 => (1_u8..5).prop_map(Step::Remove),
        2 => prop_oneof![0_u64..2_000, 2_000_u64..130_000].prop_map(Step::Wait),
        2 => Just(Step::Sweep),
    ]
}

fn address_for(key: ServiceKey, number: u8) -> core::net::SocketAddr {
    if key == WEB6 {
        (Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, number.into()), 80).into()
    } else {
        address(number)
    }
}

fn director(setting: &Setting) -> Director<Heap> {
    let mut config = Config::new(Seed::from_bytes([setting.seed; 16]));
    config.when_full = setting.when_full;
    let on = |bit: u16| setting.switches & 1 << bit != 0;
    let tuning = &mut config.tuning;
    tuning.conn_reuse_mode = u32::from(on(0)) + 2 * u32::from(on(10));
    tuning.expire_nodest_conn = on(1);
    tuning.expire_quiescent_template = on(2);
    tuning.sloppy_tcp = on(3);
    tuning.schedule_icmp = on(4);
    tuning.nat_icmp_send = on(5);
    tuning.cache_bypass = on(6);
    let mut director = Director::new(config, Heap::with_capacity(setting.capacity));
    director.set_sync_role(on(7), on(8) && on(9));
    for (number, (key, name)) in SERVICES.into_iter().zip(&setting.schedulers).enumerate() {
        let mut service = scheduler(Scheduler::NAMES[*name]);
        if setting.persistent & 1 << number != 0 || matches!(key, EVERY | FTP) && on(11) {
            let mut persistence = Persistence::new(100);
            persistence.engine = (key == SIP).then_some(PersistenceEngine::Sip);
            service.persistence = Some(persistence);
        }
        service.one_packet = setting.one_packet && key == DNS;
        director.add_service(key, service).unwrap();
        let methods = [Method::Nat, Method::Direct, Method::Nat, Method::Tunnel(Tunnel::IpIp)];
        for (number, (method, weight)) in (1..).zip(methods.into_iter().zip(&setting.weights)) {
            let method = if key == FTP && number < 3 { Method::Nat } else { method };
            let mut config =
                ServerConfig::new(address_for(key, number), method).with_weight(Weight::from(*weight));
            if setting.thresholds && number == 1 {
                config = config.with_thresholds(3, 2);
            }
            let _ = director.add_server(key, config);
        }
    }
    director
}

/// All of a verdict but the entry's number, which a new connection of a rehearsal need not share.
fn essence(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Forward(forward) => Verdict::Forward(Forward { connection: ConnId::NONE, ..forward }),
        Verdict::Drop(_) | Verdict::Inspect | Verdict::Pass(_) | Verdict::Reject(_) => verdict,
    }
}

fn decide(director: &mut Director<Heap>, now: Tick, packet: &Packet, call: u8) -> Verdict {
    let calls: [&[u8]; 3] = [b"one@a", b"two@b", b"three@c"];
    match director.decide(now, packet, Inspected::Nothing) {
        Verdict::Inspect => {
            director.decide(now, packet, Inspected::CallId(calls.get(usize::from(call)).copied()))
        }
        verdict @ (Verdict::Forward(_) | Verdict::Drop(_) | Verdict::Pass(_) | Verdict::Reject(_)) => verdict,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_rehearsal_says_what_is_then_done_and_changes_nothing(
        setting in setting(),
        steps in prop::collection::vec(step(), 1..160),
    ) {
        let (mut asked, mut twin) = (director(&setting), director(&setting));
        let mut now = Tick::from_millis(5);
        for step in steps {
            match step {
                Step::Packet(packet, call) => {
                    let mut rehearsal = asked.rehearsal(&packet).unwrap();
                    let said = decide(&mut rehearsal.director, now, &packet, call);
                    let service = asked.service_of(&packet);
                    let done = decide(&mut asked, now, &packet, call);
                    prop_assert_eq!(essence(said), essence(done));
                    prop_assert_eq!(done, decide(&mut twin, now, &packet, call), "asking has changed something");
                    if let (Verdict::Forward(said), Verdict::Forward(done)) = (said, done)
                        && let Some(original) = rehearsal.original(said.connection)
                        && setting.capacity > 600
                    {
                        prop_assert_eq!(original, done.connection);
                        let before = rehearsal.director.connection(said.connection, now);
                        prop_assert_eq!(before.map(|of| of.state), asked.connection(original, now).map(|of| of.state));
                    }
                    if let (Verdict::Reject(Reason::NoServer), Some(key)) = (done, service) {
                        prop_assert!(asked.service(key).is_some());
                    }
                }
                Step::Expect => {
                    let controls: Vec<_> = asked
                        .connections(now)
                        .filter(|of| of.flow.destination_port == 21 && of.method == Method::Nat)
                        .map(|of| of.id)
                        .collect();
                    for control in controls {
                        let data = Expectation::FromClient { server_port: DATA_PORT };
                        let _ = (asked.expect(now, control, data), twin.expect(now, control, data));
                    }
                }
                Step::Weight(number, weight) => {
                    for key in SERVICES {
                        let method = if key == FTP { Method::Nat } else { Method::Direct };
                        let config = ServerConfig::new(address_for(key, number), method)
                            .with_weight(Weight::from(weight));
                        let config = if weight == 0 { config.with_draining() } else { config };
                        prop_assert_eq!(asked.edit_server(key, config), twin.edit_server(key, config));
                    }
                }
                Step::Remove(number) => {
                    for key in [WEB, EVERY] {
                        let address = address_for(key, number);
                        prop_assert_eq!(asked.remove_server(key, address), twin.remove_server(key, address));
                    }
                }
                Step::Wait(millis) => now = now.plus_millis(millis),
                Step::Sweep => {
                    prop_assert_eq!(asked.sweep(now, 300), twin.sweep(now, 300));
                }
            }
            prop_assert_eq!(asked.counters(), twin.counters());
        }
        let (all, same) = (asked.connections(now).collect::<Vec<_>>(), twin.connections(now).collect::<Vec<_>>());
        prop_assert_eq!(all, same);
        loop {
            let event = asked.poll_event();
            prop_assert_eq!(&event, &twin.poll_event());
            if event.is_none() {
                break;
            }
        }
    }
}

#[test]
fn what_a_rehearsal_makes_has_no_original() {
    let mut director = Director::new(config(), Heap::with_capacity(64));
    director.add_service(WEB, scheduler("rr")).unwrap();
    director.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
    let first = request(WEB, [192, 0, 2, 7], 1_000, SYN);
    let mut rehearsal = director.rehearsal(&first).unwrap();
    let forward = forwarded(rehearsal.director.decide(Tick::ZERO, &first, Inspected::Nothing)).unwrap();
    assert_eq!(rehearsal.original(forward.connection), None);
    assert_eq!((director.counters().live, rehearsal.director.counters().live), (0, 1));
}
