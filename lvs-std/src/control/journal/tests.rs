use core::time::Duration;
use std::path::Path;
use std::time::SystemTime;

use lvs_core::Family;

use super::faulty::Faulty;
use super::*;
use crate::control::protocol::request;
use crate::control::{
    Command, DaemonCommand, DaemonSpec, Role, ServerSpec, ServiceName, ServiceSpec, Setting, TableCommand,
    Timeouts, method,
};

fn service(number: u8) -> Command {
    let name = ServiceName::tcp(([10, 99, 0, number], 80).into());
    TableCommand::NewService(name, ServiceSpec::new(Family::V4, "wrr")).into()
}

fn unit(command: Command) -> Vec<Entry> {
    vec![Entry::of(&command).unwrap()]
}

/// Units with every kind of entry.
fn units() -> Vec<Vec<Entry>> {
    let (name, six) =
        (ServiceName::tcp("10.99.0.1:80".parse().unwrap()), "[2001:db8::1]:80".parse().unwrap());
    let server = "10.0.1.11:80".parse().unwrap();
    let deadline = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
    let daemon = DaemonSpec {
        role: Role::Backup,
        interface: "eth0".to_owned(),
        sync_id: 9,
        max_len: None,
        group: None,
        port: None,
        ttl: None,
    };
    vec![
        unit(service(1)),
        vec![Entry::Reload(vec![
            Entry::Command(TableCommand::NewServer(name, server, ServerSpec::new(method::DIRECT, 3)).into()),
            Entry::Command(
                TableCommand::DelService(ServiceName::Mark { family: Family::V6, mark: 7 }).into(),
            ),
            Entry::Applied(Some("[[interface]]\nname = \"eth0\"\n\u{d1}rec".to_owned())),
        ])],
        vec![Entry::Drain(name, server, Some(deadline))],
        vec![Entry::Drain(ServiceName::udp(six), six, None)],
        vec![Entry::Undrain(name, server)],
        vec![Entry::Applied(None)],
        unit(Setting::Timeouts(Timeouts { tcp: 9, tcp_fin: 0, udp: 3 }).into()),
        unit(Setting::Sysctl("drop_entry".to_owned(), "3".to_owned()).into()),
        unit(DaemonCommand::Start(daemon).into()),
        unit(TableCommand::Flush.into()),
    ]
}

fn open(disk: &Faulty) -> Journal {
    opened(disk, disk.bytes()).unwrap()
}

fn opened(disk: &Faulty, bytes: Option<Vec<u8>>) -> Result<Journal, JournalError> {
    Journal::on(Path::new("state"), Box::new(disk.clone()), bytes.as_deref())
}

/// A file with these units.
fn file(units: &[Vec<Entry>]) -> Vec<u8> {
    let disk = Faulty::default();
    open(&disk).replace(units.iter().cloned()).unwrap();
    disk.bytes().unwrap()
}

#[test]
fn what_was_recorded_is_there_again_and_in_which_order() {
    let disk = Faulty::default();
    let mut journal = open(&disk);
    assert!(journal.is_stale(), "there is no file yet");
    journal.replace([]).unwrap();
    for unit in units() {
        journal.record(&[unit]).unwrap();
    }
    let mut again = open(&disk);
    assert_eq!((again.take_found(), again.is_stale(), again.damage()), (units(), false, None));
    assert_eq!(disk.bytes().unwrap(), file(&units()), "a new file says it in the same bytes");
}

/// The units of `all` that do not touch a range of the file, and which bytes each has.
fn ranges(units: &[Vec<Entry>]) -> Vec<Range<usize>> {
    let ends: Vec<usize> = (0..=units.len()).map(|count| file(&units[..count]).len()).collect();
    ends.windows(2).map(|ends| ends[0]..ends[1]).collect()
}

#[test]
fn after_a_flip_at_any_byte_every_record_but_the_flipped_one_is_there_and_the_file_is_kept_aside() {
    let all = units();
    let (whole, ranges) = (file(&all), ranges(&all));
    for at in 0..whole.len() {
        for bit in [at % 8, (at * 3 + 5) % 8] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let disk = Faulty::with(&bytes);
            let mut journal = open(&disk);
            let expected: Vec<_> = all
                .iter()
                .zip(&ranges)
                .filter(|(_, range)| !range.contains(&at))
                .map(|(unit, _)| unit.clone())
                .collect();
            assert_eq!(journal.take_found(), expected, "byte {at}, bit {bit}");
            let damage = journal.damage().unwrap();
            assert!(
                damage.ranges.iter().any(|range| range.contains(&at)),
                "byte {at}, bit {bit}: {damage:?}"
            );
            assert_eq!(disk.bytes().unwrap(), bytes, "nothing is written before somebody has looked");
            // The next record begins with a file of its own, and the damaged one stays beside it.
            assert!(journal.record(&all[..1]).is_err());
            journal.replace(expected.clone()).unwrap();
            journal.record(&all[..1]).unwrap();
            assert_eq!(disk.aside(), [bytes], "byte {at}, bit {bit}");
            let again = open(&disk).take_found();
            assert_eq!(again[..expected.len()], expected);
            assert_eq!(again[expected.len()..], all[..1]);
        }
    }
}

