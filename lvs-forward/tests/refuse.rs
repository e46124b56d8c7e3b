//! What the host behind "left to the host" says: both ends of a connection that is not known any more are told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "this file needs a part of it")]
mod lab;
#[expect(dead_code, reason = "these packets have link headers")]
mod oracle;
#[expect(dead_code, reason = "its transforms are the laws' business")]
mod sample;

use core::net::{IpAddr, SocketAddr};

use lab::*;
use lvs_core::{Family, Protocol, Reason, ServiceKey, Tick};
use lvs_forward::host::MacAddress;
use lvs_forward::{DropReason, HEADROOM, Offload, Options, Outcome, PassReason, PortId, PortSet};
use oracle::{Trust, check_ethernet};
use sample::{Bed, Sample, SumState};

const NOW: Tick = Tick::from_millis(1_000);
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

fn client(family: Family) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from(([192, 0, 2, 7], 40_000)),
        Family::V6 => SocketAddr::from(([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7], 40_000)),
    }
}

/// A segment from a client to a service that the director knows no connection for. It acknowledges number 9.
fn segment(family: Family, tcp_flags: u8) -> Sample {
    let sample = Sample::tcp(client(family), client(family), tcp_flags);
    request(&Sample { payload: vec![7; 11], ..sample }, 0)
}

/// A segment of the real server's.
fn of_server(family: Family, tcp_flags: u8) -> Sample {
    let request = segment(family, tcp_flags);
    Sample { source: server(0, family), destination: request.source, ..request }
}

fn lab(change: impl FnOnce(&mut Options)) -> Lab {
    let mut options = Options::new();
    options.reject = true;
    change(&mut options);
    Lab::new(options)
}

fn put(lab: &mut Lab, now: Tick, port: u8, sample: &Sample) -> (Outcome, Vec<(PortId, Vec<u8>)>) {
    lab.frame(now, port, &ethernet(port, 0, &sample.packet()), Offload::NONE)
}

/// Sequence number, acknowledged number and flags of the reset for a segment, which has to be sound.
fn reset_for(sample: &Sample, port: u8, left: &[(PortId, Vec<u8>)]) -> (u32, u32, u8) {
    let [(to, bytes)] = left else { panic!("{} frames", left.len()) };
    assert_eq!(*to, PortId(port));
    check_ethernet(bytes, Trust::Checksums);
    let family = sample.family();
    let (addresses, transport) = if family == Family::V4 { (14 + 12, 34) } else { (14 + 8, 54) };
    let mut ends =
        Sample { source: sample.destination, destination: sample.source, ..sample.clone() }.packet();
    ends.drain(..addresses - 14);
    let length = transport - addresses;
    assert_eq!(bytes[addresses..transport], ends[..length], "the other way round");
    assert_eq!(bytes[transport..transport + 2], sample.destination.port().to_be_bytes());
    assert_eq!(bytes[transport + 2..transport + 4], sample.source.port().to_be_bytes());
    let word = |at: usize| u32::from_be_bytes(bytes[transport + at..transport + at + 4].try_into().unwrap());
    (word(4), word(8), bytes[transport + 13])
}

#[test]
fn a_client_and_a_server_whose_connection_is_not_known_are_each_reset_in_their_own_numbers() {
    for family in [Family::V4, Family::V6] {
        for (sample, port) in [(segment(family, ACK), OUTSIDE), (of_server(family, ACK), INSIDE)] {
            let mut lab = lab(|_| ());
            let (outcome, left) = put(&mut lab, NOW, port, &sample);
            assert_eq!(outcome, Outcome::Send);
            let (left, to_client) = left.split_at(1);
            if port == INSIDE {
                // The client waits for what the server has sent, and is told with the number that it waits for.
                let [(to, bytes)] = to_client else { panic!("{} frames", to_client.len()) };
                check_ethernet(bytes, Trust::Checksums);
                let virt = SocketAddr::new(virtual_address(0, family), SERVICE_PORT);
                let mut expected = Sample { source: virt, sequence: 1_000, ..sample.clone() };
                (expected.tcp_flags, expected.payload) = (RST, Vec::new());
                let transport = if family == Family::V4 { 34 } else { 54 };
                let expected = expected.packet();
                assert_eq!((*to, bytes[transport + 13]), (PortId(OUTSIDE), RST));
                assert_eq!(bytes[transport..transport + 8], expected[transport - 14..transport - 6]);
                let addresses = if family == Family::V4 { 26..34 } else { 22..54 };
                assert_eq!(bytes[addresses.clone()], expected[addresses.start - 14..addresses.end - 14]);
            } else {
                assert!(to_client.is_empty());
            }
            // RFC 9293 §3.10.7.1: a segment with ACK is answered with the number that it acknowledges.
            assert_eq!(reset_for(&sample, port, left), (9, 0, RST));
            let counters = lab.forwarder.counters();
            let told = if port == INSIDE { 2 } else { 1 };
            assert_eq!((counters.drops(DropReason::Refused), counters.answers), (1, told));
            // One without is answered by acknowledging all of it.
            let fin = Sample { tcp_flags: 0x01, ..sample };
            let (_, left) = put(&mut lab, NOW, port, &fin);
            assert_eq!(reset_for(&fin, port, &left[..1]), (0, 1_000 + 11 + 1, RST | ACK));
        }
    }
}

