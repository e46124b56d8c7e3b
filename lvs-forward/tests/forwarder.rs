//! The whole way of a frame through a director with a service of every method.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;
#[expect(dead_code, reason = "these packets have link headers")]
mod oracle;
#[expect(dead_code, reason = "its transforms are the laws' business")]
mod sample;
#[expect(dead_code, reason = "these packets are to the services")]
mod support;

use core::net::{IpAddr, SocketAddr};

use lab::*;
use lvs_core::{
    Family, Method, Protocol, Reason, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick,
};
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::{
    Decapsulator, DropReason, Forwarder, Frame, GUE_PORT, HEADROOM, Merged, MergedKind, Offload, Options,
    Outcome, PassReason, PortId,
};
use oracle::{Trust, check_ethernet};
use proptest::prelude::*;
use sample::{Bed, Sample, SumState};
use support::*;

const NOW: Tick = Tick::from_millis(1_000);

fn client(family: Family) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::from([192, 0, 2, 7]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7]),
    };
    SocketAddr::new(address, 40_000)
}

fn syn(family: Family) -> Sample {
    Sample::tcp(client(family), client(family), 0x02)
}

/// A packet from a client to one of the services.
fn any_request() -> impl Strategy<Value = (Sample, usize)> {
    let sample = any_family().prop_flat_map(|family| {
        any_sample_between(Just(client(family)), any_endpoint(family), any_protocol())
    });
    (sample, 0..METHODS.len()).prop_map(|(sample, method)| {
        let mut sample = request(&sample, method);
        sample.tcp_flags = 0x02;
        (sample, method)
    })
}

fn offload_of(sample: &Sample, link: usize) -> Offload {
    Offload { checksum: sample.checksum(link), merged: None }
}

fn trust(sample: &Sample) -> Trust {
    match sample.sum {
        SumState::Wrong(_) => Trust::Headers,
        SumState::Right | SumState::Absent | SumState::Partial => Trust::Checksums,
    }
}

/// A frame of any kind that the director may meet: good ones, and good ones damaged.
fn any_frame() -> impl Strategy<Value = (Vec<u8>, u8, Offload)> {
    let good = prop_oneof![
        // Tagged ones too, which are for another network than the port's.
        6 => (any_request(), 0usize..3).prop_map(|((sample, _), tags)| {
            (ethernet(OUTSIDE, tags, &sample.packet()), OUTSIDE, offload_of(&sample, 14 + 4 * tags))
        }),
        3 => any_request().prop_map(|(sample, method)| {
            let answer = answer(&sample, method);
            (ethernet(INSIDE, 0, &answer.packet()), INSIDE, offload_of(&answer, 14))
        }),
        2 => any_request().prop_map(|(sample, _)| {
            let error = error_about(&sample.packet(), sample.family());
            (ethernet(INSIDE, 0, &error), INSIDE, Offload::NONE)
        }),
        1 => any::<[u8; 4]>().prop_map(|sender| (arp_request(sender, [10, 99, 0, 1]), OUTSIDE, Offload::NONE)),
        1 => Just((solicitation(true), OUTSIDE, Offload::NONE)),
        1 => Just((ping(), OUTSIDE, Offload::NONE)),
        1 => (prop::collection::vec(any::<u8>(), 0..200), 0u8..3)
            .prop_map(|(bytes, port)| (bytes, port, Offload::NONE)),
    ];
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (good, prop::bool::weighted(0.4), damage, cut).prop_map(
        |((mut bytes, port, offload), damaged, damage, cut)| {
            if damaged && !bytes.is_empty() {
                for (at, value) in damage {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
                if let Some(cut) = cut {
                    bytes.truncate(cut.index(bytes.len()));
                }
            }
            (bytes, port, offload)
        },
    )
}

/// A router's error about a packet, to the packet's source.
fn error_about(packet: &[u8], family: Family) -> Vec<u8> {
    let quoted = &packet[..packet.len().min(500)];
    let mut out = Vec::new();
    match family {
        Family::V4 => {
            let to: [u8; 4] = packet[12..16].try_into().unwrap();
            etherparse::PacketBuilder::ipv4([10, 0, 1, 1], to, 64)
                .icmpv4_raw(3, 1, [0; 4])
                .write(&mut out, quoted)
                .unwrap();
        }
        Family::V6 => {
            let to: [u8; 16] = packet[8..24].try_into().unwrap();
            let from = core::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).octets();
            etherparse::PacketBuilder::ipv6(from, to, 64)
                .icmpv6_raw(1, 3, [0; 4])
                .write(&mut out, quoted)
                .unwrap();
        }
    }
    out
}

