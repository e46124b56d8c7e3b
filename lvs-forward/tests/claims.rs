//! Two hosts with one address: each hears of the other, over both families.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::net::IpAddr;

use lvs_core::{Config, Director, Fixed, Seed, Tick};
use lvs_forward::host::{Conflict, Host, MacAddress, Port};
use lvs_forward::{Forwarder, Frame, HEADROOM, Options, Outcome, PortId};

type Store = Fixed<8, 4, 4, 16>;

const PORT: PortId = PortId(0);

/// A host on the link, with an address of its own and a virtual one.
fn forwarder(last: u8, virtual_addresses: &[IpAddr]) -> Forwarder {
    let mut host = Host::new(Seed::from_bytes([last; 16]));
    host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, last]), 1_500)).unwrap();
    host.add_address(PORT, [10, 0, 0, last].into(), 24).unwrap();
    host.add_address(PORT, format!("fd00::{last}").parse().unwrap(), 64).unwrap();
    for address in virtual_addresses {
        host.add_virtual_address(*address).unwrap();
    }
    Forwarder::new(host, Options::new())
}

/// Brings a frame to a host, and its answer, if there is one.
fn bring(to: &mut Forwarder, now: Tick, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut store = Store::new();
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), &mut store);
    let mut buffer = [[0; HEADROOM].as_slice(), bytes, &[0; 64]].concat();
    let mut frame = Frame::new(&mut buffer, HEADROOM, HEADROOM + bytes.len(), PORT).unwrap();
    let outcome = to.process(&mut director, now, &mut frame);
    (outcome == Outcome::Send).then(|| frame.bytes().to_vec())
}

/// Lets a host say what it has to say within some seconds; the other one hears and answers.
fn talk(one: &mut Forwarder, other: &mut Forwarder, from: Tick, seconds: u64) -> usize {
    let mut said = 0;
    for millis in 0..seconds * 1_000 {
        let now = from.plus_millis(millis);
        let mut buffer = vec![0; HEADROOM + 2_048];
        while let Some(frame) = one.poll_transmit(now, &mut buffer) {
            let bytes = frame.bytes().to_vec();
            said += 1;
            if let Some(answer) = bring(other, now, &bytes) {
                assert_eq!(bring(one, now, &answer), None, "what nobody asked for is not answered");
            }
        }
    }
    said
}

fn claims(of: &Forwarder, now: Tick) -> Vec<(IpAddr, MacAddress)> {
    let mut claims: Vec<_> =
        of.host().conflicts(now).map(|Conflict { address, mac, .. }| (address, mac)).collect();
    claims.sort_by_key(|(address, _)| *address);
    claims
}

fn shared() -> [IpAddr; 2] {
    ["10.0.0.100".parse().unwrap(), "fd00::100".parse().unwrap()]
}

#[test]
fn a_host_that_announces_an_address_hears_from_whoever_has_it() {
    let (mut one, mut other) = (forwarder(1, &shared()), forwarder(2, &shared()));
    let start = Tick::from_millis(1_000);
    for address in shared() {
        assert!(one.host_mut().announce(start, address));
    }
    let said = talk(&mut one, &mut other, start, 5);
    assert_eq!(said, 8, "three announcements and a question for each address");
    let now = start.plus_millis(5_000);
    assert_eq!(claims(&one, now), shared().map(|address| (address, MacAddress([2, 0, 0, 0, 0, 2]))));
    assert_eq!(claims(&other, now), shared().map(|address| (address, MacAddress([2, 0, 0, 0, 0, 1]))));
    assert_eq!(claims(&one, start.plus_millis(100_000)), [], "it is over when nobody claims them any more");
}

#[test]
fn a_host_alone_with_its_addresses_has_no_conflict() {
    let (mut one, mut other) = (forwarder(1, &shared()), forwarder(2, &[]));
    let start = Tick::from_millis(1_000);
    one.host_mut().announce_all(start);
    assert_eq!(talk(&mut one, &mut other, start, 5), 16);
    let now = start.plus_millis(5_000);
    assert_eq!((claims(&one, now), claims(&other, now)), (vec![], vec![]));
    // Its own frames may come back by another port of the same link.
    let mut buffer = vec![0; HEADROOM + 2_048];
    one.host_mut().announce_all(now);
    let back: Vec<Vec<u8>> = core::iter::from_fn(|| {
        one.poll_transmit(now.plus_millis(1), &mut buffer).map(|frame| frame.bytes().to_vec())
    })
    .collect();
    assert!(!back.is_empty());
    for frame in back {
        bring(&mut one, now, &frame);
    }
    assert_eq!(claims(&one, now), []);
}

#[test]
fn however_many_claim_however_many_addresses_a_few_are_remembered() {
    let many: Vec<IpAddr> = (0..40).map(|last| [10, 0, 1, last].into()).collect();
    let (mut one, mut other) = (forwarder(1, &many), forwarder(2, &many));
    let start = Tick::from_millis(1_000);
    one.host_mut().announce_all(start);
    talk(&mut one, &mut other, start, 3);
    let now = start.plus_millis(3_000);
    assert_eq!(claims(&other, now).len(), 16);
    // A third host that claims one of them is the same conflict.
    let known = claims(&other, now);
    let mut third = forwarder(3, &[known[0].0]);
    assert!(third.host_mut().announce(now, known[0].0));
    talk(&mut third, &mut other, now, 1);
    assert!(claims(&other, now).contains(&known[0]), "whoever came first is named");
}
