//! What goes past a director counts as what it decides itself does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::conn::Offloaded;
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];
const PORT: u16 = 4_000;

/// A director with one established connection by this method.
fn start<S: Store<Scheduler = Scheduler>>(make: impl Fn() -> Director<S>, method: Method) -> Director<S> {
    let mut director = make();
    director.add_service(WEB, scheduler("rr")).unwrap();
    director.add_server(WEB, server(1, method, 1)).unwrap();
    forwarded(director.decide(at(0), &asks(SYN), Inspected::Nothing)).unwrap();
    if method.sees_replies() {
        let both = Content::Tcp(TcpFlags::SYN.with(TcpFlags::ACK));
        forwarded(director.decide(at(0), &answers(both), Inspected::Nothing)).unwrap();
    }
    forwarded(director.decide(at(0), &asks(ACK), Inspected::Nothing)).unwrap();
    director
}

fn at(secs: u64) -> Tick {
    Tick::ZERO.plus_secs(secs)
}

fn asks(content: Content) -> Packet {
    request(WEB, CLIENT, PORT, content)
}

fn answers(content: Content) -> Packet {
    answer(Protocol::Tcp, 1, CLIENT, PORT, content)
}

/// All that a listing shows.
fn shown<S: Store<Scheduler = Scheduler>>(director: &Director<S>, now: Tick) -> String {
    let services: Vec<_> = director.services().map(|service| service.meter().live()).collect();
    let servers: Vec<_> =
        director.servers(WEB).map(|(_, server)| (server.active(), server.meter().live())).collect();
    let connections: Vec<_> = director.connections(now).collect();
    format!("{services:?} {servers:?} {connections:?} {:?}", director.counters())
}

fn packets_that_pass_by_count_as_decided_ones<S: Store<Scheduler = Scheduler>>(
    make: impl Fn() -> Director<S> + Copy,
) {
    for (method, packet) in [
        (Method::Nat, asks(ACK)),
        (Method::Nat, answers(ACK)),
        (Method::Direct, asks(ACK)),
        (Method::Tunnel(Tunnel::IpIp), asks(ACK)),
    ] {
        let (mut decides, mut counts) = (start(make, method), start(make, method));
        let mut last = None;
        for _ in 0..1_000 {
            last = forwarded(decides.decide(at(5), &packet, Inspected::Nothing));
        }
        let passed = Offloaded { packets: 1_000, bytes: 1_000 * u64::from(packet.length) };
        assert_eq!(counts.account_offloaded(at(5), &packet, None, passed), last, "{method:?}");
        assert!(last.is_some());
        assert_eq!(shown(&counts, at(6)), shown(&decides, at(6)), "{method:?}");
        // Bytes may be told after their packet.
        let (mut late, halves) = (start(make, method), [(1_000, 0), (0, passed.bytes)]);
        for (packets, bytes) in halves {
            assert_eq!(late.account_offloaded(at(5), &packet, None, Offloaded { packets, bytes }), last);
        }
        assert_eq!(shown(&late, at(6)), shown(&decides, at(6)), "{method:?}");
        // Nothing passed: nothing changes, the deadline neither.
        assert_eq!(counts.account_offloaded(at(9), &packet, None, Offloaded::default()), last);
        assert_eq!(shown(&counts, at(9)), shown(&decides, at(9)), "{method:?}");
    }
}

fn nothing_passes_by_that_the_director_has_to_see<S: Store<Scheduler = Scheduler>>(
    make: impl Fn() -> Director<S> + Copy,
) {
    let passes = |director: &mut Director<S>| {
        director.account_offloaded(at(1), &asks(ACK), None, Offloaded::default()).is_some()
    };
    let mut director = start(make, Method::Nat);
    assert!(passes(&mut director));
    for content in [SYN, FIN, RST] {
        assert_eq!(
            director.account_offloaded(at(1), &asks(content), None, Offloaded::default()),
            None,
            "{content:?}"
        );
    }
    director.set_sync_role(true, false);
    assert!(!passes(&mut director), "a master counts packets one by one");
    director.set_sync_role(false, false);
    assert!(passes(&mut director));
    forwarded(director.decide(at(1), &asks(FIN), Inspected::Nothing)).unwrap();
    assert!(!passes(&mut director), "it is being closed");

    let mut director = start(make, Method::Nat);
    director.remove_server(WEB, address(1)).unwrap();
    assert!(!passes(&mut director), "its real server is gone");
    assert_eq!(director.account_offloaded(at(1), &answers(ACK), None, Offloaded::default()), None);

    let mut director = start(make, Method::Direct);
    assert_eq!(
        director.account_offloaded(at(1), &answers(ACK), None, Offloaded::default()),
        None,
        "no such replies"
    );
    assert_eq!(
        director.account_offloaded(at(100_000), &asks(ACK), None, Offloaded { packets: 1, bytes: 60 }),
        None,
        "expired"
    );
}

