//! How long may a packet have to wait? The longest piece of the sweep, the longest single decision while connections
//! come and go in a table that is nearly full, and under a flood of SYNs when it is full. And what the sweep takes per
//! entry.
//!
//! A longest time is the largest of what each step took at least over three equal runs, so that what else the machine
//! does is not counted. `LVS_BENCH_MAX` bounds the number of connections (default 1,048,576).

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use core::net::Ipv4Addr;
use core::time::Duration;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lvs_core::packet::Addresses;
use lvs_core::{
    Config, Content, Director, Flow, Heap, Inspected, Method, Packet, Protocol, Scheduler, Seed,
    ServerConfig, ServiceConfig, ServiceKey, TcpFlags, Tick, Verdict,
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Half-open connections live so long.
const HALF_OPEN_MS: u64 = 60_000;
/// Packets between two moments.
const PACE: u32 = 64;
const EQUAL_RUNS: usize = 3;

/// The first packet of client number `number`.
fn syn(number: u32) -> Packet {
    let source = Ipv4Addr::from_bits(0x0b00_0000 + number / 16);
    let flow = Flow {
        protocol: Protocol::Tcp,
        addresses: Addresses::V4 { source, destination: VIP },
        source_port: 1_024 + (number % 16) as u16,
        destination_port: 80,
    };
    Packet::new(flow, Content::Tcp(TcpFlags::SYN), 46)
}

fn director(capacity: u32) -> Director<Heap> {
    let mut director =
        Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(capacity as usize));
    let service = ServiceKey::tcp(VIP.into(), 80);
    director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
    for number in 1..=16 {
        let address = (Ipv4Addr::new(10, 0, 1, number), 80).into();
        director.add_server(service, ServerConfig::new(address, Method::Nat)).unwrap();
    }
    director
}

/// How long the director takes for the SYN of a client.
fn decide(director: &mut Director<Heap>, now: Tick, number: u32) -> Duration {
    let packet = syn(number);
    let start = Instant::now();
    let verdict = director.decide(now, &packet, Inspected::Nothing);
    let took = start.elapsed();
    assert!(matches!(verdict, Verdict::Forward(_)));
    while director.poll_event().is_some() {}
    took
}

/// The largest of what each step takes at least, over equal runs.
fn longest<I: Iterator<Item = Duration>>(run: impl Fn() -> I) -> Duration {
    let mut least: Vec<Duration> = run().collect();
    for _ in 1..EQUAL_RUNS {
        least.iter_mut().zip(run()).for_each(|(least, took)| *least = took.min(*least));
    }
    least.into_iter().max().unwrap_or_default()
}

/// Sweeps a table in which all have expired, and says what the pieces took.
fn sweep(capacity: u32) -> impl Iterator<Item = Duration> {
    let mut director = director(capacity);
    for number in 0..capacity {
        decide(&mut director, Tick::ZERO, number);
    }
    let late = Tick::from_millis(HALF_OPEN_MS * 2);
    let mut left = capacity as usize;
    core::iter::from_fn(move || {
        if left == 0 {
            assert_eq!(director.counters().live, 0, "all were swept");
            return None;
        }
        let start = Instant::now();
        left -= director.sweep_briefly(late, left).slots;
        let took = start.elapsed();
        while director.poll_event().is_some() {}
        Some(took)
    })
}

/// Decisions while as many connections end as begin, at nine tenths of a table.
fn churn(capacity: u32) -> impl Iterator<Item = Duration> {
    let mut director = director(capacity);
    let level = capacity / 10 * 9;
    let mut now = Tick::ZERO;
    let steps = (0..level + capacity).map(move |number| {
        if number % PACE == 0 {
            now = now.plus_millis(HALF_OPEN_MS * u64::from(PACE) / u64::from(level));
            director.sweep(now, PACE as usize * 2);
        }
        decide(&mut director, now, number)
    });
    steps.skip(level as usize)
}

/// Decisions for new clients when all places are taken by half-open connections.
fn flood(capacity: u32) -> impl Iterator<Item = Duration> {
    let mut director = director(capacity);
    let steps = (0..2 * capacity).map(move |number| decide(&mut director, Tick::ZERO, number));
    steps.skip(capacity as usize)
}

fn bounds(criterion: &mut Criterion) {
    let max = std::env::var("LVS_BENCH_MAX").ok().and_then(|max| max.parse().ok()).unwrap_or(1 << 20);
    let mut group = criterion.benchmark_group("bounds");
    for capacity in [1_u32 << 10, 1 << 20].into_iter().filter(|&size| size <= max) {
        let mut row = |name: &str, run: &dyn Fn(u32) -> Duration| {
            group.bench_function(BenchmarkId::new(name, capacity), |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| run(capacity)).sum());
            });
        };
        row("sweep-per-entry", &|capacity| sweep(capacity).sum::<Duration>() / capacity);
        row("sweep-longest-piece", &|capacity| longest(|| sweep(capacity)));
        row("longest-decide-churn", &|capacity| longest(|| churn(capacity)));
        row("longest-decide-syn-flood", &|capacity| longest(|| flood(capacity)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(1));
    targets = bounds
}
criterion_main!(benches);