fn arp_request(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, 0x77];
    let mut frame = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac, &sender].concat();
    frame.extend([&[0; 6][..], &target].concat());
    frame
}

/// A question for the first virtual address, with or without the asker's link-layer address.
fn solicitation(option: bool) -> Vec<u8> {
    let from = core::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77).octets();
    let target = core::net::Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1).octets();
    let group = core::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1).octets();
    let mut body = target.to_vec();
    if option {
        body.extend([1, 1, 2, 0, 0, 0, 0, 0x77]);
    }
    let from = if option { from } else { [0; 16] };
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv6(from, group, 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut packet, &body)
        .unwrap();
    [&[0x33, 0x33, 0xff, 0, 0, 1, 2, 0, 0, 0, 0, 0x77, 0x86, 0xdd][..], &packet].concat()
}

fn ping() -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4([192, 0, 2, 7], [10, 99, 0, 1], 64)
        .icmpv4_echo_request(7, 9)
        .write(&mut packet, b"are you there?")
        .unwrap();
    ethernet(OUTSIDE, 0, &packet)
}

proptest! {
    #[test]
    fn every_output_is_well_formed((sample, method) in any_request()) {
        let mut options = Options::new();
        options.icmp_rate = 0;
        let mut lab = Lab::new(options);
        let frame = ethernet(OUTSIDE, 0, &sample.packet());
        let (outcome, out) = lab.frame(NOW, OUTSIDE, &frame, offload_of(&sample, 14));
        prop_assert!(matches!(outcome, Outcome::Send | Outcome::SendPieces(_)), "{outcome:?}");
        let answered = out[0].0 == PortId(OUTSIDE);
        for (port, bytes) in &out {
            prop_assert_eq!(*port, out[0].0);
            check_ethernet(bytes, if answered { Trust::Headers } else { trust(&sample) });
            let mtu = if answered { 1_500 } else { 1_400 };
            prop_assert!(bytes.len() - 14 <= mtu);
        }
        if answered {
            // Only what does not fit is answered.
            prop_assert!(sample.packet().len() > 1_400 - 60);
            return Ok(());
        }
        let answer = answer(&sample, method);
        let frame = ethernet(INSIDE, 0, &answer.packet());
        let (outcome, out) = lab.frame(NOW, INSIDE, &frame, offload_of(&answer, 14));
        prop_assert_eq!(outcome, Outcome::Send);
        let (port, bytes) = &out[0];
        prop_assert_eq!(*port, PortId(OUTSIDE));
        check_ethernet(bytes, trust(&answer));
        let expected = Sample {
            source: sample.destination,
            ttl: answer.ttl - 1,
            sum: match sample.sum {
                SumState::Absent if METHODS[method] == Method::Nat => SumState::Right,
                SumState::Right | SumState::Wrong(_) | SumState::Absent | SumState::Partial => sample.sum,
            },
            ..answer
        };
        if !matches!(expected.sum, SumState::Partial) {
            let (got, expected) = (&bytes[14..], expected.packet());
            let zero = expected.len() - got.len();
            prop_assert_eq!(zero, 0);
            prop_assert_eq!(&got[..sample.header_len() + 4], &expected[..sample.header_len() + 4]);
        }
    }

    #[test]
    fn a_batch_equals_one_by_one(frames in prop::collection::vec(any_frame(), 0..80)) {
        let mut single = Lab::new(Options::new());
        let mut batched = Lab::new(Options::new());
        let mut beds: Vec<Bed> = frames.iter().map(|(bytes, ..)| Bed::new(bytes)).collect();
        let mut lent: Vec<Frame<'_>> = beds
            .iter_mut()
            .zip(&frames)
            .map(|(bed, (_, port, offload))| bed.frame(*port).with_offload(*offload))
            .collect();
        let mut outcomes = vec![Outcome::Consumed; frames.len()];
        batched.forwarder.process_batch(&mut batched.director, NOW, &mut lent, &mut outcomes);
        for (((bytes, port, offload), lent), outcome) in frames.iter().zip(&lent).zip(&outcomes) {
            let mut bed = Bed::new(bytes);
            let mut frame = bed.frame(*port).with_offload(*offload);
            let expected = single.forwarder.process(&mut single.director, NOW, &mut frame);
            prop_assert_eq!(*outcome, expected);
            prop_assert_eq!(lent.port, frame.port);
            prop_assert_eq!(lent.offload, frame.offload);
            prop_assert_eq!(lent.bytes(), frame.bytes());
        }
        drop(lent);
        prop_assert_eq!(single.forwarder.counters(), batched.forwarder.counters());
        for bed in &beds {
            bed.check_fences();
        }
    }

    #[test]
    fn any_bytes_are_survived(frames in prop::collection::vec(any_frame(), 1..20), switches in any::<u8>()) {
        let mut options = Options::new();
        options.ip_forward = switches & 1 != 0;
        options.reject = switches & 2 != 0;
        options.pmtu_disc = switches & 4 != 0;
        let mut lab = Lab::new(options);
        let mut host: Host = Host::new(Seed::from_bytes([3; 16]));
        host.add_port(Port::ethernet(MACS[0], 1_500)).unwrap();
        host.add_virtual_address("10.99.0.1".parse().unwrap()).unwrap();
        let mut decapsulator = Decapsulator::new(host, GUE_PORT);
        for (bytes, port, offload) in &frames {
            let merged = Merged { kind: MergedKind::TcpV4, segment: u16::from(switches) + 1, ecn: false };
            let offload = if switches & 8 != 0 { Offload { merged: Some(merged), ..*offload } } else { *offload };
            let mut bed = Bed::new(bytes);
            let mut frame = bed.frame(*port).with_offload(offload);
            let outcome = lab.forwarder.process(&mut lab.director, NOW, &mut frame);
            if matches!(outcome, Outcome::Send | Outcome::SendPieces(_)) {
                let cut = lvs_forward::output::Cut { mtu: 600, identification: 1 };
                let _ = lvs_forward::output::pieces(&mut frame, lvs_forward::parse::Link::Ethernet, cut, &mut |_| {});
            }
            bed.check_fences();
            let mut bed = Bed::new(bytes);
            let _ = decapsulator.process(NOW, &mut bed.frame(*port).with_offload(offload));
            bed.check_fences();
        }
    }
}

