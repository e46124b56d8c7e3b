//! One director tells another: when it does, what it says, and what the other makes of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::SocketAddr;

use lvs_core::error::ApplyError;
use lvs_core::service::{Persistence, PersistenceEngine};
use lvs_core::stats::Traffic;
use lvs_core::sync::{Master, SyncEntry, Version, decode};
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];

fn at(secs: u64) -> Tick {
    Tick::ZERO.plus_secs(secs)
}

fn director(service: ServiceConfig, method: Method) -> Director<Heap> {
    let mut director = Director::new(config(), Heap::with_capacity(64));
    director.add_service(WEB, service).unwrap();
    director.add_server(WEB, server(1, method, 1)).unwrap();
    director.add_server(WEB, server(2, method, 1)).unwrap();
    director
}

fn master(service: ServiceConfig, method: Method) -> Director<Heap> {
    let mut director = director(service, method);
    director.set_sync_role(true, false);
    director
}

/// What is to be told since the last time.
fn told(director: &mut Director<Heap>) -> Vec<SyncEntry> {
    let events = core::iter::from_fn(|| director.poll_event());
    events.filter_map(|event| if let Event::Sync(entry) = event { Some(entry) } else { None }).collect()
}

/// Over the wire and back.
fn pass_on(from: &Director<Heap>, to: &mut Director<Heap>, now: Tick, entries: &[SyncEntry]) {
    let mut master: Master = Master::new(Tick::ZERO, Version::One, 0, 1_472);
    for entry in entries {
        let call = entry.engine.and_then(|id| from.templates(now).find(|t| t.id == id)).and_then(|t| t.call);
        master.push(Tick::ZERO, entry, call.map(|call| (PersistenceEngine::Sip, call))).unwrap();
    }
    while let Some(message) = master.poll(at(10)) {
        for received in decode(message, 0).unwrap() {
            let received = received.unwrap();
            let _ = to.apply_sync(now, &received.entry, received.engine.map(|(_, call)| call));
        }
    }
}

#[test]
fn a_connection_is_told_of_at_its_third_packet_and_when_it_ends() {
    let mut master = master(scheduler("rr"), Method::Direct);
    let mut packets = [SYN, ACK, ACK, ACK, FIN, ACK].map(|content| {
        let _ = master.decide(at(0), &request(WEB, CLIENT, 4_000, content), Inspected::Nothing);
        told(&mut master).iter().map(|entry| entry.state).collect::<Vec<_>>()
    });
    assert_eq!(packets.concat(), [1, 4]);
    packets[2].clear();
    packets[4].clear();
    assert!(packets.concat().is_empty(), "at the third and the fifth");
    let mut silent = director(scheduler("rr"), Method::Direct);
    for _ in 0..60 {
        let _ = silent.decide(at(0), &request(WEB, CLIENT, 4_000, SYN), Inspected::Nothing);
    }
    assert!(told(&mut silent).is_empty(), "no master says nothing");
}

#[test]
fn a_template_is_told_of_with_every_packet_of_its_connections() {
    let mut master = master(scheduler("rr").with_persistence(Persistence::new(300)), Method::Nat);
    for content in [SYN, ACK, ACK] {
        let _ = master.decide(at(0), &request(WEB, CLIENT, 4_000, content), Inspected::Nothing);
    }
    let told = told(&mut master);
    let kinds: Vec<bool> = told.iter().map(SyncEntry::is_template).collect();
    assert_eq!(kinds, [true, true, false, true]);
    assert_eq!((told[0].timeout, told[0].client(), told[0].state), (300, SocketAddr::from((CLIENT, 0)), 0));
    assert_eq!(told[3].state, 1, "assured");
}

#[test]
fn a_template_that_lives_by_its_connections_is_told_of_once_a_minute() {
    let mut master = master(scheduler("rr").with_persistence(Persistence::new(100)), Method::Nat);
    let begin = Tick::from_millis(500);
    for content in [SYN, ACK] {
        let _ = master.decide(begin, &request(WEB, CLIENT, 4_000, content), Inspected::Nothing);
    }
    let _ = told(&mut master);
    let mut times = Vec::new();
    // Ten times a second: whoever looks too early must not take it for the moment.
    for tenth in 0..3_000 {
        let now = Tick::from_millis(tenth * 100);
        master.sweep(now, usize::MAX);
        times.extend(told(&mut master).iter().map(|_| now.as_millis()));
    }
    assert_eq!(times, [100_500, 160_500, 220_500, 280_500]);
}

