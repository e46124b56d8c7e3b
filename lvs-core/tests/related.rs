//! Connections beside the ordinary ones: FTP data, bypass, ICMP errors, AH and ESP, strays, defences.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use core::net::{IpAddr, SocketAddr};

use lvs_core::config::{Defence, Tuning};
use lvs_core::conn::{Expectation, Helper};
use lvs_core::error::{ExpectError, ZeroError};
use lvs_core::stats::Traffic;
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];
const FTP: ServiceKey = ServiceKey::tcp(VIP, 21);

fn at(secs: u64) -> Tick {
    Tick::ZERO.plus_secs(secs)
}

fn start(tune: impl FnOnce(&mut Tuning), key: ServiceKey, method: Method) -> Director<Heap> {
    let mut config = config();
    tune(&mut config.tuning);
    let mut director = Director::new(config, Heap::with_capacity(64));
    director.add_service(key, scheduler("rr")).unwrap();
    director.add_server(key, server(1, method, 1)).unwrap();
    director
}

fn flow(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Flow {
    Flow::new(protocol, source, destination).unwrap()
}

fn client(port: u16) -> SocketAddr {
    SocketAddr::from((CLIENT, port))
}

#[test]
fn passive_ftp_data_is_known_by_the_servers_port_until_the_client_shows_its_own() {
    let mut director = start(|_| (), FTP, Method::Nat);
    let control =
        forwarded(director.decide(at(0), &request(FTP, CLIENT, 4_000, SYN), Inspected::Nothing)).unwrap();
    assert_eq!(control.helper, Some(Helper::Ftp));
    let data =
        director.expect(at(0), control.connection, Expectation::FromClient { server_port: 30_000 }).unwrap();
    let listed = director.connection(data, at(0)).unwrap();
    assert_eq!(listed.state.to_string(), "LISTEN");
    assert_eq!((listed.flow.source_port, listed.lacks_client_port), (0, true));
    assert_eq!(listed.controller, Some(control.connection));
    // The same once more is the same connection.
    let again = director.expect(at(0), control.connection, Expectation::FromClient { server_port: 30_000 });
    assert_eq!(again, Ok(data));

    let opening = request(ServiceKey::tcp(VIP, 30_000), CLIENT, 4_001, SYN);
    let sent = forwarded(director.decide(at(1), &opening, Inspected::Nothing)).unwrap();
    assert_eq!((sent.connection, sent.target), (data, SocketAddr::new(address(1).ip(), 30_000)));
    assert_eq!(sent.helper, None);
    let listed = director.connection(data, at(1)).unwrap();
    assert_eq!((listed.flow.source_port, listed.lacks_client_port), (4_001, false));
    // From now on it is that client port's alone.
    let stranger = request(ServiceKey::tcp(VIP, 30_000), CLIENT, 4_002, SYN);
    assert_eq!(director.decide(at(1), &stranger, Inspected::Nothing), Verdict::Pass(Reason::NoServer));
    let back = flow(Protocol::Tcp, SocketAddr::new(address(1).ip(), 30_000), client(4_001));
    let reply =
        forwarded(director.decide(at(1), &Packet::new(back, ACK, 60).passing(), Inspected::Nothing)).unwrap();
    assert_eq!((reply.connection, reply.target), (data, SocketAddr::new(VIP, 30_000)));
}

#[test]
fn active_ftp_data_comes_from_the_port_before_the_virtual_one_and_keeps_its_control_connection() {
    let mut director = start(|_| (), FTP, Method::Nat);
    let control = forwarded(director.decide(at(0), &request(FTP, CLIENT, 4_000, SYN), Inspected::Nothing))
        .unwrap()
        .connection;
    let data = director.expect(at(0), control, Expectation::FromServer { client: client(5_000) }).unwrap();
    // The server's port was 80, so its data comes from 79.
    let from = flow(Protocol::Tcp, SocketAddr::new(address(1).ip(), 79), client(5_000));
    let sent =
        forwarded(director.decide(at(1), &Packet::new(from, SYN, 60).passing(), Inspected::Nothing)).unwrap();
    assert_eq!((sent.connection, sent.target), (data, SocketAddr::new(VIP, 20)));
    // The control connection, in SYN_RECV, would be over after 60 s; its data, in LISTEN, lives for 120.
    director.sweep(at(100), usize::MAX);
    assert!(director.connection(control, at(100)).is_some());
    director.sweep(at(200), usize::MAX);
    assert_eq!(director.counters().live, 0, "with the last child its time was up");
}

#[test]
fn a_reply_that_a_helper_made_longer_counts_as_it_leaves() {
    let mut director = start(|_| (), FTP, Method::Nat);
    let control = forwarded(director.decide(at(0), &request(FTP, CLIENT, 4_000, SYN), Inspected::Nothing))
        .unwrap()
        .connection;
    let _ = director.decide(at(0), &answer(Protocol::Tcp, 1, CLIENT, 4_000, ACK), Inspected::Nothing);
    assert_eq!(director.counters().traffic.out_bytes, 60);
    director.resized(control, 7);
    assert_eq!(director.service(FTP).unwrap().traffic().out_bytes, 67);
    director.resized(control, -9);
    director.resized(ConnId::NONE, 1_000);
    assert_eq!(director.counters().traffic.out_bytes, 58);
}

#[test]
fn only_nat_has_expectations() {
    let mut director = start(|_| (), FTP, Method::Direct);
    let control =
        forwarded(director.decide(at(0), &request(FTP, CLIENT, 4_000, SYN), Inspected::Nothing)).unwrap();
    assert_eq!(control.helper, None);
    let expected = Expectation::FromClient { server_port: 1 };
    assert_eq!(director.expect(at(0), control.connection, expected), Err(ExpectError::NotNat));
    assert_eq!(director.expect(at(0), ConnId::NONE, expected), Err(ExpectError::NotFound));
    assert_eq!(director.expect(at(61), control.connection, expected), Err(ExpectError::NotFound));
}

#[test]
fn client_port_0_never_finds_its_connection_again() {
    let mut director = start(|_| (), DNS, Method::Nat);
    let packet = request(DNS, CLIENT, 0, Content::Udp);
    let mut batch = [Verdict::Inspect; 2];
    assert_eq!(director.decide_batch(at(0), &[packet, packet], &mut batch), 2);
    let _ = director.decide(at(0), &packet, Inspected::Nothing);
    assert_eq!(director.connections(at(0)).count(), 3);
    let back = answer(Protocol::Udp, 1, CLIENT, 0, Content::Udp);
    assert!(
        matches!(director.decide(at(0), &back, Inspected::Nothing), Verdict::Forward(_)),
        "but replies do"
    );
}

#[test]
fn ipsec_follows_its_key_exchange_and_starts_nothing() {
    let isakmp = ServiceKey::udp(VIP, 500);
    let mut director = start(|_| (), isakmp, Method::Direct);
    let esp = request(isakmp, CLIENT, 500, Content::Ipsec);
    assert_eq!(director.decide(at(0), &esp, Inspected::Nothing), Verdict::Pass(Reason::NoConnection));
    let _ = director.decide(at(0), &request(isakmp, CLIENT, 500, Content::Udp), Inspected::Nothing);
    assert!(matches!(director.decide(at(299), &esp, Inspected::Nothing), Verdict::Forward(_)));
    assert!(
        matches!(director.decide(at(598), &esp, Inspected::Nothing), Verdict::Forward(_)),
        "it kept the connection alive"
    );
    assert_eq!(director.decide(at(898), &esp, Inspected::Nothing), Verdict::Pass(Reason::NoConnection));
}

#[test]
fn an_icmp_error_may_be_scheduled_and_refreshes_nothing() {
    let error = request(WEB, CLIENT, 4_000, Content::Error);
    let mut director = start(|_| (), WEB, Method::Nat);
    assert_eq!(director.decide(at(0), &error, Inspected::Nothing), Verdict::Pass(Reason::NoConnection));
    let mut director = start(|tuning| tuning.schedule_icmp = true, WEB, Method::Nat);
    assert!(matches!(director.decide(at(0), &error, Inspected::Nothing), Verdict::Forward(_)));
    assert_eq!(
        director.connections(at(0)).map(|c| (c.state.to_string(), c.expires_in)).next(),
        Some(("NONE".into(), 3_000))
    );
    director.edit_server(WEB, server(1, Method::Nat, 0)).unwrap();
    let other = request(WEB, CLIENT, 4_001, Content::Error);
    assert_eq!(
        director.decide(at(0), &other, Inspected::Nothing),
        Verdict::Drop(Reason::NoServer),
        "never an error about an error"
    );
}

#[test]
fn what_no_server_takes_may_go_where_it_was_sent() {
    let key = ServiceKey::Mark { family: Family::V4, mark: 5 };
    let mut director = start(|tuning| tuning.cache_bypass = true, key, Method::Direct);
    director.edit_server(key, server(1, Method::Direct, 0)).unwrap();
    let web = SocketAddr::from(([203, 0, 113, 80], 80));
    let mut packet = Packet::new(flow(Protocol::Tcp, client(4_000), web), SYN, 60).marked(5);
    assert_eq!(
        director.decide(at(0), &packet, Inspected::Nothing),
        Verdict::Reject(Reason::NoServer),
        "to an own address"
    );
    packet.path = Path::Captured;
    for _ in 0..2 {
        let forward = forwarded(director.decide(at(0), &packet, Inspected::Nothing)).unwrap();
        assert_eq!((forward.method, forward.target), (Method::Bypass, web));
    }
    assert_eq!(director.counters().traffic, Traffic::default(), "no server, no count");
    let listed = director.connections(at(0)).next().unwrap();
    assert_eq!(listed.destination, "0.0.0.0:0".parse().unwrap());
    director.edit_server(key, server(1, Method::Direct, 1)).unwrap();
    assert_eq!(
        forwarded(director.decide(at(0), &packet, Inspected::Nothing)).unwrap().method,
        Method::Bypass,
        "it stays so"
    );
    director.sweep(at(1_000), usize::MAX);
    assert_eq!(director.counters().live, 0);
    assert_eq!(
        forwarded(director.decide(at(1_000), &packet, Inspected::Nothing)).unwrap().method,
        Method::Direct
    );
}

#[test]
fn a_stray_reply_is_told_off_if_that_is_wanted() {
    let stray = answer(Protocol::Tcp, 1, CLIENT, 4_000, ACK);
    let mut director = start(|_| (), WEB, Method::Nat);
    assert_eq!(director.decide(at(0), &stray, Inspected::Nothing), Verdict::Pass(Reason::NoConnection));
    let mut director = start(|tuning| tuning.nat_icmp_send = true, WEB, Method::Nat);
    assert_eq!(director.decide(at(0), &stray, Inspected::Nothing), Verdict::Reject(Reason::StrayReply));
    let reset = answer(Protocol::Tcp, 1, CLIENT, 4_000, RST);
    assert_eq!(director.decide(at(0), &reset, Inspected::Nothing), Verdict::Pass(Reason::NoConnection));
    let other = answer(Protocol::Tcp, 2, CLIENT, 4_000, ACK);
    assert_eq!(
        director.decide(at(0), &other, Inspected::Nothing),
        Verdict::Pass(Reason::NoConnection),
        "no server of ours"
    );
    // A client of the same director is one all the same.
    assert!(matches!(
        director.decide(at(0), &request(WEB, CLIENT, 4_000, SYN), Inspected::Nothing),
        Verdict::Forward(_)
    ));
}

#[test]
fn a_backup_may_leave_clients_alone() {
    let mut director = start(|tuning| tuning.backup_only = true, WEB, Method::Nat);
    let packet = request(WEB, CLIENT, 4_000, SYN);
    assert!(matches!(director.decide(at(0), &packet, Inspected::Nothing), Verdict::Forward(_)));
    director.set_sync_role(false, true);
    assert_eq!(director.decide(at(0), &packet, Inspected::Nothing), Verdict::Pass(Reason::BackupOnly));
    let back = answer(Protocol::Tcp, 1, CLIENT, 4_000, ACK);
    assert!(
        matches!(director.decide(at(0), &back, Inspected::Nothing), Verdict::Forward(_)),
        "replies go on"
    );
}

#[test]
fn drop_packet_refuses_one_in_so_many_new_connections() {
    let mut director = start(
        |tuning| {
            tuning.drop_packet = Defence::Always;
            tuning.am_droprate = 4;
        },
        WEB,
        Method::Nat,
    );
    let refused = (0..40).filter(|port| {
        director.decide(at(0), &request(WEB, CLIENT, 4_000 + port, SYN), Inspected::Nothing)
            == Verdict::Drop(Reason::Defence)
    });
    assert_eq!(refused.count(), 10);
    // Those that are there are left in peace.
    let known = director.connections(at(0)).map(|c| c.flow.source_port).collect::<Vec<_>>();
    for port in known {
        assert!(matches!(
            director.decide(at(0), &request(WEB, CLIENT, port, ACK), Inspected::Nothing),
            Verdict::Forward(_)
        ));
    }
}

#[test]
fn drop_entry_gives_half_open_connections_up_and_spares_established_ones_in_use() {
    let mut director = start(|tuning| tuning.drop_entry = Defence::Automatic, WEB, Method::Direct);
    for port in 0..32 {
        let _ = director.decide(at(1), &request(WEB, CLIENT, 4_000 + port, SYN), Inspected::Nothing);
        if port < 16 {
            let _ = director.decide(at(1), &request(WEB, CLIENT, 4_000 + port, ACK), Inspected::Nothing);
        }
    }
    for secs in 2..50 {
        director.sweep(at(secs), usize::MAX);
    }
    assert_eq!(director.counters().live, 32, "memory is not short");
    director.report_available(0);
    for secs in 50..60 {
        director.sweep(at(secs), usize::MAX);
    }
    let states: Vec<_> = director.connections(at(59)).map(|c| c.state.to_string()).collect();
    assert_eq!(states.iter().filter(|state| *state == "ESTABLISHED").count(), 16);
    assert!(states.len() < 32, "{states:?}");
}

#[test]
fn secure_tcp_waits_for_the_servers_acknowledgement() {
    let mut director = start(|tuning| tuning.secure_tcp = Defence::Always, WEB, Method::Nat);
    let mut step = |packet: Packet| {
        let _ = director.decide(at(0), &packet, Inspected::Nothing);
        director.connections(at(0)).next().unwrap().state.to_string()
    };
    let syn_ack = Content::Tcp(TcpFlags::SYN.with(TcpFlags::ACK));
    assert_eq!(step(request(WEB, CLIENT, 4_000, SYN)), "SYN_RECV");
    assert_eq!(step(answer(Protocol::Tcp, 1, CLIENT, 4_000, syn_ack)), "SYNACK");
    assert_eq!(step(request(WEB, CLIENT, 4_000, ACK)), "SYNACK");
    assert_eq!(step(answer(Protocol::Tcp, 1, CLIENT, 4_000, ACK)), "ESTABLISHED");
}

#[test]
fn shown_counters_and_rates_follow_every_two_seconds_and_can_be_set_to_zero() {
    let mut director = start(|_| (), WEB, Method::Nat);
    director.sweep(at(0), 1);
    for port in 0..8 {
        let _ = director.decide(at(1), &request(WEB, CLIENT, 4_000 + port, SYN), Inspected::Nothing);
    }
    let shown = |director: &Director<Heap>| {
        let meter = director.service(WEB).unwrap().meter();
        (meter.shown().connections, meter.rates().connections)
    };
    assert_eq!(shown(&director), (0, 0));
    director.sweep(at(2), 1);
    assert_eq!(shown(&director), (8, 1));
    assert_eq!(director.meter().shown().in_bytes, 8 * 60);
    director.zero(Some(WEB)).unwrap();
    assert_eq!(shown(&director), (0, 0));
    assert_eq!(director.meter().shown().connections, 8, "only the service's");
    director.zero(None).unwrap();
    assert_eq!(director.meter().shown().connections, 0);
    assert_eq!(director.zero(Some(DNS)), Err(ZeroError::NotFound));
    let server: IpAddr = address(1).ip();
    assert!(
        director.servers(WEB).all(|(_, s)| s.address().ip() == server && s.meter().shown().connections == 0)
    );
}
