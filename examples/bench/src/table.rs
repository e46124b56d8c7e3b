//! The connection table: what comes, what goes, what it takes.

use std::fs;
use std::time::Instant;

use lvs_core::{BATCH, Method, Tick};

use super::floor::Floor;
use super::median;
use super::report::Row;
use super::world::{Buffer, SYN, World, request};

/// The first packet of a connection, in a table that has so many already.
pub(super) fn new_connection(flows: u32) -> Vec<Row> {
    let room = flows + (RUNS * BATCHES * BATCH) as u32;
    let mut world = World::new(room, Method::Nat);
    world.fill(flows, Tick::ZERO);
    let mut floor = Floor::new(room as usize * BYTES);
    let (mut measured, mut floors) = (Vec::new(), Vec::new());
    let mut next = flows;
    for _ in 0..RUNS {
        let mut took = Vec::with_capacity(BATCHES);
        for _ in 0..BATCHES {
            let mut buffers: [Buffer; BATCH] = core::array::from_fn(|at| request(next + at as u32, SYN));
            next += BATCH as u32;
            let start = Instant::now();
            world.process(Tick::ZERO, &mut buffers);
            took.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
            while world.director.poll_event().is_some() {}
        }
        measured.push(median(took));
        floors.push(floor.nanoseconds(BATCHES, BATCH, ACCESSES));
    }
    let label = format!("new connection (NAT, rr) at {flows}, its first packet");
    let row = Row::named("new-connection", label, "ns", median(measured), "ns");
    vec![row.with("connections", flows).with_floor(median(floors)).with_aim(Some(200.0))]
}

/// Memory of the process before and after there were so many connections.
pub(super) fn bytes_per_connection(flows: u32) -> Vec<Row> {
    let small = World::new(1, Method::Nat);
    let before = resident();
    let mut world = World::new(flows, Method::Nat);
    world.fill(flows, Tick::ZERO);
    let (Some(before), Some(after)) = (before, resident()) else { return Vec::new() };
    let bytes = (after.saturating_sub(before)) as f64 / f64::from(flows);
    drop((small, world));
    let label = format!("bytes per connection, {flows} connections, process memory");
    let row = Row::named("bytes-per-connection", label, "bytes", bytes, "B");
    vec![row.with("connections", flows).with_aim(Some(100.0))]
}

/// Memory that the process has, in bytes (proc(5), `status`).
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok().map(|kibibytes: u64| kibibytes * 1_024)
}

/// Sweeping a table in which all expire at one time: the longest piece of the sweep that stands between two batches, as a worker
/// takes them.
pub(super) fn sweep(flows: u32) -> Vec<Row> {
    let mut least: Vec<u64> = Vec::new();
    let mut totals = Vec::new();
    for _ in 0..EQUAL_RUNS {
        let mut world = World::new(flows, Method::Nat);
        world.fill(flows, Tick::ZERO);
        let late = Tick::ZERO.plus_secs(10_000);
        let (mut total, mut left, mut piece) = (0, flows as usize, 0);
        while left > 0 {
            let start = Instant::now();
            left -= world.director.sweep_briefly(late, left).slots;
            let took = start.elapsed().as_nanos() as u64;
            total += took;
            match least.get_mut(piece) {
                Some(least) => *least = (*least).min(took),
                None => least.push(took),
            }
            piece += 1;
            while world.director.poll_event().is_some() {}
        }
        assert_eq!(world.director.counters().live, 0, "all have expired");
        totals.push(total as f64 / f64::from(flows));
    }
    let pieces = least.len();
    let worst = least.iter().copied().max().unwrap_or(0) as f64 / 1_000.0;
    let label = format!("sweep of {flows} expired, longest of {pieces} pieces");
    let pause = Row::named("sweep-pause", label, "us", worst, "µs");
    let each =
        Row::named("sweep", format!("sweep of {flows} expired, per entry"), "ns", median(totals), "ns");
    vec![
        pause.with("entries", flows).with("pieces", pieces).with_aim(Some(20.0)),
        each.with("entries", flows),
    ]
}

const RUNS: usize = 5;
const BATCHES: usize = 2_048;
const EQUAL_RUNS: usize = 3;
/// A new NAT connection writes two cells of the index, its slot and its wake-up time.
const ACCESSES: usize = 4;
const BYTES: usize = 97;
