//! The longest that one packet takes while a table is nearly full, or full.

use std::time::Instant;

use lvs_core::{
    Content, Director, Family, Flow, Heap, Inspected, Method, Packet, Protocol, TcpFlags, Tick, Verdict,
};

use super::frames::{client, service};
use super::report::Row;
use super::steps::Steps;
use super::world::World;

/// Connections come and go in a table that is 90 % full.
pub(super) fn churn(capacity: u32) -> Vec<Row> {
    let mut runs = Steps::default();
    for _ in 0..EQUAL_RUNS {
        let mut world = World::new(capacity, Method::Nat);
        let level = capacity / 10 * 9;
        let mut now = Tick::ZERO;
        let mut next = 0;
        // Half-open connections live 60 s: at this pace as many end as begin.
        let mut step = |world: &mut World, took: &mut Vec<u64>| {
            let nanoseconds = timed(&mut world.director, now, next);
            took.push(nanoseconds);
            next += 1;
            if next % PACE == 0 {
                now = now.plus_millis(HALF_OPEN_MS * u64::from(PACE) / u64::from(level));
                world.director.sweep(now, PACE as usize * 2);
            }
            while world.director.poll_event().is_some() {}
        };
        let mut took = Vec::new();
        for _ in 0..level + capacity {
            step(&mut world, &mut took);
        }
        let took = took.split_off(level as usize);
        runs.add(took);
    }
    rows(runs, "longest-decide-churn", &format!("decides, churn at 90 % of {capacity}"), capacity)
}

/// SYNs of ever new clients into a table that is full of half-open connections.
pub(super) fn flood(capacity: u32) -> Vec<Row> {
    let mut runs = Steps::default();
    for _ in 0..EQUAL_RUNS {
        let mut world = World::new(capacity, Method::Nat);
        let mut took = Vec::new();
        for number in 0..2 * capacity {
            took.push(timed(&mut world.director, Tick::ZERO, number));
            while world.director.poll_event().is_some() {}
        }
        runs.add(took.split_off(capacity as usize));
    }
    rows(runs, "longest-decide-syn-flood", &format!("decides, SYN flood, full table of {capacity}"), capacity)
}

fn rows(runs: Steps, name: &str, what: &str, capacity: u32) -> Vec<Row> {
    runs.rows(name, what, AIM).map(|row| row.with("capacity", capacity)).into()
}

/// How long the director takes for a client's SYN.
fn timed(director: &mut Director<Heap>, now: Tick, number: u32) -> u64 {
    let (client, virt) = (client(Family::V4, number), service(Family::V4));
    let Some(flow) = Flow::new(Protocol::Tcp, client, virt) else { return 0 };
    let packet = Packet::new(flow, Content::Tcp(TcpFlags::SYN), 46);
    let start = Instant::now();
    let verdict = director.decide(now, &packet, Inspected::Nothing);
    let took = start.elapsed().as_nanos() as u64;
    assert!(matches!(verdict, Verdict::Forward(_)), "a new client finds a server: {verdict:?}");
    took
}

const EQUAL_RUNS: usize = 3;
/// Microseconds.
const AIM: f64 = 10.0;
/// Packets between two moments.
const PACE: u32 = 64;
const HALF_OPEN_MS: u64 = 60_000;
