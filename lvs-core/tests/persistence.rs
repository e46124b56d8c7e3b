//! Clients that come again: templates, calls, one-packet scheduling. One sentence a test, on every store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::{IpAddr, SocketAddr};

use lvs_core::config::WhenFull;
use lvs_core::conn::TemplateTarget;
use lvs_core::error::{AddServiceError, EditServiceError};
use lvs_core::service::{Persistence, PersistenceEngine};
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];
const SIP: ServiceKey = ServiceKey::udp(VIP, 5060);

fn persistent(timeout: u32) -> ServiceConfig {
    scheduler("rr").with_persistence(Persistence::new(timeout))
}

fn start<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
    config: Config,
    key: ServiceKey,
    service: ServiceConfig,
) -> Director<S> {
    let mut director = make(config);
    director.add_service(key, service).unwrap();
    for number in 1..=3 {
        director.add_server(key, server(number, Method::Nat, 1)).unwrap();
    }
    director
}

fn at(secs: u64) -> Tick {
    Tick::ZERO.plus_secs(secs)
}

fn target<S: Store>(director: &mut Director<S>, secs: u64, packet: &Packet) -> Option<SocketAddr> {
    director.sweep(at(secs), usize::MAX);
    forwarded(director.decide(at(secs), packet, Inspected::Nothing)).map(|forward| forward.target)
}

fn syn_from(client: [u8; 4], port: u16) -> Packet {
    request(WEB, client, port, SYN)
}

fn a_client_keeps_its_server_until_the_template_ends<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), WEB, persistent(100));
    let first = target(&mut director, 0, &syn_from(CLIENT, 4_000));
    let other = target(&mut director, 0, &syn_from([192, 0, 2, 8], 4_000));
    assert_ne!(first, other);
    assert_eq!(target(&mut director, 90, &syn_from(CLIENT, 4_001)), first, "the template's time starts anew");
    assert_eq!(target(&mut director, 180, &syn_from(CLIENT, 4_002)), first);
    // The last connection ends at 240, the template is over at 280.
    assert_eq!(director.templates(at(279)).filter(|t| t.client == IpAddr::from(CLIENT)).count(), 1);
    director.sweep(at(281), usize::MAX);
    assert_eq!(director.templates(at(281)).count(), 0);
    assert_ne!(target(&mut director, 281, &syn_from(CLIENT, 4_003)), first);
}

fn a_template_lives_as_long_as_its_connections_in_steps_of_a_minute<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), WEB, persistent(10));
    let first = target(&mut director, 0, &syn_from(CLIENT, 4_000));
    // In state SYN_RECV for 60 s: the template's time was up at 10, at 70 it is up for good.
    let left = |director: &Director<S>, secs| director.templates(at(secs)).map(|t| t.expires_in).next();
    assert_eq!(left(&director, 9), Some(1_000));
    assert_eq!(left(&director, 11), Some(59_000));
    director.sweep(at(61), usize::MAX);
    assert_eq!(director.connections(at(61)).count(), 0);
    assert_eq!(left(&director, 61), Some(9_000));
    // A connection that comes now finds 60 s instead of 10: IPVS has forgotten the 10.
    assert_eq!(target(&mut director, 65, &syn_from(CLIENT, 4_001)), first);
    assert_eq!(left(&director, 65), Some(60_000));
}

fn a_late_sweep_finds_the_template_as_it_was_left<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), WEB, persistent(10));
    for port in [4_000, 4_001, 4_002] {
        assert!(forwarded(director.decide(at(0), &syn_from(CLIENT, port), Inspected::Nothing)).is_some());
    }
    assert!(
        forwarded(director.decide(at(0), &request(WEB, CLIENT, 4_001, FIN), Inspected::Nothing)).is_some()
    );
    // One ends at 120 s, those before and behind it in the table at 60 s. The template's time was up at 10 s and at 70
    // s, when it still had the one, so it has until 130 s.
    director.sweep(at(125), usize::MAX);
    assert_eq!(director.templates(at(125)).map(|template| template.expires_in).next(), Some(5_000));
    director.sweep(at(130), usize::MAX);
    assert_eq!(director.counters().live, 0);
}

fn clients_of_one_network_share_a_server<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let service = scheduler("rr").with_persistence(Persistence::new(100).with_mask(24));
    let mut director = start(make, config(), WEB, service);
    let first = target(&mut director, 0, &syn_from([192, 0, 2, 1], 4_000));
    assert_eq!(target(&mut director, 0, &syn_from([192, 0, 2, 255], 4_000)), first);
    assert_ne!(target(&mut director, 0, &syn_from([192, 0, 3, 1], 4_000)), first);
    let networks: Vec<IpAddr> = director.templates(at(0)).map(|template| template.client).collect();
    assert_eq!(networks, [IpAddr::from([192, 0, 2, 0]), IpAddr::from([192, 0, 3, 0])]);
}

