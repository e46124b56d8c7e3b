//! How long the steps of something took, and how long the machine itself paused in the same run.

use std::time::Instant;

use super::report::Row;

/// What each step took at least over equal runs, in nanoseconds. Whatever the machine does now and then seldom meets
/// the same step in all of them.
#[derive(Debug, Default)]
pub(super) struct Steps {
    least: Vec<u64>,
    /// The longest pause during each step of a loop that does nothing, at least over as many runs.
    pauses: Vec<u64>,
}

impl Steps {
    /// Adds a run: what each of its steps took, in nanoseconds. Takes as long again, to watch the machine.
    pub(super) fn add(&mut self, run: Vec<u64>) {
        let pauses = run.iter().map(|&took| pause(took)).collect();
        keep_least(&mut self.pauses, pauses);
        keep_least(&mut self.least, run);
    }

    /// How many steps a run has.
    pub(super) const fn count(&self) -> usize {
        self.least.len()
    }

    /// The time that one step in ten thousand exceeds, then the longest with the machine's own longest pause as its
    /// floor. `what` says what a step is.
    pub(super) fn rows(mut self, name: &str, what: &str, aim: f64) -> [Row; 2] {
        self.least.sort_unstable();
        self.pauses.sort_unstable();
        let (longest, pause) = (at(&self.least, 1.0) / 1_000.0, at(&self.pauses, 1.0) / 1_000.0);
        let slow = at(&self.least, SLOW);
        let few = Row::named(
            &format!("{name}-9999"),
            format!("99.99 % of {what}, at most"),
            "us",
            slow / 1_000.0,
            "µs",
        );
        let few = few.with("p9999_ns", slow).with_floor("pause_us", at(&self.pauses, SLOW) / 1_000.0);
        let row = Row::named(name, format!("longest of {what}"), "us", longest, "µs");
        let row = row
            .with("median_ns", at(&self.least, 0.5))
            .with("p9999_ns", slow)
            .with("p99999_ns", at(&self.least, 0.99999))
            .with_floor("pause_us", pause)
            .with_aim(Some(aim));
        [few, row]
    }
}

/// The longest time between two looks at the clock, while doing nothing else for so many nanoseconds.
fn pause(nanoseconds: u64) -> u64 {
    let start = Instant::now();
    let (mut last, mut longest) = (start, 0);
    loop {
        let now = Instant::now();
        longest = longest.max(now.duration_since(last).as_nanos() as u64);
        if now.duration_since(start).as_nanos() as u64 >= nanoseconds {
            return longest;
        }
        last = now;
    }
}

/// Keeps the lesser of each; a run that has more steps than those before adds them.
fn keep_least(least: &mut Vec<u64>, run: Vec<u64>) {
    least.iter_mut().zip(&run).for_each(|(least, &took)| *least = (*least).min(took));
    let known = least.len();
    least.extend(run.into_iter().skip(known));
}

/// The value that a part of them does not exceed; they are in order.
fn at(sorted: &[u64], part: f64) -> f64 {
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0) as f64
}

/// All but one in ten thousand.
const SLOW: f64 = 0.9999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_meets_one_run_does_not_count() {
        let mut steps = Steps::default();
        for run in [vec![300, 900_000, 310], vec![280, 320, 800_000], vec![700_000, 330, 305, 290]] {
            steps.add(run);
        }
        assert_eq!(steps.least, [280, 320, 305, 290]);
        assert_eq!((steps.count(), steps.pauses.len()), (4, 4));
        let [few, longest] = steps.rows("x", "steps", 10.0);
        assert_eq!((few.value, longest.value), (0.32, 0.32));
        assert!(longest.floor.is_some(), "the machine's own pauses stand beside it");
    }

    #[test]
    fn percentiles_leave_the_few_out() {
        let sorted: Vec<u64> = (0..20_000).collect();
        assert_eq!((at(&sorted, 0.5), at(&sorted, SLOW), at(&sorted, 1.0)), (10_000.0, 19_998.0, 19_999.0));
        assert_eq!(at(&[], 1.0), 0.0);
    }
}