#[test]
fn arp_is_answered_by_the_way_it_came() {
    let mut lab = Lab::new(Options::new());
    let question = arp_request([10, 0, 0, 77], [10, 99, 0, 1]);
    let (outcome, out) = lab.frame(NOW, OUTSIDE, &question, Offload::NONE);
    assert_eq!(outcome, Outcome::Send);
    let (port, answer) = &out[0];
    assert_eq!(*port, PortId(OUTSIDE));
    check_ethernet(answer, Trust::Checksums);
    let own = MACS[0].0;
    let mut expected = [&question[6..12], &own, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &own].concat();
    expected.extend([&[10, 99, 0, 1][..], &question[6..12], &[10, 0, 0, 77]].concat());
    assert_eq!(*answer, expected);
    let (outcome, _) = lab.frame(NOW, OUTSIDE, &arp_request([10, 0, 0, 77], [10, 0, 0, 78]), Offload::NONE);
    assert_eq!(outcome, Outcome::Pass(PassReason::NotOurs));
}

#[test]
fn solicitations_are_answered_and_probes_are_contested() {
    for option in [true, false] {
        let mut lab = Lab::new(Options::new());
        let (outcome, out) = lab.frame(NOW, OUTSIDE, &solicitation(option), Offload::NONE);
        assert_eq!(outcome, Outcome::Send, "with a link-layer address: {option}");
        let answer = &out[0].1;
        check_ethernet(answer, Trust::Checksums);
        let to: &[u8] = if option { &[2, 0, 0, 0, 0, 0x77] } else { &[0x33, 0x33, 0, 0, 0, 1] };
        assert_eq!(answer[..6], *to);
        let flags = if option { 0x60 } else { 0x20 };
        assert_eq!((answer[54], answer[58]), (136, flags));
        assert_eq!(answer[78..], [&[2, 1][..], &MACS[0].0].concat());
    }
    let mut routed = solicitation(true);
    routed[21] = 254;
    let mut lab = Lab::new(Options::new());
    assert_eq!(lab.frame(NOW, OUTSIDE, &routed, Offload::NONE).0, Outcome::Drop(DropReason::Malformed));
}

