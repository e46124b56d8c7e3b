//! A world in a box: clients, a director and real servers on virtual links, with a virtual clock. Nobody knows
//! anybody's link-layer address at the start; every method has to carry a whole exchange.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../oracle/mod.rs"]
mod oracle;

mod net;
mod peer;

use core::net::IpAddr;

use lvs_core::{Method, Tunnel};
use net::{Plan, World};
use peer::Progress;

const TUNNELS: [Tunnel; 5] = [
    Tunnel::IpIp,
    Tunnel::Gre { checksum: false },
    Tunnel::Gre { checksum: true },
    Tunnel::Gue { port: 6_080, checksum: false },
    Tunnel::Gue { port: 6_080, checksum: true },
];

fn methods() -> Vec<Method> {
    let mut methods = vec![Method::Nat, Method::Direct];
    methods.extend(TUNNELS.map(Method::Tunnel));
    methods
}

#[test]
fn every_method_carries_an_exchange() {
    for method in methods() {
        for v6 in [false, true] {
            let mut world = World::new(&Plan { v6, ..Plan::of(method) });
            world.run(20);
            assert_eq!(world.progress(), Progress::Done, "{method:?}, IPv6 {v6}");
        }
    }
}

#[test]
fn tunnels_cross_the_families() {
    for tunnel in TUNNELS {
        for v6 in [false, true] {
            let plan = Plan { v6, servers_v6: Some(!v6), ..Plan::of(Method::Tunnel(tunnel)) };
            let mut world = World::new(&plan);
            world.run(20);
            assert_eq!(world.progress(), Progress::Done, "{tunnel:?}, IPv6 {v6}");
        }
    }
}

#[test]
fn a_packet_over_the_mtu_gets_its_error_and_the_exchange_recovers() {
    for method in [Method::Nat, Method::Tunnel(Tunnel::IpIp), Method::Tunnel(Tunnel::Gre { checksum: true })]
    {
        for v6 in [false, true] {
            let mut world = World::new(&Plan { v6, upload: 6_000, server_mtu: 1_400, ..Plan::of(method) });
            world.run(20);
            assert_eq!(world.progress(), Progress::Done, "{method:?}, IPv6 {v6}");
            assert!(world.client_was_told_to_shrink(), "{method:?}, IPv6 {v6}");
        }
    }
}

#[test]
fn an_mtu_that_changes_while_it_runs_counts_for_the_next_packet() {
    for (from, to) in [(1_500, 1_400), (1_400, 1_500), (1_400, 9_000)] {
        for v6 in [false, true] {
            let plan = Plan { v6, upload: 6_000, server_mtu: from, ..Plan::of(Method::Nat) };
            let mut world = World::new(&plan);
            // Its ways are remembered by now, and must be forgotten.
            world.run(1);
            let told = world.client_was_told_to_shrink();
            world.set_server_mtu(to);
            world.restart_client();
            world.run(20);
            assert_eq!(world.progress(), Progress::Done, "from {from} to {to}, IPv6 {v6}");
            assert_eq!(told, from < 1_500, "from {from} to {to}, IPv6 {v6}");
            assert_eq!(
                world.client_was_told_to_shrink(),
                told || to < from,
                "from {from} to {to}, IPv6 {v6}"
            );
        }
    }
}

#[test]
fn packets_without_df_are_fragmented_instead() {
    for method in methods().into_iter().filter(|method| *method != Method::Direct) {
        let plan = Plan { upload: 6_000, server_mtu: 1_400, dont_fragment: false, ..Plan::of(method) };
        let mut world = World::new(&plan);
        world.run(20);
        assert_eq!(world.progress(), Progress::Done, "{method:?}");
        assert!(!world.client_was_told_to_shrink(), "{method:?}");
        assert!(world.fragments() > 0, "{method:?}");
    }
}

#[test]
fn merged_frames_reach_the_servers_in_segments() {
    for method in methods() {
        for v6 in [false, true] {
            let plan = Plan { v6, upload: 40_000, merged: true, ..Plan::of(method) };
            let mut world = World::new(&plan);
            world.run(20);
            assert_eq!(world.progress(), Progress::Done, "{method:?}, IPv6 {v6}");
        }
    }
}

#[test]
fn a_silent_server_is_reported_to_the_client() {
    for v6 in [false, true] {
        let mut world = World::new(&Plan { v6, silent_server: true, ..Plan::of(Method::Nat) });
        world.run(30);
        assert_eq!(world.progress(), Progress::Unreachable, "IPv6 {v6}");
    }
}

#[test]
fn announcements_move_a_virtual_address_to_a_new_director() {
    for v6 in [false, true] {
        let mut world = World::new(&Plan { v6, stale_client: true, ..Plan::of(Method::Direct) });
        world.announce();
        world.run(20);
        assert_eq!(world.progress(), Progress::Done, "IPv6 {v6}");
    }
    let mut world = World::new(&Plan { stale_client: true, ..Plan::of(Method::Direct) });
    world.run(5);
    assert_eq!(world.progress(), Progress::Underway, "without them the client talks to the old one");
}

#[test]
fn a_neighbour_is_asked_for_again_while_it_is_used() {
    let mut world = World::new(&Plan::of(Method::Direct));
    world.run(10);
    assert_eq!(world.progress(), Progress::Done);
    let asked = world.questions();
    world.restart_client();
    world.run(60);
    assert_eq!(world.progress(), Progress::Done);
    world.restart_client();
    world.run(10);
    assert!(world.questions() > asked, "half a minute later the director makes sure");
    assert_eq!(world.progress(), Progress::Done);
}

/// The virtual address that every client speaks to.
fn virtual_address(v6: bool) -> IpAddr {
    if v6 { "2001:db8:99::1" } else { "10.99.0.1" }.parse().unwrap()
}
