//! What is told equals what is then done, for all schedulers, methods, weights, thresholds and kinds of persistence.

use lvs_core::service::Persistence;
use lvs_core::{
    Config, Director, Flow, Heap, Inspected, Method, Protocol, Scheduler, Seed, ServerConfig, ServiceConfig,
    ServiceKey, Tick, Verdict,
};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Options, PortId};
use proptest::prelude::*;

use super::arrival::{Arrival, Shape};
use super::facts::Facts;
use super::tell::Told;
use crate::control::DesiredState;
use crate::control::api::Explanation;

struct Site {
    director: Director<Heap>,
    forwarder: Forwarder,
}

/// A director with one service of TCP and one of UDP, whose servers have these methods and weights.
fn site(scheduler: &str, servers: &[(bool, u16)], persistent: bool, threshold: u32) -> Site {
    let seed = Seed::from_bytes([7; 16]);
    let mut host = Host::new(seed);
    let port = host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, 9]), 1_500)).unwrap();
    host.add_address(port, "10.0.0.254".parse().unwrap(), 8).unwrap();
    host.add_virtual_address("10.99.0.1".parse().unwrap()).unwrap();
    for number in 0..servers.len() as u8 {
        let mac = MacAddress([2, 0, 0, 0, 1, number]);
        host.add_neighbour(port, [10, 0, 1, 11 + number].into(), mac).unwrap();
    }
    let mut director = Director::new(Config::new(seed), Heap::with_capacity(100));
    for key in ["tcp 10.99.0.1:80", "udp 10.99.0.1:53"].map(|key| key.parse::<ServiceKey>().unwrap()) {
        let mut config = ServiceConfig::new(Scheduler::from_name(scheduler).unwrap());
        config.persistence = persistent.then(|| Persistence::new(60));
        director.add_service(key, config).unwrap();
        for ((nat, weight), number) in servers.iter().zip(11_u8..) {
            let method = if *nat { Method::Nat } else { Method::Direct };
            let config = ServerConfig::new(([10, 0, 1, number], 80).into(), method);
            director
                .add_server(key, config.with_weight((*weight).into()).with_thresholds(threshold, 0))
                .unwrap();
        }
    }
    Site { director, forwarder: Forwarder::new(host, Options::new()) }
}

fn tell(facts: &Facts) -> Explanation {
    let desired = DesiredState::default();
    let interfaces = ["eth0".to_owned()];
    Told { facts, desired: &desired, interfaces: &interfaces }.explanation(0, false, String::new())
}

