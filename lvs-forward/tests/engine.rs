//! The engine over ports in memory: no thread, no socket, no clock but a number.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lvs_core::{
    Config, Director, Event, Fixed, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Store,
    Tick, Tunnel,
};
use lvs_forward::checksum::Sum;
use lvs_forward::engine::{Engine, NoPort, OWN_BUFFER, PortForm, Ports};
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::parse::Link;
use lvs_forward::{
    Checksum, DropReason, Forwarder, Frame, HEADROOM, LocalTraffic, Merged, MergedKind, Offload, Offloads,
    Options, Outcome, PortId,
};

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
const LOCAL: PortId = PortId(2);
const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const GATEWAY: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xaa]);
const SERVER: MacAddress = MacAddress([2, 0, 0, 0, 1, 0x11]);

/// Ports that keep what was sent.
struct Memory {
    offloads: Offloads,
    sent: Vec<(PortId, Vec<u8>)>,
}

impl Ports for Memory {
    fn form(&self, port: PortId) -> Option<PortForm> {
        let link = match port {
            OUTSIDE | INSIDE => Link::Ethernet,
            LOCAL => Link::Bare,
            _ => return None,
        };
        Some(PortForm { link, offloads: self.offloads })
    }

    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        self.form(frame.port).ok_or(NoPort)?;
        let finished = frame.offload == Offload::NONE;
        assert!(finished || self.offloads.carry(&frame.offload), "a frame that the port cannot carry");
        self.sent.push((frame.port, frame.bytes().to_vec()));
        Ok(())
    }
}

/// A director, its forwarder and an engine, with a time of their own.
struct World<S: Store> {
    director: Director<S>,
    forwarder: Box<Forwarder>,
    engine: Engine,
    ports: Memory,
    now: Tick,
}

impl<S: Store> World<S> {
    fn take(&mut self, bytes: &[u8], offload: Offload, port: PortId) -> Outcome {
        let mut buffer = [[0; HEADROOM].as_slice(), bytes, &[0; 64]].concat();
        let mut frame = Frame::new(&mut buffer, HEADROOM, HEADROOM + bytes.len(), port).unwrap();
        frame.offload = offload;
        let mut outcomes = [Outcome::Consumed];
        let Self { director, forwarder, engine, ports, now } = self;
        engine.process(director, forwarder, *now, core::slice::from_mut(&mut frame), &mut outcomes, ports);
        outcomes[0]
    }

    /// What a loop does when nothing came in.
    fn idle(&mut self) {
        let mut buffer = [0; OWN_BUFFER];
        self.engine.transmit_own(&mut self.forwarder, self.now, &mut buffer, &mut self.ports);
        self.engine.sweep(&mut self.director, self.now);
    }

    /// Sleeps exactly as long as the engine says, until `end`.
    fn sleep_until(&mut self, end: Tick, mut woken: impl FnMut(&mut Self)) {
        while self.now < end {
            self.idle();
            woken(self);
            if !self.engine.is_behind() {
                let due = self.engine.poll_at(&self.director, &self.forwarder);
                assert!(due.is_none_or(|due| due > self.now), "nothing is due after a turn");
                self.now = due.unwrap_or(end).min(end);
            }
        }
        self.idle();
    }

    fn sent(&mut self) -> Vec<(PortId, Vec<u8>)> {
        core::mem::take(&mut self.ports.sent)
    }
}

fn host() -> Host {
    let mut host: Host = Host::new(Seed::from_bytes([7; 16]));
    assert_eq!(host.add_port(Port::ethernet(OWN, 1_500)), Ok(OUTSIDE));
    assert_eq!(host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 1, 1]), 1_500)), Ok(INSIDE));
    assert_eq!(host.add_port(Port::bare(1_500)), Ok(LOCAL));
    host.add_address(OUTSIDE, "10.0.0.254".parse().unwrap(), 24).unwrap();
    host.add_address(INSIDE, "10.0.1.254".parse().unwrap(), 24).unwrap();
    host.add_virtual_address("10.99.0.1".parse().unwrap()).unwrap();
    let everywhere = Prefix::new("0.0.0.0".parse().unwrap(), 0).unwrap();
    host.add_route(everywhere, Some("10.0.0.1".parse().unwrap()), OUTSIDE).unwrap();
    host.add_neighbour(OUTSIDE, "10.0.0.1".parse().unwrap(), GATEWAY).unwrap();
    host
}

type Store4 = Fixed<64, 4, 4, 16>;

