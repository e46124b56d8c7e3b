//! The connection table: what comes, what goes, what it takes.

use std::fs;
use std::time::Instant;

use lvs_core::batch::BATCH;
use lvs_core::{Family, Method, Tick};

use super::floor::Floor;
use super::frames::{Buffer, SYN, request};
use super::median;
use super::report::Row;
use super::steps::Steps;
use super::world::World;

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
            let mut buffers: [Buffer; BATCH] =
                core::array::from_fn(|at| request(Family::V4, next + at as u32, SYN));
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
    vec![row.with("connections", flows).with_floor("floor_ns", median(floors)).with_aim(Some(200.0))]
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

/// Sweeping a table in which all expire at one time: the pieces of the sweep that stand between two batches, as a
/// worker takes them.
pub(super) fn sweep(flows: u32) -> Vec<Row> {
    let mut pieces = Steps::default();
    let mut totals = Vec::new();
    for _ in 0..EQUAL_RUNS {
        let mut world = World::new(flows, Method::Nat);
        world.fill(flows, Tick::ZERO);
        let late = Tick::ZERO.plus_secs(10_000);
        let (mut took, mut left) = (Vec::new(), flows as usize);
        while left > 0 {
            let start = Instant::now();
            left -= world.director.sweep_briefly(late, left).slots;
            took.push(start.elapsed().as_nanos() as u64);
            while world.director.poll_event().is_some() {}
        }
        totals.push(took.iter().sum::<u64>() as f64 / f64::from(flows));
        pieces.add(took);
        assert_eq!(world.director.counters().live, 0, "all have expired");
    }
    let count = pieces.count();
    let what = format!("{count} pieces, sweep of {flows} expired");
    let pauses = pieces.rows("sweep-pause", &what, AIM);
    let each =
        Row::named("sweep", format!("sweep of {flows} expired, per entry"), "ns", median(totals), "ns");
    let mut rows: Vec<Row> = pauses.map(|row| row.with("pieces", count)).into();
    rows.push(each);
    rows.into_iter().map(|row| row.with("entries", flows)).collect()
}

const RUNS: usize = 5;
const BATCHES: usize = 2_048;
const EQUAL_RUNS: usize = 3;
/// Of the longest piece, in microseconds.
const AIM: f64 = 20.0;
/// A new NAT connection writes two cells of the index, its slot and its wake-up time.
const ACCESSES: usize = 4;
const BYTES: usize = 97;
