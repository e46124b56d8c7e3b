//! Rates of counters.

use std::collections::HashMap;

/// What counters said last, and how fast they grew then.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: HashMap<String, Reading>,
    now: HashMap<String, Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    value: f64,
    seconds: f64,
    rate: Option<f64>,
}

impl Meter {
    /// Begins another round of readings. Counters that the last one had not are forgotten.
    pub(super) fn turn(&mut self) {
        self.before = core::mem::take(&mut self.now);
    }

    /// Notes what a counter says, and tells how much it grew in a second since the last reading.
    ///
    /// That is unknown at first, and for a counter that begins anew.
    pub(super) fn rate(&mut self, name: String, value: f64, seconds: f64) -> Option<f64> {
        let next = match self.before.get(&name) {
            // Nothing new has been published.
            Some(last) if last.seconds == seconds => *last,
            Some(last) if last.value <= value && last.seconds < seconds => {
                Reading { value, seconds, rate: Some((value - last.value) / (seconds - last.seconds)) }
            }
            Some(_) | None => Reading { value, seconds, rate: None },
        };
        self.now.insert(name, next);
        next.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_since_the_last_reading_and_a_new_beginning_has_none() {
        let mut meter = Meter::default();
        let mut rate = |value, seconds| {
            meter.turn();
            meter.rate("packets".to_owned(), value, seconds)
        };
        assert_eq!(rate(100.0, 1.0), None);
        assert_eq!(rate(300.0, 3.0), Some(100.0));
        assert_eq!(rate(300.0, 3.0), Some(100.0), "the same reading once more");
        assert_eq!(rate(10.0, 4.0), None, "the director was started anew");
        assert_eq!(rate(20.0, 5.0), Some(10.0));
        assert_eq!(rate(30.0, 0.5), None, "its clock too");
    }

    #[test]
    fn a_counter_that_is_gone_is_forgotten() {
        let mut meter = Meter::default();
        meter.rate("packets".to_owned(), 1.0, 1.0);
        for _ in 0..2 {
            meter.turn();
        }
        assert!(meter.before.is_empty() && meter.now.is_empty());
    }
}
