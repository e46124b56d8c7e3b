//! What a director does over the life of connections, services and real servers: one sentence a test, on every store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::error::{
    AddServerError, AddServiceError, EditServerError, EditServiceError, RemoveServerError, RemoveServiceError,
};
use lvs_core::event::Cause;
use lvs_core::sched::Schedule as _;
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];

/// A director with one service and, of this method, real servers 1 to `servers`.
fn start<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
    config: Config,
    method: Method,
    servers: u8,
) -> Director<S> {
    let mut director = make(config);
    director.add_service(WEB, scheduler("rr")).unwrap();
    for number in 1..=servers {
        director.add_server(WEB, server(number, method, 1)).unwrap();
    }
    director
}

fn at(secs: u64) -> Tick {
    Tick::ZERO.plus_secs(secs)
}

fn decide<S: Store>(director: &mut Director<S>, secs: u64, port: u16, content: Content) -> Verdict {
    director.decide(at(secs), &request(WEB, CLIENT, port, content), Inspected::Nothing)
}

fn counts<S: Store>(director: &Director<S>, number: u8) -> (u32, u32) {
    let mut servers = director.servers(WEB);
    let (_, server) = servers.find(|(_, server)| server.address() == address(number)).unwrap();
    (server.active(), server.inactive())
}

fn state<S: Store>(director: &Director<S>, secs: u64) -> String {
    director
        .connections(at(secs))
        .map(|connection| connection.state.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

fn a_nat_connection_lives_through_its_states<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 1);
    let answer = |content| answer(Protocol::Tcp, 1, CLIENT, 4_000, content);
    let there = forwarded(decide(&mut director, 0, 4_000, SYN)).unwrap();
    assert_eq!((there.direction, there.target), (Direction::Request, address(1)));
    assert_eq!((counts(&director, 1), &*state(&director, 0)), ((1, 0), "SYN_RECV"));
    let back = forwarded(director.decide(
        at(0),
        &answer(Content::Tcp(TcpFlags::SYN.with(TcpFlags::ACK))),
        Inspected::Nothing,
    ))
    .unwrap();
    assert_eq!((back.direction, back.target), (Direction::Reply, "10.99.0.1:80".parse().unwrap()));
    assert_eq!(back.connection, there.connection);
    let _ = decide(&mut director, 0, 4_000, ACK);
    assert_eq!(state(&director, 0), "ESTABLISHED");
    let _ = decide(&mut director, 0, 4_000, FIN);
    assert_eq!((counts(&director, 1), &*state(&director, 0)), ((0, 1), "CLOSE_WAIT"));
    let _ = director.decide(at(0), &answer(FIN), Inspected::Nothing);
    assert_eq!(state(&director, 0), "TIME_WAIT");
    assert_eq!(director.sweep(at(119), usize::MAX), 0);
    assert_eq!(director.sweep(at(120), usize::MAX), 1);
    assert_eq!(counts(&director, 1), (0, 0));
    let traffic = director.counters().traffic;
    assert_eq!((traffic.connections, traffic.in_packets, traffic.out_packets), (1, 3, 2));
    assert_eq!((traffic.in_bytes, traffic.out_bytes), (180, 120));
}

fn an_expired_connection_is_absent_before_it_is_swept<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Direct, 1);
    let _ = decide(&mut director, 0, 4_000, SYN);
    assert_eq!(decide(&mut director, 60, 4_000, ACK), Verdict::Pass(Reason::NotStarting));
    assert_eq!(director.connections(at(60)).count(), 0);
    assert_eq!(counts(&director, 1), (1, 0), "it still counts");
    assert_eq!(director.sweep(at(60), usize::MAX), 1);
    assert_eq!(counts(&director, 1), (0, 0));
}

