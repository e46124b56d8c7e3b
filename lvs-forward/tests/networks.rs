//! Which network a frame belongs to, and who can have sent it: VLANs, impossible sources, gateways.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "these tests need a part of it")]
mod lab;
#[expect(dead_code, reason = "these tests need a part of it")]
mod oracle;
#[expect(dead_code, reason = "these tests need a part of it")]
mod sample;

use core::net::IpAddr;

use lab::*;
use lvs_core::{Family, Seed, Tick};
use lvs_forward::host::{AddPortError, Host, MacAddress, Port, Prefix};
use lvs_forward::{DropReason, Forwarder, Frame, HEADROOM, Offload, Options, Outcome, PortId};
use sample::*;

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const NOW: Tick = Tick::from_millis(1_000);
const ON: PortId = PortId(0);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A director with one port on the servers' network, which is VLAN 100 or none.
fn one_arm(vlan: Option<u16>) -> Lab {
    let mut host = Host::new(Seed::from_bytes([7; 16]));
    let port = Port::ethernet(MAC, 1_500);
    host.add_port(vlan.map_or(port, |vlan| port.with_vlan(vlan))).unwrap();
    host.add_address(ON, ip("10.0.1.254"), 24).unwrap();
    host.add_virtual_address(virtual_address(1, Family::V4)).unwrap();
    host.add_neighbour(ON, server(1, Family::V4).ip(), MacAddress([2; 6])).unwrap();
    let mut lab = Lab::new(Options::new());
    *lab.forwarder = Forwarder::new(host, Options::new());
    lab
}

fn tagged(bytes: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&bytes[..12], &tags.concat(), &bytes[12..]].concat()
}

fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut bytes = [&[0xff; 6][..], &[2, 0, 0, 0, 9, 9], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    bytes.extend([2, 0, 0, 0, 9, 9]);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend(target);
    bytes
}

/// A SYN to the service of method 1, direct routing, at the port's MAC address.
fn syn_frame() -> (Sample, Vec<u8>) {
    let client = "192.0.2.7:40000".parse().unwrap();
    let sample = request(&Sample::tcp(client, client, 0x02), 1);
    let bytes = ethernet(0, 0, &sample.packet());
    (sample, bytes)
}

/// All that a host sends of its own accord now.
fn own(lab: &mut Lab, now: Tick) -> Vec<Vec<u8>> {
    let mut room = vec![0; HEADROOM + 2_048];
    let mut sent = Vec::new();
    while let Some(frame) = lab.forwarder.poll_transmit(now, &mut room) {
        sent.push(frame.bytes().to_vec());
    }
    sent
}

const OTHER_TAGS: [&[[u8; 4]]; 5] = [
    &[[0x81, 0, 0, 7]],
    &[[0x81, 0, 0xe0, 101]],
    &[[0x88, 0xa8, 0, 100]],
    &[[0x81, 0, 0, 100], [0x81, 0, 0, 100]],
    &[[0x81, 0, 0, 0], [0x81, 0, 0, 7]],
];

#[test]
fn frames_of_another_network_are_dropped_and_teach_nothing() {
    for vlan in [None, Some(100)] {
        let mut lab = one_arm(vlan);
        let (_, bytes) = syn_frame();
        let mut count = 0;
        for tags in OTHER_TAGS {
            for bytes in [tagged(&bytes, tags), tagged(&arp([10, 0, 1, 77], [10, 0, 1, 254]), tags)] {
                let (outcome, _) = lab.frame(NOW, 0, &bytes, Offload::NONE);
                assert_eq!(outcome, Outcome::Drop(DropReason::Vlan), "{vlan:?} {tags:?}");
                count += 1;
            }
        }
        assert_eq!(lab.forwarder.counters().drops(DropReason::Vlan), count);
        let host = lab.forwarder.host_mut();
        assert_eq!(host.way_to(NOW, ip("10.0.1.77")), None, "nobody has been heard of");
    }
}

#[test]
fn a_port_without_a_vlan_takes_priority_tags_and_answers_without() {
    let mut lab = one_arm(None);
    let (sample, bytes) = syn_frame();
    let bytes = tagged(&bytes, &[[0x81, 0, 0xa0, 0]]);
    let (outcome, out) = lab.frame(NOW, 0, &bytes, Offload::NONE);
    assert_eq!(outcome, Outcome::Send);
    let link = [&[2; 6][..], &MAC.0, &[8, 0]].concat();
    assert_eq!(out[0].1, [link, Sample { ttl: 63, ..sample }.packet()].concat());
}

#[test]
fn all_that_a_port_of_a_vlan_sends_has_its_tag() {
    let mut lab = one_arm(Some(100));
    let (sample, untagged) = syn_frame();
    let (outcome, _) = lab.frame(NOW, 0, &untagged, Offload::NONE);
    assert_eq!(outcome, Outcome::Drop(DropReason::Vlan));
    let mine = [[0x81, 0, 0x60, 100]];
    let (outcome, out) = lab.frame(NOW, 0, &tagged(&untagged, &mine), Offload::NONE);
    assert_eq!(outcome, Outcome::Send);
    let link = [&[2; 6][..], &MAC.0, &[0x81, 0, 0, 100, 8, 0]].concat();
    assert_eq!(out[0].1, [link, Sample { ttl: 63, ..sample }.packet()].concat());
    // Its answers to questions, its own questions and announcements, and what waited.
    let (outcome, out) =
        lab.frame(NOW, 0, &tagged(&arp([10, 0, 1, 77], [10, 0, 1, 254]), &mine), Offload::NONE);
    assert_eq!((outcome, &out[0].1[12..16]), (Outcome::Send, &[0x81, 0, 0x60, 100][..]));
    let host = lab.forwarder.host_mut();
    host.add_address(ON, ip("2001:db8::1"), 64).unwrap();
    host.announce_all(NOW);
    host.look_for(NOW, ip("10.0.1.50"));
    host.look_for(NOW, ip("2001:db8::2"));
    let sent = own(&mut lab, NOW);
    assert!(sent.len() >= 5, "{sent:?}");
    assert!(sent.iter().all(|bytes| bytes[12..16] == [0x81, 0, 0, 100]), "{sent:?}");
}