fn a_quiesced_server_keeps_its_clients_unless_told_otherwise<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), WEB, persistent(100));
    let first = target(&mut director, 0, &syn_from(CLIENT, 4_000)).unwrap();
    director.edit_server(WEB, ServerConfig::new(first, Method::Nat).with_weight(Weight::QUIESCED)).unwrap();
    assert_eq!(target(&mut director, 1, &syn_from(CLIENT, 4_001)), Some(first));
    let mut tuned = director.config().clone();
    tuned.tuning.expire_quiescent_template = true;
    director.set_config(tuned);
    assert_ne!(target(&mut director, 2, &syn_from(CLIENT, 4_002)), Some(first));
    // The old template is put aside and ages.
    let ports: Vec<_> = director.templates(at(2)).map(|template| template.target).collect();
    let address =
        |port| TemplateTarget::Address { protocol: Protocol::Tcp, address: SocketAddr::new(VIP, port) };
    assert_eq!(ports, [address(0xffff), address(80)]);
}

fn a_draining_server_gets_nobody_new_and_what_is_left_can_be_cut<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), WEB, persistent(100));
    let first = target(&mut director, 0, &syn_from(CLIENT, 4_000)).unwrap();
    let (id, config) = {
        let found = director.servers(WEB).find(|(_, server)| server.address() == first);
        let (id, server) = found.unwrap();
        (id, ServerConfig::new(server.address(), server.method()))
    };
    director.edit_server(WEB, config.with_draining()).unwrap();
    let ack = request(WEB, CLIENT, 4_000, ACK);
    assert_eq!(target(&mut director, 1, &ack), Some(first), "what it has goes on");
    let second = target(&mut director, 1, &syn_from(CLIENT, 4_001)).unwrap();
    assert_ne!(second, first, "a client that came before is new as well");
    assert_eq!(target(&mut director, 2, &syn_from(CLIENT, 4_002)), Some(second), "and stays where it went");
    let entries = u32::try_from(director.capacity()).unwrap();
    // The template goes with its last connection.
    assert_eq!(director.cut(at(3), id, 0, entries), 2);
    assert_eq!(director.server(id).map(|server| (server.active(), server.persistent())), Some((0, 0)));
    assert_ne!(target(&mut director, 3, &ack), Some(first));
}

fn a_marked_service_has_one_template_for_all_protocols_and_ports<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let key = ServiceKey::Mark { family: Family::V4, mark: 5 };
    let mut director = start(make, config(), key, persistent(100));
    let first = target(&mut director, 0, &syn_from(CLIENT, 4_000).marked(5)).unwrap();
    let dns = request(DNS, CLIENT, 4_000, Content::Udp).marked(5);
    let second = target(&mut director, 0, &dns).unwrap();
    assert_eq!(first.ip(), second.ip());
    assert_eq!((first.port(), second.port()), (80, 53), "the packet's port, whatever the server's");
    let targets: Vec<_> = director.templates(at(0)).map(|template| template.target).collect();
    assert_eq!(targets, [TemplateTarget::Mark(5)]);
}

fn a_service_for_all_ports_needs_persistence<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let all = ServiceKey::tcp(VIP, 0);
    let mut director = start(make, config(), all, scheduler("rr"));
    assert_eq!(
        director.decide(at(0), &syn_from(CLIENT, 4_000), Inspected::Nothing),
        Verdict::Reject(Reason::NoServer)
    );
    director.edit_service(all, persistent(100)).unwrap();
    let first = target(&mut director, 0, &syn_from(CLIENT, 4_000)).unwrap();
    let other = request(ServiceKey::tcp(VIP, 8_080), CLIENT, 4_001, SYN);
    assert_eq!(target(&mut director, 0, &other), Some(SocketAddr::new(first.ip(), 8_080)));
    assert_eq!(director.templates(at(0)).count(), 1);
}

fn high_ports_belong_to_an_ftp_service_before_one_for_all_ports<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let ftp = ServiceKey::tcp(VIP, 21);
    let mut director = start(make, config(), ServiceKey::tcp(VIP, 0), persistent(100));
    director.add_service(ftp, scheduler("rr")).unwrap();
    director.add_server(ftp, server(4, Method::Direct, 1)).unwrap();
    let to = |port| request(ServiceKey::tcp(VIP, port), CLIENT, 4_000, SYN);
    // Without persistence it cannot take them, and they are left to the host.
    assert_eq!(director.decide(at(0), &to(1_024), Inspected::Nothing), Verdict::Pass(Reason::NoServer));
    assert_eq!(director.decide(at(0), &to(20), Inspected::Nothing), Verdict::Pass(Reason::NoServer));
    assert!(matches!(director.decide(at(0), &to(1_023), Inspected::Nothing), Verdict::Forward(_)));
    director.edit_service(ftp, persistent(100)).unwrap();
    // Both kinds of services have the same templates, so what the client has already counts.
    assert_eq!(target(&mut director, 0, &to(21)), Some(address(3)));
    let to = |port| request(ServiceKey::tcp(VIP, port), [192, 0, 2, 8], 4_000, SYN);
    assert_eq!(target(&mut director, 0, &to(21)), Some(address(4)));
    assert_eq!(target(&mut director, 0, &to(2_000)), Some(SocketAddr::new(address(4).ip(), 2_000)));
}

