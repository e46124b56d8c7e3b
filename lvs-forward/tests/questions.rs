//! Which of a host's own frames are questions for neighbours, as the host makes them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::net::IpAddr;

use lvs_core::{Seed, Tick};
use lvs_forward::PortId;
use lvs_forward::engine::OWN_BUFFER;
use lvs_forward::host::{Host, MacAddress, NeighbourQuestion, Port};

const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// A host with an address of each family at a port of this VLAN.
fn host(vlan: Option<u16>) -> Host {
    let mut host = Host::new(Seed::from_bytes([7; 16]));
    let port = Port::ethernet(OWN, 1_500);
    let port = host.add_port(vlan.map_or(port, |vlan| port.with_vlan(vlan))).unwrap();
    for (own, prefix) in [("10.0.0.1", 24), ("2001:db8::1", 64)] {
        host.add_address(port, own.parse().unwrap(), prefix).unwrap();
    }
    host
}

/// What the host has to send at a moment, as questions.
fn questions(host: &mut Host, now: u64) -> Vec<Option<NeighbourQuestion>> {
    let mut buffer = [0; OWN_BUFFER];
    let mut all = Vec::new();
    while let Some(frame) = host.poll_transmit(Tick::from_millis(now), &mut buffer) {
        all.push(NeighbourQuestion::of(&frame));
    }
    all
}

#[test]
fn a_question_for_a_neighbour_that_is_not_known_goes_to_all() {
    for vlan in [None, Some(100)] {
        for neighbour in ["10.0.0.7", "2001:db8::7"] {
            let neighbour: IpAddr = neighbour.parse().unwrap();
            let mut host = host(vlan);
            host.look_for(Tick::ZERO, neighbour);
            let asked = questions(&mut host, 0);
            let [Some(to_all)] = asked[..] else { panic!("{asked:?}") };
            assert_eq!((to_all.port, to_all.target), (PortId(0), neighbour));
            assert_eq!(to_all.to.0[0] & 1, 1, "all are asked");
        }
    }
}

#[test]
fn announcements_and_questions_whether_an_own_address_is_in_use_are_no_questions_for_neighbours() {
    let mut host = host(None);
    host.announce_all(Tick::ZERO);
    let mut frames = 0;
    for now in (0..5_000).step_by(10) {
        let told = questions(&mut host, now);
        frames += told.len();
        assert!(told.iter().all(Option::is_none), "{told:?}");
    }
    // Three announcements and a question of each address.
    assert_eq!(frames, 8);
}
