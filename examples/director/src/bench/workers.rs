//! Two workers share nothing: do two of them do twice as much?

use std::sync::Barrier;
use std::thread;

use lvs_core::{Method, Tick};

use super::forward::nanoseconds;
use super::median;
use super::report::{Row, rounded};
use super::world::World;

/// Packets per second of two threads, each with a director of its own, against one.
pub(super) fn rows(flows: u32) -> Vec<Row> {
    let mut worlds = [(); 2].map(|()| {
        let mut world = World::new(flows, Method::Nat);
        world.fill(flows, Tick::ZERO);
        world
    });
    let mut ratios = Vec::new();
    let mut alone_all = Vec::new();
    for _ in 0..RUNS {
        let [first, _] = &mut worlds;
        let alone = per_packet(first);
        let barrier = Barrier::new(worlds.len());
        let together: Vec<f64> = thread::scope(|scope| {
            let threads: Vec<_> = worlds
                .iter_mut()
                .map(|world| {
                    scope.spawn(|| {
                        barrier.wait();
                        per_packet(world)
                    })
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        ratios.push(together.iter().map(|each| alone / each).sum());
        alone_all.push(alone);
    }
    let label = format!("two workers against one, NAT, {flows} flows each");
    let row = Row::named("two-workers", label, "ratio", median(ratios), "x");
    vec![row.with("flows", flows).with("alone_ns", rounded(median(alone_all))).with_aim(Some(1.9))]
}

/// Nanoseconds of elapsed time per packet, without the time to make the packets.
fn per_packet(world: &mut World) -> f64 {
    nanoseconds(world, false, BATCHES)
}

const RUNS: usize = 5;
const BATCHES: usize = 8_192;