#[test]
fn a_reset_is_never_answered_and_a_damaged_segment_neither() {
    for family in [Family::V4, Family::V6] {
        let mut lab = lab(|_| ());
        assert_eq!(put(&mut lab, NOW, OUTSIDE, &segment(family, RST)).0, Outcome::Drop(DropReason::Refused));
        let unknown = Outcome::Pass(PassReason::Director(Reason::NoConnection));
        assert_eq!(put(&mut lab, NOW, INSIDE, &of_server(family, RST)).0, unknown);
        for (sample, port) in [(segment(family, ACK), OUTSIDE), (of_server(family, ACK), INSIDE)] {
            let damaged = Sample { sum: SumState::Wrong(7), ..sample };
            assert_eq!(put(&mut lab, NOW, port, &damaged).0, Outcome::Drop(DropReason::Refused));
        }
    }
}

#[test]
fn only_a_real_server_of_nat_is_told_of_a_connection_that_only_passes() {
    let unknown = Outcome::Pass(PassReason::Director(Reason::NoConnection));
    for family in [Family::V4, Family::V6] {
        let from = |number: usize, port: u16| {
            let mut source = server(number, family);
            source.set_port(port);
            Sample { source, ..of_server(family, ACK) }
        };
        let mut lab = lab(|_| ());
        // DR's server answers its clients itself, and the port of a connection of the server's own is no service's.
        for stray in [from(1, SERVER_PORT), from(0, 33_000), from(50, SERVER_PORT)] {
            assert_eq!(put(&mut lab, NOW, INSIDE, &stray).0, unknown);
        }
        let udp = Sample { protocol: Protocol::Udp, ..of_server(family, 0) };
        assert_eq!(put(&mut lab, NOW, INSIDE, &udp).0, unknown);
    }
}

#[test]
fn a_router_forwards_what_may_go_around_the_director() {
    for family in [Family::V4, Family::V6] {
        let mut router = lab(|options| options.ip_forward = true);
        let (outcome, left) = put(&mut router, NOW, INSIDE, &of_server(family, ACK));
        assert_eq!((outcome, left[0].0), (Outcome::Send, PortId(OUTSIDE)));
    }
}

#[test]
fn at_a_shared_port_the_kernel_answers_for_the_addresses_that_it_has_and_for_no_other() {
    for family in [Family::V4, Family::V6] {
        let mut shared = lab(|options| options.shared = PortSet::NONE.with(PortId(INSIDE)));
        let (request, reply) = (segment(family, ACK), of_server(family, ACK));
        let none: [IpAddr; 0] = [];
        // What has been said of the kernel's addresses, and which of the two packets the director answers then.
        let of_service: &[IpAddr] = &[request.destination.ip()];
        let of_client: &[IpAddr] = &[reply.destination.ip()];
        let cases = [
            (None, [false, false]),
            (Some(of_service), [false, true]),
            (Some(of_client), [true, false]),
            (Some(&none[..]), [true, true]),
        ];
        for (known, answered) in cases {
            if let Some(known) = known {
                shared.forwarder.host_mut().set_machine_addresses(known.iter().copied().collect());
            }
            let outcomes = [&request, &reply].map(|sample| put(&mut shared, NOW, INSIDE, sample).0);
            for (outcome, answered) in outcomes.into_iter().zip(answered) {
                let expected =
                    if answered { outcome == Outcome::Send } else { matches!(outcome, Outcome::Pass(_)) };
                assert!(expected, "{family:?}, {known:?}: {outcome:?}");
            }
            assert_eq!(put(&mut shared, NOW, OUTSIDE, &request).0, Outcome::Send);
        }
    }
}

