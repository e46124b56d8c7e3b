//! What no caller should do, and what must not come of it: odd sizes, odd times, odd schedulers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use lvs_core::config::{Capacity, MAX_TIMEOUT_SECS};
use lvs_core::conn::{State, TcpState};
use lvs_core::error::{AddServerError, AddServiceError, RemoveServiceError};
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];

fn at(secs: u64) -> Tick {
    Tick::ZERO.plus_secs(secs)
}

fn start(config: Config) -> Director<Heap> {
    let mut director = Director::new(config, Heap::with_capacity(256));
    director.add_service(WEB, scheduler("rr")).unwrap();
    director.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
    director.add_service(DNS, scheduler("rr")).unwrap();
    director.add_server(DNS, server(1, Method::Nat, 1)).unwrap();
    director
}

fn decide<S: Store>(director: &mut Director<S>, secs: u64, port: u16, content: Content) -> Verdict {
    director.decide(at(secs), &request(WEB, CLIENT, port, content), Inspected::Nothing)
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut director = start(config());
    let _ = decide(&mut director, 100, 4_000, SYN);
    let _ = decide(&mut director, 50, 4_000, ACK);
    assert_eq!(director.connections(at(100)).next().unwrap().expires_in, 900_000);
    let mut verdicts = [Verdict::Drop(Reason::TableFull)];
    assert_eq!(director.decide_batch(at(0), &[request(WEB, CLIENT, 4_000, FIN)], &mut verdicts), 1);
    assert_eq!(director.connections(at(100)).next().unwrap().expires_in, 60_000);
    assert_eq!(director.sweep(at(160), 256), 1);
    assert_eq!(decide(&mut director, 0, 4_000, ACK), Verdict::Pass(Reason::NotStarting));
}

#[test]
fn a_shortened_timeout_is_swept_in_time() {
    for sweep_between in [false, true] {
        let mut director = start(config());
        let _ = decide(&mut director, 0, 4_000, SYN);
        let _ = decide(&mut director, 0, 4_000, ACK);
        assert_eq!(director.sweep(at(100), 256), 0, "the sweep knows of the 900 s now");
        let mut shorter = config();
        shorter.timeouts.tcp = 10;
        director.set_config(shorter);
        if sweep_between {
            assert_eq!(director.sweep(at(100), 256), 0, "it keeps its time until its next packet");
        }
        let _ = decide(&mut director, 101, 4_000, ACK);
        assert_eq!(director.sweep(at(110), 256), 0);
        assert_eq!(director.sweep(at(111), 256), 1);
    }
}

#[test]
fn a_short_timeout_is_swept_in_time() {
    for (udp, effective) in [(0, 1), (1, 1), (2, 2)] {
        let mut config = config();
        config.timeouts.udp = udp;
        let mut director = start(config);
        let _ = director.decide(at(0), &request(DNS, CLIENT, 4_000, Content::Udp), Inspected::Nothing);
        let answer = answer(Protocol::Udp, 1, CLIENT, 4_000, Content::Udp);
        assert!(
            forwarded(director.decide(at(0), &answer, Inspected::Nothing)).is_some(),
            "even the shortest lets an answer through"
        );
        assert_eq!(director.sweep(at(effective), 256), 1);
    }
}

#[test]
fn the_longest_timeout_is_one() {
    let mut config = config();
    config.timeouts.udp = u32::MAX;
    let mut director = start(config);
    let _ = director.decide(at(7), &request(DNS, CLIENT, 4_000, Content::Udp), Inspected::Nothing);
    let expiry = at(7 + u64::from(MAX_TIMEOUT_SECS));
    assert_eq!(director.sweep(Tick::from_millis(expiry.as_millis() - 4), 256), 0);
    assert_eq!(director.sweep(expiry, 256), 1);
}

#[test]
fn who_sweeps_but_now_and_then_still_frees_what_has_expired() {
    // Wake-up times tell some hours, after which they begin anew.
    for hours in [1, 5, 13, 15, 17, 19, 23, 90] {
        let mut director = start(config());
        let _ = decide(&mut director, 7, 4_000, SYN);
        assert_eq!(director.sweep(at(8), usize::MAX), 0);
        assert_eq!(director.sweep(at(hours * 3_600), usize::MAX), 1, "after {hours} hours");
    }
}

