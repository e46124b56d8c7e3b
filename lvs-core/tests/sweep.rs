//! The sweep in pieces: each is bounded, and together they come to the same as one sweep of everything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::*;
use proptest::prelude::*;
use support::*;

/// Entries that a piece may end: work is looked at between runs of 32.
const MOST: usize = 64;

fn director(capacity: usize, connections: u32, method: Method) -> Director<Heap> {
    let mut config = config();
    config.tuning.expire_nodest_conn = true;
    let mut director = Director::new(config, Heap::with_capacity(capacity));
    director.add_service(WEB, scheduler("rr")).unwrap();
    director.add_server(WEB, server(1, method, 1)).unwrap();
    director.add_server(WEB, server(2, method, 1)).unwrap();
    for number in 0..connections {
        let [.., high, low] = number.to_be_bytes();
        let content = if number % 3 == 0 { ACK } else { SYN };
        let packet = request(WEB, [192, 0, high, low], 1_000, content);
        let _ = director.decide(Tick::from_millis(u64::from(number)), &packet, Inspected::Nothing);
        if number % 5 == 0 {
            let _ = director.decide(
                Tick::from_millis(u64::from(number)),
                &request(WEB, [192, 0, high, low], 1_000, ACK),
                Inspected::Nothing,
            );
        }
    }
    director
}

#[test]
fn a_brief_sweep_of_a_table_in_which_all_has_expired_ends_soon_and_goes_on_where_it_was() {
    let mut director = director(10_000, 9_000, Method::Nat);
    let live = director.counters().live as usize;
    let late = Tick::ZERO.plus_secs(10_000);
    let (mut left, mut freed, mut pieces) = (10_000, 0, 0);
    while left > 0 {
        let swept = director.sweep_briefly(late, left);
        assert!(swept.slots > 0 && swept.slots <= left && swept.freed <= MOST, "{swept:?} of {left}");
        (left, freed, pieces) = (left - swept.slots, freed + swept.freed, pieces + 1);
    }
    assert_eq!((freed, director.counters().live), (live, 0));
    assert!(pieces >= live / MOST);
}

#[test]
fn a_brief_sweep_ends_few_connections_of_a_removed_server_at_a_time() {
    let mut director = director(10_000, 9_000, Method::Direct);
    let live = director.counters().live as usize;
    director.remove_server(WEB, address(1)).unwrap();
    let now = Tick::from_millis(9_000);
    let mut freed = 0;
    for _ in 0..10_000 {
        let swept = director.sweep_briefly(now, 100);
        assert!(swept.freed <= MOST, "{swept:?}");
        freed += swept.freed;
    }
    assert_eq!(freed, live.div_ceil(2));
}

#[test]
fn an_empty_table_is_swept_at_one_time() {
    let mut director = Director::new(config(), Heap::<Scheduler>::with_capacity(1 << 16));
    assert_eq!(director.sweep_briefly(Tick::ZERO, 1 << 16).slots, 1 << 16);
}

proptest! {
    #[test]
    fn pieces_free_what_one_sweep_frees(
        connections in 0_u32..700,
        moments in prop::collection::vec((0_u64..200_000, 1_usize..900), 1..8),
    ) {
        let mut whole = director(700, connections, Method::Nat);
        let mut pieces = director(700, connections, Method::Nat);
        let mut now = Tick::from_millis(700);
        for (wait, piece) in moments {
            now = now.plus_millis(wait);
            let freed = whole.sweep(now, 700);
            let (mut left, mut freed_too) = (700, 0);
            while left > 0 {
                let swept = pieces.sweep_briefly(now, piece.min(left));
                left -= swept.slots;
                freed_too += swept.freed;
            }
            prop_assert_eq!(freed, freed_too);
            prop_assert!(whole.connections(Tick::ZERO).eq(pieces.connections(Tick::ZERO)));
            let listed = whole.connections(now).count();
            prop_assert_eq!(listed, whole.counters().live as usize, "nothing that is over is left");
        }
    }
}