#[test]
fn while_resets_are_held_segments_are_dropped_in_silence_and_port_unreachable_is_still_said() {
    let mut lab = lab(|_| ());
    let grace = NOW.plus_secs(3);
    lab.forwarder.hold_resets(grace);
    let sides = [(segment(Family::V4, ACK), OUTSIDE), (of_server(Family::V4, ACK), INSIDE)];
    for (sample, port) in &sides {
        for now in [NOW, Tick::from_millis(3_999)] {
            let (outcome, left) = put(&mut lab, now, *port, sample);
            assert_eq!((outcome, left.len()), (Outcome::Drop(DropReason::ResetHeld), 0));
        }
    }
    // A service without a server is no reason to refuse either.
    let key = ServiceKey::tcp(virtual_address(1, Family::V4), SERVICE_PORT);
    lab.director.remove_server(key, server(1, Family::V4)).unwrap();
    let syn = request(&Sample { payload: Vec::new(), ..segment(Family::V4, 0x02) }, 1);
    assert_eq!(put(&mut lab, NOW, OUTSIDE, &syn).0, Outcome::Drop(DropReason::ResetHeld));
    let nobody = SocketAddr::new(virtual_address(0, Family::V4), 81);
    let datagram = Sample { protocol: Protocol::Udp, destination: nobody, ..segment(Family::V4, 0) };
    assert_eq!(put(&mut lab, NOW, OUTSIDE, &datagram).0, Outcome::Send);
    for (sample, port) in &sides {
        assert_eq!(put(&mut lab, grace, *port, sample).0, Outcome::Send);
    }
    assert_eq!(lab.forwarder.counters().drops(DropReason::ResetHeld), 5);
    assert_eq!(put(&mut lab, grace, OUTSIDE, &syn).0, Outcome::Send, "port unreachable");
}

#[test]
fn a_flood_of_strays_is_answered_at_the_rate_and_uses_up_nothing_that_clients_need() {
    let mut lab = lab(|options| options.icmp_rate = 100);
    let mut sent = 0;
    for number in 0..10_000_u32 {
        let mut stray = of_server(Family::V4, ACK);
        stray.destination.set_port(1_024 + (number % 50_000) as u16);
        let now = Tick::from_millis(1_000 + u64::from(number) / 10);
        sent += u32::from(put(&mut lab, now, INSIDE, &stray).0 == Outcome::Send);
    }
    // A burst of 5, and a tenth of a second's worth for each 100 ms.
    assert!((95..=110).contains(&sent), "{sent} in a second");
    let now = Tick::from_millis(1_999);
    assert_eq!(put(&mut lab, now, OUTSIDE, &segment(Family::V4, ACK)).0, Outcome::Send);
}

#[test]
fn a_client_whose_neighbour_is_not_known_is_told_when_it_is() {
    let mut lab = lab(|_| ());
    let gateway = [2, 0, 0, 0, 0, 0xaa];
    lab.forwarder.host_mut().remove_neighbour(PortId(OUTSIDE), "10.0.0.1".parse().unwrap());
    let (outcome, left) = put(&mut lab, NOW, INSIDE, &of_server(Family::V4, ACK));
    assert_eq!((outcome, left.len()), (Outcome::Send, 2), "to the server, and a question for the gateway");
    assert_eq!(left[1].1[12..14], [8, 6]);
    assert!(lab.forwarder.poll_at().is_some_and(|at| at <= NOW.plus_millis(50)));
    lab.forwarder
        .host_mut()
        .add_neighbour(PortId(OUTSIDE), "10.0.0.1".parse().unwrap(), MacAddress(gateway))
        .unwrap();
    let mut room = [0; HEADROOM + 2_048];
    let frame = lab.forwarder.poll_transmit(NOW.plus_millis(50), &mut room).unwrap();
    assert_eq!((&frame.bytes()[..6], frame.bytes()[12 + 2 + 9]), (&gateway[..], 6));
    assert!(lab.forwarder.poll_transmit(NOW.plus_millis(2_000), &mut room).is_none());
}

#[test]
fn a_batch_resets_both_ends_as_one_by_one() {
    let samples = [
        (segment(Family::V4, ACK), OUTSIDE),
        (of_server(Family::V4, ACK), INSIDE),
        (of_server(Family::V6, ACK), INSIDE),
        (segment(Family::V6, 0x02), OUTSIDE),
        (of_server(Family::V4, 0x18), INSIDE),
    ];
    let frames: Vec<_> =
        samples.iter().map(|(sample, port)| (*port, ethernet(*port, 0, &sample.packet()))).collect();
    let (mut single, mut batched) = (lab(|_| ()), lab(|_| ()));
    let mut beds: Vec<_> = frames.iter().map(|(_, bytes)| Bed::new(bytes)).collect();
    let mut lent: Vec<_> = beds.iter_mut().zip(&frames).map(|(bed, (port, _))| bed.frame(*port)).collect();
    let mut outcomes = [Outcome::Consumed; 5];
    batched.forwarder.process_batch(&mut batched.director, NOW, &mut lent, &mut outcomes);
    for ((frame, outcome), (port, bytes)) in lent.iter().zip(outcomes).zip(&frames) {
        let mut bed = Bed::new(bytes);
        let mut one = bed.frame(*port);
        assert_eq!(single.forwarder.process(&mut single.director, NOW, &mut one), outcome);
        assert_eq!((one.bytes(), one.port), (frame.bytes(), frame.port));
    }
    assert_eq!(single.forwarder.counters(), batched.forwarder.counters());
    assert_eq!(batched.forwarder.counters().answers, 4);
}