#[test]
fn a_day_without_a_packet_is_a_time_out_as_any() {
    let mut config = config();
    config.timeouts.udp = 86_400;
    let mut director = start(config);
    let _ = director.decide(at(7), &request(DNS, CLIENT, 4_000, Content::Udp), Inspected::Nothing);
    for minute in 0..24 * 60 {
        assert_eq!(director.sweep(at(60 * minute), usize::MAX), 0);
    }
    assert_eq!(director.sweep(at(86_407), usize::MAX), 1);
}

#[test]
fn the_last_tick_is_a_moment_like_others() {
    let mut director = start(config());
    let end = Tick::from_millis(u64::MAX);
    assert!(forwarded(director.decide(end, &request(WEB, CLIENT, 4_000, SYN), Inspected::Nothing)).is_some());
    director.remove_server(WEB, address(1)).unwrap();
    assert_eq!(director.sweep(end, usize::MAX), 0);
}

#[test]
fn stores_of_nothing_refuse_everything() {
    let mut none = Director::new(config(), Fixed::<0, 0, 0, 1>::new());
    assert_eq!(none.add_service(WEB, scheduler("rr")), Err(AddServiceError::Full));
    let mut no_server = Director::new(config(), Fixed::<0, 1, 0, 1>::new());
    no_server.add_service(WEB, scheduler("rr")).unwrap();
    assert_eq!(no_server.add_server(WEB, server(1, Method::Nat, 1)), Err(AddServerError::Full));
    let mut no_room = Director::new(config(), Fixed::<0, 1, 1, 1>::new());
    no_room.add_service(WEB, scheduler("rr")).unwrap();
    no_room.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
    assert_eq!(decide(&mut no_room, 0, 4_000, SYN), Verdict::Drop(Reason::TableFull));
    no_room.remove_server(WEB, address(1)).unwrap();
    assert_eq!(no_room.sweep(at(0), usize::MAX), 0);
    no_room.add_server(WEB, server(1, Method::Nat, 0)).unwrap();
    no_room.remove_server(WEB, address(1)).unwrap();
    assert_eq!(no_room.counters().events_lost, 1);
    assert!(no_room.poll_event().is_some());
    assert_eq!(no_room.poll_event(), Some(Event::Lost { count: 1 }));
    assert_eq!(no_room.poll_event(), None);
    let mut heap = Director::new(config(), Heap::<Scheduler>::with_capacity(0));
    heap.add_service(WEB, scheduler("mh")).unwrap();
    heap.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
    assert_eq!(decide(&mut heap, 0, 4_000, SYN), Verdict::Drop(Reason::TableFull));
}

#[test]
fn the_memory_of_an_absurd_store_is_told_without_overflow() {
    let mut capacity = Capacity::new(usize::MAX);
    assert!(capacity.required_bytes() < usize::MAX, "connections are cut");
    capacity.services = usize::MAX;
    assert_eq!(capacity.required_bytes(), usize::MAX);
    (capacity.services, capacity.servers) = (1, usize::MAX);
    assert_eq!(capacity.required_bytes(), usize::MAX);
}

#[test]
fn a_store_forgets_its_former_director() {
    fn check<S: Store<Scheduler = Scheduler>>(mut store: S) {
        let mut former = Director::new(config(), &mut store);
        former.add_service(WEB, scheduler("rr")).unwrap();
        former.add_server(WEB, server(1, Method::Direct, 1)).unwrap();
        for port in 0..100 {
            let _ = decide(&mut former, 0, 4_000 + port, SYN);
        }
        let mut director = Director::new(config(), &mut store);
        assert_eq!(director.remove_service(WEB), Err(RemoveServiceError::NotFound));
        assert_eq!(director.poll_event(), None);
        director.add_service(WEB, scheduler("rr")).unwrap();
        assert_eq!(director.servers(WEB).count(), 0);
        assert_eq!(decide(&mut director, 0, 4_000, SYN), Verdict::Reject(Reason::NoServer));
        director.add_server(WEB, server(2, Method::Nat, 1)).unwrap();
        assert_eq!(forwarded(decide(&mut director, 0, 4_001, SYN)).unwrap().target, address(2));
    }
    check(Heap::<Scheduler>::with_capacity(100));
    check(Fixed::<100, 4, 4, 16>::new());
}

