use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::Ordering;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use etherparse::PacketBuilder;
use lvs_forward::{Frame, Merged, MergedKind, PortId};

use super::*;
use crate::bpf::ebpf_machine::run;
use crate::offload::maps::{Maps, Numbers, cell};
use crate::offload::program::{self, NEXT};
use crate::offload::recognise::Gate;
use crate::offload::simulation::Arriving;
use crate::sys::bpf::{Instruction, Program, Purpose};

const DIRECTOR: [u8; 6] = [2, 0, 0x5e, 0, 0x53, 0xfe];
const CLIENT: ([u8; 6], u16) = ([2, 0, 0, 0, 0, 7], 40_000);
const SERVER: ([u8; 6], u16) = ([2, 0, 0, 0, 0, 11], 8_080);
/// Of the namespace in which test runs are: loopback.
const INTERFACE: u32 = 1;
/// `TCX_REDIRECT`.
const REDIRECT: u32 = 7;

/// Addresses of client, virtual address and server.
#[derive(Clone, Copy, Debug)]
enum Net {
    V4,
    V6,
}

impl Net {
    const fn shape(self) -> Shape {
        match self {
            Self::V4 => Shape { is_v6: false, transport: 34 },
            Self::V6 => Shape { is_v6: true, transport: 54 },
        }
    }

    /// A segment of 1,000 bytes with ACK between the hosts with these numbers.
    fn segment(self, macs: [[u8; 6]; 2], hosts: [u8; 2], ports: [u16; 2], ttl: u8) -> Vec<u8> {
        let [from, to] = macs;
        let v4 = |host| Ipv4Addr::new(10, 0, 1, host).octets();
        let v6 = |host| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0xfff0, 0, 0xabcd, u16::from(host)).octets();
        let builder = PacketBuilder::ethernet2(from, to);
        let builder = match self {
            Self::V4 => builder.ipv4(v4(hosts[0]), v4(hosts[1]), ttl),
            Self::V6 => builder.ipv6(v6(hosts[0]), v6(hosts[1]), ttl),
        };
        let mut bytes = Vec::new();
        let content: Vec<u8> = (0..1_000_u32).map(|byte| (byte * 7) as u8).collect();
        builder
            .tcp(ports[0], ports[1], 0x1234_5678, 0xffff)
            .ack(0x9abc_def0)
            .write(&mut bytes, &content)
            .unwrap();
        bytes
    }

    /// Each kind of rewriting: before and after.
    fn examples(self, ttl: u8) -> [(u32, Vec<u8>, Vec<u8>); 3] {
        const OUT: [u8; 6] = DIRECTOR;
        let (client, server) = (CLIENT, SERVER);
        let request = self.segment([client.0, DIRECTOR], [7, 100], [client.1, 80], ttl);
        let reply = self.segment([server.0, DIRECTOR], [11, 7], [server.1, client.1], ttl);
        let less = ttl - 1;
        [
            (
                rewrite::DESTINATION,
                request.clone(),
                self.segment([OUT, server.0], [7, 11], [client.1, server.1], less),
            ),
            (rewrite::SOURCE, reply, self.segment([OUT, client.0], [100, 7], [80, client.1], less)),
            (rewrite::NOTHING, request, self.segment([OUT, server.0], [7, 100], [client.1, 80], less)),
        ]
    }
}

/// The frame with a right checksum of the IPv4 header (RFC 791 §3.1).
fn sound(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[12..14] == [0x08, 0x00] {
        frame[24..26].fill(0);
        let sum = renew(u16::MAX, delta(&[0; 20], &frame[14..34]));
        frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    }
    frame
}

fn head(frame: &[u8]) -> Head {
    *frame.first_chunk().unwrap()
}

#[test]
fn a_route_is_learnt_from_what_it_explains_and_from_nothing_else() {
    for net in [Net::V4, Net::V6] {
        for (what, before, after) in net.examples(64) {
            let (before, after) = (head(&before), head(&after));
            let route = Route::learn(&before, &after, false).expect("it explains all");
            assert_eq!((route.word(route::REWRITE), route.is_nat()), (what, what != rewrite::NOTHING));
            assert_eq!(route.next().0[..], after[..6]);
            for at in 0..after.len() {
                let mut other = after;
                other[at] ^= 0x10;
                let learnt = Route::learn(&before, &other, false);
                // MAC addresses may be any; under direct routing a port that changes has no checksum with it.
                assert_eq!(learnt.is_some(), at < 12, "{net:?} {what} byte {at}");
            }
        }
    }
}