fn world(store: &mut Store4, method: Method, offloads: Offloads, known: bool) -> World<&mut Store4> {
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
    let service = ServiceKey::tcp("10.99.0.1".parse().unwrap(), 80);
    let scheduler = Scheduler::from_name("rr").unwrap();
    director.add_service(service, ServiceConfig::new(scheduler)).unwrap();
    let port = if method == Method::Nat { 8_080 } else { 80 };
    let server = core::net::SocketAddr::from(([10, 0, 1, 11], port));
    director.add_server(service, ServerConfig::new(server, method)).unwrap();
    let mut host = host();
    if known {
        host.add_neighbour(INSIDE, "10.0.1.11".parse().unwrap(), SERVER).unwrap();
    }
    let mut options = Options::new();
    options.local = Some(LOCAL);
    World {
        director,
        forwarder: Box::new(Forwarder::new(host, options)),
        engine: Engine::new(),
        ports: Memory { offloads, sent: Vec::new() },
        now: Tick::from_millis(1_000),
    }
}

/// A TCP segment from the client by the gateway, with this port, these flags and so much payload.
fn segment(port: u16, flags: u8, payload: usize) -> Vec<u8> {
    let total = (40 + payload) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, 6, 0, 0, 192, 0, 2, 7, 10, 99, 0, 1];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = Sum::ZERO.bytes(&packet).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend([0x9c, 0x40, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 1, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet.resize(40 + payload, 0x5a);
    let client = [192, 0, 2, 7].into();
    let sum = Sum::pseudo_v4(client, [10, 99, 0, 1].into(), 6, 20 + payload).bytes(&packet[20..]).checksum();
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    [OWN.0.as_slice(), &GATEWAY.0, &[8, 0], &packet].concat()
}

fn merged(segment: u16) -> Offload {
    Offload {
        checksum: Checksum::Complete,
        merged: Some(Merged { kind: MergedKind::TcpV4, segment, ecn: false }),
    }
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[test]
fn a_request_goes_to_its_server_and_what_is_for_the_host_to_the_local_port() {
    let mut store = Store4::new();
    let mut world = world(&mut store, Method::Nat, Offloads::NONE, true);
    assert_eq!(world.take(&segment(80, SYN, 0), Offload::NONE, OUTSIDE), Outcome::Send);
    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].0, &sent[0].1[..6], &sent[0].1[30..34]),
        (INSIDE, &SERVER.0[..], &[10, 0, 1, 11][..])
    );

    // Port 22 is nobody's service: the local stack gets the packet as it came, without its link header.
    let other = segment(22, SYN, 0);
    assert!(matches!(world.take(&other, Offload::NONE, OUTSIDE), Outcome::Pass(_)));
    assert_eq!(world.sent(), [(LOCAL, other[14..].to_vec())]);
    assert_eq!((world.engine.counters().passed, world.engine.counters().not_passed), (1, 0));

    // What comes from the local stack does not go back there.
    assert!(matches!(world.take(&other[14..], Offload::NONE, LOCAL), Outcome::Pass(_)));
    assert_eq!(world.sent(), []);
    assert_eq!((world.engine.counters().passed, world.engine.counters().not_passed), (1, 1));
}

/// A world whose only server is this address of the machine itself.
fn served_here(store: &mut Store4, server: [u8; 4], method: Method) -> World<&mut Store4> {
    let mut world = world(store, method, Offloads::ALL, false);
    let service = ServiceKey::tcp("10.99.0.1".parse().unwrap(), 80);
    let port = if method == Method::Nat { 8_080 } else { 80 };
    world.director.remove_server(service, ([10, 0, 1, 11], port).into()).unwrap();
    world.director.add_server(service, ServerConfig::new((server, port).into(), method)).unwrap();
    world.forwarder.host_mut().set_local_servers([server.into()]).unwrap();
    let mut options = *world.forwarder.options();
    (options.local_traffic, options.reject) = (LocalTraffic::Servers, true);
    world.forwarder.set_options(options);
    world
}

/// Turns a segment without a link header around: both ends change places.
fn turned(packet: &[u8]) -> Vec<u8> {
    let mut answer = packet.to_vec();
    answer[12..16].copy_from_slice(&packet[16..20]);
    answer[16..20].copy_from_slice(&packet[12..16]);
    answer[20..22].copy_from_slice(&packet[22..24]);
    answer[22..24].copy_from_slice(&packet[20..22]);
    answer
}