#[test]
fn pings_are_answered_for_own_addresses_only() {
    let mut lab = Lab::new(Options::new());
    let (outcome, out) = lab.frame(NOW, OUTSIDE, &ping(), Offload::NONE);
    assert_eq!(outcome, Outcome::Send);
    check_ethernet(&out[0].1, Trust::Checksums);
    assert_eq!(out[0].1[26..34], [10, 99, 0, 1, 192, 0, 2, 7]);
    assert_eq!(out[0].1[34..36], [0, 0]);
    let mut elsewhere = ping();
    elsewhere[30..34].copy_from_slice(&[10, 99, 9, 9]);
    elsewhere[24..26].fill(0);
    let checksum = !sample::sum(&elsewhere[14..34]);
    elsewhere[24..26].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(lab.frame(NOW, OUTSIDE, &elsewhere, Offload::NONE).0, Outcome::Pass(PassReason::NotOurs));
    let mut damaged = ping();
    damaged[45] ^= 1;
    assert_eq!(
        lab.frame(NOW, OUTSIDE, &damaged, Offload::NONE).0,
        Outcome::Drop(DropReason::BadIcmpChecksum)
    );
}

#[test]
fn what_is_not_for_this_host_stays_untouched() {
    let mut lab = Lab::new(Options::new());
    let frame = ethernet(OUTSIDE, 0, &request(&syn(Family::V4), 0).packet());
    let mut another = frame.clone();
    another[5] ^= 1;
    assert_eq!(lab.frame(NOW, OUTSIDE, &another, Offload::NONE).0, Outcome::Drop(DropReason::NotForUs));
    let mut group = frame.clone();
    group[..6].fill(0xff);
    assert_eq!(lab.frame(NOW, OUTSIDE, &group, Offload::NONE).0, Outcome::Pass(PassReason::Group));
    assert_eq!(lab.frame(NOW, 9, &frame, Offload::NONE).0, Outcome::Drop(DropReason::NoPort));
    assert_eq!(lab.forwarder.counters().drops(DropReason::NotForUs), 1);
    assert_eq!(lab.forwarder.counters().passes(PassReason::Group), 1);
    assert_eq!(lab.forwarder.counters().requests, 0);
}