#[test]
fn what_is_learnt_from_one_frame_is_right_for_all_others() {
    for net in [Net::V4, Net::V6] {
        let rules = net.examples(64);
        for ttl in [2, 3, 63, 128, 255] {
            for ((_, learnt_from, became), (_, before, after)) in rules.iter().zip(net.examples(ttl)) {
                let route = Route::learn(&head(learnt_from), &head(became), false).unwrap();
                let mut again = head(&before);
                route.apply(&mut again, net.shape(), false);
                assert_eq!(again, head(&after), "{net:?} {ttl}");
            }
        }
    }
}

#[test]
fn a_checksum_that_is_left_to_be_finished_stays_so() {
    for net in [Net::V4, Net::V6] {
        let at = net.shape().transport + 16;
        for (what, before, after) in net.examples(64) {
            // The sum of the pseudo-header is what changes with addresses alone: whatever it was, the difference to the
            // finished checksum's sum is that of the ports, which are not in it.
            let (mut partial, finished) = (head(&before), head(&after));
            partial[at..at + 2].copy_from_slice(&[0x12, 0x34]);
            let route = Route::learn(&head(&before), &finished, false).unwrap();
            let mut applied = partial;
            route.apply(&mut applied, net.shape(), true);
            let sum = |head: &Head| u32::from(u16::from_ne_bytes([head[at], head[at + 1]]));
            assert_eq!(
                fold(sum(&partial) + route.word(route::PSEUDO_DELTA)),
                sum(&applied),
                "{net:?} {what}"
            );
            assert_eq!(Route::learn(&partial, &applied, true), Some(route));
        }
    }
}

#[test]
fn answers_are_known_by_what_the_request_became() {
    for net in [Net::V4, Net::V6] {
        let [(_, request, forwarded), (_, reply, answered), _] = net.examples(64);
        let (forwarded, answered) = (head(&forwarded), head(&answered));
        let key = |frame: &[u8]| net.shape().key(&head(frame), 5);
        assert_eq!(key_of_answers(&forwarded, net.shape(), 5), key(&reply));
        assert_eq!(key_of_answers(&answered, net.shape(), 5), key(&request));
    }
}

/// The filter at a socket: of a pair of datagram sockets, where what is sent to it comes in as a frame does at a packet
/// socket.
struct Filter(UnixDatagram, UnixDatagram);

impl Filter {
    fn new(program: &Program) -> Self {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        program.attach_to(receiver.as_fd()).unwrap();
        Self(sender, receiver)
    }

    /// Whether the director gets the frame.
    fn takes(&self, frame: &[u8]) -> bool {
        self.0.send(frame).unwrap();
        let mut bytes = vec![0; frame.len() + 1];
        match self.1.recv(&mut bytes) {
            Ok(length) => {
                assert!(bytes[..length] == *frame, "it is not cut");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                false
            }
        }
    }
}

/// Both programs over maps that know some routes: in the kernel, or in a simulated one.
struct Bench {
    maps: Maps,
    machine: Machine,
}

enum Machine {
    Kernel { filter: Filter, ingress: Program },
    Simulated { filter: Vec<Instruction>, ingress: Vec<Instruction> },
}

impl Bench {
    /// Over these maps, with the routes of the examples.
    fn new(gate: &Gate, net: Net, maps: Maps) -> Self {
        // Direct routing has the key that the request by NAT has.
        for (cell, (_, before, after)) in (0..).zip(net.examples(64)).take(2) {
            let direction = if cell == 0 { Direction::Request } else { Direction::Reply };
            let route = Route::learn(&head(&before), &head(&after), false).unwrap();
            let route = route.by(INTERFACE, 1_500, cell, direction);
            maps.set_route(&net.shape().key(&head(&before), INTERFACE), route.bytes()).unwrap();
        }
        maps.set_in_use(true);
        let filter = program::filter(gate, &maps.numbers()).unwrap();
        let ingress = program::ingress(gate, &maps.numbers()).unwrap();
        let machine = if maps.numbers() == Numbers::SIMULATED {
            Machine::Simulated { filter, ingress }
        } else {
            let load = |purpose, program: &[_]| Program::load(purpose, program).unwrap();
            let filter = Filter::new(&load(Purpose::Filter, &filter));
            Machine::Kernel { filter, ingress: load(Purpose::Ingress, &ingress) }
        };
        Self { maps, machine }
    }

    /// Whether the director gets the frame.
    fn takes(&self, frame: &[u8]) -> bool {
        match &self.machine {
            Machine::Kernel { filter, .. } => filter.takes(frame),
            Machine::Simulated { filter, .. } => self.simulate(filter, &mut frame.to_vec()) != 0,
        }
    }

    /// What the interface does with it.
    fn ingress(&self, frame: &mut Vec<u8>) -> u32 {
        match &self.machine {
            Machine::Kernel { ingress, .. } => ingress.run(frame).unwrap(),
            Machine::Simulated { ingress, .. } => self.simulate(ingress, frame),
        }
    }

