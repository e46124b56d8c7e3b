//! Datagrams in fragments: cut in any way, in any order, they come out as the whole would have.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;
mod oracle;
#[expect(dead_code, reason = "fragments are finished")]
mod sample;
#[expect(dead_code, reason = "these packets are to the services")]
mod support;

use lvs_core::{Family, Protocol, Tick};
use lvs_forward::host::{Host, Port};
use lvs_forward::reassembly::{Fragments, Slot};
use lvs_forward::{DropReason, Forwarder, Offload, Options, Outcome, PortId};
use proptest::prelude::*;

use crate::lab::{INSIDE, Lab, METHODS, OUTSIDE, answer, ethernet, request};
use crate::sample::{Sample, SumState, sum};
use crate::support::{any_endpoint, any_family, any_sample_between};

const NOW: Tick = Tick::from_millis(5_000);

/// A packet whose fragments make just this packet again.
fn any_sample() -> impl Strategy<Value = Sample> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    (any_family(), protocol).prop_flat_map(|(family, protocol)| {
        any_sample_between(any_endpoint(family), any_endpoint(family), Just(protocol)).prop_map(|sample| {
            Sample {
                dont_fragment: false,
                // A new connection, which does not fill the largest wrapping.
                tcp_flags: 0x02,
                payload: sample.payload.into_iter().chain([7; 64]).take(1_200).collect(),
                // Fragments come from hosts or routers, which finish what they cut.
                sum: if sample.sum == SumState::Partial { SumState::Right } else { sample.sum },
                ..sample
            }
        })
    })
}

/// Where to cut, in what order the pieces come, and which come twice.
fn any_cuts() -> impl Strategy<Value = (Vec<u16>, Vec<prop::sample::Index>, Vec<prop::sample::Index>)> {
    (
        prop::collection::vec(1_u16..150, 1..8),
        prop::collection::vec(any::<prop::sample::Index>(), 10),
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    )
}

/// Cuts a packet into fragments of so many times eight bytes each; the last has the rest.
fn cut(packet: &[u8], units: &[u16], identification: u32) -> Vec<Vec<u8>> {
    let v4 = packet[0] >> 4 == 4;
    let head = if v4 { usize::from(packet[0] & 15) * 4 } else { 40 };
    let payload = &packet[head..];
    // The first fragment has all headers.
    let least = if v4 { 8 } else { 40 };
    let mut pieces = Vec::new();
    let (mut start, mut units) = (0, units.iter());
    while start < payload.len() {
        let len = match units.next() {
            Some(units) => (usize::from(*units) * 8).max(if start == 0 { least } else { 8 }),
            None => payload.len(),
        };
        let end = payload.len().min(start + len);
        pieces.push(fragment(
            &packet[..head],
            &payload[start..end],
            start,
            end < payload.len(),
            identification,
        ));
        start = end;
    }
    pieces
}