fn a_quiesced_server_keeps_its_connections<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 1);
    let _ = decide(&mut director, 0, 4_000, SYN);
    director.edit_server(WEB, server(1, Method::Nat, 0)).unwrap();
    assert!(forwarded(decide(&mut director, 1, 4_000, ACK)).is_some());
    assert_eq!(decide(&mut director, 1, 4_001, SYN), Verdict::Reject(Reason::NoServer));
    while director.poll_event().is_some() {}
    director.sweep(at(2_000), usize::MAX);
    let events: Vec<_> = core::iter::from_fn(|| director.poll_event()).collect();
    assert!(
        matches!(events[..], [Event::Closed { cause: Cause::Expired, .. }, Event::Drained { .. }]),
        "{events:?}"
    );
}

fn a_removed_server_drops_and_resumes_when_it_returns<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 2);
    let first = forwarded(decide(&mut director, 0, 4_000, SYN)).unwrap();
    assert_eq!(first.target, address(2), "rr starts with the newest");
    director.remove_server(WEB, address(2)).unwrap();
    assert_eq!(decide(&mut director, 1, 4_000, ACK), Verdict::Drop(Reason::ServerRemoved));
    assert_eq!(forwarded(decide(&mut director, 1, 4_001, SYN)).unwrap().target, address(1));
    // It returns with its count, and its connection goes on by the method that it had.
    director.add_server(WEB, server(2, Method::Direct, 1)).unwrap();
    assert_eq!(counts(&director, 2), (1, 0));
    let resumed = forwarded(decide(&mut director, 2, 4_000, ACK)).unwrap();
    assert_eq!((resumed.connection, resumed.method), (first.connection, Method::Nat));
}

fn expire_nodest_conn_schedules_a_dead_servers_packets_anew<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut tuned = config();
    tuned.tuning.expire_nodest_conn = true;
    let mut director = start(make, tuned, Method::Nat, 2);
    for port in 4_000..4_010 {
        let _ = decide(&mut director, 0, port, SYN);
    }
    director.remove_server(WEB, address(2)).unwrap();
    assert_eq!(decide(&mut director, 0, 4_000, ACK), Verdict::Pass(Reason::NotStarting));
    assert_eq!(forwarded(decide(&mut director, 0, 4_002, SYN)).unwrap().target, address(1));
    director.sweep(at(0), usize::MAX);
    assert_eq!(director.connections(at(0)).filter(|c| c.destination == address(2)).count(), 0);
}

fn connections_stay_silent_after_their_service_and_resume_with_it<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 1);
    let _ = decide(&mut director, 0, 4_000, SYN);
    director.add_service(DNS, scheduler("rr")).unwrap();
    director.remove_service(WEB).unwrap();
    assert_eq!(decide(&mut director, 1, 4_000, ACK), Verdict::Drop(Reason::ServerRemoved));
    director.remove_service(DNS).unwrap();
    assert_eq!(
        decide(&mut director, 1, 4_000, ACK),
        Verdict::Pass(Reason::NoService),
        "the last one is gone"
    );
    director.add_service(WEB, scheduler("rr")).unwrap();
    director.add_server(WEB, server(1, Method::Nat, 1)).unwrap();
    assert!(forwarded(decide(&mut director, 1, 4_000, ACK)).is_some());
    let (_, server) = director.servers(WEB).next().unwrap();
    assert_eq!(server.traffic().connections, 0, "statistics start anew with a new service");
}

fn a_full_table_gives_up_what_is_worth_least<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 1);
    let capacity = director.capacity() as u16;
    for port in 0..capacity {
        let _ = decide(&mut director, 0, 4_000 + port, SYN);
        let _ = decide(&mut director, 0, 4_000 + port, ACK);
        let reply = answer(Protocol::Tcp, 1, CLIENT, 4_000 + port, ACK);
        let _ = director.decide(at(0), &reply, Inspected::Nothing);
    }
    assert_eq!(
        decide(&mut director, 1, 3_000, SYN),
        Verdict::Drop(Reason::TableFull),
        "all have proved themselves"
    );
    let _ = decide(&mut director, 1, 4_005, RST);
    let mut taken = None;
    for _ in 0..capacity / 64 {
        taken = taken.or_else(|| forwarded(decide(&mut director, 1, 3_000, SYN)));
    }
    assert!(taken.is_some(), "the closed one makes room within one look around the table");
    assert_eq!(director.counters().reclaimed, 1);
    assert_eq!(decide(&mut director, 1, 4_005, ACK), Verdict::Pass(Reason::NotStarting));
    assert_eq!(director.counters().live, u32::from(capacity));
}

