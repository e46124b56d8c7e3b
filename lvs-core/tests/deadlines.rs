//! No deadline comes nearer without its wake-up: what is over is swept with the next time around.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::conn::Expectation;
use lvs_core::service::Persistence;
use lvs_core::sync::SyncEntry;
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];

fn director(service: ServiceConfig) -> Director<Heap> {
    let mut director = Director::new(config(), Heap::with_capacity(64));
    for key in [WEB, DNS, ServiceKey::tcp(VIP, 21)] {
        director.add_service(key, service.clone()).unwrap();
        director.add_server(key, server(1, Method::Nat, 1)).unwrap();
    }
    director.set_sync_role(false, true);
    director
}

fn entry(protocol: Protocol, port: u16, state: u16, timeout: u32) -> SyncEntry {
    let (client, virt) = ((CLIENT, 1_024).into(), core::net::SocketAddr::new(VIP, port));
    let mut entry = SyncEntry::new(protocol.number(), client, virt, address(1)).unwrap();
    (entry.state, entry.timeout, entry.flags) = (state, timeout, SyncEntry::SYNC);
    entry
}

/// Sweeps each second until nothing is listed any more; nothing may be counted a second later either.
fn ends_with_its_wake_up(director: &mut Director<Heap>, mut now: Tick, what: &str) {
    for _ in 0..20_000 {
        now = now.plus_secs(1);
        director.sweep(now, usize::MAX);
        let listed = director.connections(now).count() + director.templates(now).count();
        let counted: u32 = director.servers(WEB).map(|(_, server)| server.active() + server.inactive()).sum();
        assert_eq!(director.counters().live as usize, listed, "{what}: at {now:?}");
        assert!(counted as usize <= listed, "{what}: {counted} on the server at {now:?}");
        if listed == 0 {
            return;
        }
    }
    panic!("{what}: never over");
}

#[test]
fn an_entry_of_another_director_is_off_its_server_when_its_time_is_up() {
    for state in 0..=10 {
        for timeout in [0, 1, 60, 7_200, 17_000] {
            for known_before in [false, true] {
                for flags in [0x02_u8, 0x04, 0x10, 0x11, 0x14, 0x18] {
                    let mut director = director(scheduler("rr"));
                    let now = Tick::from_millis(1_000);
                    let flow = |content| request(WEB, CLIENT, 1_024, content);
                    if known_before {
                        for content in [SYN, ACK] {
                            let _ = director.decide(now, &flow(content), Inspected::Nothing);
                        }
                    }
                    director.apply_sync(now, &entry(Protocol::Tcp, 80, state, timeout), None).unwrap();
                    let content = Content::Tcp(TcpFlags::from_byte(flags));
                    let _ = director.decide(now, &flow(content), Inspected::Nothing);
                    let what = format!("known {known_before}, state {state}, {timeout} s, {flags:#x}");
                    ends_with_its_wake_up(&mut director, now, &what);
                }
            }
        }
    }
}

#[test]
fn a_flow_of_another_director_is_off_its_server_when_its_own_time_is_up() {
    for timeout in [0, 301, 7_200] {
        let mut director = director(scheduler("rr"));
        let now = Tick::from_millis(1_000);
        director.apply_sync(now, &entry(Protocol::Udp, 53, 0, timeout), None).unwrap();
        let _ = director.decide(now, &request(DNS, CLIENT, 1_024, Content::Udp), Inspected::Nothing);
        ends_with_its_wake_up(&mut director, now, &format!("{timeout} s"));
    }
}

#[test]
fn a_template_is_swept_when_a_message_has_shortened_its_time() {
    let mut director = director(scheduler("rr").with_persistence(Persistence::new(10_000)));
    let now = Tick::from_millis(1_000);
    let _ = director.decide(now, &request(WEB, CLIENT, 1_024, SYN), Inspected::Nothing);
    let mut template = entry(Protocol::Tcp, 80, 1, 7_200);
    template.client_port = 0;
    template.flags |= SyncEntry::TEMPLATE;
    director.apply_sync(now, &template, None).unwrap();
    template.timeout = 20;
    director.apply_sync(now, &template, None).unwrap();
    ends_with_its_wake_up(&mut director, now, "a template");
}

#[test]
fn an_expected_connection_that_a_message_speaks_of_is_swept_when_its_time_is_up() {
    for flags in [0x04_u8, 0x10, 0x14] {
        let mut director = director(scheduler("rr"));
        let now = Tick::from_millis(1_000);
        let control = ServiceKey::tcp(VIP, 21);
        let verdict = director.decide(now, &request(control, CLIENT, 1_024, SYN), Inspected::Nothing);
        let control = forwarded(verdict).unwrap().connection;
        director.expect(now, control, Expectation::FromClient { server_port: 5_000 }).unwrap();
        let mut known = entry(Protocol::Tcp, 5_000, 9, 7_200);
        known.server_port = 5_000;
        (known.client_port, known.flags) = (0, SyncEntry::SYNC | SyncEntry::NO_CLIENT_PORT);
        director.apply_sync(now, &known, None).unwrap();
        let data =
            request(ServiceKey::tcp(VIP, 5_000), CLIENT, 2_000, Content::Tcp(TcpFlags::from_byte(flags)));
        let _ = director.decide(now, &data, Inspected::Nothing);
        ends_with_its_wake_up(&mut director, now, &format!("{flags:#x}"));
    }
}

#[test]
fn a_template_that_was_passed_over_for_its_connection_ends_with_it() {
    // The sweep comes by in the moment in which the template's own time is up, and puts its wake-up off, because it has
    // a connection. That one is then cut in the same moment.
    let mut director = director(scheduler("rr").with_persistence(Persistence::new(30)));
    let start = Tick::from_millis(1_000);
    let syn = request(WEB, CLIENT, 1_024, SYN);
    let server = forwarded(director.decide(start, &syn, Inspected::Nothing)).unwrap().server;
    let now = start.plus_secs(30);
    director.sweep(now, usize::MAX);
    assert_eq!(director.counters().live, 2);
    director.cut(now, server, 0, 64);
    ends_with_its_wake_up(&mut director, now, "cut");
}

#[test]
fn whoever_sweeps_once_in_many_hours_finds_all_that_is_over() {
    for hours in [1, 5, 13, 14, 17, 18, 19, 40, 500] {
        let mut director = director(scheduler("rr"));
        let now = Tick::from_millis(1_000);
        for round in 0..3 {
            let now = now.plus_secs(round * hours * 3_600);
            director.sweep(now, usize::MAX);
            assert_eq!(director.counters().live, 0, "{hours} h");
            for port in 1..=3 {
                let _ = director.decide(now, &request(WEB, CLIENT, port, SYN), Inspected::Nothing);
            }
        }
    }
}