#[test]
fn what_is_neither_ours_nor_a_connections_is_routed_only_on_demand() {
    for (ip_forward, ttl) in [(false, 64), (true, 64), (true, 1)] {
        let mut options = Options::new();
        options.ip_forward = ip_forward;
        let mut lab = Lab::new(options);
        let sample = Sample { destination: server(0, Family::V4), ttl, ..syn(Family::V4) };
        let (outcome, out) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &sample.packet()), Offload::NONE);
        if !ip_forward {
            assert_eq!(outcome, Outcome::Pass(PassReason::Director(Reason::NoConnection)));
            continue;
        }
        assert_eq!(outcome, Outcome::Send);
        check_ethernet(&out[0].1, Trust::Checksums);
        if ttl == 1 {
            assert_eq!((out[0].0, out[0].1[34]), (PortId(OUTSIDE), 11), "time exceeded");
        } else {
            assert_eq!(out[0].0, PortId(INSIDE));
            assert_eq!(out[0].1[14..], Sample { ttl: 63, ..sample }.packet());
        }
    }
}

#[test]
fn marked_packets_to_other_hosts_are_taken_in_and_may_go_on_to_them() {
    let key = ServiceKey::Mark { family: Family::V4, mark: 5 };
    for (capture, bypass, expected) in [
        (false, true, Outcome::Pass(PassReason::Director(Reason::NoConnection))),
        (true, false, Outcome::Send),
        (true, true, Outcome::Send),
    ] {
        let mut options = Options::new();
        options.capture_marked = capture;
        let mut lab = Lab::new(options);
        lab.director.add_service(key, ServiceConfig::new(Scheduler::default())).unwrap();
        let mut config = lab.director.config().clone();
        config.tuning.cache_bypass = bypass;
        lab.director.set_config(config);
        let sample = Sample { destination: server(0, Family::V4), ..syn(Family::V4) };
        let mut buffer = [&[0; HEADROOM][..], &ethernet(OUTSIDE, 0, &sample.packet())].concat();
        let end = buffer.len();
        let mut frame = Frame::new(&mut buffer, HEADROOM, end, PortId(OUTSIDE)).unwrap();
        frame.mark = 5;
        assert_eq!(lab.forwarder.process(&mut lab.director, NOW, &mut frame), expected);
        if bypass && capture {
            assert_eq!(frame.port, PortId(INSIDE));
            assert_eq!(frame.bytes()[14..], Sample { ttl: 63, ..sample }.packet());
        } else if capture {
            assert_eq!((frame.port, frame.bytes()[34..36].to_vec()), (PortId(OUTSIDE), vec![3, 3]));
        }
    }
}

#[test]
fn errors_are_never_answered_with_errors() {
    let mut lab = Lab::new(Options::new());
    let sample = request(&syn(Family::V4), 0);
    let (outcome, _) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &sample.packet()), Offload::NONE);
    assert_eq!(outcome, Outcome::Send);
    // A client-side router complains of the server's answer, with its last hop used up.
    let quoted = Sample { source: sample.destination, destination: sample.source, ..sample.clone() };
    let mut error = error_about(&quoted.packet(), Family::V4);
    error[8] = 1;
    error[10..12].fill(0);
    let checksum = !sample::sum(&error[..20]);
    error[10..12].copy_from_slice(&checksum.to_be_bytes());
    let (outcome, out) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &error), Offload::NONE);
    assert_eq!(outcome, Outcome::Drop(DropReason::TimeExceeded));
    assert!(out.is_empty());
    assert_eq!(lab.forwarder.counters().icmp_suppressed, 1);
}

#[test]
fn errors_are_limited_in_number() {
    let mut options = Options::new();
    options.icmp_rate = 100;
    let mut lab = Lab::new(options);
    let dying = Sample { ttl: 1, ..request(&syn(Family::V4), 0) };
    let frame = ethernet(OUTSIDE, 0, &dying.packet());
    let sent = (0..50).filter(|_| lab.frame(NOW, OUTSIDE, &frame, Offload::NONE).0 == Outcome::Send).count();
    assert_eq!(sent, 5, "a twentieth of a second's worth");
    assert_eq!(lab.forwarder.counters().drops(DropReason::TimeExceeded), 50);
    assert_eq!(lab.forwarder.counters().icmp_errors, 5);
}

