//! How many instructions does a packet take, from parse to link header, in batches of 32? The same count on every run,
//! however busy the machine is: callgrind (valgrind) counts them.
//!
//! `cargo bench -p lvs-forward --bench instructions` compares with `docs/instructions.toml` and fails where a count is
//! more than 5 % above; with `UPDATE_INSTRUCTIONS=1` it writes that file. The counts are those of the compiler that the
//! file names.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

mod world;

use core::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lvs_core::batch::BATCH;
use lvs_core::{Method, Tick};
use lvs_forward::{DropReason, Outcome};
use world::{Buffer, WAYS, World, frame};

/// Batches of the shorter of two runs, whose difference is what is counted: what happens once cancels out.
const ROUNDS: u32 = 200;
const CONNECTIONS: u32 = 1_024;
/// The first packet of a NAT connection: its service is found, its server chosen, its entry made.
const NEW: &str = "nat-new";
/// A NAT request where the machine has no vectors to hash with.
const PLAIN: &str = "nat-request-plain";
/// How much a count may grow, in percent.
const GROWTH: u64 = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, way, rounds] = arguments.as_slice()
        && flag == "--run"
    {
        run(way, rounds.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--test") {
        ways().for_each(|way| run(way, 2));
        return ExitCode::SUCCESS;
    }
    compare()
}

/// All ways by name: those of known connections, and the first packets of new ones. The first ones need vectors.
fn ways() -> impl Iterator<Item = &'static str> {
    WAYS.into_iter().map(|way| way.0).chain([NEW, PLAIN])
}

/// Rounds of batches on one way.
fn run(way: &str, rounds: u32) {
    if way == NEW {
        let mut world = World::with_room(CONNECTIONS, rounds * BATCH as u32, Method::Nat, false);
        for _ in 0..rounds {
            let buffers = world.new_clients();
            counted_batch(&mut world, buffers);
            while world.director.poll_event().is_some() {}
        }
        return;
    }
    let known = way.strip_suffix("-plain").unwrap_or(way);
    let (_, method, reply) = WAYS.into_iter().find(|way| way.0 == known).unwrap();
    let mut world = World::new(CONNECTIONS, method, reply);
    if way == PLAIN {
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
        ways().filter(|way| has_vectors || *way == PLAIN).map(|way| (way, per_packet(way))).collect();
    if has_vectors && std::env::var_os("UPDATE_INSTRUCTIONS").is_some() {
        std::fs::write(&path, document(&counts)).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    let mut grown = false;
    for (way, count) in counts {
        let Some(before) = figure(&known, way) else {
            println!("{way:12} {count:5}  not in docs/instructions.toml: UPDATE_INSTRUCTIONS=1 writes it");
            grown = true;
            continue;
        };
        let verdict = if count * 100 > before * (100 + GROWTH) {
            grown = true;
            "GROWN by more than 5 %"
        } else if count * (100 + GROWTH) < before * 100 {
            "less by more than 5 %: UPDATE_INSTRUCTIONS=1 writes it"
        } else {
            "as before"
        };
        println!(
            "{way:12} {count:5} instructions per packet, {before:5} in docs/instructions.toml: {verdict}"
        );
    }
    if grown { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Instructions per packet on one way.
fn per_packet(way: &str) -> u64 {
    let (once, twice) = (count(way, ROUNDS), count(way, 2 * ROUNDS));
    (twice - once) / (u64::from(ROUNDS) * BATCH as u64)
}

/// Instructions of so many rounds, counted by callgrind.
fn count(way: &str, rounds: u32) -> u64 {
    let program: PathBuf = std::env::current_exe().unwrap();
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=instructions::counted",
        ])
        .arg(program)
        .args(["--run", way, &rounds.to_string()])
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
        "# Instructions per packet from parse to link header, in batches of {BATCH}, 60-byte frames. \
         `bash .ci/run instructions` fails when
# one grows by more than {GROWTH} %; `UPDATE_INSTRUCTIONS=1 cargo bench -p lvs-forward --bench instructions` \
         writes this file.
# Counted with {}, profile `bench`, x86-64 with AVX2, as a worker has it; \
         AVX-512 is not counted, which valgrind does not have.

",
        version.trim()
    );
    for (way, count) in counts {
        text.push_str(&format!("{way} = {count}\n"));
    }
    text
}

/// The figure of a way in the file.
fn figure(document: &str, way: &str) -> Option<u64> {
    document
        .lines()
        .find_map(|line| line.strip_prefix(way)?.trim_start().strip_prefix('=')?.trim().parse().ok())
}