#[test]
fn a_vlan_is_a_number_that_ieee_gives() {
    let mut host = Host::new(Seed::from_bytes([7; 16]));
    for vlan in [0, 4_095, u16::MAX] {
        assert_eq!(host.add_port(Port::ethernet(MAC, 1_500).with_vlan(vlan)), Err(AddPortError::Vlan));
    }
    assert_eq!(host.add_port(Port::bare(1_500).with_vlan(7)), Err(AddPortError::Vlan));
    assert_eq!(host.add_port(Port::ethernet(MAC, 1_500).with_vlan(4_094)), Ok(ON));
}

#[test]
fn what_only_this_host_can_have_sent_opens_no_connection() {
    for batch in [false, true] {
        let mut lab = one_arm(None);
        for source in [virtual_address(1, Family::V4), ip("10.0.1.254")] {
            let (mut sample, _) = syn_frame();
            sample.source.set_ip(source);
            let mut bed = Bed::new(&ethernet(0, 0, &sample.packet()));
            let mut frame = bed.frame(0);
            let mut outcome = [Outcome::Consumed];
            if batch {
                let frames = core::slice::from_mut(&mut frame);
                lab.forwarder.process_batch(&mut lab.director, NOW, frames, &mut outcome);
            } else {
                outcome[0] = lab.forwarder.process(&mut lab.director, NOW, &mut frame);
            }
            assert_eq!(outcome[0], Outcome::Drop(DropReason::Martian), "{source}");
        }
        assert_eq!(lab.forwarder.counters().drops(DropReason::Martian), 2);
        assert_eq!(lab.director.counters().live, 0);
        let (_, good) = syn_frame();
        assert_eq!(lab.frame(NOW, 0, &good, Offload::NONE).0, Outcome::Send);
    }
}

#[test]
fn what_this_machine_itself_sends_has_its_own_address() {
    let mut lab = one_arm(None);
    let local = lab.forwarder.host_mut().add_port(Port::bare(1_500)).unwrap();
    let mut options = Options::new();
    options.local = Some(local);
    lab.forwarder.set_options(options);
    let (mut sample, _) = syn_frame();
    sample.source.set_ip(ip("10.0.1.254"));
    let mut bed = Bed::new(&sample.packet());
    let mut frame = bed.frame(local.0);
    assert_eq!(lab.forwarder.process(&mut lab.director, NOW, &mut frame), Outcome::Send);
}

#[test]
fn a_gateway_need_not_be_in_a_subnet_of_the_host() {
    let mut host = Host::new(Seed::from_bytes([7; 16]));
    host.add_port(Port::ethernet(MAC, 1_500)).unwrap();
    host.add_address(ON, ip("203.0.113.5"), 32).unwrap();
    host.add_route(Prefix::new(ip("0.0.0.0"), 0).unwrap(), Some(ip("172.31.1.1")), ON).unwrap();
    assert!(!host.look_for(NOW, ip("192.0.2.9")));
    let mut room = vec![0; HEADROOM + 2_048];
    let asked = host.poll_transmit(NOW, &mut room).unwrap().bytes().to_vec();
    assert_eq!((&asked[28..32], &asked[38..42]), (&[203, 0, 113, 5][..], &[172, 31, 1, 1][..]));
    let mut answer = arp([172, 31, 1, 1], [203, 0, 113, 5]);
    answer[21] = 2;
    let mut bed = Bed::new(&answer);
    host.overhear(NOW, &mut bed.frame(0));
    assert_eq!(host.way_to(NOW, ip("192.0.2.9")), Some((ON, MacAddress([2, 0, 0, 0, 9, 9]), 1_500)));
}

#[test]
fn the_same_link_local_gateway_is_another_one_on_another_port() {
    let mut host = Host::new(Seed::from_bytes([7; 16]));
    for (number, prefix) in [(0, "2001:db8:a::"), (1, "2001:db8:b::")] {
        let port = host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, number + 1]), 1_500)).unwrap();
        host.add_address(port, ip(&format!("fe80::10{number}")), 64).unwrap();
        host.add_route(Prefix::new(ip(prefix), 48).unwrap(), Some(ip("fe80::1")), port).unwrap();
        host.add_neighbour(port, ip("fe80::1"), MacAddress([2, 0, 0, 0, 9, number])).unwrap();
    }
    for (number, destination) in [(0, "2001:db8:a::7"), (1, "2001:db8:b::7")] {
        let way = host.way_to(NOW, ip(destination)).unwrap();
        assert_eq!((way.0, way.1), (PortId(number), MacAddress([2, 0, 0, 0, 9, number])));
    }
}

#[test]
fn a_gateway_that_asks_is_known_at_once() {
    let mut host = Host::new(Seed::from_bytes([7; 16]));
    host.add_port(Port::ethernet(MAC, 1_500)).unwrap();
    host.add_address(ON, ip("203.0.113.5"), 32).unwrap();
    host.add_route(Prefix::new(ip("0.0.0.0"), 0).unwrap(), Some(ip("172.31.1.1")), ON).unwrap();
    let mut bed = Bed::new(&arp([172, 31, 1, 1], [203, 0, 113, 5]));
    let mut frame: Frame<'_> = bed.frame(0);
    host.overhear(NOW, &mut frame);
    assert!(host.way_to(NOW, ip("192.0.2.9")).is_some());
}