#[test]
fn a_jumbo_frame_is_a_counted_drop() {
    let mut lab = Lab::new(Options::new());
    let mut packet = request(&syn(Family::V4), 0).packet();
    packet[2..4].fill(0);
    let merged = Merged { kind: MergedKind::TcpV4, segment: 1_400, ecn: false };
    let offload = Offload { merged: Some(merged), ..Offload::NONE };
    let (outcome, _) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &packet), offload);
    assert_eq!(outcome, Outcome::Drop(DropReason::Jumbo));
}

#[test]
fn addresses_that_cannot_be_on_a_wire_are_dropped() {
    let mut lab = Lab::new(Options::new());
    for source in ["127.0.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "0.0.0.0:1"] {
        let sample = request(&Sample { source: source.parse().unwrap(), ..syn(Family::V4) }, 0);
        let (outcome, _) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &sample.packet()), Offload::NONE);
        assert_eq!(outcome, Outcome::Drop(DropReason::Martian), "{source}");
    }
}

#[test]
fn refusals_are_what_a_host_says() {
    for family in [Family::V4, Family::V6] {
        let mut options = Options::new();
        options.reject = true;
        let mut lab = Lab::new(options);
        let nobody = SocketAddr::new(virtual_address(0, family), 81);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let sample = Sample { destination: nobody, protocol, payload: vec![1; 5], ..syn(family) };
            let (outcome, out) =
                lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &sample.packet()), Offload::NONE);
            assert_eq!(outcome, Outcome::Send, "{protocol} {family:?}");
            check_ethernet(&out[0].1, Trust::Checksums);
            if protocol == Protocol::Tcp {
                let segment = &out[0].1[14 + sample.header_len()..];
                assert_eq!(segment[13], 0x14, "reset, acknowledged");
                assert_eq!(segment[8..12], (1_000u32 + 5 + 1).to_be_bytes());
            }
        }
        let reset = Sample { destination: nobody, tcp_flags: 0x04, ..syn(family) };
        let (outcome, _) = lab.frame(NOW, OUTSIDE, &ethernet(OUTSIDE, 0, &reset.packet()), Offload::NONE);
        assert_eq!(outcome, Outcome::Drop(DropReason::Refused), "a reset is not answered");
    }
}

#[test]
fn a_bare_port_feeds_an_ethernet_port_through_the_longest_tunnel() {
    let mut host: Host = Host::new(Seed::from_bytes([7; 16]));
    let bare = host.add_port(Port::bare(1_500)).unwrap();
    let wire = host.add_port(Port::ethernet(MACS[1], 1_500)).unwrap();
    host.add_address(wire, "2001:db8:1::fe".parse().unwrap(), 64).unwrap();
    host.add_virtual_address(virtual_address(6, Family::V6)).unwrap();
    host.add_neighbour(wire, server(6, Family::V6).ip(), MacAddress([2; 6])).unwrap();
    host.add_route(Prefix::new("::".parse().unwrap(), 0).unwrap(), None, bare).unwrap();
    let mut lab = Lab::new(Options::new());
    *lab.forwarder = Forwarder::new(host, Options::new());
    let sample = request(&syn(Family::V6), 6);
    let mut bed = Bed::new(&sample.packet());
    let mut frame = bed.frame(bare.0);
    assert_eq!(frame.headroom() - 64, HEADROOM, "no more than every device lends, and the fence");
    let outcome = lab.forwarder.process(&mut lab.director, NOW, &mut frame);
    assert_eq!((outcome, frame.port), (Outcome::Send, wire));
    check_ethernet(frame.bytes(), Trust::Checksums);
    bed.check_fences();
}