fn a_datagram_at_a_time_makes_no_connection<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = start(make, config(), DNS, scheduler("rr").with_one_packet());
    let packet = request(DNS, CLIENT, 4_000, Content::Udp);
    let servers: Vec<_> = (0..3).map(|_| target(&mut director, 0, &packet).unwrap()).collect();
    assert_eq!(servers, [address(3), address(2), address(1)]);
    assert_eq!((director.connections(at(0)).count(), director.counters().live), (0, 0));
    assert_eq!(director.counters().traffic.connections, 3);
    let back = answer(Protocol::Udp, 3, CLIENT, 4_000, Content::Udp);
    assert_eq!(director.decide(at(0), &back, Inspected::Nothing), Verdict::Pass(Reason::NoConnection));
}

fn calls_keep_their_server_and_packets_without_one_are_dropped<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let service = scheduler("rr").with_persistence(Persistence::new(60).with_engine(PersistenceEngine::Sip));
    let mut director = start(make, config(), SIP, service);
    let packet = |port| request(SIP, CLIENT, port, Content::Udp);
    let before = director.counters();
    assert_eq!(director.decide(at(0), &packet(1), Inspected::Nothing), Verdict::Inspect);
    assert_eq!(director.counters(), before, "nothing has happened yet");
    let mut call = |port, id: &[u8]| {
        forwarded(director.decide(at(0), &packet(port), Inspected::CallId(Some(id))))
            .map(|forward| forward.target)
    };
    let (one, two) = (call(1, b"one"), call(2, b"two"));
    assert_ne!(one, two);
    assert_eq!(call(3, b"one"), one);
    assert_eq!(call(4, b"two"), two);
    assert_eq!(director.decide(at(0), &packet(5), Inspected::CallId(None)), Verdict::Drop(Reason::NoCallId));
    // A connection that is there needs no look.
    assert!(matches!(director.decide(at(0), &packet(1), Inspected::Nothing), Verdict::Forward(_)));
    let calls: Vec<_> = director.templates(at(0)).map(|template| template.call.unwrap().to_vec()).collect();
    assert_eq!(calls, [b"one".to_vec(), b"two".to_vec()]);
    director.sweep(at(600), usize::MAX);
    assert_eq!(director.templates(at(600)).count(), 0);
    assert_eq!(director.counters().live, 0);
}

fn a_call_that_a_real_server_begins_is_the_clients_too<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let service = scheduler("rr").with_persistence(Persistence::new(60).with_engine(PersistenceEngine::Sip));
    let mut director = start(make, config(), SIP, service);
    let invite = answer(Protocol::Udp, 2, CLIENT, 5_060, Content::Udp);
    assert_eq!(director.decide(at(0), &invite, Inspected::Nothing), Verdict::Inspect);
    let sent = forwarded(director.decide(at(0), &invite, Inspected::CallId(Some(b"theirs")))).unwrap();
    assert_eq!((sent.direction, sent.target), (Direction::Reply, SocketAddr::new(VIP, 5_060)));
    assert_eq!(target(&mut director, 0, &request(SIP, CLIENT, 5_060, Content::Udp)), Some(address(2)));
    let other = answer(Protocol::Udp, 7, CLIENT, 5_060, Content::Udp);
    assert_eq!(
        director.decide(at(0), &other, Inspected::Nothing),
        Verdict::Pass(Reason::NoConnection),
        "no server of ours"
    );
}

fn with_no_room_left_a_persistent_connection_is_dropped_and_counts_nothing<
    S: Store<Scheduler = Scheduler>,
>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut full = config();
    full.when_full = WhenFull::Refuse;
    let mut director = start(make, full, WEB, persistent(100));
    let mut port = 1_024;
    while director.counters().live < 255 {
        let _ = director.decide(at(0), &syn_from(CLIENT, port), Inspected::Nothing);
        port += 1;
    }
    // A template fits, its connection does not.
    assert_eq!(
        director.decide(at(0), &syn_from([192, 0, 2, 9], 1), Inspected::Nothing),
        Verdict::Drop(Reason::TableFull)
    );
    assert_eq!(
        director.decide(at(0), &syn_from([192, 0, 2, 10], 1), Inspected::Nothing),
        Verdict::Drop(Reason::TableFull)
    );
    assert_eq!(director.templates(at(0)).count(), 2);
    assert_eq!(director.templates(at(0)).map(|template| template.connections).sum::<u32>(), 254);
    let total: u32 = director.servers(WEB).map(|(_, server)| server.active() + server.inactive()).sum();
    assert_eq!(total, 254);
}

