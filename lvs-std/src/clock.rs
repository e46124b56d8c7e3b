//! The only maker of ticks.

use std::time::Instant;

use lvs_core::Tick;

/// A clock that counts milliseconds from when it was started and never goes back (`CLOCK_MONOTONIC`). It stands still
/// while the machine sleeps, so connections outlive that.
///
/// Clocks do not agree with each other: a director gets its ticks from one clock.
///
/// ```
/// let clock = lvs_std::Clock::start();
/// let earlier = clock.now();
/// assert!(clock.now() >= earlier);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that shows 0 now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick::from_millis(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::thread;

    use super::*;

    #[test]
    fn ticks_are_milliseconds() {
        let clock = Clock::start();
        thread::sleep(Duration::from_millis(20));
        let millis = clock.now().as_millis();
        assert!((20..2_000).contains(&millis), "{millis}");
    }
}