#[test]
fn a_packet_waits_for_its_server_and_leaves_when_that_answers() {
    let mut lab = Lab::new(Options::new());
    let address = server(0, Family::V4).ip();
    lab.forwarder.host_mut().remove_neighbour(PortId(INSIDE), address);
    let sample = request(&syn(Family::V4), 0);
    let frame = ethernet(OUTSIDE, 0, &sample.packet());
    let (outcome, out) = lab.frame(NOW, OUTSIDE, &frame, Offload::NONE);
    assert_eq!(outcome, Outcome::Consumed);
    assert_eq!(out.len(), 1, "a question for the server");
    check_ethernet(&out[0].1, Trust::Checksums);
    assert_eq!(lab.frame(NOW, OUTSIDE, &frame, Offload::NONE).0, Outcome::Consumed);
    let third = lab.frame(NOW, OUTSIDE, &frame, Offload::NONE).0;
    assert_eq!(third, Outcome::Drop(DropReason::HopPending), "two wait, no more");
    let mac = [2, 0, 0, 0, 1, 0x11];
    let mut reply = [&MACS[1].0[..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &mac, &[10, 0, 1, 11]].concat();
    reply.extend([&MACS[1].0[..], &[10, 0, 1, 254]].concat());
    let (outcome, out) = lab.frame(NOW, INSIDE, &reply, Offload::NONE);
    assert_eq!(outcome, Outcome::Consumed);
    assert_eq!(out.len(), 2, "both packets leave, in order");
    for (port, bytes) in out {
        assert_eq!(port, PortId(INSIDE));
        assert_eq!(bytes[..6], mac);
        check_ethernet(&bytes, Trust::Checksums);
    }
    assert_eq!(lab.frame(NOW, OUTSIDE, &frame, Offload::NONE).0, Outcome::Send);
}

#[test]
fn marked_packets_for_others_are_captured_or_bypassed() {
    let mut options = Options::new();
    options.capture_marked = true;
    let mut lab = Lab::new(options);
    let mut config = lab.director.config().clone();
    config.tuning.cache_bypass = true;
    lab.director.set_config(config);
    let key = ServiceKey::Mark { family: Family::V4, mark: 7 };
    lab.director.add_service(key, ServiceConfig::new(Scheduler::default())).unwrap();
    let sample = Sample { tcp_flags: 0x02, ..segment_between("192.0.2.7:40000", "198.51.100.9:80") };
    let put = |lab: &mut Lab, mark: u32| {
        let mut bed = Bed::new(&ethernet(OUTSIDE, 0, &sample.packet()));
        let mut frame = bed.frame(OUTSIDE);
        frame.mark = mark;
        let outcome = lab.forwarder.process(&mut lab.director, NOW, &mut frame);
        (outcome, frame.bytes()[..6].to_vec(), frame.bytes()[22], frame.bytes()[30..34].to_vec())
    };
    assert_eq!(put(&mut lab, 0).0, Outcome::Pass(PassReason::Director(Reason::NoConnection)));
    let gateway = vec![2, 0, 0, 0, 0, 0xaa];
    let there = vec![198, 51, 100, 9];
    assert_eq!(put(&mut lab, 7), (Outcome::Send, gateway, 63, there.clone()), "without a server it goes on");
    let direct = SocketAddr::new(server(1, Family::V4).ip(), 0);
    lab.director.add_server(key, ServerConfig::new(direct, Method::Direct)).unwrap();
    let sample = Sample { source: "192.0.2.8:40000".parse().unwrap(), ..sample.clone() };
    let mut bed = Bed::new(&ethernet(OUTSIDE, 0, &sample.packet()));
    let mut frame = bed.frame(OUTSIDE);
    frame.mark = 7;
    assert_eq!(lab.forwarder.process(&mut lab.director, NOW, &mut frame), Outcome::Send);
    assert_eq!(frame.bytes()[..6], [2, 0, 0, 0, 1, 12]);
    assert_eq!(frame.bytes()[30..34], there);
}

/// A plain segment between two hosts.
fn segment_between(source: &str, destination: &str) -> Sample {
    let sample = Sample::tcp(source.parse().unwrap(), destination.parse().unwrap(), 0x10);
    Sample { payload: vec![7; 10], ..sample }
}
