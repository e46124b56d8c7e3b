//! What is picked in one service says nothing about another one, wherever clients' flows lead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::{IpAddr, SocketAddr};

use lvs_core::pick::{Client, Picker};
use lvs_core::service::{MAX_CALL_ID, Persistence, PersistenceEngine};
use lvs_core::*;
use proptest::prelude::*;
use support::*;

fn picker() -> Picker<Heap> {
    Picker::new(config(), Heap::with_capacity(256))
}

fn persistent(name: &str) -> ServiceConfig {
    scheduler(name).with_persistence(Persistence::new(600))
}

/// A service with these servers.
fn add(picker: &mut Picker<Heap>, key: ServiceKey, config: ServiceConfig, servers: &[u8]) {
    picker.add_service(key, config).unwrap();
    for &number in servers {
        picker.add_server(key, server(number, Method::Direct, 1)).unwrap();
    }
}

fn pick(picker: &mut Picker<Heap>, key: ServiceKey, client: Client<'_>) -> SocketAddr {
    let pick = picker.pick(Tick::ZERO, &key, client).unwrap();
    let address = pick.address();
    picker.release(Tick::ZERO, pick);
    address
}

fn flow(source: &str, destination: &str) -> Flow {
    Flow::new(Protocol::Tcp, source.parse().unwrap(), destination.parse().unwrap()).unwrap()
}

/// Services that have something in common.
fn services() -> Vec<ServiceKey> {
    let mark = |family, mark| ServiceKey::Mark { family, mark };
    let mapped: IpAddr = "::ffff:10.99.0.1".parse().unwrap();
    vec![
        WEB,
        ServiceKey::udp(VIP, 80),
        ServiceKey::tcp(VIP, 0),
        ServiceKey::tcp(VIP, 21),
        ServiceKey::tcp(mapped, 80),
        mark(Family::V4, 7),
        mark(Family::V4, 8),
        mark(Family::V6, 7),
    ]
}

proptest! {
    #[test]
    fn persistent_services_share_no_template(
        steps in prop::collection::vec((0..8_usize, 0..5_u8, any::<bool>()), 1..60),
    ) {
        let mut picker = picker();
        let services = services();
        for (number, &key) in (0..).zip(&services) {
            add(&mut picker, key, persistent("rr"), &[number * 10 + 1, number * 10 + 2, number * 10 + 3]);
        }
        let v6: SocketAddr = "[2001:db8::7]:4000".parse().unwrap();
        let mut known = std::collections::HashMap::new();
        for (port, &(service, client, opens)) in (5_000..).zip(&steps) {
            let (key, which) = (services[service], client);
            let client = match client {
                0 => Client::Endpoint(([192, 0, 2, 7], 4_000).into()),
                1 => Client::Endpoint(v6),
                2 => Client::Key(7),
                3 => Client::Bytes(b"7"),
                _ => Client::Address([192, 0, 2, 8].into()),
            };
            // All services have one listener.
            let address = if opens {
                let source = SocketAddr::from(([198, 51, 100, 1], port));
                let flow = Flow::new(Protocol::Tcp, source, "127.0.0.1:8000".parse().unwrap()).unwrap();
                picker.open_for(Tick::ZERO, &key, &flow, client).unwrap().address
            } else {
                pick(&mut picker, key, client)
            };
            let own = (1..=3).any(|number| address.ip() == support::address(service as u8 * 10 + number).ip());
            prop_assert!(own, "{key} sent to {address}");
            let first = known.entry((service, which)).or_insert_with(|| address.ip());
            prop_assert_eq!(*first, address.ip(), "{} forgot its client", key);
        }
        let templates = picker.director().counters().live as usize;
        let opened = steps.iter().filter(|(_, _, opens)| *opens).count();
        prop_assert_eq!(templates, known.len() + opened);
    }

    #[test]
    fn pick_and_open_agree_for_one_client_wherever_its_flow_leads(
        name in prop::sample::select(&["dh", "sh", "mh", "lblc", "lblcr"][..]),
        clients in prop::collection::vec((any::<u8>(), any::<u16>(), any::<bool>()), 1..20),
        listener: u16,
        persistent: bool,
    ) {
        let mut picker = picker();
        let mut config = scheduler(name);
        if persistent {
            config = config.with_persistence(Persistence::new(600));
        }
        add(&mut picker, WEB, config, &[1, 2, 3, 4, 5]);
        for &(host, port, six) in &clients {
            let port = port.max(1);
            let (source, to): (IpAddr, IpAddr) = if six {
                (format!("2001:db8::{host}").parse().unwrap(), "::1".parse().unwrap())
            } else {
                ([192, 0, 2, host].into(), [127, 0, 0, 1].into())
            };
            let source = SocketAddr::new(source, port);
            let flow = Flow::new(Protocol::Tcp, source, SocketAddr::new(to, listener)).unwrap();
            let picked = pick(&mut picker, WEB, Client::Endpoint(source));
            prop_assert_eq!(picker.open(Tick::ZERO, &WEB, &flow).unwrap().address, picked);
            picker.close(Tick::ZERO, &flow);
        }
    }
}