fn flow(protocol: Protocol, client: u8, port: u16) -> Flow {
    let to = if port == 1 {
        99
    } else if protocol == Protocol::Udp {
        53
    } else {
        80
    };
    Flow::new(protocol, ([10, 2, 0, client], port).into(), ([10, 99, 0, 1], to).into()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_server_that_is_told_is_the_one_that_the_packet_then_gets(
        scheduler in any::<prop::sample::Index>(),
        servers in prop::collection::vec((any::<bool>(), 0_u16..4), 0..5),
        persistent in any::<bool>(),
        threshold in prop_oneof![Just(0_u32), Just(2)],
        packets in prop::collection::vec((any::<bool>(), 1_u8..20, 1_u16..6, any::<bool>()), 1..40),
    ) {
        let name = Scheduler::NAMES[scheduler.index(Scheduler::NAMES.len())];
        let mut site = site(name, &servers, persistent, threshold);
        for (at, (tcp, client, port, first)) in packets.into_iter().enumerate() {
            let now = Tick::from_millis(100 * at as u64);
            let flow = flow(if tcp { Protocol::Tcp } else { Protocol::Udp }, client, port);
            let arrival = Arrival { shape: Shape::Flow { flow, first, port: None }, mark: 0 };
            let facts = Facts::find(&site.director, &site.forwarder, now, &arrival).unwrap();
            let told = tell(&facts);
            prop_assert!(!told.steps.is_empty() && told.to_string().contains(&flow.to_string()), "{}", told);
            let packet = facts.packet.unwrap();
            let done = site.director.decide(now, &packet, Inspected::Nothing);
            match done {
                Verdict::Forward(forward) => {
                    let server = site.director.server(forward.server).unwrap().address();
                    prop_assert_eq!((told.verdict.as_str(), told.server), ("forward", Some(server)), "{}", told);
                    prop_assert_eq!(told.method, Some(forward.method.to_string()));
                    prop_assert_eq!(told.interface.as_deref(), Some("eth0"));
                }
                Verdict::Reject(reason) => {
                    prop_assert_eq!((told.verdict.as_str(), told.server), ("reject", None));
                    prop_assert_eq!(told.reason.as_deref(), Some(reason.name()));
                }
                Verdict::Pass(_) => prop_assert_eq!(told.verdict.as_str(), "pass"),
                Verdict::Drop(reason) => {
                    prop_assert_eq!((told.verdict.as_str(), told.reason.as_deref()), ("drop", Some(reason.name())));
                }
                Verdict::Inspect => prop_assert!(false, "no service asks for that"),
            }
        }
    }
}

#[test]
fn every_step_is_told_and_what_is_not_eligible_says_why() {
    let mut site = site("wlc", &[(true, 0), (true, 1)], true, 1);
    let ask = |site: &Site, client: u8| {
        let flow = flow(Protocol::Tcp, client, 4_242);
        let arrival = Arrival { shape: Shape::Flow { flow, first: true, port: None }, mark: 0 };
        Facts::find(&site.director, &site.forwarder, Tick::ZERO, &arrival).unwrap()
    };
    let facts = ask(&site, 7);
    let told = tell(&facts).to_string();
    for said in [
        "TCP 10.2.0.7:4242 > 10.99.0.1:80 SYN, 54 bytes, comes in by eth0",
        "10.99.0.1 is an address of the director",
        "belongs to no connection",
        "10.0.1.11:80  weight 0, 0 active and 0 inactive connections: no new connections: its weight is 0",
        "10.0.1.12:80  weight 1, 0 active and 0 inactive connections: can be chosen",
        "a template is made",
        "wlc sends this client to 10.0.1.12:80",
        "leaves by eth0 (MTU 1500) to 02:00:00:00:01:01: TCP 10.2.0.7:4242 > 10.0.1.12:80 SYN",
    ] {
        assert!(told.contains(said), "{said}\n{told}");
    }
    assert_eq!(site.director.counters().live, 0, "nothing has changed");
    let packet = facts.packet.unwrap();
    let _ = site.director.decide(Tick::ZERO, &packet, Inspected::Nothing);
    let told = tell(&ask(&site, 7)).to_string();
    assert!(told.contains("a connection in state SYN_RECV, by Masq to 10.0.1.12:80"), "{told}");
    let told = tell(&ask(&site, 8));
    assert_eq!((told.verdict.as_str(), told.reason.as_deref()), ("reject", Some("no-server")), "{told}");
    assert!(told.to_string().contains("it has 1, its upper threshold"), "{told}");
}

#[test]
fn a_frame_is_told_by_its_bytes_and_one_that_is_cut_as_what_it_is() {
    let site = site("rr", &[(false, 1)], false, 0);
    let of = |bytes: Vec<u8>, ip| {
        let arrival = Arrival { shape: Shape::Frame { bytes, ip, port: None }, mark: 0 };
        tell(&Facts::find(&site.director, &site.forwarder, Tick::ZERO, &arrival).unwrap())
    };
    let flow = flow(Protocol::Udp, 7, 9);
    let arrival = Arrival { shape: Shape::Flow { flow, first: true, port: Some(PortId(0)) }, mark: 0 };
    let (_, frame) = arrival.frame(site.forwarder.host());
    let told = of(frame.clone(), false);
    assert_eq!(
        (told.verdict.as_str(), told.server),
        ("forward", Some("10.0.1.11:80".parse().unwrap())),
        "{told}"
    );
    assert_eq!(of(frame[14..].to_vec(), true).server, told.server, "the packet alone");
    let told = of(frame[..30].to_vec(), false);
    assert_eq!((told.verdict.as_str(), told.reason.as_deref()), ("drop", Some("malformed")), "{told}");
    let told = of([vec![2, 9, 9, 9, 9, 9], frame[6..].to_vec()].concat(), false);
    assert_eq!(told.reason.as_deref(), Some("not-for-us"), "{told}");
    assert_eq!(of(vec![1], false).verdict, "drop");
}