fn thresholds_hold_back_and_let_go<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 1);
    director.edit_server(WEB, server(1, Method::Nat, 1).with_thresholds(4, 0)).unwrap();
    for port in 0..4 {
        assert!(forwarded(decide(&mut director, u64::from(port), 4_000 + port, SYN)).is_some());
    }
    assert_eq!(decide(&mut director, 4, 5_000, SYN), Verdict::Reject(Reason::NoServer));
    director.sweep(at(60), usize::MAX);
    assert_eq!(
        decide(&mut director, 60, 5_000, SYN),
        Verdict::Reject(Reason::NoServer),
        "3 of 4 is not below 75 %"
    );
    director.sweep(at(61), usize::MAX);
    assert!(forwarded(decide(&mut director, 61, 5_000, SYN)).is_some());
    let events: Vec<_> = core::iter::from_fn(|| director.poll_event()).collect();
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Overloaded { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::Relieved { .. })), 1);
}

fn a_new_syn_after_the_end_starts_a_new_connection<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 2);
    let old = forwarded(decide(&mut director, 0, 4_000, SYN)).unwrap();
    let _ = decide(&mut director, 0, 4_000, ACK);
    assert_eq!(
        forwarded(decide(&mut director, 0, 4_000, SYN)).unwrap().connection,
        old.connection,
        "still alive"
    );
    let _ = decide(&mut director, 0, 4_000, RST);
    let new = forwarded(decide(&mut director, 0, 4_000, SYN)).unwrap();
    assert_ne!(new.connection, old.connection);
    assert_ne!(new.server, old.server);
    director.sweep(at(0), usize::MAX);
    assert_eq!(director.connections(at(0)).count(), 1);
}

fn udp_flows_never_count_as_active<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = make(config());
    director.add_service(DNS, scheduler("lc")).unwrap();
    director.add_server(DNS, server(1, Method::Nat, 1)).unwrap();
    for port in 0..3 {
        let verdict =
            director.decide(at(0), &request(DNS, CLIENT, 4_000 + port, Content::Udp), Inspected::Nothing);
        assert!(forwarded(verdict).is_some());
    }
    let (_, server) = director.servers(DNS).next().unwrap();
    assert_eq!((server.active(), server.inactive()), (0, 3));
    assert_eq!(director.sweep(at(299), usize::MAX), 0);
    assert_eq!(director.sweep(at(300), usize::MAX), 3);
}

fn icmp_errors_follow_their_connection_and_leave_it_alone<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 1);
    let _ = decide(&mut director, 0, 4_000, SYN);
    let before: Vec<_> = director.connections(at(5)).collect();
    let there = forwarded(decide(&mut director, 5, 4_000, Content::Error)).unwrap();
    assert_eq!((there.direction, there.target), (Direction::Request, address(1)));
    let error = answer(Protocol::Tcp, 1, CLIENT, 4_000, Content::Error);
    let back = forwarded(director.decide(at(5), &error, Inspected::Nothing)).unwrap();
    assert_eq!((back.direction, back.target), (Direction::Reply, "10.99.0.1:80".parse().unwrap()));
    assert_eq!(director.connections(at(5)).collect::<Vec<_>>(), before);
    assert_eq!(decide(&mut director, 5, 4_001, Content::Error), Verdict::Pass(Reason::NoConnection));
}

