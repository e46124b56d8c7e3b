//! Servers that failures hold back: their weight counts as 0 for a time, and nothing else about them changes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::config::Capacity;
use lvs_core::pick::{Client, FailurePolicy, Outcome, Picker};
use lvs_core::service::Persistence;
use lvs_core::*;
use support::*;

const LATER: Tick = Tick::from_millis(10_000);

/// Two servers of Maglev, of which the first is held back for ten seconds.
fn held_back(service: ServiceConfig) -> (Picker<Heap>, ServerId) {
    let mut picker = Picker::new(config(), Heap::with_capacity(256));
    picker.set_failure_policy(Some(FailurePolicy::new(1, 10)));
    picker.add_service(WEB, service).unwrap();
    let bad = picker.add_server(WEB, server(1, Method::Direct, 3)).unwrap();
    picker.add_server(WEB, server(2, Method::Direct, 1)).unwrap();
    fail(&mut picker, Tick::ZERO, bad);
    assert!(is_held_back(&picker, bad));
    (picker, bad)
}

fn fail(picker: &mut Picker<Heap>, now: Tick, server: ServerId) {
    picker.observe(now, server, Outcome::Failure).unwrap();
}

fn is_held_back(picker: &Picker<Heap>, server: ServerId) -> bool {
    let server = picker.director().server(server).unwrap();
    assert_eq!(server.held_back_until().is_some(), !server.is_usable());
    server.held_back_until().is_some()
}

fn drained(picker: &mut Picker<Heap>) -> Vec<ServerId> {
    core::iter::from_fn(|| picker.poll_server()).filter(|news| news.drained).map(|news| news.server).collect()
}

#[test]
fn a_server_that_is_held_back_is_not_drained() {
    let (mut picker, bad) = held_back(scheduler("rr"));
    assert_eq!(drained(&mut picker), [], "nobody quiesced it");
    // Its last connection ends meanwhile.
    picker.set_failure_policy(None);
    let picks = [1, 2].map(|user| picker.pick(Tick::ZERO, &WEB, Client::Key(user)).unwrap());
    picker.set_failure_policy(Some(FailurePolicy::new(1, 10)));
    fail(&mut picker, Tick::ZERO, bad);
    picks.into_iter().for_each(|pick| picker.release(Tick::ZERO, pick));
    assert!(is_held_back(&picker, bad));
    assert_eq!(drained(&mut picker), []);
    // Who quiesces it is told at once, and once.
    picker.edit_server(WEB, server(1, Method::Direct, 0)).unwrap();
    assert_eq!(drained(&mut picker), [bad]);
    picker.sweep(LATER, 1);
    assert_eq!(picker.director().server(bad).unwrap().held_back_until(), None);
    assert_eq!(drained(&mut picker), []);
}

#[test]
fn the_last_weight_is_the_one_that_was_configured_last() {
    let (mut picker, bad) = held_back(scheduler("mh"));
    let weights = |picker: &Picker<Heap>| {
        let server = picker.director().server(bad).unwrap();
        (server.weight(), server.last_weight())
    };
    assert_eq!(weights(&picker), (0, 3));
    picker.edit_server(WEB, server(1, Method::Direct, 5)).unwrap();
    assert_eq!(weights(&picker), (0, 5));
    picker.sweep(LATER, 1);
    assert_eq!(weights(&picker), (5, 5));
}

#[test]
fn persistence_sends_nobody_to_a_server_that_is_held_back() {
    let persistent = || scheduler("rr").with_persistence(Persistence::new(60));
    let (mut picker, bad) = held_back(persistent());
    picker.set_failure_policy(None);
    let client = |number| Client::Address([192, 0, 2, number].into());
    let of_bad = (1..=2).find(|&number| {
        let pick = picker.pick(Tick::ZERO, &WEB, client(number)).unwrap();
        let server = pick.server();
        picker.release(Tick::ZERO, pick);
        server == bad
    });
    picker.set_failure_policy(Some(FailurePolicy::new(1, 10)));
    fail(&mut picker, Tick::ZERO, bad);
    for now in [Tick::ZERO, LATER] {
        let pick = picker.pick(now, &WEB, client(of_bad.unwrap())).unwrap();
        assert_ne!(pick.server(), bad, "the client has a server again, and keeps it");
        picker.release(now, pick);
    }
}