fn a_mask_that_no_address_has_is_refused<S: Store<Scheduler = Scheduler>>(
    make: impl FnOnce(Config) -> Director<S>,
) {
    let mut director = make(config());
    let mask = |len| scheduler("rr").with_persistence(Persistence::new(60).with_mask(len));
    assert_eq!(director.add_service(WEB, mask(33)), Err(AddServiceError::BadMask));
    let v6 = ServiceKey::tcp("2001:db8::1".parse().unwrap(), 80);
    assert_eq!(director.add_service(v6, mask(0)), Err(AddServiceError::BadMask));
    director.add_service(v6, mask(128)).unwrap();
    assert_eq!(director.edit_service(v6, mask(129)), Err(EditServiceError::BadMask));
}

/// Stores with room for calls.
macro_rules! on_every_store {
    ($($name:ident)+) => {$(
        mod $name {
            #[test]
            fn fixed() {
                let store: Box<lvs_core::Fixed<256, 4, 16, 64, 0, lvs_core::Scheduler, 8>> =
                    Box::new(lvs_core::Fixed::new());
                super::$name(|config| lvs_core::Director::new(config, *store));
            }

            #[test]
            fn heap() {
                super::$name(|config| lvs_core::Director::new(config, lvs_core::Heap::with_capacity(256)));
            }
        }
    )+};
}

on_every_store! {
    a_client_keeps_its_server_until_the_template_ends
    a_template_lives_as_long_as_its_connections_in_steps_of_a_minute
    a_late_sweep_finds_the_template_as_it_was_left
    clients_of_one_network_share_a_server
    a_quiesced_server_keeps_its_clients_unless_told_otherwise
    a_draining_server_gets_nobody_new_and_what_is_left_can_be_cut
    a_marked_service_has_one_template_for_all_protocols_and_ports
    a_service_for_all_ports_needs_persistence
    high_ports_belong_to_an_ftp_service_before_one_for_all_ports
    a_datagram_at_a_time_makes_no_connection
    calls_keep_their_server_and_packets_without_one_are_dropped
    a_call_that_a_real_server_begins_is_the_clients_too
    with_no_room_left_a_persistent_connection_is_dropped_and_counts_nothing
    a_mask_that_no_address_has_is_refused
}

#[test]
fn a_store_without_room_for_another_call_drops_it() {
    let mut store: Fixed<64, 1, 4, 8, 0, Scheduler, 1> = Fixed::new();
    let service = scheduler("rr").with_persistence(Persistence::new(60).with_engine(PersistenceEngine::Sip));
    let mut director = start(|config| Director::new(config, &mut store), config(), SIP, service);
    let packet = |port| request(SIP, CLIENT, port, Content::Udp);
    assert!(forwarded(director.decide(at(0), &packet(1), Inspected::CallId(Some(b"one")))).is_some());
    assert_eq!(
        director.decide(at(0), &packet(2), Inspected::CallId(Some(b"two"))),
        Verdict::Drop(Reason::CallsFull)
    );
    assert_eq!(
        director.decide(at(0), &packet(2), Inspected::CallId(Some(&[b'x'; 256]))),
        Verdict::Drop(Reason::CallsFull)
    );
    assert_eq!((director.templates(at(0)).count(), director.counters().live), (1, 2));
}

#[test]
fn the_order_in_which_connections_are_found_to_be_over_does_not_keep_their_template() {
    let mut director = Director::new(config(), Heap::with_capacity(8));
    director.add_service(DNS, scheduler("rr").with_persistence(Persistence::new(60))).unwrap();
    director.add_server(DNS, server(1, Method::Nat, 1)).unwrap();
    let mut ask = |secs, port| {
        let packet = request(DNS, [192, 0, 2, 7], port, Content::Udp);
        let verdict = director.decide(Tick::ZERO.plus_secs(secs), &packet, Inspected::Nothing);
        assert!(forwarded(verdict).is_some());
    };
    // The template's time is up at 90 s, and every 60 s after that. The connection whose entry comes first in the table
    // ends in such a moment, at 390 s; the other one has ended before, at 330 s.
    ask(0, 1_000);
    ask(30, 1_001);
    ask(90, 1_000);
    let late = Tick::ZERO.plus_secs(391);
    director.sweep(late, 100);
    director.sweep(late, 100);
    assert_eq!(director.counters().live, 0, "nothing controls the template any more");
}
