//! The director against a naive twin: lists instead of tables, walks instead of hashes, the rules written down once
//! more as plainly as possible. Random operations must give equal verdicts and equal listings, on both stores, one
//! by one and in batches.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
mod twin;

use lvs_core::config::{MAX_TIMEOUT_SECS, WhenFull};
use lvs_core::packet::Addresses;
use lvs_core::service::Persistence;
use lvs_core::stats::Traffic;
use lvs_core::*;
use proptest::prelude::*;
use support::*;
use twin::fast::{By, verdicts};
use twin::{Manner, Twin};

const CAPACITY: usize = 24;

/// The service for what no other one of the address takes.
const ALL_PORTS: ServiceKey = ServiceKey::tcp(VIP, 0);
const OTHER_PORT: ServiceKey = ServiceKey::tcp(VIP, 81);

#[derive(Clone, Debug)]
enum Step {
    Packets(Vec<Packet>),
    AddService(ServiceKey, Manner),
    EditService(ServiceKey, Manner),
    RemoveService(ServiceKey),
    AddServer(ServiceKey, ServerConfig),
    EditServer(ServiceKey, ServerConfig),
    RemoveServer(ServiceKey, u8),
    Wait(u64),
    Sweep,
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        4 => Just(SYN),
        4 => Just(ACK),
        2 => Just(FIN),
        2 => Just(RST),
        1 => Just(Content::Tcp(TcpFlags::from_byte(0))),
        1 => Just(Content::Error),
        1 => Just(Content::Fragment),
    ]
}

fn key() -> impl Strategy<Value = ServiceKey> {
    prop_oneof![
        3 => Just(WEB),
        2 => Just(DNS),
        1 => Just(ALL_PORTS),
        1 => Just(ServiceKey::Mark { family: Family::V4, mark: 5 }),
    ]
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![Just(Method::Nat), Just(Method::Direct), Just(Method::Tunnel(Tunnel::IpIp))]
}

fn server_config() -> impl Strategy<Value = ServerConfig> {
    (1_u8..5, method(), 0_u16..4, prop_oneof![3 => Just((0, 0)), 1 => Just((3, 0)), 1 => Just((4, 2))])
        .prop_map(|(number, method, weight, (upper, lower))| {
            server(number, method, weight).with_thresholds(upper, lower)
        })
}

fn packet() -> impl Strategy<Value = Packet> {
    let client = (1_u8..5).prop_map(|last| [192, 0, 2, last]);
    let port = prop_oneof![9 => 1_000_u16..1_004, 1 => Just(20)];
    (
        client,
        port,
        content(),
        prop_oneof![2 => Just(WEB), 2 => Just(DNS), 1 => Just(OTHER_PORT)],
        0_u8..8,
        prop_oneof![5 => Just(0), 1 => Just(5)],
    )
        .prop_map(|(client, port, content, key, number, mark)| {
            let udp = key == DNS;
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let content = if udp && content.protocol().is_some() { Content::Udp } else { content };
            match number {
                1..5 => answer(protocol, number, client, port, content),
                // The real server of DR and TUN answers as the virtual address.
                5 => {
                    let request = request(key, client, port, content);
                    Packet { flow: request.flow.reversed(), ..request.passing() }
                }
                // By its mark a packet may go to any address.
                6 => {
                    let request = request(key, client, port, content);
                    let other = Addresses::new(client.into(), [10, 99, 0, 1 + client[3]].into()).unwrap();
                    Packet { flow: Flow { addresses: other, ..request.flow }, ..request.marked(5) }
                }
                _ => request(key, client, port, content).marked(mark),
            }
        })
}

fn manner() -> impl Strategy<Value = Manner> {
    let persistence = prop_oneof![
        3 => Just(None),
        2 => (1_u32..400).prop_map(|timeout| Some(Persistence::new(timeout))),
        1 => (1_u32..400, 0_u8..=32).prop_map(|(timeout, mask)| Some(Persistence::new(timeout).with_mask(mask))),
    ];
    (prop::sample::select(twin::SCHEDULERS), persistence, prop::bool::weighted(0.2))
        .prop_map(|(scheduler, persistence, one_packet)| Manner { scheduler, persistence, one_packet })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(packet(), 1..40).prop_map(Step::Packets),
        1 => (key(), manner()).prop_map(|(key, manner)| Step::AddService(key, manner)),
        1 => (key(), manner()).prop_map(|(key, manner)| Step::EditService(key, manner)),
        1 => key().prop_map(Step::RemoveService),
        4 => (key(), server_config()).prop_map(|(key, config)| Step::AddServer(key, config)),
        2 => (key(), server_config()).prop_map(|(key, config)| Step::EditServer(key, config)),
        2 => (key(), 1_u8..5).prop_map(|(key, number)| Step::RemoveServer(key, number)),
        2 => prop_oneof![0_u64..2_000, 2_000_u64..130_000].prop_map(Step::Wait),
        3 => Just(Step::Sweep),
    ]
}

fn tuning() -> impl Strategy<Value = (bool, u32, bool, bool)> {
    (any::<bool>(), 0_u32..4, any::<bool>(), any::<bool>())
}

