//! What must hold for every packet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "these packets have no link header")]
mod oracle;
#[expect(dead_code, reason = "these packets are of all kinds")]
mod sample;
mod support;

use core::net::SocketAddr;

use lvs_core::packet::Addresses;
use lvs_core::{Direction, Family, Protocol, Seed, Tick, Tunnel};
use lvs_forward::checksum::sctp;
use lvs_forward::host::{Host, Port};
use lvs_forward::method::{encap, nat};
use lvs_forward::output::{Cut, is_wrapped, pieces};
use lvs_forward::parse::Link;
use lvs_forward::{
    Checksum, Decapsulator, Frame, GUE_PORT, HEADROOM, Offload, Unwrapped, complete_checksum, decrement_ttl,
};
use oracle::{Trust, check_packet};
use proptest::prelude::*;
use sample::*;
use support::*;

/// A packet's bytes with source and destination exchanged. No sum minds; SCTP's checksum does.
fn swapped(sample: &Sample, packet: &[u8]) -> Vec<u8> {
    let mut swapped = packet.to_vec();
    let (first, len) = match sample.family() {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    };
    let (source, destination) = swapped[first..first + 2 * len].split_at_mut(len);
    source.swap_with_slice(destination);
    let ports = sample.header_len();
    swapped[ports..ports + 4].rotate_left(2);
    if sample.protocol == Protocol::Sctp {
        let checksum = sctp(&swapped[ports..]);
        swapped[ports + 8..ports + 12].copy_from_slice(&checksum);
    }
    swapped
}

fn rewritten(packet: &[u8], checksum: Checksum, direction: Direction, target: SocketAddr) -> Vec<u8> {
    let mut bed = Bed::new(packet);
    let mut frame = bed.frame(0).with_offload(Offload { checksum, merged: None });
    let layout = layout_of(&frame);
    nat::rewrite(&mut frame, &layout, direction, target).unwrap();
    assert_eq!(frame.offload.checksum, checksum, "NAT leaves a partial checksum partial");
    let bytes = frame.bytes().to_vec();
    bed.check_fences();
    bytes
}

fn completed(packet: &[u8], checksum: Checksum) -> Vec<u8> {
    let mut bed = Bed::new(packet);
    let mut frame = bed.frame(0).with_offload(Offload { checksum, merged: None });
    let layout = layout_of(&frame);
    complete_checksum(&mut frame, &layout).unwrap();
    frame.bytes().to_vec()
}

/// Equal, but for the two zeros of one's complement in the transport checksum.
#[track_caller]
fn assert_same(sample: &Sample, left: &[u8], right: &[u8]) {
    let blank = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at = sample.header_len() + sample.field();
        if sample.protocol != Protocol::Sctp && bytes[at..at + 2] == [0xff; 2] {
            bytes[at..at + 2].fill(0);
        }
        bytes
    };
    assert_eq!(blank(left), blank(right));
}

fn any_tunnel() -> impl Strategy<Value = Tunnel> {
    prop_oneof![
        Just(Tunnel::IpIp),
        any::<bool>().prop_map(|checksum| Tunnel::Gre { checksum }),
        any::<bool>().prop_map(|checksum| Tunnel::Gue { port: GUE_PORT, checksum }),
    ]
}

fn any_outer() -> impl Strategy<Value = encap::Outer> {
    let addresses = any_family()
        .prop_flat_map(|family| (any_address(family), any_address(family)))
        .prop_map(|(source, destination)| addresses(source, destination));
    (any_tunnel(), addresses, any::<bool>(), any::<u16>(), tun_ports()).prop_map(
        |(tunnel, addresses, pmtu_disc, identification, source_port)| encap::Outer {
            tunnel,
            addresses,
            pmtu_disc,
            identification,
            source_port,
        },
    )
}

fn tun_ports() -> impl Strategy<Value = u16> {
    32_768u16..=60_999
}

fn wrapped(packet: &[u8], offload: Offload, outer: &encap::Outer) -> (Vec<u8>, Offload) {
    let mut bed = Bed::new(packet);
    let mut frame = bed.frame(0).with_offload(offload);
    let layout = layout_of(&frame);
    encap::wrap(&mut frame, &layout, outer).unwrap();
    let result = (frame.bytes().to_vec(), frame.offload);
    bed.check_fences();
    result
}

