//! How long is the whole way of a packet: parse, decide, rewrite, address? By method and number of connections, one by
//! one and in batches of 32; TCP acknowledgements and datagrams of both families. And that of the first packet of a
//! connection, and of two workers at one time.
//!
//! `LVS_BENCH_MAX` bounds the number of connections (default 8,388,608, for which 1.2 GiB of memory are needed).

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

mod world;

use core::hint::black_box;
use core::time::Duration;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lvs_core::batch::BATCH;
use lvs_core::{Director, Heap, Tick};
use lvs_forward::{DropReason, Forwarder, Outcome};
use world::{Buffer, NAT_REQUEST, ROWS, World, frame};

/// The time that `rounds` batches take, without the time to make them: frames are edited in place, so each round needs
/// new ones. Reading the clock adds less than 1 ns per packet.
fn time(
    world: &mut World,
    rounds: u64,
    mut work: impl FnMut(&mut Forwarder, &mut Director<Heap>, &mut [Buffer; BATCH]),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let mut buffers = world.frames();
        let start = Instant::now();
        work(&mut world.forwarder, &mut world.director, &mut buffers);
        total += start.elapsed();
        black_box(&buffers);
    }
    total
}

fn pipeline(criterion: &mut Criterion) {
    for row in ROWS {
        let mut group = criterion.benchmark_group(format!("whole-way/{}", row.name));
        group.throughput(Throughput::Elements(BATCH as u64));
        for connections in [1_u32 << 10, 1 << 20, 1 << 23].into_iter().filter(|&size| size <= max()) {
            // The largest table says the same about every method; these suffice.
            if connections > 1 << 20 && !matches!(row.name, "nat-request" | "dr" | "nat6-request") {
                continue;
            }
            let mut world = World::among(0, row, connections, 0);
            group.bench_function(BenchmarkId::new("batch-32", connections), |bencher| {
                bencher.iter_custom(|rounds| {
                    time(&mut world, rounds, |forwarder, director, buffers| {
                        let mut frames = buffers.each_mut().map(frame);
                        let mut outcomes = [Outcome::Drop(DropReason::Malformed); BATCH];
                        forwarder.process_batch(director, Tick::ZERO, &mut frames, &mut outcomes);
                        black_box(&outcomes);
                    })
                });
            });
            group.bench_function(BenchmarkId::new("one-by-one", connections), |bencher| {
                bencher.iter_custom(|rounds| {
                    time(&mut world, rounds, |forwarder, director, buffers| {
                        for buffer in buffers {
                            let outcome = forwarder.process(director, Tick::ZERO, &mut frame(buffer));
                            let _ = black_box(outcome);
                        }
                    })
                });
            });
        }
        group.finish();
    }
}

/// The first packets of connections, NAT, in a table that has so many already.
fn new_connection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new-connection");
    group.throughput(Throughput::Elements(BATCH as u64));
    let connections = max().min(1 << 20);
    // A third as many again; then the table is made anew.
    let room = connections / 3;
    let mut world = World::among(0, NAT_REQUEST, connections, room);
    let mut left = room;
    group.bench_function(BenchmarkId::new("batch-32", connections), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                if left < BATCH as u32 {
                    world = World::among(0, NAT_REQUEST, connections, room);
                    left = room;
                }
                left -= BATCH as u32;
                let mut buffers = world.new_clients();
                let start = Instant::now();
                process(&mut world, &mut buffers);
                total += start.elapsed();
                while world.director.poll_event().is_some() {}
            }
            total
        });
    });
    group.finish();
}

/// Two directors that share nothing, each on a thread of its own, beside one alone: by elapsed time per packet of each.
fn two_workers(criterion: &mut Criterion) {
    let connections = max().min(1 << 16);
    let mut worlds = [(); 2].map(|()| World::among(0, NAT_REQUEST, connections, 0));
    let mut group = criterion.benchmark_group("workers");
    for count in [1, 2] {
        group.throughput(Throughput::Elements(count as u64 * BATCH as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_custom(|rounds| {
                let barrier = Barrier::new(count);
                let work = |world: &mut World| {
                    barrier.wait();
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        let mut buffers = world.frames();
                        let start = Instant::now();
                        process(world, &mut buffers);
                        total += start.elapsed();
                    }
                    total
                };
                thread::scope(|scope| {
                    let threads: Vec<_> =
                        worlds.iter_mut().take(count).map(|world| scope.spawn(|| work(world))).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap_or_default()
                })
            });
        });
    }
    group.finish();
}

fn process(world: &mut World, buffers: &mut [Buffer; BATCH]) {
    let mut frames = buffers.each_mut().map(frame);
    let mut outcomes = [Outcome::Drop(DropReason::Malformed); BATCH];
    world.forwarder.process_batch(&mut world.director, Tick::ZERO, &mut frames, &mut outcomes);
    black_box(&outcomes);
}

fn max() -> u32 {
    std::env::var("LVS_BENCH_MAX").ok().and_then(|max| max.parse().ok()).unwrap_or(1 << 23)
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = pipeline, new_connection, two_workers
}
criterion_main!(benches);