#[test]
fn a_flow_to_another_port_than_the_services_reaches_the_servers_own() {
    for config in [scheduler("rr"), persistent("rr")] {
        let mut picker = picker();
        picker.add_service(WEB, config).unwrap();
        let own = ServerConfig::new(SocketAddr::new(address(1).ip(), 8_080), Method::Direct);
        picker.add_server(WEB, own).unwrap();
        let opened = picker.open(Tick::ZERO, &WEB, &flow("192.0.2.7:4000", "127.0.0.1:8000")).unwrap();
        assert_eq!(opened.address, own.address);
    }
}

#[test]
fn a_service_for_all_ports_opens_to_the_port_of_the_flow() {
    let all = ServiceKey::tcp(VIP, 0);
    for config in [scheduler("rr"), persistent("rr")] {
        let mut picker = picker();
        picker.add_service(all, config).unwrap();
        let server = ServerConfig::new(SocketAddr::new(address(1).ip(), 0), Method::Direct);
        picker.add_server(all, server).unwrap();
        let opened = picker.open(Tick::ZERO, &all, &flow("192.0.2.7:4000", "127.0.0.1:8000")).unwrap();
        assert_eq!(opened.address, SocketAddr::new(address(1).ip(), 8_000));
    }
}

/// The director's law for services by mark and for all ports, under persistence: the client's port.
#[test]
fn marks_and_all_ports_open_to_where_a_director_forwards() {
    let mark = ServiceKey::Mark { family: Family::V4, mark: 7 };
    for (key, config) in
        [(ServiceKey::tcp(VIP, 0), persistent("rr")), (mark, persistent("rr")), (mark, scheduler("rr"))]
    {
        let mut picker = picker();
        let mut director = Director::new(support::config(), Heap::with_capacity(64));
        add(&mut picker, key, config.clone(), &[1, 2, 3]);
        director.add_service(key, config).unwrap();
        for number in 1..=3 {
            director.add_server(key, server(number, Method::Direct, 1)).unwrap();
        }
        for client in [7, 8, 7, 9, 8] {
            for port in [80, 443, 8_080] {
                let flow = flow(&format!("192.0.2.{client}:4{port:04}"), &format!("10.99.0.1:{port}"));
                let mut packet = Packet::new(flow, SYN, 60);
                if key == mark {
                    packet = packet.marked(7);
                }
                let expected = forwarded(director.decide(Tick::ZERO, &packet, Inspected::Nothing)).unwrap();
                assert_eq!(picker.open(Tick::ZERO, &key, &flow).unwrap().address, expected.target);
            }
        }
    }
}

#[test]
fn a_client_from_the_port_of_ftp_data_is_like_others() {
    let mut picker = picker();
    add(&mut picker, WEB, scheduler("rr"), &[1]);
    assert_eq!(pick(&mut picker, WEB, Client::Endpoint(([192, 0, 2, 7], 20).into())), address(1));
    assert_eq!(
        picker.open(Tick::ZERO, &WEB, &flow("192.0.2.7:20", "127.0.0.1:8000")).unwrap().address,
        address(1)
    );
}

#[test]
fn what_is_opened_is_told_by_the_flow_that_it_is_closed_by() {
    let mut picker = picker();
    add(&mut picker, WEB, scheduler("rr"), &[1]);
    let flow = flow("[2001:db8::7]:4000", "[::1]:8000");
    picker.open(Tick::ZERO, &WEB, &flow).unwrap();
    assert!(picker.close(Tick::ZERO, &flow));
    let told: Vec<Flow> = core::iter::from_fn(|| picker.poll_event())
        .filter_map(|event| {
            let (Event::Opened { flow, .. } | Event::Closed { flow, .. }) = event else { return None };
            Some(flow)
        })
        .collect();
    assert_eq!(told, [flow, flow]);
}

#[test]
fn connections_of_calls_are_opened_by_their_call_ids() {
    let mut picker = picker();
    let sip = Persistence::new(60).with_engine(PersistenceEngine::Sip);
    add(&mut picker, DNS, scheduler("rr").with_persistence(sip), &[1, 2]);
    let flow = |port: u16| Flow { source_port: port, ..request(DNS, [192, 0, 2, 7], 1, SYN).flow };
    let to = |picker: &mut Picker<Heap>, port, call: &[u8]| {
        picker.open_for(Tick::ZERO, &DNS, &flow(port), Client::Bytes(call)).map(|opened| opened.address)
    };
    let one = to(&mut picker, 1, b"a@b").unwrap();
    assert_ne!(to(&mut picker, 2, b"c@d").unwrap(), one);
    assert_eq!(to(&mut picker, 3, b"a@b").unwrap(), one);
    assert_eq!(picker.open(Tick::ZERO, &DNS, &flow(4)).unwrap_err().reason, Reason::NoCallId);
    let long = [b'x'; MAX_CALL_ID + 1];
    assert_eq!(to(&mut picker, 5, &long).unwrap_err().reason, Reason::NoCallId);
    let picked = picker.pick(Tick::ZERO, &DNS, Client::Bytes(&long)).unwrap_err();
    assert_eq!(picked.reason, Reason::NoCallId);
    assert!(to(&mut picker, 6, &long[1..]).is_ok());
}