fn what_passed_by_counts_for_the_server_that_got_it<S: Store<Scheduler = Scheduler>>(
    make: impl Fn() -> Director<S> + Copy,
) {
    let mut director = start(make, Method::Nat);
    let known = director.account_offloaded(at(1), &asks(ACK), None, Offloaded::default()).unwrap();
    let passed = Offloaded { packets: 7, bytes: 7_000 };
    assert!(director.account_offloaded(at(1), &asks(ACK), Some(&known), passed).is_some());
    // The client ends it and uses its port again; it is the other server's turn.
    director.add_server(WEB, server(2, Method::Nat, 1)).unwrap();
    director.edit_server(WEB, server(1, Method::Nat, 0)).unwrap();
    forwarded(director.decide(at(1), &asks(RST), Inspected::Nothing)).unwrap();
    let again = forwarded(director.decide(at(1), &asks(SYN), Inspected::Nothing)).unwrap();
    assert_ne!(again.server, known.server);
    let packets = |director: &Director<S>| -> Vec<u64> {
        director.servers(WEB).map(|(_, server)| server.meter().live().in_packets).collect()
    };
    let (before, listed) = (packets(&director), shown(&director, at(1)));
    assert!(director.account_offloaded(at(1), &asks(ACK), Some(&known), Offloaded::default()).is_none());
    assert_eq!(shown(&director, at(1)), listed, "nothing passed");
    assert!(director.account_offloaded(at(1), &asks(ACK), Some(&known), passed).is_none());
    let mut after = packets(&director);
    after.iter_mut().zip(&before).for_each(|(after, before)| *after -= before);
    after.sort_unstable();
    assert_eq!(after, [0, 7], "the server that got them, and no other");
    let counted = director.servers(WEB).find(|(id, _)| *id == known.server).unwrap().1;
    assert_eq!(counted.meter().live().in_bytes, 7_000 * 2 + 60 * 3);
}

fn what_passes_by_keeps_a_connection_alive<S: Store<Scheduler = Scheduler>>(
    make: impl Fn() -> Director<S> + Copy,
) {
    let mut director = start(make, Method::Nat);
    let longest = u64::from(config().timeouts.tcp);
    for round in 1..=4 {
        let now = at(round * (longest - 1));
        director.sweep(now, director.capacity());
        assert!(
            director.account_offloaded(now, &asks(ACK), None, Offloaded { packets: 1, bytes: 60 }).is_some(),
            "{round}"
        );
    }
    let now = at(5 * longest + 1);
    director.sweep(now, director.capacity());
    assert_eq!(director.counters().live, 0);
}

/// A test here compares several directors, so each body gets a maker of them, for a store with an allocator and one
/// without.
macro_rules! on_both_stores {
    ($($name:ident)+) => {$(
        mod $name {
            use lvs_core::{Director, Fixed, Heap, Scheduler};

            #[test]
            fn fixed() {
                super::$name(|| Director::new(super::config(), Fixed::<16, 2, 4, 16>::new()));
            }

            #[test]
            fn heap() {
                super::$name(|| Director::<Heap<Scheduler>>::new(super::config(), Heap::with_capacity(16)));
            }
        }
    )+};
}

on_both_stores! {
    packets_that_pass_by_count_as_decided_ones
    nothing_passes_by_that_the_director_has_to_see
    what_passed_by_counts_for_the_server_that_got_it
    what_passes_by_keeps_a_connection_alive
}
