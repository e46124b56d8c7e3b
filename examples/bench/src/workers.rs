//! Two workers share nothing: do two of them do twice as much?
//!
//! What two processors can do more than one depends on the machine: those of a virtual one may be halves of one core,
//! and a core may be faster while its neighbour rests. So the same is measured of threads that do arithmetic in
//! registers.

use core::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use lvs_core::{Method, Tick};

use super::forward::nanoseconds;
use super::median;
use super::report::{Row, rounded};
use super::world::World;

/// Packets per second of two threads, each with a director of its own, against one; as the floor, the same of
/// arithmetic.
pub(super) fn rows(flows: u32) -> Vec<Row> {
    let mut worlds = [(); 2].map(|()| {
        let mut world = World::new(flows, Method::Nat);
        world.fill(flows, Tick::ZERO);
        world
    });
    let (mut ratios, mut machine, mut alone_all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (alone, ratio) = compare(&mut worlds, per_packet);
        alone_all.push(alone);
        ratios.push(ratio);
        machine.push(compare(&mut [(), ()], |()| arithmetic()).1);
    }
    let label = format!("two workers against one, NAT, {flows} flows each");
    let machine = median(machine);
    let mut row = Row::named("two-workers", label, "ratio", median(ratios), "x");
    row.floor = Some(machine);
    let row = row.with("flows", flows).with("alone_ns", rounded(median(alone_all)));
    vec![row.with("machine_ratio", rounded(machine)).with_aim(Some(1.9))]
}

/// The time of one alone, and how much more two do at one time.
fn compare<T: Send>(of: &mut [T; 2], time: impl Fn(&mut T) -> f64 + Sync) -> (f64, f64) {
    let alone = time(&mut of[0]);
    let barrier = Barrier::new(of.len());
    let together: Vec<f64> = thread::scope(|scope| {
        let start = |each| {
            let (barrier, time) = (&barrier, &time);
            scope.spawn(move || {
                barrier.wait();
                time(each)
            })
        };
        let threads: Vec<_> = of.iter_mut().map(start).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    (alone, together.iter().map(|each| alone / each).sum())
}

/// Nanoseconds that a thousand steps of arithmetic take, by the median.
fn arithmetic() -> f64 {
    let mut state = black_box([1_u64, 2, 3, 4, 5, 6]);
    let mut took = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        let start = Instant::now();
        for step in 0..1_000 {
            for word in &mut state {
                *word = word.rotate_left(13).wrapping_add(step) ^ *word >> 7;
            }
        }
        took.push(start.elapsed().as_nanos() as f64);
        black_box(state);
    }
    median(took)
}

/// Nanoseconds of elapsed time per packet, without the time to make the packets.
fn per_packet(world: &mut World) -> f64 {
    nanoseconds(world, false, BATCHES)
}

const RUNS: usize = 5;
const BATCHES: usize = 8_192;
const STEPS: usize = 8_192;