fn what_is_not_ours_is_passed_with_its_reason<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 1);
    let cases = [
        (request(WEB, CLIENT, 4_000, ACK), Reason::NotStarting),
        (request(WEB, CLIENT, 4_000, Content::Tcp(TcpFlags::SYN.with(TcpFlags::RST))), Reason::NotStarting),
        (request(WEB, CLIENT, 20, SYN), Reason::FtpDataPort),
        (request(ServiceKey::tcp(VIP, 81), CLIENT, 4_000, SYN), Reason::NoService),
        (request(WEB, CLIENT, 4_000, SYN).passing(), Reason::NoConnection),
        (request(WEB, CLIENT, 4_000, Content::Fragment), Reason::Fragment),
    ];
    for (packet, reason) in cases {
        assert_eq!(director.decide(at(0), &packet, Inspected::Nothing), Verdict::Pass(reason));
        assert!(director.counters().of(reason) > 0, "{}", reason.name());
    }
    let v6 =
        Flow::new(Protocol::Tcp, "[2001:db8::7]:1".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap());
    let verdict = director.decide(at(0), &Packet::new(v6.unwrap(), SYN, 60), Inspected::Nothing);
    assert_eq!(verdict, Verdict::Pass(Reason::NoService), "no service of this family at all");
}

fn a_service_for_all_ports_rejects_without_persistence<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = make(config());
    let all = ServiceKey::tcp(VIP, 0);
    director.add_service(all, scheduler("rr")).unwrap();
    director.add_server(all, server(1, Method::Nat, 1)).unwrap();
    assert_eq!(decide(&mut director, 0, 4_000, SYN), Verdict::Reject(Reason::NoServer));
}

fn a_server_with_port_0_keeps_the_clients_port<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 0);
    director.add_server(WEB, ServerConfig::new("10.0.0.11:0".parse().unwrap(), Method::Nat)).unwrap();
    assert_eq!(
        forwarded(decide(&mut director, 0, 4_000, SYN)).unwrap().target,
        "10.0.0.11:80".parse().unwrap()
    );
    assert!(
        forwarded(director.decide(at(0), &answer(Protocol::Tcp, 1, CLIENT, 4_000, ACK), Inspected::Nothing))
            .is_some()
    );
}

fn tunnel_options_follow_the_server_and_the_method_does_not<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Tunnel(Tunnel::IpIp), 1);
    let _ = decide(&mut director, 0, 4_000, SYN);
    let gre = Method::Tunnel(Tunnel::Gre { checksum: true });
    director.edit_server(WEB, server(1, gre, 1)).unwrap();
    assert_eq!(forwarded(decide(&mut director, 0, 4_000, ACK)).unwrap().method, gre);
    director.edit_server(WEB, server(1, Method::Nat, 1)).unwrap();
    assert_eq!(forwarded(decide(&mut director, 0, 4_000, ACK)).unwrap().method, Method::Tunnel(Tunnel::IpIp));
    assert_eq!(forwarded(decide(&mut director, 0, 4_001, SYN)).unwrap().method, Method::Nat);
}

fn control_refuses_what_makes_no_sense<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 1);
    assert_eq!(director.add_service(WEB, scheduler("rr")), Err(AddServiceError::Exists));
    assert_eq!(director.remove_service(DNS), Err(RemoveServiceError::NotFound));
    assert_eq!(director.edit_service(DNS, scheduler("rr")), Err(EditServiceError::NotFound));
    let add = |director: &mut Director<S>, address: &str, method| {
        director.add_server(WEB, ServerConfig::new(address.parse().unwrap(), method))
    };
    assert_eq!(add(&mut director, "10.0.0.11:80", Method::Nat), Err(AddServerError::Exists));
    assert_eq!(add(&mut director, "224.0.0.1:80", Method::Nat), Err(AddServerError::BadAddress));
    assert_eq!(add(&mut director, "[2001:db8::11]:80", Method::Nat), Err(AddServerError::FamilyMismatch));
    assert!(add(&mut director, "[2001:db8::11]:80", Method::Tunnel(Tunnel::IpIp)).is_ok());
    let gue = Method::Tunnel(Tunnel::Gue { port: 0, checksum: false });
    assert_eq!(add(&mut director, "10.0.0.12:80", gue), Err(AddServerError::NoTunnelPort));
    let crossed = server(2, Method::Nat, 1).with_thresholds(2, 3);
    assert_eq!(director.add_server(WEB, crossed), Err(AddServerError::BadThresholds));
    assert_eq!(director.remove_server(WEB, address(9)), Err(RemoveServerError::NotFound));
    assert_eq!(director.remove_server(DNS, address(1)), Err(RemoveServerError::NoService));
    assert_eq!(director.edit_server(WEB, server(9, Method::Nat, 1)), Err(EditServerError::NotFound));
}

