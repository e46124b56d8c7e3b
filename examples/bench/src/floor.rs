//! What the machine's memory takes: random, independent accesses to as much memory as the tables have.

use core::hint::black_box;
use std::time::Instant;

use super::median;
use super::world::Random;

/// Memory that is touched at random.
pub(super) struct Floor {
    lines: Vec<[u64; 8]>,
    random: Random,
}

impl Floor {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        // Written, so that every line has memory of its own.
        let lines = (0..bytes.div_ceil(LINE) as u64).map(|number| [number; 8]).collect();
        Self { lines, random: Random::new() }
    }

    /// Nanoseconds per step, the median of so many batches, each of `accesses` lines that are read and written. The
    /// addresses of a batch are drawn before the clock starts, and no access waits for the one before.
    pub(super) fn nanoseconds(&mut self, batches: usize, batch: usize, accesses: usize) -> f64 {
        let mut places = vec![0; batch * accesses];
        let mut took = Vec::with_capacity(batches);
        for _ in 0..batches {
            places.fill_with(|| self.random.below(self.lines.len() as u32) as usize);
            let start = Instant::now();
            for place in black_box(&places) {
                if let Some(line) = self.lines.get_mut(*place) {
                    line[0] = line[0].wrapping_add(1);
                }
            }
            took.push(start.elapsed().as_nanos() as f64 / batch as f64);
            black_box(&self.lines);
        }
        median(took)
    }
}

const LINE: usize = 64;
