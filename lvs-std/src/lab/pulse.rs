//! Whether the machine kept going while something was measured by the clock.

use core::fmt::{Debug, Display};
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// A thread that wants to run every few milliseconds, and notes how much longer that took at the longest.
///
/// On a virtual machine, or a busy one, everything may stand still for a part of a second. Time-outs run off meanwhile,
/// so a server that is well fails its checks and a client gives up: whoever tests what happens in which time has to
/// know.
#[derive(Debug)]
pub struct Pulse {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    start: Instant,
    /// In microseconds, as all here.
    longest: AtomicU64,
    /// When it ran last, from the start.
    last: AtomicU64,
}

impl Shared {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How much longer than a beat it is since it ran.
    fn missed(&self) -> u64 {
        let since = self.elapsed().saturating_sub(self.last.load(Ordering::Relaxed));
        since.saturating_sub(BEAT.as_micros() as u64)
    }
}

impl Pulse {
    /// Begins to watch.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            start: Instant::now(),
            longest: AtomicU64::new(0),
            last: AtomicU64::new(0),
        });
        let watched = shared.clone();
        let watch = move || {
            while !watched.stop.load(Ordering::Relaxed) {
                thread::sleep(BEAT);
                watched.longest.fetch_max(watched.missed(), Ordering::Relaxed);
                watched.last.store(watched.elapsed(), Ordering::Relaxed);
            }
        };
        let thread = thread::Builder::new().name("pulse".to_owned()).spawn(watch)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// For how long it was kept from running at the longest, the present moment included: whoever asks may be awake
    /// before it.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let now = self.shared.missed();
        Duration::from_micros(self.shared.longest.load(Ordering::Relaxed).max(now))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to panic for.
            let _ = thread.join();
        }
    }
}

/// Makes an experiment whose times mean something only on a machine that keeps going. If it fails, or panics, and the
/// machine stood still for longer than `bearable` meanwhile, that says nothing: it is made again, three times at most.
/// Whatever it comes to in a time without such a gap stands, and so does the last one.
///
/// # Errors
/// What the experiment ends with.
///
/// # Panics
/// When the experiment does.
pub fn undisturbed<T, E: Debug + Display>(
    bearable: Duration,
    mut experiment: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..ATTEMPTS {
        // Without a thread for it nobody knows of gaps, so that the first answer stands.
        let Ok(pulse) = Pulse::start() else { break };
        let outcome = panic::catch_unwind(AssertUnwindSafe(&mut experiment));
        let gap = pulse.longest_gap();
        match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if gap <= bearable => return Err(error),
            Err(panic) if gap <= bearable => panic::resume_unwind(panic),
            Ok(Err(error)) => eprintln!("once more, since the machine stood still for {gap:?}: {error}"),
            Err(_) => eprintln!("once more, since the machine stood still for {gap:?}"),
        }
    }
    experiment()
}

const BEAT: Duration = Duration::from_millis(5);
const ATTEMPTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_on_a_machine_that_keeps_going_has_failed() {
        let mut times = 0;
        // No machine stands still for that long.
        let outcome = undisturbed(Duration::from_secs(3_600), || {
            times += 1;
            Err::<(), _>("no")
        });
        assert_eq!((outcome, times), (Err("no"), 1));
        let panics =
            || undisturbed(Duration::from_secs(3_600), || -> Result<(), &str> { panic!("of its own") });
        assert!(panic::catch_unwind(panics).is_err());
    }

    #[test]
    fn what_fails_while_the_machine_stands_still_is_tried_again() {
        let mut times = 0;
        let outcome = undisturbed(Duration::ZERO, || {
            times += 1;
            // Every machine is late by a microsecond in that time.
            thread::sleep(BEAT * 4);
            if times < ATTEMPTS { Err("still") } else { Ok(times) }
        });
        assert_eq!(outcome, Ok(ATTEMPTS));
        let mut times = 0;
        let outcome = undisturbed(Duration::ZERO, || {
            times += 1;
            thread::sleep(BEAT * 4);
            Err::<(), _>("always")
        });
        assert_eq!((outcome, times), (Err("always"), ATTEMPTS));
    }
}