#[test]
fn after_a_cut_at_any_byte_every_record_before_it_is_there_and_the_cut_is_told() {
    let all = units();
    let (whole, ranges) = (file(&all), ranges(&all));
    for length in 0..whole.len() {
        let disk = Faulty::with(&whole[..length]);
        let mut journal = open(&disk);
        let count = ranges.iter().filter(|range| range.end <= length).count();
        assert_eq!(journal.take_found(), all[..count], "{length} bytes");
        let is_clean =
            length == 0 || length == format::HEADER || ranges.iter().any(|range| range.end == length);
        assert_eq!(journal.damage().is_none(), is_clean, "{length} bytes");
    }
}

#[test]
fn any_bytes_in_the_middle_cost_only_what_they_overwrite() {
    let all = units();
    let (whole, ranges) = (file(&all), ranges(&all));
    // As where another program has written, or a disk has lost a sector.
    for at in format::HEADER..whole.len() - 40 {
        let mut hole = whole.clone();
        hole[at..at + 40].fill(0xaa);
        let found = opened(&Faulty::default(), Some(hole)).unwrap().take_found();
        let touched = |range: &Range<usize>| range.start < at + 40 && at < range.end;
        let expected: Vec<_> = all
            .iter()
            .zip(&ranges)
            .filter(|(_, range)| !touched(range))
            .map(|(unit, _)| unit.clone())
            .collect();
        assert_eq!(found, expected, "at {at}");
    }
}

#[test]
fn a_later_version_and_a_foreign_file_are_refused_and_the_first_version_is_read() {
    let refused = |bytes: &[u8]| opened(&Faulty::default(), Some(bytes.to_vec())).unwrap_err();
    for version in [3_u32, 10, 9_999] {
        let mut title = format!("director state {version}\n").into_bytes();
        title.resize(20, 0);
        let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&title);
        title.extend(sum.to_le_bytes());
        let error = refused(&title);
        assert!(matches!(error, JournalError::Newer { version: named, .. } if named == version), "{error}");
        assert!(error.to_string().contains("later director"));
    }
    for foreign in [&b"[[service]]\n"[..], b"#!/bin/sh\n", &[0; 4_096], &[0xd1; 64]] {
        assert!(matches!(refused(foreign), JournalError::Foreign { .. }), "{foreign:?}");
    }
    let mut first = b"director state 1\n\0\0\0".to_vec();
    for number in 1..4 {
        first.extend(request::write(&service(number), 0));
        first.resize(first.len().next_multiple_of(4), 0);
    }
    let disk = Faulty::with(&first);
    let mut journal = open(&disk);
    let found = journal.take_found();
    assert_eq!(found, [unit(service(1)), unit(service(2)), unit(service(3))]);
    assert!(journal.is_stale() && journal.damage().is_none() && journal.is_of_first_version());
    journal.replace(found.clone()).unwrap();
    assert_eq!(open(&disk).take_found(), found);
    for length in 24..first.len() {
        let mut journal = opened(&Faulty::default(), Some(first[..length].to_vec())).unwrap();
        let count = found.iter().filter(|unit| journal.take_found().contains(unit)).count();
        assert!(count <= 3);
        let is_whole = (length - 20).is_multiple_of((first.len() - 20) / 3);
        assert_eq!(journal.damage().is_none(), is_whole, "{length}");
    }
}

#[test]
fn a_record_that_was_taken_back_is_not_there_also_with_others_behind_it() {
    let disk = Faulty::default();
    let mut journal = open(&disk);
    journal.replace([]).unwrap();
    let all = [unit(service(1)), unit(service(2)), unit(service(3))];
    let positions = journal.record(&all).unwrap();
    journal.withdraw(positions[1]).unwrap();
    let rest = [all[0].clone(), all[2].clone()].concat();
    assert_eq!(
        open(&disk).take_found(),
        core::slice::from_ref(&rest),
        "what was kept together is one record"
    );
    let position = journal.record(&all[1..2]).unwrap().pop().unwrap();
    let before = disk.bytes().unwrap().len();
    journal.withdraw(position).unwrap();
    assert!(disk.bytes().unwrap().len() < before, "the last one is cut off");
    // Where it cannot be cut off, a record says so.
    let position = journal.record(&all[1..2]).unwrap().pop().unwrap();
    disk.fail(disk.steps(), 1);
    journal.withdraw(position).unwrap();
    assert_eq!(open(&disk).take_found(), [rest]);
}