    fn simulate(&self, program: &[Instruction], bytes: &mut Vec<u8>) -> u32 {
        let mut copy = bytes.clone();
        let end = copy.len();
        let frame = Frame::new(&mut copy, 0, end, PortId(0)).unwrap();
        let mut arriving = Arriving::new(&self.maps, &frame);
        let answer = run(program, &mut arriving).unwrap();
        *bytes = arriving.bytes;
        answer as u32
    }
}

/// Both programs in a simulated kernel; and in the real one, unless this process may not load any, which is an error if
/// `LVS_REQUIRE_XDP` is 1.
fn benches(gate: &Gate, net: Net) -> Vec<Bench> {
    let mut maps = vec![Maps::simulated(3)];
    match Maps::new(3) {
        Ok(kernel) => maps.push(kernel),
        Err(error) => {
            let required = std::env::var_os("LVS_REQUIRE_XDP").is_some_and(|value| value == "1");
            assert!(!required, "BPF is refused: {error}");
            eprintln!(
                "TESTED BY A SIMULATION ALONE: BPF is refused ({error}); run as root of the machine itself"
            );
        }
    }
    maps.into_iter().map(|maps| Bench::new(gate, net, maps)).collect()
}

const GATE: Gate = Gate { mac: DIRECTOR, chooses: true, shares: false, interface: INTERFACE };

#[test]
fn the_program_does_what_the_route_says() {
    for net in [Net::V4, Net::V6] {
        for bench in benches(&GATE, net) {
            for (number, (_, before, after)) in net.examples(64).into_iter().enumerate().take(2) {
                let length = before.len() as u64 - 14;
                for round in 1..=2 {
                    let mut frame = before.clone();
                    assert!(!bench.takes(&frame), "not the director's");
                    assert_eq!(bench.ingress(&mut frame), REDIRECT);
                    assert!(frame == after, "{net:?} {number}: {frame:x?}\n{after:x?}");
                    let at = if number == 0 { cell::REQUESTS } else { cell::REPLIES } as usize / 8;
                    let read = |at: usize| bench.maps.cells()[number][at].load(Ordering::Relaxed);
                    assert_eq!((read(at), read(at + 1)), (round, round * length));
                    assert_eq!(read(cell::LEFT_OUT as usize / 8), round, "what the director did not get");
                }
            }
        }
    }
}

#[test]
fn what_fills_a_short_frame_up_is_taken_off() {
    for net in [Net::V4, Net::V6] {
        for bench in benches(&GATE, net) {
            let [(_, mut frame, expected), ..] = net.examples(64);
            let short = frame[..frame.len() - 1].to_vec();
            frame.extend([0; 6]);
            assert!(!bench.takes(&frame));
            assert_eq!(bench.ingress(&mut frame), REDIRECT);
            assert_eq!(frame.len(), expected.len());
            assert!(frame == expected);
            assert!(bench.takes(&short), "cut short: to the director");
        }
    }
}

#[test]
fn what_stands_behind_a_merged_packet_leaves_it_to_the_director() {
    for (net, kind) in [(Net::V4, MergedKind::TcpV4), (Net::V6, MergedKind::TcpV6)] {
        let bench = Bench::new(&GATE, net, Maps::simulated(3));
        let Machine::Simulated { filter, ingress } = &bench.machine else { panic!("its maps are simulated") };
        let [(_, mut bytes, _), ..] = net.examples(64);
        for passes in [true, false] {
            let end = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, end, PortId(0)).unwrap();
            frame.offload.merged = Some(Merged { kind, segment: 500, ecn: false });
            let mut arriving = Arriving::new(&bench.maps, &frame);
            assert_eq!(run(filter, &mut arriving).unwrap() == 0, passes, "{net:?}");
            let verdict = run(ingress, &mut arriving).unwrap() as u32;
            assert_eq!(verdict == REDIRECT, passes, "{net:?}: the kernel would send it as one segment");
            bytes.push(0);
        }
    }
}

