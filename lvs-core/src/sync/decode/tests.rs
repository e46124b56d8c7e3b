//! What is written is read; what is broken is not. Where a faulty message ends, and which entries before and behind the
//! fault are taken, was recorded from a backup on Linux 6.1.192.

extern crate std;

use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::sync::Message;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn example() -> SyncEntry {
    let server = "10.0.0.11:8080".parse().unwrap();
    let (client, virt) = ("198.51.100.7:40000".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
    SyncEntry { state: 1, timeout: 900, ..SyncEntry::new(6, client, virt, server).unwrap() }
}

/// The example as it is received.
fn example_received() -> SyncEntry {
    SyncEntry { flags: SyncEntry::SYNC, ..example() }
}

fn written(version: Version, syncid: u8, entries: &[(SyncEntry, Option<&[u8]>)]) -> Vec<u8> {
    let mut buffer = vec![0xee; 65_535];
    let mut message = Message::new(&mut buffer, version, syncid).unwrap();
    for (entry, call) in entries {
        message.push(entry, call.map(|call| (PersistenceEngine::Sip, call))).unwrap();
    }
    message.finish().to_vec()
}

fn read(datagram: &[u8]) -> Vec<Result<SyncEntry, EntryError>> {
    decode(datagram, 0).unwrap().map(|read| read.map(|received| received.entry)).collect()
}

const VECTOR_V1: &str =
    "0005002c01010000 00060024 00000000 0001 9c40 0050 1f90 00000000 00000384 c6336407 c0000201 0a00000b";
const VECTOR_V0: &str = "0105001c 0006 9c40 0050 1f90 c6336407 c0000201 0a00000b 0000 0001";

/// Sent by Linux 6.1.192.
const RECORDED_V6: &str =
    "00000050010100000106004800000000000103e800500050000000000000038420010db8000c0000000000000000000120010db8
    00990000000000000000000120010db8000100000000000000000012";
const RECORDED_V0: &str = "020000340006 03e8 0050 0050 c0000201 0a630001 0a00010c 0000 0001
    0006 03e8 0050 0050 c0000202 0a630001 0a00010b 0000 0001";
/// Template and connection of a persistent service, twice.
const RECORDED_PERSISTENT: &str =
    "000000500201000000060024000011830000000000500050000000000000003 2c00002010a6300010a00010c
    00060024 00000083 0001 03e8 0050 0050 00000000 00000384 c0000201 0a630001 0a00010c";

#[test]
fn messages_have_the_bytes_of_ipvs() {
    let example = example();
    assert_eq!(written(Version::One, 5, &[(example, None)]), bytes(VECTOR_V1));
    assert_eq!(written(Version::Zero, 5, &[(example, None)]), bytes(VECTOR_V0));
    let server = "[2001:db8:1::12]:80".parse().unwrap();
    let (client, virt) = ("[2001:db8:c::1]:1000".parse().unwrap(), "[2001:db8:99::1]:80".parse().unwrap());
    let six = SyncEntry { state: 1, timeout: 900, ..SyncEntry::new(6, client, virt, server).unwrap() };
    assert_eq!(written(Version::One, 0, &[(six, None)]), bytes(RECORDED_V6));
    let four = |client: &str, server: &str| {
        let [client, virt, server] = [client, "10.99.0.1:80", server].map(|text| text.parse().unwrap());
        SyncEntry { state: 1, ..SyncEntry::new(6, client, virt, server).unwrap() }
    };
    let one = four("192.0.2.1:1000", "10.0.1.12:80");
    let two = four("192.0.2.2:1000", "10.0.1.11:80");
    assert_eq!(written(Version::Zero, 0, &[(one, None), (two, None)]), bytes(RECORDED_V0));
    let template = SyncEntry { flags: 0x1183, timeout: 50, client_port: 0, state: 0, ..one };
    let connection = SyncEntry { flags: 0x83, timeout: 900, ..one };
    let both = written(Version::One, 0, &[(template, None), (connection, None)]);
    assert_eq!(both, bytes(RECORDED_PERSISTENT));
}

#[test]
fn messages_of_ipvs_are_read() {
    assert_eq!(read(&bytes(VECTOR_V1)), [Ok(example_received())]);
    assert_eq!(read(&bytes(VECTOR_V0)), [Ok(SyncEntry { timeout: 0, ..example_received() })]);
    let persistent = read(&bytes(RECORDED_PERSISTENT));
    assert_eq!(persistent.iter().map(|entry| entry.unwrap().flags).collect::<Vec<_>>(), [0x11a3, 0xa3]);
    assert_eq!(read(&bytes(RECORDED_V6))[0].unwrap().server(), "[2001:db8:1::12]:80".parse().unwrap());
    assert_eq!(read(&bytes(RECORDED_V0)).len(), 2);
}

#[test]
fn a_message_for_others_or_of_another_length_is_not_read() {
    let message = bytes(VECTOR_V1);
    assert_eq!(decode(&message, 6).unwrap_err(), MessageError::OtherGroup { syncid: 5 });
    for own in [0, 5] {
        assert_eq!(decode(&message, own).unwrap().count(), 1);
    }
    assert_eq!(decode(&message[..43], 5).unwrap_err(), MessageError::Length);
    assert_eq!(decode(&[message.as_slice(), &[0]].concat(), 5).unwrap_err(), MessageError::Length);
    assert_eq!(decode(&message[..3], 5).unwrap_err(), MessageError::Short);
    assert_eq!(decode(&[], 5).unwrap_err(), MessageError::Short);
}

#[test]
fn an_entry_that_does_not_fit_ends_the_message() {
    // Two are announced, one and a half are there.
    let mut message = written(Version::One, 0, &[(example(), None), (example(), None)]);
    message.truncate(8 + 36 + 20);
    message[3] = 64;
    assert_eq!(read(&message), [Ok(example_received()), Err(EntryError::Cut)]);
    let mut message = written(Version::Zero, 0, &[(example(), None), (example(), None)]);
    message.truncate(4 + 24 + 20);
    message[3] = 48;
    assert_eq!(read(&message)[1], Err(EntryError::Cut));
    // More are announced than there are.
    let mut message = bytes(VECTOR_V1);
    message[4] = 9;
    assert_eq!(read(&message), [Ok(example_received()), Err(EntryError::Cut)]);
}

#[test]
fn what_a_backup_cannot_use_is_left_out_and_the_rest_taken() {
    let template = |state, flags| SyncEntry { state, flags: flags | SyncEntry::TEMPLATE, ..example() };
    let of = |protocol, state| SyncEntry { protocol, state, ..example() };
    let with = |flags| SyncEntry { flags, ..example() };
    let cases = [
        (of(6, 11), EntryError::State),
        (of(17, 1), EntryError::State),
        (of(132, 14), EntryError::State),
        (of(50, 1), EntryError::State),
        (of(1, 0), EntryError::Protocol),
        (of(0, 0), EntryError::Protocol),
        (template(2, 0), EntryError::State),
        (template(0, SyncEntry::NO_CLIENT_PORT), EntryError::Flags),
        (template(0, SyncEntry::ONE_PACKET), EntryError::Flags),
        (with(SyncEntry::ONE_PACKET), EntryError::Flags),
    ];
    for (entry, error) in cases {
        for version in [Version::Zero, Version::One] {
            let entries = read(&written(version, 0, &[(entry, None), (example(), None)]));
            assert_eq!(entries[0], Err(error), "{entry:?}");
            assert!(entries[1].is_ok() && entries.len() == 2);
        }
    }
    for entry in [of(6, 10), of(17, 0), of(132, 13), of(50, 0), of(51, 0), template(1, 0), with(0x800)] {
        assert!(read(&written(Version::One, 0, &[(entry, None)]))[0].is_ok(), "{entry:?}");
    }
}

#[test]
fn flags_that_are_not_a_backups_business_are_cleared() {
    let all = SyncEntry { flags: !SyncEntry::ONE_PACKET & !SyncEntry::TEMPLATE, ..example() };
    let one = read(&written(Version::One, 0, &[(all, None)]))[0].unwrap();
    assert_eq!(one.flags, 0x0f87 | SyncEntry::SYNC);
    let zero = read(&written(Version::Zero, 0, &[(all, None)]))[0].unwrap();
    assert_eq!(zero.flags, one.flags);
}

/// An entry with these bytes behind it as options.
fn with_options(options: &[u8]) -> Vec<u8> {
    let mut message = bytes(VECTOR_V1);
    message.extend_from_slice(options);
    message[3] += options.len() as u8;
    message[11] += options.len() as u8;
    message
}

#[test]
fn options_are_read_strictly() {
    let numbers: Vec<u8> = [1, 24].into_iter().chain(0..24).collect();
    let named = [&[2, 5][..], b"one@x", &[3, 3], b"sip"].concat();
    let received = |options: &[u8]| {
        let message = with_options(options);
        let read = decode(&message, 0).unwrap().next().unwrap();
        read.map(|received| (received.entry.sequences, received.engine.map(|(_, call)| call.to_vec())))
    };
    let shifted = received(&numbers).unwrap().0.unwrap();
    assert_eq!((shifted.inbound.initial, shifted.outbound.previous), (0x0001_0203, 0x1415_1617));
    assert_eq!(received(&named), Ok((None, Some(b"one@x".to_vec()))));
    // In any order, and between what may be ignored.
    assert_eq!(
        received(&[&[3, 3][..], b"sip", &[0x47, 1, 0], &[2, 1], b"x"].concat()),
        Ok((None, Some(b"x".to_vec())))
    );
    assert_eq!(received(&[3, 3, b's', b'i', b'p']), Ok((None, None)));
    assert_eq!(received(&[2, 1, b'x', 0x43, 4, b's', b'i', b'p', 0]), Ok((None, Some(b"x".to_vec()))));
    for (options, error) in [
        (&[7, 1, 0][..], EntryError::UnknownOption),
        (&[0, 1, 0], EntryError::UnknownOption),
        (&[2, 1, b'x'], EntryError::PersistenceEngine),
        (&[2, 1, b'x', 3, 3, b's', b'i', b'q'], EntryError::PersistenceEngine),
        (&[1, 4, 0, 0, 0, 0], EntryError::Option),
        (&[2, 0], EntryError::Option),
        (&[2], EntryError::Option),
        (&[2, 4, 0], EntryError::Option),
        (&[2, 1, 0, 2, 1, 0], EntryError::Option),
        (&[7, 0], EntryError::Option),
        (&[0x47, 0], EntryError::Option),
        (&[0x41, 1, 0], EntryError::Option),
        // The first fault counts.
        (&[7, 1, 0, 1, 1, 0], EntryError::UnknownOption),
        (&[1, 1, 0, 7, 1, 0], EntryError::Option),
        (&[2, 1, b'x', 3, 4, 0, b's', b'i', b'p'], EntryError::PersistenceEngine),
        (&[2, 1, b'x', 3, 3, b'S', b'I', b'P'], EntryError::PersistenceEngine),
    ] {
        assert_eq!(received(options), Err(error), "{options:?}");
    }
    let long = [&[3, 17][..], &[b'a'; 17]].concat();
    assert_eq!(received(&long), Err(EntryError::Option));
}

#[test]
fn an_ipv6_entry_in_the_room_of_an_ipv4_one_ends_the_message() {
    let mut message = bytes(VECTOR_V1);
    message[8] = 1;
    assert_eq!(read(&message), [Err(EntryError::Cut)]);
    let mut message = bytes(VECTOR_V1);
    message[10] = 0x10;
    assert_eq!(read(&message), [Err(EntryError::Version)]);
    for kind in [2, 4, 0x80] {
        let mut message = bytes(VECTOR_V1);
        message[8] = kind;
        assert_eq!(read(&message), [Err(EntryError::Version)]);
    }
    let mut message = bytes(RECORDED_V6);
    message[8] = 0x81;
    assert!(read(&message)[0].is_ok());
}

#[test]
fn a_long_call_id_is_padded_before_the_next_entry() {
    let template = SyncEntry { flags: SyncEntry::TEMPLATE, state: 0, ..example() };
    let message = written(Version::One, 0, &[(template, Some(b"abcde")), (example(), None)]);
    // 36 + 2 + 5 + 2 + 3 is a multiple of four already; with one byte more it is not.
    assert_eq!(message.len(), 8 + 48 + 36);
    let message = written(Version::One, 0, &[(template, Some(b"abcdef")), (example(), None)]);
    assert_eq!((message.len(), message[11], &message[57..60]), (8 + 52 + 36, 49, &[0; 3][..]));
    assert!(read(&message).iter().all(Result::is_ok));
}

fn shift() -> impl Strategy<Value = Shift> {
    any::<[u32; 3]>().prop_map(|[initial, delta, previous]| Shift { initial, delta, previous })
}

/// Entries as a backup receives them.
fn entry() -> impl Strategy<Value = SyncEntry> {
    let addresses = prop_oneof![
        any::<[Ipv4Addr; 3]>().prop_map(Addresses::V4),
        any::<[Ipv6Addr; 3]>().prop_map(Addresses::V6)
    ];
    let kind = prop_oneof![
        (Just(6), 0_u16..11, Just(0)),
        (Just(17), Just(0), Just(SyncEntry::NO_CLIENT_PORT)),
        (Just(132), 0_u16..14, Just(0)),
        (Just(51), Just(0), Just(0)),
        (any::<u8>(), 0_u16..2, Just(SyncEntry::TEMPLATE)),
    ];
    let flags = 0_u32..0x800;
    let sequences = prop::option::of((shift(), shift()));
    (addresses, any::<[u16; 3]>(), kind, flags, any::<[u32; 2]>(), sequences).prop_map(
        |(addresses, ports, (protocol, state, kind), flags, [mark, timeout], sequences)| {
            let seq = SyncEntry::IN_SEQ | SyncEntry::OUT_SEQ;
            let flags =
                flags & TAKEN & !seq | kind | SyncEntry::SYNC | if sequences.is_some() { seq } else { 0 };
            let sequences = sequences.map(|(inbound, outbound)| Sequences { inbound, outbound });
            SyncEntry { mark, timeout, sequences, ..plain(addresses, ports, protocol, state, flags) }
        },
    )
}

/// The data of an engine, or none.
fn call() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 1..=255))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        entries in prop::collection::vec((entry(), call()), 0..20),
    ) {
        let entries: Vec<_> = entries.iter().map(|(entry, call)| (*entry, call.as_deref())).collect();
        let message = written(Version::One, 7, &entries);
        let back: Vec<_> = decode(&message, 7).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(back.len(), entries.len());
        for (received, (entry, call)) in back.iter().zip(&entries) {
            prop_assert_eq!(received.entry, *entry);
            prop_assert_eq!(received.engine, call.map(|call| (PersistenceEngine::Sip, call)));
        }
        let old: Vec<_> =
            entries.iter().filter(|(entry, _)| matches!(entry.addresses, Addresses::V4(_))).copied().collect();
        let message = written(Version::Zero, 7, &old);
        for (received, (entry, _)) in decode(&message, 7).unwrap().zip(&old) {
            prop_assert_eq!(received.unwrap().entry, SyncEntry { mark: 0, timeout: 0, ..*entry });
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(
        mut datagram in prop::collection::vec(any::<u8>(), 0..300),
        count: u8,
        one: bool,
    ) {
        let len = datagram.len() as u16;
        if let Some(size) = datagram.get_mut(2..4) {
            size.copy_from_slice(&len.to_be_bytes());
        }
        if let (true, Some(header)) = (one, datagram.first_chunk_mut::<8>()) {
            (header[0], header[4], header[5], header[6], header[7]) = (0, count, 1, 0, 0);
        }
        if let Ok(entries) = decode(&datagram, 0) {
            prop_assert!(entries.count() <= 255);
        }
    }
}