#[test]
fn a_server_that_is_the_machine_gets_its_packets_by_the_local_port_and_answers_by_it() {
    // A loopback address, one of the machine's, one that the host on the wire has as well.
    for server in [[127, 0, 0, 1], [10, 0, 0, 7], [10, 0, 0, 254]] {
        let mut store = Store4::new();
        let mut world = served_here(&mut store, server, Method::Nat);
        for _ in 0..2 {
            // A known connection takes no other way than a new one.
            let request = segment(80, SYN, 0);
            assert!(matches!(world.take(&request, Offload::NONE, OUTSIDE), Outcome::Pass(_)), "{server:?}");
            let sent = world.sent();
            assert_eq!(sent.len(), 1);
            let (port, packet) = &sent[0];
            assert_eq!((*port, &packet[16..20], &packet[22..24]), (LOCAL, &server[..], &[0x1f, 0x90][..]));
            assert_eq!(packet[8], 64, "no router was in between");
            assert_eq!(world.take(&turned(packet), Offload::NONE, LOCAL), Outcome::Send);
            let sent = world.sent();
            assert_eq!((sent[0].0, &sent[0].1[..6]), (OUTSIDE, &GATEWAY.0[..]));
            assert_eq!((&sent[0].1[26..30], &sent[0].1[34..36]), (&[10, 99, 0, 1][..], &[0, 80][..]));
            assert_eq!(sent[0].1[22], 64, "nor is one on the way back");
        }
    }
}

#[test]
fn without_nat_a_server_that_is_the_machine_gets_what_came() {
    for method in [Method::Direct, Method::Tunnel(Tunnel::IpIp), Method::Local] {
        let mut store = Store4::new();
        let mut world = served_here(&mut store, [127, 0, 0, 1], method);
        let request = segment(80, SYN, 0);
        assert!(matches!(world.take(&request, Offload::NONE, OUTSIDE), Outcome::Pass(_)), "{method:?}");
        assert_eq!(world.sent(), [(LOCAL, request[14..].to_vec())]);
        assert_eq!(world.take(&turned(&request[14..]), Offload::NONE, LOCAL), Outcome::Send);
        assert_eq!(world.sent()[0].0, OUTSIDE);
    }
}

