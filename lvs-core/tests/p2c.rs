//! `p2c`: latency, connections and weights, as a proxy sees them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::pick::{Client, Outcome, Picker};
use lvs_core::*;
use support::*;

/// A picker with servers 1, 2, .. of these weights, and their ids.
fn picker(weights: &[u16]) -> (Picker<Heap>, Vec<ServerId>) {
    let mut picker = Picker::new(config(), Heap::with_capacity(16));
    picker.add_service(WEB, scheduler("p2c")).unwrap();
    let add = |(number, weight): (u8, &u16)| {
        picker.add_server(WEB, server(number, Method::Direct, *weight)).unwrap()
    };
    let ids = (1..).zip(weights).map(add).collect();
    (picker, ids)
}

/// How many of `count` picks each server got, if each is released before the next.
fn shares(picker: &mut Picker<Heap>, now: Tick, ids: &[ServerId], count: u64) -> Vec<usize> {
    let mut shares = vec![0; ids.len()];
    for client in 0..count {
        let pick = picker.pick(now, &WEB, Client::Key(client)).unwrap();
        shares[ids.iter().position(|&id| id == pick.server()).unwrap()] += 1;
        picker.release(now, pick);
    }
    shares
}

fn observe(picker: &mut Picker<Heap>, now: Tick, latencies: &[(ServerId, u32)]) {
    for &(server, micros) in latencies {
        picker.observe(now, server, Outcome::Latency { micros }).unwrap();
    }
}

#[test]
fn the_slower_of_two_that_were_drawn_gets_nothing() {
    let (mut picker, ids) = picker(&[1, 1, 1]);
    observe(&mut picker, Tick::ZERO, &[(ids[0], 1_000), (ids[1], 2_000), (ids[2], 50_000)]);
    let shares = shares(&mut picker, Tick::ZERO, &ids, 3_000);
    // Of three pairs the quickest server wins two, the next one the third, and the slowest none.
    assert!(shares[2] == 0 && (1_800..2_200).contains(&shares[0]), "{shares:?}");
}

#[test]
fn a_server_that_was_slow_is_tried_again_after_a_while() {
    let (mut picker, ids) = picker(&[1, 1]);
    observe(&mut picker, Tick::ZERO, &[(ids[0], 64_000), (ids[1], 1_000)]);
    assert_eq!(shares(&mut picker, Tick::ZERO, &ids, 50), [0, 50]);
    let later = Tick::from_millis(70_000);
    observe(&mut picker, later, &[(ids[1], 1_000)]);
    assert_eq!(shares(&mut picker, later, &ids, 50), [50, 0], "64 ms are worth half a millisecond by now");
}

#[test]
fn connections_that_are_open_count_besides_latency() {
    let (mut picker, ids) = picker(&[1, 1]);
    observe(&mut picker, Tick::ZERO, &[(ids[0], 1_000), (ids[1], 3_000)]);
    let picks: Vec<_> = (0..400).map(|n| picker.pick(Tick::ZERO, &WEB, Client::Key(n)).unwrap()).collect();
    let to_quick = picks.iter().filter(|pick| pick.server() == ids[0]).count();
    assert!((297..=303).contains(&to_quick), "three to one, as their latencies are: {to_quick}");
}

#[test]
fn weights_share_where_latencies_are_equal() {
    let (mut picker, ids) = picker(&[3, 1]);
    observe(&mut picker, Tick::ZERO, &[(ids[0], 1_000), (ids[1], 1_000)]);
    let picks: Vec<_> = (0..400).map(|n| picker.pick(Tick::ZERO, &WEB, Client::Key(n)).unwrap()).collect();
    let to_heavy = picks.iter().filter(|pick| pick.server() == ids[0]).count();
    assert!((297..=303).contains(&to_heavy), "{to_heavy}");
}

#[test]
fn a_server_that_nobody_knows_gets_one_connection_until_it_answers() {
    let (mut picker, ids) = picker(&[1, 1]);
    observe(&mut picker, Tick::ZERO, &[(ids[0], 9_000)]);
    let picks: Vec<_> = (0..20).map(|n| picker.pick(Tick::ZERO, &WEB, Client::Key(n)).unwrap()).collect();
    assert_eq!(picks.iter().filter(|pick| pick.server() == ids[1]).count(), 1);
    // Without any observation connections alone decide.
    let (mut picker, ids) = self::picker(&[1, 1]);
    let picks: Vec<_> = (0..20).map(|n| picker.pick(Tick::ZERO, &WEB, Client::Key(n)).unwrap()).collect();
    assert_eq!(picks.iter().filter(|pick| pick.server() == ids[1]).count(), 10);
}

#[test]
fn extremes_are_no_trouble() {
    let (mut picker, ids) = picker(&[u16::MAX, 1, 0]);
    let heaviest = Weight::new(i32::MAX as u32).unwrap();
    picker.edit_server(WEB, server(1, Method::Direct, 1).with_weight(heaviest)).unwrap();
    observe(&mut picker, Tick::ZERO, &[(ids[0], u32::MAX), (ids[1], u32::MAX), (ids[2], 1)]);
    assert_eq!(shares(&mut picker, Tick::ZERO, &ids, 100)[2], 0, "a quiesced server gets nothing");
    let (mut picker, ids) = self::picker(&[1]);
    assert_eq!(shares(&mut picker, Tick::from_millis(u64::MAX), &ids, 5), [5]);
    let (mut picker, _) = self::picker(&[0]);
    assert!(picker.pick(Tick::ZERO, &WEB, Client::Key(1)).is_err());
}

#[test]
fn a_server_that_was_seen_long_ago_is_known_while_it_has_a_connection() {
    let (mut picker, ids) = picker(&[1, 1]);
    observe(&mut picker, Tick::ZERO, &[(ids[0], 1_000)]);
    // The only usable one gets a connection that stays.
    picker.edit_server(WEB, server(2, Method::Direct, 0)).unwrap();
    let _open = picker.pick(Tick::ZERO, &WEB, Client::Key(1)).unwrap();
    picker.edit_server(WEB, server(2, Method::Direct, 1)).unwrap();
    for secs in [100, 200, 100_000] {
        let now = Tick::ZERO.plus_secs(secs);
        observe(&mut picker, now, &[(ids[1], 50_000)]);
        assert_eq!(shares(&mut picker, now, &ids, 20), [20, 0], "after {secs} s");
    }
}

#[test]
fn a_latency_of_nothing_is_one_that_is_known() {
    let (mut picker, ids) = picker(&[1, 1]);
    observe(&mut picker, Tick::ZERO, &[(ids[0], 0), (ids[1], 9_000)]);
    let picks: Vec<_> = (0..20).map(|n| picker.pick(Tick::ZERO, &WEB, Client::Key(n)).unwrap()).collect();
    assert_eq!(picks.iter().filter(|pick| pick.server() == ids[0]).count(), 20);
}
