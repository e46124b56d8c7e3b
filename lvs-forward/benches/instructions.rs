//! How many instructions does a packet take, from parse to link header, in batches of 32? Callgrind (valgrind) counts
//! them: the same number on every run, however busy the machine is.
//!
//! `cargo bench -p lvs-forward --bench instructions` compares with `docs/instructions.toml` and fails where a count is
//! more than 1 % above; with `UPDATE_INSTRUCTIONS=1` it writes that file. The counts are those of the compiler that the
//! file names.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

mod world;

use core::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lvs_core::Tick;
use lvs_core::batch::BATCH;
use lvs_forward::{DropReason, Outcome};
use world::{Buffer, NAT_REQUEST, ROWS, World, frame};

/// Batches of the shorter of two runs, whose difference is what is counted: what happens once cancels out.
const ROUNDS: u32 = 200;
const CONNECTIONS: u32 = 1_024;
/// The first packet of a NAT connection: its service is found, its server chosen, its entry made.
const NEW: &str = "nat-new";
/// A NAT request where the machine has no vectors to hash with.
const PLAIN: &str = "nat-request-plain";
/// The first two with 10,000 services of 10 servers each beside the one that the packets are for.
const MANY: &str = "nat-request-many";
const NEW_MANY: &str = "nat-new-many";
const OTHERS: u32 = 10_000;
/// How much a count may grow, in percent. Counts are whole numbers: one instruction more is never too many.
const GROWTH: u64 = 1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, rounds] = arguments.as_slice()
        && flag == "--run"
    {
        run(name, rounds.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--test") {
        names().for_each(|name| run(name, 2));
        return ExitCode::SUCCESS;
    }
    compare()
}

/// All rows by name: the packets of known connections, and the first ones of new ones.
fn names() -> impl Iterator<Item = &'static str> {
    ROWS.into_iter().map(|row| row.name).chain([NEW, PLAIN, MANY, NEW_MANY])
}

/// Rounds of batches of one row.
fn run(name: &str, rounds: u32) {
    let others = if matches!(name, MANY | NEW_MANY) { OTHERS } else { 0 };
    if matches!(name, NEW | NEW_MANY) {
        let mut world = World::among(others, NAT_REQUEST, CONNECTIONS, rounds * BATCH as u32);
        for _ in 0..rounds {
            let buffers = world.new_clients();
            counted_batch(&mut world, buffers);
            while world.director.poll_event().is_some() {}
        }
        return;
    }
    let row = match name {
        PLAIN | MANY => NAT_REQUEST,
        _ => ROWS.into_iter().find(|row| row.name == name).unwrap(),
    };
    let mut world = World::among(others, row, CONNECTIONS, 0);
    if name == PLAIN {
        world.director.set_hash_together(None);
    }
    for _ in 0..rounds {
        let buffers = world.frames();
        counted_batch(&mut world, buffers);
    }
}

fn counted_batch(world: &mut World, mut buffers: [Buffer; BATCH]) {
    let mut frames = buffers.each_mut().map(frame);
    let mut outcomes = [Outcome::Drop(DropReason::Malformed); BATCH];
    counted(world, &mut frames, &mut outcomes);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Send));
}

/// What callgrind counts, by this function's name.
#[inline(never)]
fn counted(world: &mut World, frames: &mut [lvs_forward::Frame<'_>; BATCH], outcomes: &mut [Outcome; BATCH]) {
    world.forwarder.process_batch(&mut world.director, Tick::ZERO, black_box(frames), outcomes);
}

fn compare() -> ExitCode {
    let has_vectors = lvs_std::cpu::hash_together().is_some();
    if !has_vectors {
        println!("this processor has no AVX2: only {PLAIN} is compared");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/instructions.toml");
    let counts: Vec<(&str, u64)> =
        names().filter(|name| has_vectors || *name == PLAIN).map(|name| (name, per_packet(name))).collect();
    if has_vectors && std::env::var_os("UPDATE_INSTRUCTIONS").is_some() {
        std::fs::write(&path, document(&counts)).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    let mut grown = false;
    for (name, count) in counts {
        let Some(before) = figure(&known, name) else {
            println!("{name:17} {count:5}  not in docs/instructions.toml: UPDATE_INSTRUCTIONS=1 writes it");
            grown = true;
            continue;
        };
        let tolerance = (before * GROWTH / 100).max(1);
        let verdict = if count > before + tolerance {
            grown = true;
            format!("GROWN by more than {GROWTH} %")
        } else if count + tolerance < before {
            format!("less by more than {GROWTH} %: UPDATE_INSTRUCTIONS=1 writes it")
        } else {
            "as before".to_owned()
        };
        println!(
            "{name:17} {count:5} instructions per packet, {before:5} in docs/instructions.toml: {verdict}"
        );
    }
    if grown { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Instructions per packet of one row.
fn per_packet(name: &str) -> u64 {
    let (once, twice) = (count(name, ROUNDS), count(name, 2 * ROUNDS));
    (twice - once) / (u64::from(ROUNDS) * BATCH as u64)
}

/// Instructions of so many rounds, counted by callgrind.
fn count(name: &str, rounds: u32) -> u64 {
    let program: PathBuf = std::env::current_exe().unwrap();
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=instructions::counted",
        ])
        .arg(program)
        .args(["--run", name, &rounds.to_string()])
        .output()
        .expect("valgrind must be installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line =
        said.lines().find_map(|line| line.split_once("Collected :")).expect("callgrind says its count").1;
    let count = line.trim().parse().unwrap();
    assert!(count > 0, "nothing was counted: callgrind did not find the function");
    count
}

/// The file with the counts.
fn document(counts: &[(&str, u64)]) -> String {
    let version = Command::new("rustc").arg("--version").output().unwrap().stdout;
    let version = String::from_utf8_lossy(&version);
    let mut text = format!(
        "# Instructions per packet from parse to link header, in batches of {BATCH}. IPv4 frames have 60 bytes, 66 with
# TCP's timestamps; IPv6 frames have 74. `bash .ci/run instructions` fails when one grows by more than {GROWTH} %;
# `UPDATE_INSTRUCTIONS=1 cargo bench -p lvs-forward --bench instructions` writes this file.
# Counted with {}, profile `bench`, x86-64 with AVX2, as a worker has it.
# AVX-512 is not counted, which valgrind does not have.

",
        version.trim()
    );
    for (name, count) in counts {
        text.push_str(&format!("{name} = {count}\n"));
    }
    text
}

/// The figure of a row in the file.
fn figure(document: &str, name: &str) -> Option<u64> {
    document
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim().parse().ok())
}