/// One fragment with these headers.
fn fragment(head: &[u8], payload: &[u8], start: usize, more: bool, identification: u32) -> Vec<u8> {
    let mut bytes = head.to_vec();
    if head[0] >> 4 == 4 {
        bytes[2..4].copy_from_slice(&((head.len() + payload.len()) as u16).to_be_bytes());
        let word = (start / 8) as u16 | if more { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&word.to_be_bytes());
        bytes[10..12].copy_from_slice(&[0, 0]);
        let checksum = !sum(&bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        bytes[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
        let next = core::mem::replace(&mut bytes[6], 44);
        bytes.extend([next, 0]);
        bytes.extend((start as u16 | u16::from(more)).to_be_bytes());
        bytes.extend(identification.to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}

/// Puts frames that left together again, the slow and obvious way; one that left whole is itself.
fn whole(frames: &[Vec<u8>]) -> Vec<u8> {
    let offset = |packet: &[u8]| match packet[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff) * 8,
        _ => usize::from(u16::from_be_bytes([packet[42], packet[43]]) & !7),
    };
    let mut packets: Vec<&[u8]> = frames.iter().map(|frame| &frame[14..]).collect();
    // A single one may have a fragment header all the same (RFC 6946).
    if packets.len() == 1 && (packets[0][0] >> 4 == 4 || packets[0][6] != 44) {
        return packets[0].to_vec();
    }
    packets.sort_by_key(|packet| offset(packet));
    let mut bytes = packets[0].to_vec();
    let v4 = bytes[0] >> 4 == 4;
    if !v4 {
        assert_eq!(bytes[6], 44);
        bytes[6] = bytes[40];
        bytes.drain(40..48);
    }
    let head = if v4 { usize::from(bytes[0] & 15) * 4 } else { 40 };
    for packet in &packets[1..] {
        assert_eq!(offset(packet), bytes.len() - head, "without holes");
        bytes.extend(&packet[if v4 { head } else { 48 }..]);
    }
    let len = bytes.len();
    if v4 {
        bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        bytes[6..8].copy_from_slice(&[0, 0]);
        bytes[10..12].copy_from_slice(&[0, 0]);
        let checksum = !sum(&bytes[..head]);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    }
    bytes
}

/// Puts the fragments of a packet in, in an order that `picks` chooses; what left.
fn put_in(
    lab: &mut Lab,
    port: u8,
    mut pieces: Vec<Vec<u8>>,
    picks: &[prop::sample::Index],
    doubles: &[prop::sample::Index],
) -> Vec<(PortId, Vec<u8>)> {
    let mut order = Vec::new();
    for pick in picks.iter().cycle().take(pieces.len()) {
        order.push(pieces.remove(pick.index(pieces.len())));
    }
    let last = order.pop().unwrap();
    for piece in &order {
        let (outcome, out) = lab.frame(NOW, port, &ethernet(port, 0, piece), Offload::NONE);
        assert_eq!((outcome, out), (Outcome::Consumed, Vec::new()));
    }
    for double in doubles.iter().filter(|_| !order.is_empty()) {
        let again: &Vec<u8> = double.get(&order);
        let again = ethernet(port, 0, again);
        let (outcome, _) = lab.frame(NOW, port, &again, Offload::NONE);
        assert_eq!(outcome, Outcome::Drop(DropReason::FragmentDuplicate));
    }
    lab.frame(NOW, port, &ethernet(port, 0, &last), Offload::NONE).1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn fragments_come_out_as_the_whole_does(
        sample in any_sample(),
        method in 0..METHODS.len(),
        reply in any::<bool>(),
        (units, picks, doubles) in any_cuts(),
    ) {
        let asked = request(&sample, method);
        let (put, port) = if reply { (answer(&asked, method), INSIDE) } else { (asked.clone(), OUTSIDE) };
        let (mut one, mut other) = (Lab::new(Options::new()), Lab::new(Options::new()));
        for lab in [&mut one, &mut other] {
            let _ = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &asked.packet()), Offload::NONE);
        }
        let (outcome, expected) = one.frame(NOW, port, &ethernet(port, 0, &put.packet()), Offload::NONE);
        let pieces = cut(&put.packet(), &units, 77);
        prop_assume!(pieces.len() > 1);
        let largest = pieces.iter().map(Vec::len).max().unwrap();
        let out = put_in(&mut other, port, pieces, &picks, &doubles);
        if !matches!(outcome, Outcome::Send | Outcome::SendPieces(_)) {
            // TTL, or a reply that is none of ours; what is said of it, other tests compare.
            return Ok(());
        }
        let split = |out: Vec<(PortId, Vec<u8>)>| out.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let ((ports, got), (expected_ports, expected)) = (split(out), split(expected));
        prop_assert!(!got.is_empty());
        prop_assert!(ports.iter().all(|port| *port == expected_ports[0]));
        for frame in &got {
            if frame[14] >> 4 == 4 {
                oracle::check_ethernet(frame, oracle::Trust::Headers);
            }
            // No piece is longer than the largest that came, but IPv6 ones may have the least MTU.
            let most = if frame[14] >> 4 == 6 { largest.max(1_280) } else { largest };
            prop_assert!(frame.len() - 14 <= most, "{} of {most}", frame.len() - 14);
        }
        prop_assert_eq!(&got[0][..12], &expected[0][..12]);
        let (mut got, mut expected) = (whole(&got), whole(&expected));
        oracle::check_packet(&got, oracle::Trust::Headers);
        // Each is a datagram of its own to the director, so what it numbers itself differs.
        for bytes in [&mut got, &mut expected] {
            if bytes[0] >> 4 == 4 {
                bytes[4..6].fill(0);
                bytes[10..12].fill(0);
            }
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!(other.forwarder.counters().datagrams, 1);
        prop_assert_eq!(other.director.counters().traffic, one.director.counters().traffic);
    }

    #[test]
    fn any_fragments_are_survived(
        frames in prop::collection::vec(
            (any::<bool>(), 0_u16..40, 0_usize..80, any::<bool>(), 0_u32..3, any::<u8>(), 0_u64..20),
            1..60,
        ),
        options in any::<bool>(),
    ) {
        let mut lab = Lab::new(Options::new());
        let mut now = NOW;
        for (v6, units, len, more, identification, class, wait) in frames {
            now = now.plus_secs(wait);
            let (source, destination) = if v6 {
                ("[2001:db8:c::7]:1".parse().unwrap(), "[2001:db8:99::1]:1".parse().unwrap())
            } else {
                ("192.0.2.7:1".parse().unwrap(), "10.99.0.1:1".parse().unwrap())
            };
            let sample = Sample {
                protocol: Protocol::Udp,
                source,
                destination,
                ttl: class % 4,
                class,
                dont_fragment: class & 8 != 0,
                identification: identification as u16,
                options,
                tcp_flags: 0,
                sequence: 0,
                payload: Vec::new(),
                sum: SumState::Right,
            };
            let packet = sample.packet();
            let head = if v6 { 40 } else { sample.header_len() };
            let start = usize::from(units) * 8;
            let bytes = fragment(&packet[..head], &vec![class; len], start, more, identification);
            let (_, out) = lab.frame(now, OUTSIDE, &ethernet(OUTSIDE, 0, &bytes), Offload::NONE);
            for (_, frame) in out {
                oracle::check_ethernet(&frame, oracle::Trust::Headers);
            }
        }
    }
}

fn sample(port: u16, payload: usize) -> Sample {
    Sample {
        protocol: Protocol::Udp,
        source: format!("192.0.2.7:{port}").parse().unwrap(),
        destination: "10.99.0.1:80".parse().unwrap(),
        ttl: 64,
        class: 0,
        dont_fragment: false,
        identification: port,
        options: false,
        tcp_flags: 0,
        sequence: 0,
        payload: vec![7; payload],
        sum: SumState::Right,
    }
}

#[test]
fn the_longest_datagram_goes_through() {
    let mut lab = Lab::new(Options::new());
    let packet = sample(4_000, 65_507).packet();
    assert_eq!(packet.len(), 65_535);
    let pieces = cut(&packet, &[69; 120], 0);
    assert_eq!(pieces.len(), 119);
    let mut out = Vec::new();
    for piece in &pieces {
        out = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, piece), Offload::NONE).1;
    }
    assert_eq!(out.len(), 119);
    // One byte more is more than IP can say.
    let pieces = cut(&sample(4_001, 60_000).packet(), &[69; 120], 0);
    for piece in &pieces[..1] {
        let _ = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, piece), Offload::NONE);
    }
    let beyond = fragment(&pieces[0][..20], &[7; 16], 65_520, false, 0);
    let (outcome, _) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &beyond), Offload::NONE);
    assert_eq!(outcome, Outcome::Drop(DropReason::FragmentConflict));
}

