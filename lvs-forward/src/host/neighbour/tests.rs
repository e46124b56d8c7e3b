//! What a table of neighbours promises.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lvs_core::{Family, Seed};

use super::questions::Query;
use super::*;
use crate::frame::HEADROOM;

const PORT: PortId = PortId(0);
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

fn at(secs: u64) -> Tick {
    Tick::from_millis(secs * 1_000)
}

fn ms(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn table(neighbours: usize) -> Neighbours {
    Neighbours::new(Key::new(Seed::from_bytes([3; 16])), NeighbourMemory::owned(neighbours, 4, 8, 4))
}

fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

fn bits(number: u16) -> u128 {
    to_bits(address(number))
}

/// A neighbour that was asked for, and has answered.
fn proved(table: &mut Neighbours, now: Tick, number: u16) {
    table.resolve(now, PORT, bits(number), false);
    assert!(drain(table, now).iter().any(|query| query.target == address(number)), "it is asked for");
    table.learn(now, PORT, address(number), MAC, false);
    assert_eq!(table.resolve(now, PORT, bits(number), false), Resolution::Known(MAC));
}

fn drain(table: &mut Neighbours, now: Tick) -> alloc::vec::Vec<Query> {
    core::iter::from_fn(|| table.poll(now)).collect()
}

/// A packet for a neighbour that is being asked for. Says whether it waits.
fn push(table: &mut Neighbours, number: u16) -> bool {
    let mut bytes = [0; HEADROOM + 40];
    let frame = Frame::new(&mut bytes, HEADROOM, HEADROOM + 40, PORT).unwrap();
    table.wait(&frame, Family::V4, PORT, bits(number)).is_some()
}

#[test]
fn three_questions_a_second_apart_then_silence() {
    let mut table = table(16);
    assert_eq!(table.resolve(at(0), PORT, bits(1), false), Resolution::Pending);
    assert!(push(&mut table, 1) && push(&mut table, 1) && !push(&mut table, 1), "two wait for one neighbour");
    for secs in 0..3 {
        let query = table.poll(at(secs)).unwrap();
        assert_eq!(query, Query { port: PORT, target: address(1), known: None });
        assert_eq!(table.poll(at(secs)), None);
        assert_eq!(table.poll_at(), Some(at(secs + 1)));
    }
    assert_eq!(table.take_lost(), Lost::default());
    assert_eq!(table.poll(at(3)), None);
    assert_eq!(table.take_lost(), Lost { failed: 2, pending: 0 });
    assert_eq!(table.poll_at(), None);
    assert_eq!(table.resolve(at(4), PORT, bits(1), false), Resolution::Failed);
    assert_eq!(table.resolve(at(8), PORT, bits(1), false), Resolution::Pending);
}

#[test]
fn a_port_with_another_link_behind_it_has_its_neighbours_asked_for_anew() {
    let mut table = table(16);
    proved(&mut table, at(0), 1);
    table.resolve(at(0), PORT, bits(2), false);
    for secs in 0..4 {
        drain(&mut table, at(secs));
    }
    assert_eq!(table.resolve(at(4), PORT, bits(2), false), Resolution::Failed);
    table.set(PORT, address(3), MAC).unwrap();
    table.flush(at(4), PortId(1));
    assert_eq!(table.resolve(at(4), PORT, bits(1), false), Resolution::Known(MAC), "another port's");
    table.flush(at(4), PORT);
    assert_eq!(table.known(PORT, address(1)), None);
    assert_eq!(table.resolve(at(4), PORT, bits(3), false), Resolution::Known(MAC), "a configured one");
    for number in [1, 2] {
        assert_eq!(table.resolve(at(4), PORT, bits(number), false), Resolution::Pending);
        assert!(push(&mut table, number), "packets wait for the answer");
    }
    let asked = drain(&mut table, at(4));
    assert_eq!(asked.iter().map(|query| query.known).collect::<alloc::vec::Vec<_>>(), [None, None]);
}

#[test]
fn a_used_neighbour_is_asked_again_before_it_is_doubted() {
    let mut table = table(16);
    table.learn(at(0), PORT, address(1), MAC, false);
    assert_eq!(table.known(PORT, address(1)), None, "nobody asked");
    table.resolve(at(0), PORT, bits(1), false);
    assert!(push(&mut table, 1));
    drain(&mut table, at(0));
    table.learn(at(0), PORT, address(1), MAC, false);
    assert!(table.any_ready());
    assert_eq!(table.resolve(at(29), PORT, bits(1), false), Resolution::Known(MAC));
    assert_eq!(table.poll(at(29)), None);
    assert_eq!(table.resolve(at(31), PORT, bits(1), false), Resolution::Known(MAC));
    assert_eq!(table.poll(at(31)).unwrap().known, Some(MAC));
    table.learn(at(31), PORT, address(1), MAC, false);
    assert_eq!(table.poll(at(40)), None);
}

#[test]
fn a_neighbour_that_only_spoke_of_itself_is_asked_when_it_is_used() {
    let mut table = table(16);
    table.learn(at(0), PORT, address(1), MAC, true);
    assert_eq!(table.poll_at(), None, "not before");
    assert_eq!(table.resolve(at(1), PORT, bits(1), false), Resolution::Known(MAC));
    assert_eq!(table.poll(at(1)).unwrap().known, Some(MAC));
}

#[test]
fn a_neighbour_that_speaks_of_itself_again_takes_no_question_back() {
    let mut table = table(16);
    table.learn(at(0), PORT, address(1), MAC, true);
    assert_eq!(table.resolve(at(1), PORT, bits(1), false), Resolution::Known(MAC));
    // Before the question leaves, it says the same again, as a stranger could in its name.
    table.learn(at(1), PORT, address(1), MAC, false);
    assert_eq!(drain(&mut table, at(1)).len(), 1, "it is asked all the same");
    // That is an answer, and nothing more is asked.
    table.learn(at(1), PORT, address(1), MAC, false);
    assert_eq!(table.resolve(at(2), PORT, bits(1), false), Resolution::Known(MAC));
    assert_eq!(drain(&mut table, at(4)), []);
}

#[test]
fn a_neighbour_that_falls_silent_is_looked_for_among_all_again() {
    let mut table = table(16);
    proved(&mut table, at(0), 1);
    let before = table.changes();
    table.resolve(at(31), PORT, bits(1), false);
    for secs in 31..34 {
        assert_eq!(table.poll(at(secs)).unwrap().known, Some(MAC));
    }
    assert_eq!(table.changes(), before);
    assert_eq!(table.poll(at(34)).unwrap().known, None);
    assert_ne!(table.changes(), before, "a way that was known is so no longer");
    assert_eq!(table.resolve(at(34), PORT, bits(1), false), Resolution::Pending);
}

#[test]
fn a_flood_of_strangers_evicts_no_configured_neighbour() {
    let mut table = table(16);
    table.set(PORT, address(1), MAC).unwrap();
    for stranger in 2..=255 {
        table.learn(at(1), PORT, address(stranger), MacAddress([2; 6]), true);
    }
    assert_eq!(table.resolve(at(2), PORT, bits(1), false), Resolution::Known(MAC));
    table.learn(at(2), PORT, address(1), MacAddress([2; 6]), true);
    assert_eq!(table.resolve(at(2), PORT, bits(1), false), Resolution::Known(MAC));
}

#[test]
fn ports_do_not_share_neighbours() {
    let mut table = table(16);
    table.learn(at(0), PORT, address(1), MAC, true);
    assert_eq!(table.resolve(at(0), PortId(1), bits(1), false), Resolution::Pending);
}

#[test]
fn as_many_neighbours_as_there_are_places_are_all_known() {
    let mut table = table(4_096);
    for number in 0..4_096 {
        assert_eq!(table.want(at(0), PORT, bits(number), false), Resolution::Pending, "{number}");
    }
    assert_eq!(table.want(at(0), PORT, bits(4_096), false), Resolution::Full);
    let (mut now, mut most) = (ms(0), 0);
    while let Some(due) = table.poll_at().filter(|_| now < ms(900)) {
        now = due.max(now).plus_millis(1);
        let queries = drain(&mut table, now);
        most = most.max(queries.len());
        for query in queries {
            table.learn(now, PORT, query.target, MAC, false);
        }
    }
    assert!(most <= 64, "{most} questions at once");
    assert!(
        (0..4_096).all(|number| table.known(PORT, address(number)) == Some(MAC)),
        "asked within a second"
    );
}

#[test]
fn strangers_wait_for_their_questions_and_servers_do_not() {
    let mut table = table(1_024);
    let asked =
        (0..1_024).filter(|&number| table.resolve(at(1), PORT, bits(number), false) == Resolution::Pending);
    assert_eq!(asked.count(), 256, "what cannot be asked soon is refused at once");
    drain(&mut table, at(1));
    assert_eq!(table.want(ms(1_001), PORT, bits(2_000), false), Resolution::Pending);
    assert_eq!(
        table.poll(ms(1_001)).unwrap().target,
        address(2_000),
        "the server's comes before all of them"
    );
    let next = drain(&mut table, ms(1_011)).len();
    assert!(next <= 22, "{next} questions of strangers' in 10 ms");
}

#[test]
fn a_stranger_becomes_a_server_and_is_asked_at_once() {
    let mut table = table(1_024);
    for number in 0..200 {
        table.resolve(at(1), PORT, bits(number), false);
    }
    drain(&mut table, at(1));
    table.want(at(1), PORT, bits(199), false);
    assert_eq!(table.poll(at(1)).unwrap().target, address(199));
}

#[test]
fn strangers_leave_servers_places_to_wait_in() {
    let mut table = table(16);
    for number in 0..4 {
        table.resolve(at(0), PORT, bits(number), false);
    }
    assert!(push(&mut table, 0) && push(&mut table, 1), "half of the places");
    assert!(!push(&mut table, 2));
    table.want(at(0), PORT, bits(9), false);
    table.want(at(0), PORT, bits(10), false);
    assert!(push(&mut table, 9) && push(&mut table, 9));
    assert!(push(&mut table, 10), "in the place of the oldest stranger's");
    assert_eq!(table.take_lost(), Lost { failed: 0, pending: 1 });
    let mut buffer = [0; HEADROOM + 2_048];
    for (number, ready) in [(0, 0), (1, 1), (9, 2), (10, 1)] {
        table.learn(at(0), PORT, address(number), MAC, false);
        let popped = core::iter::from_fn(|| table.pop_ready(&mut buffer, HEADROOM).map(|_| ())).count();
        assert_eq!(popped, ready, "{number}");
    }
}

#[test]
fn a_displaced_neighbour_takes_its_waiting_packets_along_as_counted_drops() {
    let mut table = table(4);
    table.resolve(at(0), PORT, bits(1), false);
    assert!(push(&mut table, 1) && push(&mut table, 1));
    drain(&mut table, at(0));
    for number in 2..=5 {
        table.learn(at(0), PORT, address(number), MAC, true);
    }
    assert_eq!(table.take_lost(), Lost { failed: 0, pending: 2 });
    table.resolve(at(0), PORT, bits(6), false);
    assert!(push(&mut table, 6));
    assert!(table.remove(PORT, address(6)).is_some());
    assert_eq!(table.take_lost(), Lost { failed: 0, pending: 1 });
}

#[test]
fn what_a_route_leads_by_gives_way_only_when_it_does_so_no_longer() {
    let mut table = table(4);
    table.resolve(at(0), PORT, bits(0), true);
    table.learn(at(0), PORT, address(0), MAC, false);
    let flood = |table: &mut Neighbours, now, from: u16| {
        for number in from..from + 100 {
            table.learn(now, PORT, address(number), MAC, true);
        }
    };
    flood(&mut table, at(10_000), 1_000);
    assert_eq!(table.known(PORT, address(0)), Some(MAC));
    table.set_gateway(PORT, bits(0), false);
    flood(&mut table, at(20_000), 2_000);
    assert_eq!(table.known(PORT, address(0)), None);
}

#[test]
fn a_server_that_nobody_looks_for_any_more_makes_room_in_the_end() {
    let mut table = table(4);
    for number in 0..4 {
        table.want(at(0), PORT, bits(number), false);
    }
    assert_eq!(table.want(at(100), PORT, bits(9), false), Resolution::Full);
    assert_eq!(table.resolve(at(100), PORT, bits(9), false), Resolution::Full);
    assert_eq!(table.want(at(4_000), PORT, bits(9), false), Resolution::Pending);
}

/// What strangers can do to a table.
#[derive(Clone, Copy, Debug)]
enum Stranger {
    /// A packet goes to somebody on the link who may not be there: a reply to a forged source, or a routed packet.
    Asked,
    /// Somebody speaks of himself, as an ARP request or a solicitation does.
    Heard,
    /// Somebody speaks of himself, and then a packet goes there.
    HeardAndAsked,
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// The law, for tables of any size: strangers displace no real server, no gateway, and nothing that is in use.
    #[test]
    fn strangers_displace_nothing_that_is_in_use(
        bound in 8_usize..300,
        rates in proptest::collection::vec((0_u8..3, 1_u64..20), 1..4),
    ) {
        let mut table = table(bound);
        let mut now = at(1);
        table.want(now, PORT, bits(1), false);
        table.resolve(now, PORT, bits(2), true);
        drain(&mut table, now);
        table.learn(now, PORT, address(1), MAC, false);
        table.learn(now, PORT, address(2), MAC, false);
        proved(&mut table, now, 3);
        let kinds = [Stranger::Asked, Stranger::Heard, Stranger::HeardAndAsked];
        let mut number = 100_u16;
        for step in 0..3_000_u64 {
            now = now.plus_millis(1);
            for &(kind, rate) in &rates {
                for _ in 0..rate {
                    number = number.wrapping_add(1).max(100);
                    let (kind, who) = (kinds[usize::from(kind)], bits(number));
                    if !matches!(kind, Stranger::Asked) {
                        table.learn(now, PORT, address(number), MacAddress([6; 6]), true);
                    }
                    if !matches!(kind, Stranger::Heard) {
                        table.resolve(now, PORT, who, false);
                        push(&mut table, number);
                    }
                }
            }
            // Its three answer whatever they are asked.
            for query in drain(&mut table, now) {
                if [1, 2, 3].map(address).contains(&query.target) {
                    table.learn(now, PORT, query.target, MAC, false);
                }
            }
            if step % 500 == 0 {
                // The server and the gateway are idle meanwhile; the third one is used twice a second.
                proptest::prop_assert_eq!(table.resolve(now, PORT, bits(3), false), Resolution::Known(MAC));
            }
            for known in [1, 2, 3] {
                proptest::prop_assert_eq!(table.known(PORT, address(known)), Some(MAC));
            }
            table.grow_if_short();
        }
        // And one that speaks for the first time now is served: it is there, so it answers.
        if rates.iter().all(|(kind, _)| *kind != 0) {
            table.learn(now, PORT, address(50), MAC, true);
            proptest::prop_assert_eq!(table.resolve(now, PORT, bits(50), false), Resolution::Known(MAC));
        }
    }

    /// Books of packets that wait: each has left, is lost by a counted reason, or waits still.
    #[test]
    fn every_packet_that_waited_is_accounted_for(
        steps in proptest::collection::vec((0_u8..7, 0_u16..12, 0_u64..700), 1..300),
    ) {
        let mut table = table(6);
        let (mut now, mut waited, mut left) = (at(1), 0, 0);
        let mut lost = Lost::default();
        let mut buffer = [0; HEADROOM + 2_048];
        for (step, number, pause) in steps.iter().copied().chain([(6, 0, 4_000); 4]) {
            match step {
                0 => _ = table.resolve(now, PORT, bits(number), number % 4 == 0),
                1 => _ = table.want(now, PORT, bits(number), false),
                2 | 3 => waited += u64::from(push(&mut table, number)),
                4 => table.learn(now, PORT, address(number), MAC, number % 2 == 0),
                5 => _ = table.remove(PORT, address(number)),
                _ => now = now.plus_millis(pause),
            }
            drain(&mut table, now);
            if step != 2 {
                while table.pop_ready(&mut buffer, HEADROOM).is_some() {
                    left += 1;
                }
            }
            let more = table.take_lost();
            (lost.failed, lost.pending) = (lost.failed + more.failed, lost.pending + more.pending);
        }
        proptest::prop_assert_eq!(waited, left + lost.failed + lost.pending);
    }
}