#[test]
fn a_local_port_for_servers_gets_nothing_else_and_a_server_that_is_not_known_to_be_local_is_none() {
    let mut store = Store4::new();
    let mut world = served_here(&mut store, [127, 0, 0, 1], Method::Nat);
    // Nobody listens at port 22 of a host that refuses for itself.
    assert_eq!(world.take(&segment(22, SYN, 0), Offload::NONE, OUTSIDE), Outcome::Send);
    assert_eq!(world.sent()[0].0, OUTSIDE, "a reset");
    let mut options = *world.forwarder.options();
    options.reject = false;
    world.forwarder.set_options(options);
    assert!(matches!(world.take(&segment(22, SYN, 0), Offload::NONE, OUTSIDE), Outcome::Pass(_)));
    assert_eq!(world.sent(), []);
    world.forwarder.host_mut().set_local_servers([]).unwrap();
    let martian = Outcome::Drop(DropReason::Martian);
    assert_eq!(world.take(&segment(80, SYN, 0), Offload::NONE, OUTSIDE), martian);
    let from_wire = turned(&segment(80, SYN, 0)[14..]);
    let mut from_loopback = [OWN.0.as_slice(), &GATEWAY.0, &[8, 0], &from_wire].concat();
    from_loopback[26..30].copy_from_slice(&[127, 0, 0, 1]);
    from_loopback[24..26].fill(0);
    let sum = Sum::ZERO.bytes(&from_loopback[14..34]).checksum();
    from_loopback[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(world.take(&from_loopback, Offload::NONE, OUTSIDE), martian, "the wire has no such source");
    let host = world.forwarder.host_mut();
    let many = |count: u8| (0..count).map(|last| [127, 0, 0, last].into());
    assert_eq!(host.set_local_servers(many(64)), Ok(()));
    assert!(host.set_local_servers(many(65)).is_err() && host.is_local_server([127, 0, 0, 63].into()));
}

#[test]
fn a_merged_frame_is_cut_only_where_the_port_does_not_carry_it() {
    for (offloads, frames) in [(Offloads::ALL, 1), (Offloads::NONE, 3)] {
        let mut store = Store4::new();
        let mut world = world(&mut store, Method::Nat, offloads, true);
        assert_eq!(world.take(&segment(80, SYN, 0), Offload::NONE, OUTSIDE), Outcome::Send);
        world.sent();
        assert_eq!(world.take(&segment(80, ACK, 2_500), merged(1_000), OUTSIDE), Outcome::Send);
        let sent = world.sent();
        assert_eq!(sent.len(), frames);
        if frames == 3 {
            let lengths: Vec<_> = sent.iter().map(|(_, bytes)| bytes.len()).collect();
            assert_eq!(lengths, [1_054, 1_054, 554]);
            for (_, bytes) in &sent {
                let sum = Sum::pseudo_v4([192, 0, 2, 7].into(), [10, 0, 1, 11].into(), 6, bytes.len() - 34);
                assert_eq!(sum.bytes(&bytes[34..]).fold(), 0xffff, "the checksum of a segment");
            }
        }
        let counters = world.engine.counters();
        assert_eq!((counters.cut, counters.pieces), if frames == 3 { (1, 3) } else { (0, 0) });
        assert_eq!(counters.unsendable, 0);
    }
}

#[test]
fn a_merged_frame_in_a_tunnel_is_cut_whatever_the_port_carries() {
    let mut store = Store4::new();
    let mut world = world(&mut store, Method::Tunnel(Tunnel::IpIp), Offloads::ALL, true);
    assert_eq!(world.take(&segment(80, SYN, 0), Offload::NONE, OUTSIDE), Outcome::Send);
    world.sent();
    assert_eq!(world.take(&segment(80, ACK, 2_000), merged(1_000), OUTSIDE), Outcome::Send);
    assert_eq!(world.sent().iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [1_074, 1_074]);
    assert_eq!(world.engine.counters().pieces, 2);
}

#[test]
fn a_frame_for_a_port_without_a_device_is_lost_and_counted() {
    let mut store = Store4::new();
    let mut world = world(&mut store, Method::Nat, Offloads::NONE, true);
    let mut buffer = [0; 64];
    for offload in [Offload::NONE, merged(1)] {
        let mut frame = Frame::new(&mut buffer, 0, 64, PortId(9)).unwrap().with_offload(offload);
        world.engine.transmit(&mut frame, &mut world.ports);
    }
    assert_eq!((world.sent().len(), world.engine.counters().unsendable), (0, 2));
}

#[test]
fn whoever_sleeps_as_long_as_the_engine_says_misses_nothing() {
    let mut store = Store4::new();
    let mut world = world(&mut store, Method::Nat, Offloads::NONE, false);
    let start = world.now;
    // The server's link-layer address is not known: the request waits, and a question leaves at once.
    assert_eq!(world.take(&segment(80, SYN, 0), Offload::NONE, OUTSIDE), Outcome::Consumed);
    let due = world.engine.poll_at(&world.director, &world.forwarder);
    assert!(due.is_some_and(|due| due <= start), "a question is due");
    assert!(world.forwarder.host_mut().announce(start, "10.99.0.1".parse().unwrap()));

    let mut questions = Vec::new();
    let mut announcements = Vec::new();
    let mut probes = Vec::new();
    let mut turns = 0;
    world.sleep_until(start.plus_secs(70), |world| {
        turns += 1;
        let at = world.now.millis_since(start);
        for (port, bytes) in world.sent() {
            assert_eq!(bytes[12..14], [8, 6], "ARP");
            match &bytes[38..42] {
                [10, 0, 1, 11] => questions.push((port, at)),
                [10, 99, 0, 1] if bytes[28..32] == [0; 4] => probes.push((port, at)),
                [10, 99, 0, 1] => announcements.push((port, at)),
                other => panic!("a question for {other:?}"),
            }
        }
    });
    assert_eq!(questions, [(INSIDE, 0), (INSIDE, 1_000), (INSIDE, 2_000)]);
    let twice = |at| [(OUTSIDE, at), (INSIDE, at)];
    assert_eq!(announcements, [twice(0), twice(1_000), twice(2_000)].concat());
    assert_eq!(probes, twice(3_000), "whether somebody else has it");
    assert!(turns < 60, "{turns} turns: it sleeps in between");

    // The half-open connection has ended meanwhile, by the sweep alone.
    let mut events = core::iter::from_fn(|| world.director.poll_event());
    assert!(events.any(|event| matches!(event, Event::Closed { .. })), "it was swept");

    // And when the rates have come down to zero there is nothing to wake up for at all.
    world.sleep_until(start.plus_secs(600), |_| {});
    assert_eq!(world.engine.poll_at(&world.director, &world.forwarder), None);
}