#[test]
fn no_share_takes_the_last_server() {
    for share in [99, 100, u8::MAX] {
        let (mut picker, bad) = held_back(scheduler("rr"));
        picker.set_failure_policy(Some(FailurePolicy::new(1, 10).with_share(share)));
        let all: Vec<_> = picker.director().servers(WEB).map(|(id, _)| id).collect();
        all.iter().for_each(|&id| fail(&mut picker, Tick::ZERO, id));
        assert_eq!(all.iter().filter(|&&id| is_held_back(&picker, id)).count(), 1, "{share}");
        assert!(is_held_back(&picker, bad));
    }
}

#[test]
fn without_a_policy_nobody_is_on_trial() {
    let (mut picker, bad) = held_back(scheduler("rr"));
    picker.set_failure_policy(None);
    picker.set_failure_policy(Some(FailurePolicy::new(2, 10)));
    fail(&mut picker, Tick::ZERO, bad);
    assert!(!is_held_back(&picker, bad), "the first of two failures");
    fail(&mut picker, Tick::ZERO, bad);
    assert_eq!(picker.director().server(bad).unwrap().held_back_until(), Some(LATER), "for the first time");
}

#[test]
fn each_comes_back_in_its_own_time_whoever_was_removed_meanwhile() {
    let mut capacity = Capacity::new(64);
    capacity.servers = 6;
    let mut picker: Picker<Heap> = Picker::new(config(), Heap::new(capacity));
    picker.set_failure_policy(Some(FailurePolicy::new(1, 10).with_share(99)));
    picker.add_service(WEB, scheduler("rr")).unwrap();
    let add = |picker: &mut Picker<Heap>, number| {
        picker.add_server(WEB, server(number, Method::Direct, 1)).unwrap()
    };
    let all = [1, 2, 3, 4, 5, 6].map(|number| add(&mut picker, number));
    for (id, secs) in all.into_iter().zip(0..5) {
        fail(&mut picker, Tick::ZERO.plus_secs(secs), id);
    }
    // One comes back to its place, the place of the other goes to a third one, and the first is held back again.
    for number in [2, 3] {
        picker.remove_server(WEB, address(number)).unwrap();
    }
    let again = add(&mut picker, 2);
    assert!(again == all[1] && !is_held_back(&picker, again));
    let third = add(&mut picker, 7);
    assert!(third == all[2] && !is_held_back(&picker, third));
    fail(&mut picker, Tick::ZERO.plus_secs(6), again);
    let held = |picker: &Picker<Heap>| -> Vec<u8> {
        let of = |(_, server): (_, &service::Server)| {
            let number = (1..=9).find(|&number| address(number) == server.address());
            number.filter(|_| server.held_back_until().is_some())
        };
        let mut held: Vec<u8> = picker.director().servers(WEB).filter_map(of).collect();
        held.sort_unstable();
        held
    };
    let expected: [(u64, &[u8]); 7] = [
        (9, &[1, 2, 4, 5]),
        (10, &[2, 4, 5]),
        (12, &[2, 4, 5]),
        (13, &[2, 5]),
        (14, &[2]),
        (15, &[2]),
        (16, &[]),
    ];
    for (secs, expected) in expected {
        picker.sweep(Tick::ZERO.plus_secs(secs), 1);
        assert_eq!(held(&picker), expected, "after {secs} s");
    }
}

/// The place of a server that was held back goes to another one, and both are in no chain twice.
#[test]
fn a_place_that_changes_its_server_holds_nobody_back() {
    let mut capacity = Capacity::new(64);
    capacity.servers = 3;
    let mut picker: Picker<Heap> = Picker::new(config(), Heap::new(capacity));
    picker.set_failure_policy(Some(FailurePolicy::new(1, 10).with_share(99)));
    picker.add_service(WEB, scheduler("rr")).unwrap();
    let mut now = Tick::ZERO;
    for round in 0..20_u8 {
        let ids = [1, 2, 3]
            .map(|number| picker.add_server(WEB, server(number + 3 * round, Method::Direct, 1)).unwrap());
        assert!(ids.iter().all(|&id| !is_held_back(&picker, id)));
        fail(&mut picker, now, ids[usize::from(round % 3)]);
        fail(&mut picker, now, ids[usize::from((round + 1) % 3)]);
        assert_eq!(ids.iter().filter(|&&id| is_held_back(&picker, id)).count(), 2);
        now = now.plus_secs(u64::from(round % 2) * 11);
        picker.sweep(now, 1);
        let left = if round % 2 == 1 { 0 } else { 2 };
        assert_eq!(ids.iter().filter(|&&id| is_held_back(&picker, id)).count(), left, "{round}");
        for number in 1..=3 {
            picker.remove_server(WEB, address(number + 3 * round)).unwrap();
        }
    }
}
