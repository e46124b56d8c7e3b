//! The longest that one packet takes while a table is nearly full, or full.

use std::time::Instant;

use lvs_core::{Content, Director, Flow, Heap, Method, Packet, Protocol, TcpFlags, Tick, Verdict};

use super::report::Row;
use super::world::{World, client};

/// Connections come and go in a table that is 90 % full.
pub(super) fn churn(capacity: u32) -> Vec<Row> {
    let mut runs = Longest::new();
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
    runs.row("longest-decide-churn", format!("longest decide, churn at 90 % of {capacity}"), capacity)
}

/// SYNs of ever new clients into a table that is full of half-open connections.
pub(super) fn flood(capacity: u32) -> Vec<Row> {
    let mut runs = Longest::new();
    for _ in 0..EQUAL_RUNS {
        let mut world = World::new(capacity, Method::Nat);
        let mut took = Vec::new();
        for number in 0..2 * capacity {
            took.push(timed(&mut world.director, Tick::ZERO, number));
            while world.director.poll_event().is_some() {}
        }
        runs.add(took.split_off(capacity as usize));
    }
    runs.row(
        "longest-decide-syn-flood",
        format!("longest decide, SYN flood on a full table of {capacity}"),
        capacity,
    )
}

/// How long the director takes for a client's SYN.
fn timed(director: &mut Director<Heap>, now: Tick, number: u32) -> u64 {
    let virt = (core::net::Ipv4Addr::new(10, 99, 0, 1), 80).into();
    let Some(flow) = Flow::new(Protocol::Tcp, client(number).into(), virt) else { return 0 };
    let packet = Packet::new(flow, Content::Tcp(TcpFlags::SYN), 46);
    let start = Instant::now();
    let verdict = director.decide(now, &packet);
    let took = start.elapsed().as_nanos() as u64;
    assert!(matches!(verdict, Verdict::Forward(_)), "a new client finds a server: {verdict:?}");
    took
}

/// What each step took at least over equal runs.
struct Longest {
    least: Vec<u64>,
}

impl Longest {
    const fn new() -> Self {
        Self { least: Vec::new() }
    }

    fn add(&mut self, run: Vec<u64>) {
        if self.least.is_empty() {
            self.least = run;
        } else {
            self.least.iter_mut().zip(run).for_each(|(least, took)| *least = (*least).min(took));
        }
    }

    fn row(mut self, name: &str, label: String, capacity: u32) -> Vec<Row> {
        self.least.sort_unstable();
        let at = |part: f64| {
            let place = (self.least.len() as f64 * part) as usize;
            self.least.get(place.min(self.least.len().saturating_sub(1))).copied().unwrap_or(0) as f64
        };
        let row = Row::named(name, label, "us", at(1.0) / 1_000.0, "µs");
        vec![
            row.with("capacity", capacity)
                .with("median_ns", at(0.5))
                .with("p99999_ns", at(0.99999))
                .with_aim(Some(10.0)),
        ]
    }
}

const EQUAL_RUNS: usize = 3;
/// Packets between two moments.
const PACE: u32 = 64;
const HALF_OPEN_MS: u64 = 60_000;
