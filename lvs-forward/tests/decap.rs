//! What a real server makes of tunnel packets that are not as they should be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::net::Ipv4Addr;

use etherparse::PacketBuilder;
use lvs_core::{Seed, Tick};
use lvs_forward::host::{Host, Port};
use lvs_forward::reassembly::Fragments;
use lvs_forward::{DecapReason, Decapsulator, Frame, GUE_PORT, HEADROOM, PortId, Unwrapped};

const DIRECTOR: [u8; 4] = [10, 0, 1, 254];
const SERVER: [u8; 4] = [10, 0, 1, 11];

/// A server's decapsulator, and the packet that it was lent last.
struct Server {
    decapsulator: Box<Decapsulator>,
    buffer: Vec<u8>,
}

impl Server {
    fn new() -> Self {
        let mut host = Host::new(Seed::from_bytes([1; 16]));
        host.add_port(Port::bare(1_500)).unwrap();
        host.add_virtual_address(Ipv4Addr::from(SERVER).into()).unwrap();
        let decapsulator = Decapsulator::new(host, GUE_PORT).with_fragments(Fragments::with_room(2));
        Self { decapsulator: Box::new(decapsulator), buffer: Vec::new() }
    }

    fn process(&mut self, packet: &[u8]) -> (Unwrapped, Vec<u8>) {
        self.buffer = [&[0; HEADROOM][..], packet].concat();
        let end = self.buffer.len();
        let mut frame = Frame::new(&mut self.buffer, HEADROOM, end, PortId(0)).unwrap();
        let outcome = self.decapsulator.process(Tick::ZERO, &mut frame);
        (outcome, frame.bytes().to_vec())
    }

    /// Fragments, of which only the last may make something whole: what that is.
    fn gather(&mut self, fragments: &[Vec<u8>]) -> Option<(Unwrapped, Vec<u8>)> {
        let mut outcomes: Vec<Unwrapped> = fragments.iter().map(|bytes| self.process(bytes).0).collect();
        let last = outcomes.pop();
        assert!(outcomes.iter().all(|outcome| *outcome == Unwrapped::Consumed), "{outcomes:?}");
        (last == Some(Unwrapped::Assembled)).then(|| {
            let (frame, outcome) = self.decapsulator.take().unwrap();
            (outcome, frame.bytes().to_vec())
        })
    }
}

/// The fragments of an IPv4 packet of this protocol around `payload`, with `each` bytes of that in each, a multiple
/// of 8.
fn fragments(protocol: u8, payload: &[u8], each: usize) -> Vec<Vec<u8>> {
    let pieces = payload.chunks(each).count();
    let fragment = |(at, piece): (usize, &[u8])| {
        let more = if at + 1 < pieces { 0x2000 } else { 0 };
        outer(protocol, 0, more | (at * each / 8) as u16, piece)
    };
    payload.chunks(each).enumerate().map(fragment).collect()
}

/// A client's packet to the virtual address.
fn inner(class: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    let ip = etherparse::IpHeaders::Ipv4(
        etherparse::Ipv4Header {
            dscp: (class >> 2).try_into().unwrap(),
            ecn: (class & 3).try_into().unwrap(),
            time_to_live: 63,
            source: [192, 0, 2, 7],
            destination: [10, 99, 0, 1],
            ..Default::default()
        },
        Default::default(),
    );
    PacketBuilder::ip(ip).udp(5_555, 53).write(&mut packet, b"question").unwrap();
    packet
}

/// An IPv4 packet of this protocol around `payload`, whose TOS and fragment word can be set.
fn outer(protocol: u8, tos: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, tos];
    header.extend((20 + payload.len() as u16).to_be_bytes());
    header.extend([0, 7]);
    header.extend(fragment.to_be_bytes());
    header.extend([63, protocol, 0, 0]);
    header.extend(DIRECTOR);
    header.extend(SERVER);
    let sum = header.chunks(2).fold(0u32, |sum, pair| sum + u32::from(pair[0]) * 256 + u32::from(pair[1]));
    let checksum = !((sum >> 16) + (sum & 0xffff)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header[..], payload].concat()
}