#[test]
fn with_sync_persist_mode_only_templates_are_told_of() {
    let mut master = master(scheduler("rr").with_persistence(Persistence::new(300)), Method::Nat);
    let mut config = master.config().clone();
    config.tuning.sync_persist_mode = true;
    master.set_config(config);
    for content in [SYN, ACK, ACK] {
        let _ = master.decide(at(0), &request(WEB, CLIENT, 4_000, content), Inspected::Nothing);
    }
    assert!(told(&mut master).iter().all(SyncEntry::is_template));
}

#[test]
fn a_refresh_period_repeats_what_has_not_changed() {
    let mut master = master(scheduler("rr"), Method::Direct);
    let mut config = master.config().clone();
    (config.tuning.sync_refresh_period, config.tuning.sync_period) = (60, 0);
    master.set_config(config);
    let mut at_seconds = Vec::new();
    for secs in 0..200 {
        let content = if secs == 0 { SYN } else { ACK };
        let _ = master.decide(at(secs), &request(WEB, CLIENT, 4_000, content), Inspected::Nothing);
        if !told(&mut master).is_empty() {
            at_seconds.push(secs);
        }
    }
    assert_eq!(at_seconds, [1, 61, 121, 181]);
}

#[test]
fn a_backup_goes_on_where_the_master_was() {
    for method in [Method::Nat, Method::Direct, Method::Tunnel(Tunnel::IpIp)] {
        let service = || scheduler("rr").with_persistence(Persistence::new(300));
        let (mut master, mut backup) = (master(service(), method), director(service(), method));
        backup.set_sync_role(false, true);
        for content in [SYN, ACK, ACK] {
            let _ = master.decide(at(0), &request(WEB, CLIENT, 4_000, content), Inspected::Nothing);
        }
        let entries = told(&mut master);
        pass_on(&master, &mut backup, at(1), &entries);
        let show = |director: &Director<Heap>| {
            let connection = director.connections(at(1)).next().unwrap();
            let template = director.templates(at(1)).next().unwrap();
            let counts: Vec<_> =
                director.servers(WEB).map(|(_, s)| (s.active(), s.inactive(), s.persistent())).collect();
            (
                (connection.flow, connection.destination, connection.method, connection.state),
                (template.client, template.target, template.destination, template.assured),
                counts,
            )
        };
        assert_eq!(show(&backup), show(&master));
        assert!(backup.connections(at(1)).all(|connection| connection.synced && connection.in_packets == 3));
        let there =
            forwarded(backup.decide(at(2), &request(WEB, CLIENT, 4_000, ACK), Inspected::Nothing)).unwrap();
        assert_eq!(there.target, master.connections(at(1)).next().unwrap().destination);
        let new =
            forwarded(backup.decide(at(2), &request(WEB, CLIENT, 4_001, SYN), Inspected::Nothing)).unwrap();
        assert_eq!(new.target, there.target, "persistence goes on");
        backup.sweep(at(5_000), usize::MAX);
        assert_eq!(backup.counters().live, 0);
    }
}

#[test]
fn a_server_that_the_backup_learns_of_later_is_bound_by_the_next_message() {
    for method in [Method::Nat, Method::Direct] {
        let mut master = master(scheduler("rr"), method);
        let mut backup = Director::new(config(), Heap::with_capacity(64));
        backup.add_service(WEB, scheduler("rr")).unwrap();
        for content in [SYN, ACK, ACK] {
            let _ = master.decide(at(0), &request(WEB, CLIENT, 4_000, content), Inspected::Nothing);
        }
        let entries = told(&mut master);
        pass_on(&master, &mut backup, at(1), &entries);
        // Forwarded by what the message says, but counted nowhere.
        let there =
            forwarded(backup.decide(at(1), &request(WEB, CLIENT, 4_000, ACK), Inspected::Nothing)).unwrap();
        assert_eq!((there.target, there.method), (address(2), method));
        assert_eq!(backup.counters().traffic, Traffic::default());
        // A server of another method: the connection takes it over.
        backup.add_server(WEB, server(2, Method::Nat, 1)).unwrap();
        assert_eq!(backup.servers(WEB).map(|(_, server)| server.active()).sum::<u32>(), 0);
        pass_on(&master, &mut backup, at(2), &entries);
        assert_eq!(backup.servers(WEB).map(|(_, server)| server.active()).sum::<u32>(), 1);
        let back = answer(Protocol::Tcp, 2, CLIENT, 4_000, ACK);
        assert!(
            matches!(backup.decide(at(2), &back, Inspected::Nothing), Verdict::Forward(_)),
            "found by its server's address"
        );
        backup.sweep(at(5_000), usize::MAX);
        assert_eq!(backup.counters().live, 0);
        assert_eq!(
            backup.servers(WEB).map(|(_, server)| server.active() + server.inactive()).sum::<u32>(),
            0
        );
    }
}