#[test]
fn the_datagram_that_came_first_gives_way_when_there_is_no_room() {
    let mut lab = Lab::new(Options::new());
    let room = lab.forwarder.fragments().datagrams() as u16;
    let pieces: Vec<_> = (0..=room).map(|at| cut(&sample(4_000 + at, 900).packet(), &[60], 0)).collect();
    for (at, pieces) in pieces.iter().enumerate() {
        let now = NOW.plus_millis(at as u64);
        let (outcome, _) = lab.frame(now, OUTSIDE, &ethernet(OUTSIDE, 0, &pieces[0]), Offload::NONE);
        assert_eq!(outcome, Outcome::Consumed);
    }
    assert_eq!(lab.forwarder.counters().drops(DropReason::FragmentsFull), 1);
    let now = NOW.plus_secs(1);
    let (_, out) = lab.frame(now, OUTSIDE, &ethernet(OUTSIDE, 0, &pieces[1][1]), Offload::NONE);
    assert_eq!(out.len(), 2, "the second is still there");
    let (outcome, _) = lab.frame(now, OUTSIDE, &ethernet(OUTSIDE, 0, &pieces[0][1]), Offload::NONE);
    assert_eq!(outcome, Outcome::Consumed, "the first begins anew");
}

#[test]
fn what_is_missing_too_long_is_given_up_and_the_source_told() {
    let mut lab = Lab::new(Options::new());
    for family in [Family::V4, Family::V6] {
        let mut sample = sample(4_000, 900);
        if family == Family::V6 {
            sample.source = "[2001:db8:c::7]:4000".parse().unwrap();
            sample.destination = "[2001:db8:99::1]:80".parse().unwrap();
        }
        let pieces = cut(&sample.packet(), &[60], 9);
        let _ = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &pieces[0]), Offload::NONE);
        let secs = if family == Family::V4 { 30 } else { 60 };
        let mut buffer = vec![0; lvs_forward::HEADROOM + 2_048];
        let just_before = NOW.plus_millis(secs * 1_000 - 1);
        assert!(lab.forwarder.poll_transmit(just_before, &mut buffer).is_none());
        let told = lab.forwarder.poll_transmit(NOW.plus_secs(secs), &mut buffer).unwrap();
        oracle::check_ethernet(told.bytes(), oracle::Trust::Checksums);
        let kind = if family == Family::V4 { [11, 1] } else { [3, 1] };
        let at = if family == Family::V4 { 34 } else { 54 };
        assert_eq!(told.bytes()[at..at + 2], kind);
        let (outcome, _) =
            lab.frame(NOW.plus_secs(secs), OUTSIDE, &ethernet(OUTSIDE, 0, &pieces[1]), Offload::NONE);
        assert_eq!(outcome, Outcome::Consumed, "alone");
    }
    // The late second fragment of the first has run out of time itself.
    assert_eq!(lab.forwarder.counters().drops(DropReason::FragmentTimeout), 3);
}