#[test]
fn servers_that_differ_only_in_scope_are_one() {
    let mut director = start(config());
    let key = ServiceKey::tcp("2001:db8::1".parse().unwrap(), 80);
    director.add_service(key, scheduler("rr")).unwrap();
    let scoped =
        |scope| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from_bits(0xfd << 120 | 1), 80, 0, scope));
    director.add_server(key, ServerConfig::new(scoped(1), Method::Nat)).unwrap();
    let again = ServerConfig::new(scoped(2), Method::Nat);
    assert_eq!(director.add_server(key, again), Err(AddServerError::Exists));
    director.edit_server(key, again).unwrap();
    director.remove_server(key, scoped(3)).unwrap();
}

#[test]
fn a_service_of_mark_0_is_refused() {
    let mut director = start(config());
    let key = ServiceKey::Mark { family: Family::V4, mark: 0 };
    assert_eq!(director.add_service(key, scheduler("rr")), Err(AddServiceError::NoMark));
}

#[test]
fn a_removed_server_is_remembered_for_three_minutes() {
    for (secs, remembered) in [(1_179, 1), (1_181, 0)] {
        let mut director = start(config());
        let _ = decide(&mut director, 0, 4_000, SYN);
        for second in 0..secs {
            director.sweep(at(second), 256);
            if second == 1_000 {
                director.remove_server(WEB, address(1)).unwrap();
            }
        }
        director.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
        let (_, server) = director.servers(WEB).next().unwrap();
        assert_eq!(server.traffic().connections, remembered, "after {secs} s");
    }
}

#[test]
fn small_sweeps_end_every_orphan() {
    let mut config = config();
    config.tuning.expire_nodest_conn = true;
    let mut director = start(config);
    for port in 0..100 {
        let _ = decide(&mut director, 0, 4_000 + port, SYN);
    }
    director.remove_server(WEB, address(1)).unwrap();
    let freed: usize = (0..300).map(|_| director.sweep(at(1), 1)).sum();
    assert_eq!((freed, director.counters().live), (100, 0));
}

#[test]
fn a_sweep_looks_at_no_more_than_its_budget() {
    let mut director = start(config());
    for port in 0..100 {
        let _ = decide(&mut director, 0, 4_000 + port, SYN);
    }
    let freed: Vec<usize> = (0..12).map(|_| director.sweep(at(60), 10)).collect();
    assert_eq!(freed, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 0, 0]);
}

#[test]
fn a_batch_does_not_follow_a_slot_that_changed_hands() {
    let mut director = Director::new(config(), Heap::with_capacity(1));
    director.add_service(WEB, scheduler("rr")).unwrap();
    director.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
    let _ = decide(&mut director, 0, 4_000, SYN);
    let _ = decide(&mut director, 0, 4_000, FIN);
    let packets = [request(WEB, CLIENT, 4_001, SYN), request(WEB, CLIENT, 4_000, ACK)];
    let mut verdicts = [Verdict::Drop(Reason::TableFull); 2];
    let _ = director.decide_batch(at(0), &packets, &mut verdicts);
    assert!(forwarded(verdicts[0]).is_some());
    assert_eq!(verdicts[1], Verdict::Pass(Reason::NotStarting));
}

#[test]
fn a_new_configuration_still_finds_the_connections() {
    let mut director = start(config());
    let _ = decide(&mut director, 0, 4_000, SYN);
    director.set_config(Config::new(Seed::from_bytes([9; 16])));
    assert!(forwarded(decide(&mut director, 0, 4_000, ACK)).is_some());
}

#[test]
fn errors_count_as_the_clients_packets_except_under_nat() {
    for (method, packets) in [(Method::Nat, 1), (Method::Direct, 2), (Method::Tunnel(Tunnel::IpIp), 2)] {
        let mut director = start(config());
        director.edit_server(WEB, server(1, method, 1)).unwrap();
        let _ = decide(&mut director, 0, 4_000, SYN);
        let _ = decide(&mut director, 0, 4_000, Content::Error);
        assert_eq!(director.connections(at(0)).next().unwrap().in_packets, packets, "{method}");
    }
}

