//! What the machine itself adds to delays while two processors are busy: two threads that do nothing but read the
//! clock.
//!
//! On a virtual machine the host takes processors away now and then, for milliseconds. Whatever is to be forwarded
//! meanwhile waits, whoever forwards. So these are the slow ones that no director can do without, measured as the
//! directors' are.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use lvs_support::println;
use serde_json::json;

use super::median;
use super::stage::{DIRECTOR_PROCESSOR, SOURCE_PROCESSOR, pin};

/// What came of a turn, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jitter {
    /// What a thousandth would exceed.
    slow: f64,
    longest: f64,
}

/// A turn, in each round of those who forward.
pub(super) fn measure() -> Jitter {
    let gaps = watch();
    let micros = |gap: Duration| gap.as_nanos() as f64 / 1e3;
    let longest = gaps.iter().max().copied().unwrap_or_default();
    Jitter { slow: micros(exceeded_by_a_thousandth(&gaps, TURN)), longest: micros(longest) }
}

/// Prints the medians over turns.
pub(super) fn print(json: bool, turns: &[Jitter]) {
    let of = |what: fn(&Jitter) -> f64| median(turns.iter().map(what).collect());
    let (Some(slow), Some(longest)) = (of(|turn| turn.slow), of(|turn| turn.longest)) else { return };
    if json {
        let rounded = |figure: f64| (figure * 10.0).round() / 10.0;
        println!(
            "{}",
            json!({
                "row": format!("wire-{NAME}"),
                "rounds": turns.len(),
                "p999_us": rounded(slow),
                "longest_us": rounded(longest),
            })
        );
    } else {
        println!("{:<52} {:>10} {slow:>10.1}", "the machine, whoever forwards", "");
    }
}

/// How long a thread on the director's processor was kept from reading the clock, each time, while one on the
/// source's did the same.
fn watch() -> Vec<Duration> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(SOURCE_PROCESSOR);
            while !over.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        });
        let watcher = scope.spawn(|| {
            pin(DIRECTOR_PROCESSOR);
            let mut gaps = Vec::new();
            let (began, mut last) = (Instant::now(), Instant::now());
            while began.elapsed() < TURN {
                let now = Instant::now();
                let gap = now - last;
                if gap > SHORT {
                    gaps.push(gap);
                }
                last = now;
            }
            over.store(true, Ordering::Relaxed);
            gaps
        });
        // It has nothing to panic for.
        watcher.join().unwrap_or_default()
    })
}

/// Of frames at even distances, each of which waits for the end of the gap that it falls into, a thousandth waits
/// longer.
fn exceeded_by_a_thousandth(gaps: &[Duration], turn: Duration) -> Duration {
    let waits_longer = |than: Duration| gaps.iter().map(|gap| gap.saturating_sub(than)).sum::<Duration>();
    let (mut low, mut high) = (Duration::ZERO, turn);
    while high - low > Duration::from_nanos(100) {
        let middle = low + (high - low) / 2;
        if waits_longer(middle) > turn / 1_000 { low = middle } else { high = middle }
    }
    high
}

/// The row's.
pub(super) const NAME: &str = "latency-machine";
const TURN: Duration = Duration::from_secs(1);
/// What is shorter is no gap.
const SHORT: Duration = Duration::from_micros(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_delays_what_falls_into_it_until_its_end() {
        let second = Duration::from_secs(1);
        let milliseconds = Duration::from_millis;
        let slow = |gaps: &[Duration]| exceeded_by_a_thousandth(gaps, second).as_micros();
        assert_eq!(slow(&[]), 0);
        assert_eq!(slow(&[milliseconds(1)]), 0, "all that it delays is a thousandth");
        assert_eq!(slow(&[milliseconds(5)]), 4_000);
        assert_eq!(slow(&[milliseconds(5), milliseconds(5)]), 4_500);
    }
}
