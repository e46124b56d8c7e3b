//! A batch decides as one packet after the other would: the same verdicts, down to the places in the table, the same
//! table and the same events, also where packets of one batch make, find, end and displace each other's connections.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::IpAddr;

use lvs_core::config::WhenFull;
use lvs_core::conn::Expectation;
use lvs_core::service::Persistence;
use lvs_core::*;
use proptest::prelude::*;
use support::*;

/// A second virtual address with the same real servers: its connections have the same replies.
const OTHER_VIP: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 99, 0, 2));
const OTHER_WEB: ServiceKey = ServiceKey::tcp(OTHER_VIP, 80);
const FTP: ServiceKey = ServiceKey::tcp(VIP, 21);
const DATA_PORT: u16 = 45_000;
/// As many as fill a small table, so that new ones displace others.
const CAPACITY: usize = 48;

#[derive(Clone, Debug)]
enum Step {
    Packets(Vec<Packet>),
    /// Data connections are announced on the control connections that there are.
    Expect,
    Wait(u64),
    Sweep(usize),
}

fn packet() -> impl Strategy<Value = Packet> {
    let client = (1_u8..12).prop_map(|last| [192, 0, 2, last]);
    let port = prop_oneof![9 => 1_000_u16..1_006, 1 => Just(0)];
    let content = prop_oneof![5 => Just(SYN), 4 => Just(ACK), 1 => Just(FIN), 1 => Just(RST)];
    let service = prop_oneof![
        3 => Just(WEB), 2 => Just(OTHER_WEB), 2 => Just(DNS), 1 => Just(FTP),
        1 => Just(ServiceKey::tcp(VIP, DATA_PORT)),
    ];
    (client, port, content, service, 0_u8..7).prop_map(|(client, port, content, key, number)| {
        let content = if key == DNS { Content::Udp } else { content };
        let protocol = if key == DNS { Protocol::Udp } else { Protocol::Tcp };
        match number {
            1..3 => answer(protocol, number, client, port, content),
            // A server of DR answers as the virtual address.
            3 => {
                let request = request(key, client, port, content);
                Packet { flow: request.flow.reversed(), ..request.passing() }
            }
            _ => request(key, client, port, content),
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(packet(), 1..80).prop_map(Step::Packets),
        1 => Just(Step::Expect),
        2 => prop_oneof![0_u64..2_000, 2_000_u64..130_000].prop_map(Step::Wait),
        2 => (1_usize..100).prop_map(Step::Sweep),
    ]
}

fn director(when_full: WhenFull, reuse: u32, persistent: bool) -> Director<Heap> {
    let mut config = config();
    config.when_full = when_full;
    config.tuning.conn_reuse_mode = reuse;
    let mut director = Director::new(config, Heap::with_capacity(CAPACITY));
    for (key, name) in [(WEB, "rr"), (OTHER_WEB, "wlc"), (DNS, "wrr"), (FTP, "rr")] {
        let mut service = scheduler(name);
        service.persistence = (persistent && key == OTHER_WEB).then(|| Persistence::new(100));
        director.add_service(key, service).unwrap();
        director.add_server(key, server(1, Method::Nat, 1)).unwrap();
        let second = if key == FTP { Method::Nat } else { Method::Direct };
        director.add_server(key, server(2, second, 2)).unwrap();
        director.add_server(key, server(3, Method::Nat, 1).with_thresholds(6, 3)).unwrap();
    }
    director
}

fn apply(director: &mut Director<Heap>, now: Tick, step: &Step, batch: bool) -> Vec<Verdict> {
    match step {
        Step::Packets(packets) if batch => {
            let mut verdicts = vec![Verdict::Drop(Reason::TableFull); packets.len()];
            let mut decided = 0;
            // A verdict that a helper has to attend to ends a batch.
            while decided < packets.len() {
                decided += director.decide_batch(now, &packets[decided..], &mut verdicts[decided..]);
            }
            return verdicts;
        }
        Step::Packets(packets) => {
            return packets.iter().map(|packet| director.decide(now, packet, Inspected::Nothing)).collect();
        }
        Step::Expect => {
            let control = director.connections(now).find(|connection| connection.flow.destination_port == 21);
            if let Some(control) = control {
                let _ = director.expect(now, control.id, Expectation::FromClient { server_port: DATA_PORT });
            }
        }
        Step::Wait(_) => {}
        Step::Sweep(budget) => {
            director.sweep(now, *budget);
        }
    }
    Vec::new()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_decides_as_one_packet_after_the_other(
        full in prop_oneof![Just(WhenFull::Reclaim), Just(WhenFull::Refuse)],
        reuse in 0_u32..4,
        persistent in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut single = director(full, reuse, persistent);
        let mut batched = director(full, reuse, persistent);
        let mut now = Tick::from_millis(1_000);
        for step in &steps {
            if let Step::Wait(millis) = step {
                now = now.plus_millis(*millis);
            }
            prop_assert_eq!(apply(&mut single, now, step, false), apply(&mut batched, now, step, true));
            prop_assert!(single.connections(Tick::ZERO).eq(batched.connections(Tick::ZERO)));
            prop_assert!(single.templates(Tick::ZERO).eq(batched.templates(Tick::ZERO)));
            prop_assert_eq!(single.counters(), batched.counters());
            let events = core::iter::from_fn(|| single.poll_event());
            let others = core::iter::from_fn(|| batched.poll_event());
            prop_assert!(events.eq(others));
        }
    }
}