/// What becomes of records and replacements while the disk fails for some steps: what was kept is there again, and
/// what was refused is not, whenever the process is killed.
fn survives(first: u64, count: u64, durability: Durability) -> u64 {
    let disk = Faulty::default();
    disk.fail(first, count);
    let mut journal = open(&disk);
    journal.set_durability(durability);
    let mut kept: Vec<Vec<Entry>> = Vec::new();
    for number in 0..12_u8 {
        let place = format!("steps {first} to {first}+{count}, {durability:?}, record {number}");
        if journal.is_stale() || number % 5 == 4 {
            let _ = journal.replace(kept.clone());
            assert!(!disk.has_new(), "{place}: a new file that could not be written is left");
        }
        let unit = vec![Entry::Applied(Some(number.to_string())); usize::from(number % 3) + 1];
        let is_kept = journal.record(core::slice::from_ref(&unit)).is_ok();
        if is_kept {
            kept.push(unit);
        }
        // Nothing has failed yet, so nothing is new.
        if disk.steps() < first {
            continue;
        }
        // A full disk that refuses a sync, and then even to cut a file, leaves it open what the file has.
        if durability == Durability::Process || count == 1 {
            assert_eq!(open(&disk).take_found(), kept, "{place}");
        }
        if durability == Durability::Power && is_kept {
            let bytes = disk.bytes_after_power_loss();
            assert_eq!(opened(&disk, bytes).unwrap().take_found(), kept, "{place}, after a loss of power");
        }
    }
    // It goes on: whatever has happened, the disk works again.
    disk.fail(0, 0);
    if journal.is_stale() {
        journal.replace(kept.clone()).unwrap();
    }
    journal.record(&units()[..1]).unwrap();
    kept.push(units()[0].clone());
    assert_eq!(
        open(&disk).take_found(),
        kept,
        "steps {first} to {first}+{count}, {durability:?}, at the end"
    );
    assert!(opened(&disk, disk.bytes()).unwrap().damage().is_none());
    disk.steps()
}

#[test]
fn replay_is_what_was_acknowledged_wherever_the_disk_fails_and_for_however_long() {
    for durability in [Durability::Process, Durability::Power] {
        let steps = survives(u64::MAX, 0, durability);
        for first in 0..steps {
            for count in [1, 2, 3, u64::MAX] {
                survives(first, count, durability);
            }
        }
    }
}

#[test]
fn a_state_file_on_a_real_disk_is_appended_to_replaced_and_kept_aside() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    let folder = std::env::temp_dir().join(format!("director-journal-{}", std::process::id()));
    let path = folder.join("state");
    fs::create_dir_all(&folder).unwrap();
    let state = OwnedState::take(&path).unwrap();
    let mut journal = Journal::open(&state).unwrap();
    journal.set_durability(Durability::Power);
    journal.replace([]).unwrap();
    units().into_iter().for_each(|unit| drop(journal.record(&[unit]).unwrap()));
    let position = journal.record(&[unit(service(9))]).unwrap().pop().unwrap();
    journal.withdraw(position).unwrap();
    assert_eq!(Journal::open(&state).unwrap().take_found(), units());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "nobody else reads it");
    // Two that are damaged are kept under two names.
    for number in 1..3 {
        let mut bytes = fs::read(&path).unwrap();
        bytes[30] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let mut journal = Journal::open(&state).unwrap();
        let found = journal.take_found();
        journal.replace(found).unwrap();
        let kept = folder.join(format!("state.damaged-{number}"));
        assert_eq!((journal.kept_aside(), fs::read(&kept).unwrap()), (Some(&*kept), bytes));
    }
    // What stands where the new file is to be written is no way to another file.
    fs::write(folder.join("target"), "kept").unwrap();
    std::os::unix::fs::symlink(folder.join("target"), folder.join("state.new")).unwrap();
    Journal::open(&state).unwrap().replace(units()).unwrap();
    assert_eq!(fs::read(folder.join("target")).unwrap(), b"kept");
    assert_eq!(Journal::open(&state).unwrap().take_found(), units());
    fs::remove_dir_all(&folder).unwrap();
}