/// The frame's pieces, which must all be finished.
fn cut(packet: &[u8], offload: Offload, cut: Cut) -> Vec<Vec<u8>> {
    let mut bed = Bed::new(packet);
    let mut frame = bed.frame(0).with_offload(offload);
    let mut out = Vec::new();
    let count = pieces(&mut frame, Link::Bare, cut, &mut |piece: Frame<'_>| {
        assert_eq!(piece.offload, Offload::NONE);
        out.push(piece.bytes().to_vec());
    });
    assert_eq!(count, Ok(out.len()));
    bed.check_fences();
    out
}

/// A packet of many segments, whose checksum is partial as devices have it.
fn any_merged() -> impl Strategy<Value = (Sample, u16)> {
    let protocol = || prop_oneof![2 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)];
    let sample = any_family().prop_flat_map(move |family| {
        any_sample_between(any_endpoint(family), any_endpoint(family), protocol())
    });
    (sample, prop::collection::vec(any::<u8>(), 1..20_000), 500u16..1_400).prop_map(
        |(mut sample, payload, segment)| {
            sample.payload = payload;
            sample.sum = SumState::Partial;
            (sample, segment)
        },
    )
}

proptest! {
    #[test]
    fn reply_after_request_is_the_identity(sample in any_sample(), server in any_family().prop_flat_map(any_endpoint)) {
        prop_assume!(Family::of(server.ip()) == sample.family());
        let packet = sample.packet();
        let request = rewritten(&packet, sample.checksum(0), Direction::Request, server);
        let answer = swapped(&sample, &request);
        let reply = rewritten(&answer, sample.checksum(0), Direction::Reply, sample.destination);
        let mut expected = swapped(&sample, &packet);
        if sample.sum == SumState::Absent && sample.protocol == Protocol::Udp {
            // It has a checksum now, a right one.
            let at = sample.header_len() + 6;
            expected[at..at + 2].copy_from_slice(&reply[at..at + 2]);
            check_packet(&reply, Trust::Checksums);
            prop_assert_ne!(&reply[at..at + 2], &[0, 0]);
        }
        assert_same(&sample, &reply, &expected);
    }

    #[test]
    fn incremental_equals_full(sample in any_sample(), server in any_family().prop_flat_map(any_endpoint)) {
        prop_assume!(Family::of(server.ip()) == sample.family() && sample.sum != SumState::Partial);
        let request = rewritten(&sample.packet(), Checksum::Complete, Direction::Request, server);
        let moved = Sample { destination: server, ..sample.clone() };
        match sample.sum {
            SumState::Wrong(_) => {
                check_packet(&request, Trust::Headers);
                if sample.protocol == Protocol::Udp {
                    let at = sample.header_len() + 6;
                    prop_assert_ne!(&request[at..at + 2], &[0, 0], "a wrong checksum must not become none");
                }
                // Wrong before, wrong by as much afterwards.
                assert_same(&sample, &request, &moved.packet());
            }
            SumState::Right | SumState::Absent | SumState::Partial => {
                check_packet(&request, Trust::Checksums);
                let right = Sample { sum: SumState::Right, ..moved };
                assert_same(&sample, &request, &right.packet());
            }
        }
    }

    #[test]
    fn a_partial_checksum_stays_true(sample in any_sample(), server in any_family().prop_flat_map(any_endpoint)) {
        prop_assume!(Family::of(server.ip()) == sample.family() && sample.protocol != Protocol::Sctp);
        let sample = Sample { sum: SumState::Partial, ..sample };
        let partial = sample.checksum(0);
        let edited_first = rewritten(&sample.packet(), partial, Direction::Request, server);
        let completed_first = completed(&sample.packet(), partial);
        let late = completed(&edited_first, partial);
        let early = rewritten(&completed_first, Checksum::Complete, Direction::Request, server);
        check_packet(&late, Trust::Checksums);
        assert_same(&sample, &late, &early);
    }

    #[test]
    fn the_ttl_goes_down_by_one_and_nothing_else_changes(sample in any_sample()) {
        let mut bed = Bed::new(&sample.packet());
        let mut frame = bed.frame(0);
        let layout = layout_of(&frame);
        decrement_ttl(&mut frame, &layout).unwrap();
        let lower = Sample { ttl: sample.ttl - 1, ..sample.clone() };
        prop_assert_eq!(frame.bytes(), &lower.packet());
        let mut dying = Bed::new(&Sample { ttl: 1, ..sample }.packet());
        prop_assert!(decrement_ttl(&mut dying.frame(0), &layout).is_none());
    }

    #[test]
    fn a_tunnel_leaves_the_packet_inside_intact(sample in any_sample(), outer in any_outer()) {
        let packet = sample.packet();
        let (bytes, offload) = wrapped(&packet, Offload { checksum: sample.checksum(0), merged: None }, &outer);
        let family = outer.addresses.family();
        let shim = encap::overhead(outer.tunnel, family);
        prop_assert_eq!(bytes.len(), packet.len() + shim);
        let finished = completed_inside(&bytes, offload, shim);
        let trust = match sample.sum {
            SumState::Wrong(_) => Trust::Headers,
            SumState::Right | SumState::Absent | SumState::Partial => Trust::Checksums,
        };
        if sample.protocol != Protocol::Sctp {
            check_packet(&finished, trust);
        }
        assert_same(&sample, &finished[shim..], &completed(&packet, sample.checksum(0)));
        let (ttl, class) = match family {
            Family::V4 => (finished[8], finished[1]),
            Family::V6 => (finished[7], finished[0] << 4 | finished[1] >> 4),
        };
        prop_assert_eq!(ttl, sample.ttl);
        let expected = if sample.class & 3 == 3 { sample.class - 1 } else { sample.class };
        prop_assert_eq!(class, expected);
        if family == Family::V4 {
            let forbids = sample.family() == Family::V4 && sample.dont_fragment && outer.pmtu_disc;
            prop_assert_eq!(finished[6] & 0x40 != 0, forbids);
            let identification = if forbids { 0 } else { outer.identification };
            prop_assert_eq!(&finished[4..6], &identification.to_be_bytes());
        }
    }

    #[test]
    fn unwrapping_undoes_wrapping(sample in any_sample(), outer in any_outer()) {
        let packet = sample.packet();
        let offload = Offload { checksum: sample.checksum(0), merged: None };
        let (bytes, offload) = wrapped(&packet, offload, &outer);
        let mut server = server_behind(outer.addresses);
        let mut bed = Bed::new(&bytes);
        let mut frame = bed.frame(0).with_offload(offload);
        prop_assert_eq!(server.process(Tick::ZERO, &mut frame), Unwrapped::Inner);
        let (inner, checksum) = (frame.bytes().to_vec(), frame.offload.checksum);
        bed.check_fences();
        assert_same(&sample, &completed(&inner, checksum), &completed(&packet, sample.checksum(0)));
    }

    #[test]
    fn unwrapping_a_merged_frame_leaves_it_merged((sample, segment) in any_merged(), outer in any_outer()) {
        let offload = Offload { checksum: sample.checksum(0), merged: Some(sample.merged(segment)) };
        let (bytes, wrapping) = wrapped(&sample.packet(), offload, &outer);
        let mut server = server_behind(outer.addresses);
        let mut bed = Bed::new(&bytes);
        let mut frame = bed.frame(0).with_offload(wrapping);
        prop_assert_eq!(server.process(Tick::ZERO, &mut frame), Unwrapped::Inner);
        prop_assert_eq!(frame.offload, offload);
        prop_assert_eq!(frame.bytes(), &sample.packet());
    }

    #[test]
    fn a_damaged_tunnel_packet_is_not_delivered(
        sample in any_sample(),
        outer in any_outer(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        // Only these checksums cover the packet inside.
        prop_assume!(matches!(outer.tunnel, Tunnel::Gre { checksum: true } | Tunnel::Gue { checksum: true, .. }));
        let sample = Sample { sum: SumState::Right, ..sample };
        let offload = Offload { checksum: sample.checksum(0), merged: None };
        let (mut bytes, offload) = wrapped(&sample.packet(), offload, &outer);
        let shim = encap::overhead(outer.tunnel, outer.addresses.family());
        let at = shim + at.index(bytes.len() - shim);
        bytes[at] ^= flip;
        let mut server = server_behind(outer.addresses);
        let mut bed = Bed::new(&bytes);
        let mut frame = bed.frame(0).with_offload(offload);
        prop_assert_ne!(server.process(Tick::ZERO, &mut frame), Unwrapped::Inner);
    }

    #[test]
    fn segments_are_what_was_merged((sample, segment) in any_merged()) {
        let offload = Offload { checksum: sample.checksum(0), merged: Some(sample.merged(segment)) };
        let out = cut(&sample.packet(), offload, Cut::SEGMENTS);
        prop_assert_eq!(out.len(), sample.payload.len().div_ceil(usize::from(segment)));
        let last = out.len() - 1;
        for (index, (piece, payload)) in out.iter().zip(sample.payload.chunks(usize::from(segment))).enumerate() {
            let mut flags = sample.tcp_flags;
            if index != last {
                flags &= !0x09;
            }
            if index != 0 {
                flags &= !0x80;
            }
            let expected = Sample {
                payload: payload.to_vec(),
                sum: SumState::Right,
                tcp_flags: flags,
                sequence: sample.sequence.wrapping_add((index * usize::from(segment)) as u32),
                identification: sample.identification.wrapping_add(index as u16),
                ..sample.clone()
            };
            prop_assert_eq!(piece, &expected.packet());
        }
    }

    #[test]
    fn segmenting_and_translating_commute(
        (sample, segment) in any_merged(),
        server in any_family().prop_flat_map(any_endpoint),
    ) {
        prop_assume!(Family::of(server.ip()) == sample.family());
        let offload = Offload { checksum: sample.checksum(0), merged: Some(sample.merged(segment)) };
        let translated = rewritten_merged(&sample.packet(), offload, server);
        let late = cut(&translated, offload, Cut::SEGMENTS);
        let early: Vec<_> = cut(&sample.packet(), offload, Cut::SEGMENTS)
            .iter()
            .map(|piece| rewritten(piece, Checksum::Complete, Direction::Request, server))
            .collect();
        prop_assert_eq!(late.len(), early.len());
        for (late, early) in late.iter().zip(&early) {
            check_packet(late, Trust::Checksums);
            assert_same(&sample, late, early);
        }
    }

    #[test]
    fn segmenting_and_wrapping_commute((sample, segment) in any_merged(), outer in any_outer()) {
        let offload = Offload { checksum: sample.checksum(0), merged: Some(sample.merged(segment)) };
        let (bytes, stays) = wrapped(&sample.packet(), offload, &outer);
        prop_assert!(stays.merged.is_some());
        prop_assert!(is_wrapped(&Bed::new(&bytes).frame(0).with_offload(stays), Link::Bare));
        let late = cut(&bytes, stays, Cut::SEGMENTS);
        let early = cut(&sample.packet(), offload, Cut::SEGMENTS);
        prop_assert_eq!(late.len(), early.len());
        for (index, (late, early)) in late.iter().zip(&early).enumerate() {
            let identification = outer.identification.wrapping_add(index as u16);
            let (early, _) = wrapped(early, Offload::NONE, &encap::Outer { identification, ..outer });
            check_packet(late, Trust::Checksums);
            prop_assert_eq!(late, &early);
        }
    }

    #[test]
    fn fragments_put_together_are_the_packet(
        sample in any_sample(),
        payload in prop::collection::vec(any::<u8>(), 0..6_000),
        mtu in 80u16..1_600,
        identification in any::<u32>(),
    ) {
        let sample = Sample { payload, options: false, ..sample };
        let packet = sample.packet();
        let checksum = sample.checksum(0);
        let offload = Offload { checksum, merged: None };
        prop_assume!(packet.len() > usize::from(mtu));
        let out = cut(&packet, offload, Cut { mtu, identification });
        let head = match sample.family() {
            Family::V4 => 20,
            Family::V6 => 48,
        };
        let mut whole = completed(&packet, checksum)[..sample.header_len()].to_vec();
        for (index, piece) in out.iter().enumerate() {
            prop_assert!(piece.len() <= usize::from(mtu));
            check_packet(piece, Trust::Headers);
            let word = match sample.family() {
                Family::V4 => u16::from_be_bytes([piece[6], piece[7]]) & 0x3fff,
                Family::V6 => {
                    prop_assert_eq!(&piece[44..48], &identification.to_be_bytes());
                    let word = u16::from_be_bytes([piece[42], piece[43]]);
                    word >> 3 | (word & 1) << 13
                }
            };
            let (offset, more) = (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0);
            prop_assert_eq!(offset, whole.len() - sample.header_len());
            prop_assert_eq!(more, index + 1 < out.len());
            whole.extend(&piece[head..]);
        }
        assert_same(&sample, &whole, &completed(&packet, checksum));
    }
}

fn plain_udp() -> Sample {
    Sample {
        protocol: Protocol::Udp,
        source: "192.0.2.7:5555".parse().unwrap(),
        destination: "10.99.0.1:53".parse().unwrap(),
        ttl: 64,
        class: 0,
        dont_fragment: false,
        identification: 7,
        options: false,
        tcp_flags: 0,
        sequence: 0,
        payload: vec![3; 1_000],
        sum: SumState::Right,
    }
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_written_as_all_ones() {
    let packet = plain_udp().packet();
    let mut ones = 0;
    for port in 0..=u16::MAX {
        let server = SocketAddr::new("10.0.1.11".parse().unwrap(), port);
        let request = rewritten(&packet, Checksum::Complete, Direction::Request, server);
        assert_ne!(request[26..28], [0, 0], "port {port}");
        ones += usize::from(request[26..28] == [0xff, 0xff]);
    }
    assert!(ones > 0, "one of all ports must make it zero");
}

#[test]
fn a_fragment_can_be_cut_again() {
    let packet = plain_udp().packet();
    let first = cut(&packet, Offload::NONE, Cut { mtu: 500, identification: 0 });
    assert_eq!(first.len(), 3);
    let again: Vec<Vec<u8>> = first
        .iter()
        .flat_map(|piece| cut(piece, Offload::NONE, Cut { mtu: 200, identification: 0 }))
        .collect();
    let mut payload: Vec<u8> = Vec::new();
    for (index, piece) in again.iter().enumerate() {
        check_packet(piece, Trust::Headers);
        let word = u16::from_be_bytes([piece[6], piece[7]]);
        assert_eq!(usize::from(word & 0x1fff) * 8, payload.len());
        assert_eq!(word & 0x2000 != 0, index + 1 < again.len(), "only the very last ends the datagram");
        payload.extend(&piece[20..]);
    }
    assert_eq!(payload, packet[20..]);
}

fn rewritten_merged(packet: &[u8], offload: Offload, target: SocketAddr) -> Vec<u8> {
    let mut bed = Bed::new(packet);
    let mut frame = bed.frame(0).with_offload(offload);
    let layout = layout_of(&frame);
    nat::rewrite(&mut frame, &layout, Direction::Request, target).unwrap();
    frame.bytes().to_vec()
}

/// Completes a partial checksum in the packet behind `shim` bytes of wrapping.
fn completed_inside(bytes: &[u8], offload: Offload, shim: usize) -> Vec<u8> {
    let Checksum::Partial { start, offset } = offload.checksum else {
        return bytes.to_vec();
    };
    let inner = Checksum::Partial { start: start - shim as u16, offset };
    let mut all = bytes[..shim].to_vec();
    all.extend(completed(&bytes[shim..], inner));
    all
}

fn server_behind(outer: Addresses) -> Box<Decapsulator> {
    let mut host = Host::new(Seed::from_bytes([1; 16]));
    host.add_port(Port::bare(1_500)).unwrap();
    host.add_virtual_address(outer.destination()).unwrap();
    Box::new(Decapsulator::new(host, GUE_PORT))
}

#[test]
fn headroom_is_enough_for_the_longest_wrapping() {
    let tunnel = Tunnel::Gue { port: 1, checksum: true };
    assert!(encap::overhead(tunnel, Family::V6) + 22 <= HEADROOM);
}