#[test]
fn memory_may_be_lent_and_less_than_a_datagram() {
    let mut host: Host = Host::new(lvs_core::Seed::from_bytes([7; 16]));
    host.add_port(Port::ethernet(lab::MACS[0], 1_500)).unwrap();
    host.add_virtual_address("10.99.0.1".parse().unwrap()).unwrap();
    let slots = Box::leak(Box::new([Slot::EMPTY; 2]));
    let bytes = Box::leak(vec![0; 2 * 2_000].into_boxed_slice());
    let mut lab = Lab::new(Options::new());
    *lab.forwarder = Forwarder::new(host, Options::new()).with_fragments(Fragments::lent(slots, bytes));
    let short = cut(&sample(4_000, 900).packet(), &[60], 0);
    for (at, piece) in short.iter().enumerate() {
        let (outcome, _) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, piece), Offload::NONE);
        // There is no way to the server from here, nor to the sender; that is found out when it is whole.
        let expected = if at == 0 { Outcome::Consumed } else { Outcome::Drop(DropReason::NoRoute) };
        assert_eq!(outcome, expected);
    }
    assert_eq!(lab.forwarder.counters().drops(DropReason::NoRoute), 1);
    let long = cut(&sample(4_001, 1_990).packet(), &[125], 0);
    let (outcome, _) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &long[1]), Offload::NONE);
    assert_eq!(outcome, Outcome::Drop(DropReason::FragmentsFull));
    lab.forwarder.set_fragments(Fragments::NONE);
    let (outcome, _) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &short[0]), Offload::NONE);
    assert_eq!(outcome, Outcome::Drop(DropReason::FragmentsFull));
}