#[test]
fn a_connection_of_another_server_is_replaced_by_a_living_one_and_not_by_a_dead_one() {
    let mut backup = director(scheduler("rr"), Method::Nat);
    let ours = forwarded(backup.decide(at(0), &request(WEB, CLIENT, 4_000, SYN), Inspected::Nothing))
        .unwrap()
        .target;
    assert_eq!(ours, address(2));
    let virt = SocketAddr::new(VIP, 80);
    let mut entry = SyncEntry::new(6, SocketAddr::from((CLIENT, 4_000)), virt, address(1)).unwrap();
    (entry.state, entry.flags) = (6, SyncEntry::INACTIVE);
    assert_eq!(backup.apply_sync(at(1), &entry, None), Err(ApplyError::AnotherServer));
    (entry.state, entry.flags) = (1, 0);
    backup.apply_sync(at(1), &entry, None).unwrap();
    let now = forwarded(backup.decide(at(1), &request(WEB, CLIENT, 4_000, ACK), Inspected::Nothing))
        .unwrap()
        .target;
    assert_eq!(now, address(1));
}

#[test]
fn what_no_protocol_has_is_refused() {
    let mut backup = director(scheduler("rr"), Method::Nat);
    let virt = SocketAddr::new(VIP, 80);
    let entry = |protocol| SyncEntry::new(protocol, SocketAddr::from((CLIENT, 1)), virt, address(1)).unwrap();
    assert_eq!(backup.apply_sync(at(0), &entry(47), None), Err(ApplyError::Protocol));
    for (protocol, state) in [(6, 11), (17, 1), (132, 14)] {
        let mut entry = entry(protocol);
        entry.state = state;
        assert_eq!(backup.apply_sync(at(0), &entry, None), Err(ApplyError::State));
        entry.state -= 1;
        assert_eq!(backup.apply_sync(at(0), &entry, None), Ok(()));
    }
    let mut template = entry(6);
    (template.flags, template.state) = (SyncEntry::TEMPLATE, 2);
    assert_eq!(backup.apply_sync(at(0), &template, None), Err(ApplyError::State));
}

#[test]
fn a_call_is_told_of_with_its_id() {
    let sip = ServiceKey::udp(VIP, 5060);
    let service =
        || scheduler("rr").with_persistence(Persistence::new(60).with_engine(PersistenceEngine::Sip));
    let make = || {
        let mut director = Director::new(config(), Heap::with_capacity(64));
        director.add_service(sip, service()).unwrap();
        director.add_server(sip, server(1, Method::Nat, 1)).unwrap();
        director.add_server(sip, server(2, Method::Nat, 1)).unwrap();
        director
    };
    let (mut master, mut backup) = (make(), make());
    master.set_sync_role(true, false);
    let packet = |port| request(sip, CLIENT, port, Content::Udp);
    let there = forwarded(master.decide(at(0), &packet(1), Inspected::CallId(Some(b"one")))).unwrap().target;
    let entries = told(&mut master);
    pass_on(&master, &mut backup, at(0), &entries);
    let taken = backup.templates(at(0)).map(|template| template.call.map(<[u8]>::to_vec)).next();
    assert_eq!(taken, Some(Some(b"one".to_vec())));
    // Another call of the same client there, so that chance would choose the other server.
    let _ = backup.decide(at(0), &packet(9), Inspected::CallId(Some(b"nine")));
    assert_eq!(
        forwarded(backup.decide(at(0), &packet(2), Inspected::CallId(Some(b"one")))).unwrap().target,
        there
    );
}