#[test]
fn whatever_is_out_of_the_ordinary_is_the_directors() {
    for net in [Net::V4, Net::V6] {
        for bench in benches(&GATE, net) {
            let [(_, plain, _), ..] = net.examples(64);
            let shape = net.shape();
            let flags = shape.transport + 13;
            let with = |at: usize, value: u8| {
                let mut frame = plain.clone();
                frame[at] = value;
                sound(frame)
            };
            assert_eq!(sound(plain.clone()), plain);
            let mut odd = vec![
                ("URG", with(flags, 0x30)),
                ("another port", with(shape.transport, 1)),
                ("UDP", with(if shape.is_v6 { 20 } else { 23 }, 17)),
                ("one hop left", with(if shape.is_v6 { 21 } else { 22 }, 1)),
                ("no hop left", with(if shape.is_v6 { 21 } else { 22 }, 0)),
                ("a TCP header without its end", with(shape.transport + 12, 0x40)),
                ("another client", with(if shape.is_v6 { 30 } else { 29 }, 99)),
                ("cut short", plain[..shape.transport + 19].to_vec()),
            ];
            if !shape.is_v6 {
                odd.push(("options", with(14, 0x46)));
                odd.push(("a fragment", with(20, 0x20)));
                odd.push(("a later fragment", with(21, 0x01)));
                for at in [15, 18, 24, 25] {
                    let mut broken = plain.clone();
                    broken[at] ^= 0x10;
                    odd.push(("a wrong checksum of the header", broken));
                }
            }
            for length in [0_u16, 4, 19] {
                let mut short = plain.clone();
                let (at, headers) = if shape.is_v6 { (18, 0) } else { (16, 20) };
                short[at..at + 2].copy_from_slice(&(headers + length).to_be_bytes());
                odd.push(("an end inside of the TCP header", sound(short)));
            }
            let mut long = plain.clone();
            let too_long = if shape.is_v6 { 1_461_u16 } else { 1_501 };
            let place = if shape.is_v6 { 18 } else { 16 };
            long[place..place + 2].copy_from_slice(&too_long.to_be_bytes());
            long.resize(14 + 1_501, 0);
            odd.push(("too long", sound(long)));
            for (what, frame) in odd {
                assert!(bench.takes(&frame), "{net:?}, {what}: to the director");
                let mut seen = frame.clone();
                assert_eq!(
                    bench.ingress(&mut seen).cast_signed(),
                    NEXT,
                    "{net:?}, {what}: not by the offload"
                );
                assert_eq!(seen, frame);
            }
            // To another host's MAC address: to nobody here. To a group: the director hears it.
            assert!(!bench.takes(&with(5, 0xff)));
            assert!(bench.takes(&with(0, 0x33)));
            assert!(bench.maps.cells().iter().flatten().all(|value| value.load(Ordering::Relaxed) == 0));
        }
    }
}

#[test]
fn after_a_fin_everything_is_the_directors() {
    for net in [Net::V4, Net::V6] {
        for closing in [0x11, 0x14, 0x02, 0x12] {
            for bench in benches(&GATE, net) {
                let [(_, plain, _), (_, answer, _), _] = net.examples(64);
                assert!(!bench.takes(&plain));
                let mut last = plain.clone();
                last[net.shape().transport + 13] = closing;
                assert!(bench.takes(&last));
                assert_eq!(bench.ingress(&mut last).cast_signed(), NEXT);
                assert!(bench.takes(&plain), "{net:?} {closing:#x}");
                assert_eq!(bench.ingress(&mut plain.clone()).cast_signed(), NEXT);
                // The other connection goes on.
                assert!(!bench.takes(&answer));
            }
        }
    }
}

#[test]
fn a_frame_that_closes_does_so_however_odd_it_is_otherwise() {
    for net in [Net::V4, Net::V6] {
        let [(_, plain, _), ..] = net.examples(64);
        let shape = net.shape();
        let (hops, length) = if shape.is_v6 { (21, 18) } else { (22, 16) };
        for (place, value) in [(hops, 1), (hops, 0), (shape.transport + 12, 0x40), (length, 0x7f)] {
            for bench in benches(&GATE, net) {
                let mut last = plain.clone();
                last[shape.transport + 13] = 0x14;
                last[place] = value;
                assert!(bench.takes(&sound(last)));
                assert!(bench.takes(&plain), "{net:?}: what comes after a reset with {value:#x} at {place}");
            }
        }
    }
}

#[test]
fn where_none_is_in_use_everything_is_the_directors() {
    for net in [Net::V4, Net::V6] {
        for bench in benches(&GATE, net) {
            let [(_, plain, _), ..] = net.examples(64);
            for in_use in [true, false, true] {
                bench.maps.set_in_use(in_use);
                assert_eq!(bench.takes(&plain), !in_use);
                let verdict = bench.ingress(&mut plain.clone());
                assert_eq!(verdict.cast_signed() != NEXT, in_use, "{verdict}");
            }
        }
    }
}

#[test]
fn a_socket_that_takes_everything_still_does() {
    let gate = Gate { chooses: false, ..GATE };
    for bench in benches(&gate, Net::V4) {
        let [(_, mut frame, _), ..] = Net::V4.examples(64);
        assert!(!bench.takes(&frame));
        frame[..6].copy_from_slice(&[2; 6]);
        assert!(bench.takes(&frame), "to another host: still seen");
    }
}