#[test]
fn ipv6_clients_are_told_apart_by_all_of_their_address() {
    let key = ServiceKey::tcp("2001:db8::1".parse().unwrap(), 80);
    let mut director = start(config());
    director.add_service(key, scheduler("rr")).unwrap();
    for number in 1..=2_u16 {
        let address = SocketAddr::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number).into(), 8_080);
        director.add_server(key, ServerConfig::new(address, Method::Nat)).unwrap();
    }
    let client = |upper| core::net::IpAddr::V6(Ipv6Addr::new(0x2001, upper, 0, 0, 0, 0, 0, 7));
    let one =
        forwarded(director.decide(at(0), &request(key, client(1), 4_000, SYN), Inspected::Nothing)).unwrap();
    let other =
        forwarded(director.decide(at(0), &request(key, client(2), 4_000, SYN), Inspected::Nothing)).unwrap();
    assert_ne!((one.connection, one.server), (other.connection, other.server));
    for (upper, there) in [(1, one), (2, other)] {
        let flow = Flow::new(Protocol::Tcp, there.target, SocketAddr::new(client(upper), 4_000)).unwrap();
        let back =
            forwarded(director.decide(at(0), &Packet::new(flow, ACK, 60).passing(), Inspected::Nothing))
                .unwrap();
        assert_eq!((back.connection, back.target), (there.connection, "[2001:db8::1]:80".parse().unwrap()));
        let stranger = SocketAddr::new(there.target.ip(), 8_081);
        let flow = Flow::new(Protocol::Tcp, stranger, SocketAddr::new(client(upper), 4_000)).unwrap();
        let verdict = director.decide(at(0), &Packet::new(flow, ACK, 60).passing(), Inspected::Nothing);
        assert_eq!(verdict, Verdict::Pass(Reason::NoConnection), "another port of the server");
    }
}

#[test]
fn quiescing_an_idle_server_tells_that_it_is_drained() {
    let mut director = start(config());
    director.edit_server(WEB, server(1, Method::Nat, 2)).unwrap();
    assert_eq!(director.poll_event(), None);
    director.edit_server(WEB, server(1, Method::Nat, 0)).unwrap();
    assert!(matches!(director.poll_event(), Some(Event::Drained { .. })));
}

#[test]
fn a_removed_server_is_kept_as_long_as_connections_refer_to_it() {
    let mut director = start(config());
    let there = forwarded(decide(&mut director, 0, 4_000, SYN)).unwrap();
    let _ = decide(&mut director, 0, 4_000, ACK);
    director.remove_server(WEB, address(1)).unwrap();
    for second in 0..800 {
        director.sweep(at(second), 256);
    }
    director.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
    let resumed = forwarded(decide(&mut director, 800, 4_000, ACK)).unwrap();
    assert_eq!((resumed.connection, resumed.server), (there.connection, there.server));
}

#[test]
fn service_server_and_director_count_the_same_traffic_and_none_for_a_removed_server() {
    let mut director = start(config());
    let reply = answer(Protocol::Tcp, 1, CLIENT, 4_000, ACK);
    let _ = decide(&mut director, 0, 4_000, SYN);
    let _ = director.decide(at(0), &reply, Inspected::Nothing);
    let _ = decide(&mut director, 0, 4_000, ACK);
    let total = director.counters().traffic;
    assert_eq!((total.connections, total.in_packets, total.out_packets), (1, 2, 1));
    assert_eq!((total.in_bytes, total.out_bytes), (120, 60));
    assert_eq!(director.service(WEB).unwrap().traffic(), total);
    let (id, server) = director.servers(WEB).next().unwrap();
    assert_eq!(server.traffic(), total);
    director.remove_server(WEB, address(1)).unwrap();
    assert!(
        forwarded(director.decide(at(0), &reply, Inspected::Nothing)).is_some(),
        "the way back stays open"
    );
    assert_eq!(director.counters().traffic, total);
    assert_eq!(director.server(id).unwrap().traffic(), total);
}

#[test]
fn every_configured_timeout_has_its_state() {
    let mut config = config();
    (config.timeouts.tcp, config.timeouts.tcp_fin, config.timeouts.udp) = (11, 12, 13);
    let mut director = start(config);
    let _ = decide(&mut director, 0, 4_000, SYN);
    let _ = decide(&mut director, 0, 4_000, ACK);
    assert_eq!(director.connections(at(0)).next().unwrap().expires_in, 11_000);
    let _ = director.decide(at(0), &answer(Protocol::Tcp, 1, CLIENT, 4_000, FIN), Inspected::Nothing);
    let closing = director.connections(at(0)).next().unwrap();
    assert_eq!((closing.state, closing.expires_in), (State::Tcp(TcpState::FinWait), 12_000));
    let _ = director.decide(at(0), &request(DNS, CLIENT, 4_000, Content::Udp), Inspected::Nothing);
    assert!(director.connections(at(0)).any(|c| c.state == State::Udp && c.expires_in == 13_000));
}
