//! When messages go, in milliseconds.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::sync::decode;

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn entry(number: u16) -> SyncEntry {
    let [client, virt, server] =
        ["192.0.2.1:1", "10.99.0.1:80", "10.0.1.11:80"].map(|text| text.parse().unwrap());
    SyncEntry { client_port: number, state: 1, ..SyncEntry::new(6, client, virt, server).unwrap() }
}

/// The client ports in the messages that are due.
fn sent<const Q: usize, const S: usize>(master: &mut Master<Q, S>, now: u64) -> Vec<Vec<u16>> {
    let mut sent = Vec::new();
    while let Some(message) = master.poll(at(now)) {
        sent.push(decode(message, 5).unwrap().map(|read| read.unwrap().entry.client_port).collect());
    }
    sent
}

/// Two entries of version 1 fill a message.
fn small() -> Master<4, 384> {
    Master::new(Tick::ZERO, Version::One, 5, 8 + 2 * 36)
}

#[test]
fn a_message_goes_when_it_is_two_seconds_old_at_the_next_look() {
    let mut master = small();
    master.push(at(100), &entry(1), None).unwrap();
    for now in [999, 1_000, 2_000, 2_100, 2_999] {
        assert!(sent(&mut master, now).is_empty(), "{now}");
    }
    assert_eq!(sent(&mut master, 3_000), [[1]]);
    assert!(sent(&mut master, 9_000).is_empty());
}

#[test]
fn full_messages_go_together_after_20_milliseconds() {
    let mut master = small();
    for number in 1..=5 {
        master.push(at(100 + u64::from(number)), &entry(number), None).unwrap();
    }
    // The third entry was the first one without room.
    assert!(sent(&mut master, 122).is_empty());
    assert_eq!(sent(&mut master, 123), [[1, 2], [3, 4]]);
    assert_eq!(sent(&mut master, 2_200), [[5]], "looked at one second after what was sent");
}

#[test]
fn eight_full_messages_go_at_once() {
    let mut master: Master<16, 384> = Master::new(Tick::ZERO, Version::One, 5, 8 + 36);
    for number in 0..8 {
        master.push(at(5), &entry(number), None).unwrap();
    }
    assert!(sent(&mut master, 5).is_empty());
    master.push(at(5), &entry(8), None).unwrap();
    assert_eq!(sent(&mut master, 5).len(), 8);
}

#[test]
fn messages_that_nobody_takes_are_lost_and_counted() {
    let mut master = small();
    for number in 0..20 {
        master.push(at(5), &entry(number), None).unwrap();
    }
    assert_eq!(master.lost(), 5);
    assert_eq!(sent(&mut master, 100), [[0, 1], [2, 3], [4, 5], [6, 7]]);
    assert_eq!(sent(&mut master, 9_000), [[18, 19]]);
}

#[test]
fn another_version_begins_another_message() {
    let mut master = small();
    master.push(at(0), &entry(1), None).unwrap();
    master.set_version(Version::Zero);
    master.push(at(0), &entry(2), None).unwrap();
    let six = ["[2001:db8::1]:1", "[2001:db8::2]:80", "[2001:db8::3]:80"].map(|text| text.parse().unwrap());
    let six = SyncEntry::new(6, six[0], six[1], six[2]).unwrap();
    assert_eq!(master.push(at(0), &six, None), Err(PushError::NotInVersion));
    assert_eq!(sent(&mut master, 20), [[1]]);
    assert_eq!(sent(&mut master, 5_000), [[2]]);
}

#[test]
fn the_longest_entry_makes_a_message_of_its_own() {
    let six = ["[2001:db8::1]:1", "[2001:db8::2]:80", "[2001:db8::3]:80"].map(|text| text.parse().unwrap());
    let mut six = SyncEntry::new(17, six[0], six[1], six[2]).unwrap();
    (six.flags, six.sequences) = (SyncEntry::TEMPLATE, Some(Default::default()));
    let call = [b'x'; 255];
    let mut master = small();
    master.push(at(0), &entry(1), None).unwrap();
    master.push(at(0), &six, Some((PersistenceEngine::Sip, &call))).unwrap();
    master.push(at(0), &entry(2), None).unwrap();
    assert_eq!(sent(&mut master, 20), [[1], [1]]);
    assert_eq!(master.push(at(0), &six, Some((PersistenceEngine::Sip, &[]))), Err(PushError::EngineData));
}

#[test]
fn a_message_has_at_most_255_entries() {
    let mut master: Master<2, 60_000> = Master::new(Tick::ZERO, Version::One, 5, 60_000);
    for number in 0..300 {
        master.push(at(0), &entry(number), None).unwrap();
    }
    assert_eq!(sent(&mut master, 5_000).iter().map(Vec::len).collect::<Vec<_>>(), [255, 45]);
}
