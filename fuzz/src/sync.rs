//! Any bytes as a sync message.

use lvs_core::Tick;
use lvs_core::sync::{Master, Message, Received, SyncEntry, Version, decode};

/// Reads `data` as a datagram for a backup; its first two bytes say of which group that is, and whether to make the
/// message's length true. Writes what was read once more and reads that.
///
/// # Panics
///
/// When an entry changes on the way, or gets lost.
pub fn sync(data: &[u8]) {
    let Some((&[own, switches], datagram)) = data.split_first_chunk() else { return };
    let mut datagram = datagram.to_vec();
    if let (true, Some(place), Ok(len)) =
        (switches & 1 != 0, datagram.get(2..4).map(|_| 2..4), u16::try_from(datagram.len()))
    {
        datagram[place].copy_from_slice(&len.to_be_bytes());
    }
    let Ok(entries) = decode(&datagram, own) else { return };
    let received: Vec<_> = entries.filter_map(Result::ok).collect();
    assert!(received.len() <= 255);
    let mut buffer = vec![0; 65_535];
    for version in [Version::Zero, Version::One] {
        let mut message = must(Message::new(&mut buffer, version, own));
        let mut expected = Vec::new();
        for one in &received {
            if message.push(&one.entry, one.engine).is_ok() {
                expected.push(through(one, version));
            }
        }
        assert!(version == Version::Zero || expected.len() == received.len());
        let again: Vec<_> = must(decode(message.finish(), own).ok()).map(|entry| must(entry.ok())).collect();
        assert_eq!(again, expected);
    }
    relay(&received, own, if switches & 2 == 0 { Version::One } else { Version::Zero });
}

/// What is left of an entry that went in a message of a version.
fn through<'a>(received: &Received<'a>, version: Version) -> Received<'a> {
    match version {
        Version::One => *received,
        Version::Zero => {
            let mut entry = received.entry;
            (entry.mark, entry.timeout) = (0, 0);
            let shifted = entry.flags & (SyncEntry::IN_SEQ | SyncEntry::OUT_SEQ) != 0;
            entry.sequences = shifted.then(|| entry.sequences.unwrap_or_default());
            Received { entry, engine: None }
        }
    }
}

/// Gives everything to a master and counts what comes out of it.
fn relay(received: &[Received<'_>], own: u8, version: Version) {
    let mut master: Master<4, 512> = Master::new(Tick::ZERO, version, own, 400);
    let mut now = Tick::ZERO;
    let (mut given, mut taken) = (0, 0);
    for one in received {
        given += usize::from(master.push(now, &one.entry, one.engine).is_ok());
        now = now.plus_millis(15);
        while let Some(message) = master.poll(now) {
            taken += must(decode(message, own).ok()).count();
        }
    }
    for _ in 0..4 {
        now = now.plus_secs(1);
        while let Some(message) = master.poll(now) {
            taken += must(decode(message, own).ok()).count();
        }
    }
    assert_eq!((master.lost(), taken), (0, given));
}

fn must<T>(value: Option<T>) -> T {
    match value {
        Some(value) => value,
        None => panic!("what was written is read"),
    }
}