/// Applies a step; the answers are those to its packets, if it has any.
fn apply<S: Store<Scheduler = Scheduler>>(
    director: &mut Director<S>,
    now: Tick,
    step: &Step,
    by: By,
) -> (bool, Vec<twin::Answer>) {
    let mut answers = Vec::new();
    let done = match *step {
        Step::Packets(ref packets) => {
            let verdicts = verdicts(director, now, packets, by);
            answers.extend(verdicts.into_iter().map(|verdict| twin::Answer::of(director, verdict)));
            true
        }
        Step::AddService(key, manner) => director.add_service(key, manner.config()).is_ok(),
        Step::EditService(key, manner) => director.edit_service(key, manner.config()).is_ok(),
        Step::RemoveService(key) => director.remove_service(key).is_ok(),
        Step::AddServer(key, config) => director.add_server(key, config).is_ok(),
        Step::EditServer(key, config) => director.edit_server(key, config).is_ok(),
        Step::RemoveServer(key, number) => director.remove_server(key, address(number)).is_ok(),
        Step::Wait(_) => true,
        Step::Sweep => {
            director.sweep(now, usize::MAX);
            true
        }
    };
    (done, answers)
}

/// Active and total connections per server follow from the table alone.
fn counts_match_the_table<S: Store>(director: &Director<S>, ids: u32) {
    let mut counts = vec![(0, 0); ids as usize];
    // At tick 0 nothing is expired, so the listing shows every entry that still counts.
    for connection in director.connections(Tick::ZERO) {
        let count = &mut counts[connection.server.index() as usize];
        count.0 += u32::from(connection.state.is_active());
        count.1 += 1;
    }
    for (id, count) in counts.into_iter().enumerate() {
        let server = director.server(ServerId::from_index(id as u32));
        let held = server.map_or((0, 0), |server| (server.active(), server.active() + server.inactive()));
        assert_eq!(held, count, "server {id}");
    }
}

/// What a service and its servers have counted.
fn traffic(director: &Director<Heap>, key: ServiceKey) -> (Option<Traffic>, Vec<Traffic>) {
    let service = director.service(key).map(|service| service.meter().live());
    (service, director.servers(key).map(|(_, server)| server.meter().live()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn director_equals_its_naive_twin(
        (nodest, reuse, sloppy, quiescent) in tuning(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut config = config();
        config.when_full = WhenFull::Refuse;
        config.tuning.expire_nodest_conn = nodest;
        config.tuning.conn_reuse_mode = reuse;
        config.tuning.sloppy_tcp = sloppy;
        config.tuning.expire_quiescent_template = quiescent;
        // The twin forgets nothing.
        (config.tuning.lblc_expiration, config.tuning.lblcr_expiration) = (MAX_TIMEOUT_SECS, MAX_TIMEOUT_SECS);
        let mut twin = Twin::new(&config, CAPACITY);
        let mut heap = Director::new(config.clone(), Heap::with_capacity(CAPACITY));
        let mut batched = Director::new(config.clone(), Heap::with_capacity(CAPACITY));
        let mut fast = Director::new(config.clone(), Heap::with_capacity(CAPACITY));
        let mut fixed = Director::new(config, Fixed::<CAPACITY, 128, 64, 8, 256>::new());
        // Not 0, so that at tick 0 nothing has expired.
        let mut now = Tick::from_millis(1_000);
        let start = [
            Step::AddService(WEB, Manner { scheduler: "rr", persistence: None, one_packet: false }),
            Step::AddServer(WEB, server(1, Method::Nat, 1)),
            Step::AddServer(WEB, server(2, Method::Direct, 2)),
        ];
        for step in start.iter().chain(&steps) {
            if let Step::Wait(millis) = step {
                now = now.plus_millis(*millis);
            }
            let expected = match step {
                Step::Packets(packets) => {
                    (true, packets.iter().map(|packet| twin.decide(now, packet)).collect())
                }
                Step::AddService(key, manner) => (twin.add_service(*key, *manner), Vec::new()),
                Step::EditService(key, manner) => (twin.edit_service(*key, *manner), Vec::new()),
                Step::RemoveService(key) => (twin.remove_service(*key), Vec::new()),
                Step::AddServer(key, config) => (twin.add_server(*key, config), Vec::new()),
                Step::EditServer(key, config) => (twin.edit_server(*key, config), Vec::new()),
                Step::RemoveServer(key, number) => (twin.remove_server(*key, address(*number)), Vec::new()),
                Step::Wait(_) => (true, Vec::new()),
                Step::Sweep => {
                    twin.sweep(now);
                    (true, Vec::new())
                }
            };
            prop_assert_eq!(&apply(&mut heap, now, step, By::One), &expected, "heap, at {:?}", step);
            prop_assert_eq!(&apply(&mut batched, now, step, By::Batch), &expected, "batch, at {:?}", step);
            prop_assert_eq!(&apply(&mut fast, now, step, By::Fast), &expected, "fast, at {:?}", step);
            prop_assert_eq!(&apply(&mut fixed, now, step, By::One), &expected, "fixed, at {:?}", step);
            prop_assert_eq!(heap.counters(), batched.counters());
            prop_assert_eq!(heap.counters(), fast.counters());
            prop_assert!(heap.connections(now).eq(fast.connections(now)));
            prop_assert_eq!(heap.counters().live as usize, twin.live());
            let mut templates: Vec<_> = heap
                .templates(now)
                .map(|t| (t.client, heap.server(t.server).unwrap().address(), t.connections))
                .collect();
            templates.sort();
            prop_assert_eq!(templates, twin.templates(now));
            for key in [WEB, DNS, ALL_PORTS] {
                prop_assert_eq!(traffic(&heap, key), traffic(&batched, key));
                prop_assert_eq!(traffic(&heap, key), traffic(&fast, key));
                let listed: Vec<_> = heap
                    .servers(key)
                    .map(|(_, s)| (s.address(), s.active(), s.inactive(), s.is_overloaded()))
                    .collect();
                prop_assert_eq!(listed, twin.servers(key));
            }
            counts_match_the_table(&heap, 64);
        }
    }
}