/// A GUE packet without an outer checksum, with these four bytes of GUE header.
fn gue(header: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x9c, 0x40];
    packet.extend(GUE_PORT.to_be_bytes());
    packet.extend((12 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(header);
    packet.extend(payload);
    packet
}

#[test]
fn each_wrapping_is_unwrapped() {
    let packet = inner(0);
    let wrapped = [
        outer(4, 0, 0, &packet),
        outer(47, 0, 0, &[&[0, 0, 8, 0], &packet[..]].concat()),
        outer(17, 0, 0, &gue([0, 4, 0, 0], &packet)),
    ];
    let mut server = Server::new();
    for bytes in &wrapped {
        assert_eq!(server.process(bytes), (Unwrapped::Inner, packet.clone()));
    }
    assert_eq!(server.decapsulator.unwrapped(), 3);
}

#[test]
fn what_is_not_understood_is_dropped_with_a_reason() {
    let packet = inner(0);
    let cases = [
        (outer(17, 0, 0, &gue([0x20, 4, 0, 0], &packet)), DecapReason::Control),
        (outer(17, 0, 0, &gue([0x40, 4, 0, 0], &packet)), DecapReason::Flags),
        (outer(17, 0, 0, &gue([0x01, 4, 0, 0], &packet)), DecapReason::Flags),
        (outer(17, 0, 0, &gue([0, 4, 0x80, 0], &packet)), DecapReason::Flags),
        (outer(17, 0, 0, &gue([0, 6, 0, 0], &packet)), DecapReason::Mismatch),
        (outer(17, 0, 0, &gue([0, 41, 0, 0], &packet)), DecapReason::Mismatch),
        (outer(47, 0, 0, &[&[0x20, 0, 8, 0], &packet[..]].concat()), DecapReason::Flags),
        (outer(47, 0, 0, &[&[0, 1, 8, 0], &packet[..]].concat()), DecapReason::Flags),
        (outer(47, 0, 0, &[&[0, 0, 8, 6], &packet[..]].concat()), DecapReason::Mismatch),
        (outer(41, 0, 0, &packet), DecapReason::Mismatch),
        (outer(4, 0, 0, &packet[..19]), DecapReason::Malformed),
        (outer(4, 0, 0, &packet[..30]), DecapReason::Malformed),
        (outer(47, 0, 0, &[0, 0]), DecapReason::Malformed),
        (outer(17, 0, 0, &gue([0, 4, 0, 0], &[])[..10]), DecapReason::Malformed),
    ];
    let mut server = Server::new();
    for (bytes, reason) in cases {
        let before = server.decapsulator.drops(reason);
        assert_eq!(server.process(&bytes).0, Unwrapped::Drop(reason), "{bytes:02x?}");
        assert_eq!(server.decapsulator.drops(reason), before + 1);
    }
    assert_eq!(server.decapsulator.unwrapped(), 0);
}

#[test]
fn a_tunnel_packet_in_fragments_is_unwrapped_once_all_are_there_in_whatever_order() {
    let packet = inner(0);
    let wrapped =
        [(4, packet.clone()), (47, [&[0, 0, 8, 0], &packet[..]].concat()), (17, gue([0, 4, 0, 0], &packet))];
    let mut server = Server::new();
    for (protocol, payload) in &wrapped {
        // An identification may be used again once its packet is whole.
        for each in [8, 16, 24] {
            let mut pieces = fragments(*protocol, payload, each);
            for _ in 0..pieces.len() {
                pieces.rotate_left(1);
                assert_eq!(server.gather(&pieces), Some((Unwrapped::Inner, packet.clone())), "{protocol}");
            }
            pieces.reverse();
            assert_eq!(server.gather(&pieces), Some((Unwrapped::Inner, packet.clone())), "{protocol}");
        }
    }
    assert!(server.decapsulator.take().is_none(), "once");
    let dropped = DecapReason::ALL.iter().map(|reason| server.decapsulator.drops(*reason)).sum::<u64>();
    assert_eq!(dropped, 0);
}

#[test]
fn what_is_wrong_with_a_tunnel_packet_shows_when_its_fragments_are_together() {
    let mut server = Server::new();
    for (protocol, payload, reason) in [
        (17, gue([0x20, 4, 0, 0], &inner(0)), DecapReason::Control),
        (41, inner(0), DecapReason::Mismatch),
        (4, inner(0)[..30].to_vec(), DecapReason::Malformed),
    ] {
        let found = server.gather(&fragments(protocol, &payload, 16)).unwrap();
        assert_eq!(found.0, Unwrapped::Drop(reason));
        assert_eq!(server.decapsulator.drops(reason), 1);
    }
    let mut other_port = gue([0, 4, 0, 0], &inner(0));
    other_port[3] ^= 1;
    let whole = outer(17, 0, 0, &other_port);
    assert_eq!(server.gather(&fragments(17, &other_port, 16)), Some((Unwrapped::Pass, whole)));
    let foreign = outer(6, 0, 0x2000, &[0; 24]);
    assert_eq!(server.process(&foreign), (Unwrapped::Pass, foreign), "no tunnel has this protocol");
}

#[test]
fn fragments_that_lead_to_nothing_are_counted() {
    let mut server = Server::new();
    let drops = |server: &Server, reason| server.decapsulator.drops(reason);
    let [first, second, ..] = &fragments(4, &inner(0), 16)[..] else { panic!() };
    assert_eq!(server.process(first).0, Unwrapped::Consumed);
    assert_eq!(server.process(first).0, Unwrapped::Drop(DecapReason::FragmentDuplicate));
    let across = outer(4, 0, 0x2001, &[0; 16]);
    assert_eq!(server.process(&across).0, Unwrapped::Drop(DecapReason::FragmentConflict));
    // Two have room. Of a third one, the one that came first gives way.
    for (protocol, given_up) in [(4, 0), (47, 0), (17, 1)] {
        assert_eq!(server.process(&outer(protocol, 0, 0x2000, &[0; 24])).0, Unwrapped::Consumed);
        assert_eq!(drops(&server, DecapReason::FragmentsFull), given_up);
    }
    let mut buffer = vec![0; 2_048];
    assert!(server.decapsulator.poll_transmit(Tick::ZERO.plus_secs(29), &mut buffer).is_none());
    assert_eq!(drops(&server, DecapReason::FragmentTimeout), 0);
    assert!(server.decapsulator.poll_transmit(Tick::ZERO.plus_secs(31), &mut buffer).is_none());
    assert_eq!(drops(&server, DecapReason::FragmentTimeout), 2);
    // What is whole and not taken leaves its place.
    for _ in 0..9 {
        for piece in fragments(4, &inner(0), 32) {
            _ = server.process(&piece).0;
        }
    }
    assert_eq!(server.process(second).0, Unwrapped::Consumed);
    assert_eq!(drops(&server, DecapReason::FragmentsFull), 1);
    let mut host = Host::new(Seed::from_bytes([1; 16]));
    host.add_port(Port::bare(1_500)).unwrap();
    host.add_virtual_address(Ipv4Addr::from(SERVER).into()).unwrap();
    *server.decapsulator = Decapsulator::new(host, GUE_PORT);
    assert_eq!(server.process(first).0, Unwrapped::Drop(DecapReason::FragmentsFull), "without room");
}

#[test]
fn what_is_no_tunnel_of_this_host_passes_unchanged() {
    let mut server = Server::new();
    let packet = inner(0);
    let mut another = gue([0, 4, 0, 0], &packet);
    another[3] ^= 1;
    for bytes in [packet.clone(), outer(17, 0, 0, &another), outer(6, 0, 0, &[0; 20])] {
        assert_eq!(server.process(&bytes), (Unwrapped::Pass, bytes.clone()));
    }
}

#[test]
fn congestion_in_the_tunnel_reaches_the_receiver() {
    let mut server = Server::new();
    for (inside, outside, expected) in
        [(0x2a, 0x03, Some(0x2b)), (0x29, 0x2b, Some(0x2b)), (0x2b, 0x2b, Some(0x2b)), (0x28, 0x2b, None)]
    {
        let (outcome, bytes) = server.process(&outer(4, outside, 0, &inner(inside)));
        match expected {
            Some(class) => {
                assert_eq!(outcome, Unwrapped::Inner);
                assert_eq!(bytes, inner(class), "with a right header checksum");
            }
            None => assert_eq!(outcome, Unwrapped::Drop(DecapReason::Congestion)),
        }
    }
}