fn places_of_removed_servers_come_back<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), Method::Nat, 0);
    for round in 0..10_000_u32 {
        let address = core::net::SocketAddr::from((core::net::Ipv4Addr::from_bits(0x0a00_0001 + round), 80));
        director.add_server(WEB, ServerConfig::new(address, Method::Nat)).unwrap();
        director.remove_server(WEB, address).unwrap();
    }
}

on_every_store! {
    a_nat_connection_lives_through_its_states
    an_expired_connection_is_absent_before_it_is_swept
    a_quiesced_server_keeps_its_connections
    a_removed_server_drops_and_resumes_when_it_returns
    expire_nodest_conn_schedules_a_dead_servers_packets_anew
    connections_stay_silent_after_their_service_and_resume_with_it
    a_full_table_gives_up_what_is_worth_least
    thresholds_hold_back_and_let_go
    a_new_syn_after_the_end_starts_a_new_connection
    udp_flows_never_count_as_active
    icmp_errors_follow_their_connection_and_leave_it_alone
    what_is_not_ours_is_passed_with_its_reason
    a_service_for_all_ports_rejects_without_persistence
    a_server_with_port_0_keeps_the_clients_port
    tunnel_options_follow_the_server_and_the_method_does_not
    control_refuses_what_makes_no_sense
    places_of_removed_servers_come_back
}

#[test]
fn a_store_without_table_room_refuses_hashing_schedulers() {
    let mut director = Director::new(config(), Fixed::<16, 2, 4, 4, 256>::new());
    assert_eq!(director.add_service(WEB, scheduler("mh")), Err(AddServiceError::NoTable));
    assert!(director.add_service(WEB, scheduler("sh")).is_ok());
    assert_eq!(director.edit_service(WEB, scheduler("mh")), Err(EditServiceError::NoTable));
    assert_eq!(director.service(WEB).unwrap().scheduler().name(), "sh", "the old one stays");
}

#[test]
fn look_up_tables_are_bounded_together_and_those_of_services_that_go_make_room() {
    let mut capacity = config::Capacity::new(16);
    // Two of `sh`.
    capacity.tables = 2 * 256 * 4;
    let mut director = Director::new(config(), Heap::<Scheduler>::new(capacity));
    let key = |port| ServiceKey::tcp([10, 99, 0, 1].into(), port);
    for port in [1, 2] {
        director.add_service(key(port), scheduler("sh")).unwrap();
    }
    assert_eq!(director.add_service(key(3), scheduler("dh")), Err(AddServiceError::NoTable));
    director.add_service(key(3), scheduler("rr")).unwrap();
    assert_eq!(director.edit_service(key(3), scheduler("sh")), Err(EditServiceError::NoTable));
    assert_eq!(director.service(key(3)).unwrap().scheduler().name(), "rr", "the old one stays");
    // One that has a table may have another of the same size.
    director.edit_service(key(1), scheduler("dh")).unwrap();
    for _ in 0..5 {
        director.remove_service(key(1)).unwrap();
        director.edit_service(key(3), scheduler("sh")).unwrap();
        assert_eq!(director.add_service(key(1), scheduler("sh")), Err(AddServiceError::NoTable));
        director.edit_service(key(3), scheduler("wlc")).unwrap();
        director.add_service(key(1), scheduler("sh")).unwrap();
    }
}

#[test]
fn equal_seeds_and_inputs_give_equal_answers() {
    let run = || {
        let mut director = Director::new(config(), Heap::<Scheduler>::with_capacity(64));
        director.add_service(WEB, scheduler("wrr")).unwrap();
        for number in 1..4 {
            director.add_server(WEB, server(number, Method::Nat, u16::from(number))).unwrap();
        }
        (0..100).map(|port| decide(&mut director, 0, 4_000 + port, SYN)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
