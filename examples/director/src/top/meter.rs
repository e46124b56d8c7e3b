//! Rates of counters.

use std::collections::HashMap;

/// What counters said last, and how fast they grew then.
#[derive(Debug, Default)]
pub(super) struct Meter(HashMap<String, Reading>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    value: f64,
    seconds: f64,
    rate: f64,
}

impl Meter {
    /// Notes what a counter says, and tells how much it grew in a second since the last reading.
    ///
    /// That is 0 at first, and for a counter that begins anew.
    pub(super) fn rate(&mut self, name: String, value: f64, seconds: f64) -> f64 {
        let next = match self.0.get(&name) {
            // Nothing new has been published.
            Some(last) if last.seconds == seconds => *last,
            Some(last) if last.value <= value && last.seconds < seconds => {
                Reading { value, seconds, rate: (value - last.value) / (seconds - last.seconds) }
            }
            Some(_) | None => Reading { value, seconds, rate: 0.0 },
        };
        self.0.insert(name, next);
        next.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_since_the_last_reading_and_a_new_beginning_has_none() {
        let mut meter = Meter::default();
        let mut rate = |value, seconds| meter.rate("packets".to_owned(), value, seconds);
        assert_eq!(rate(100.0, 1.0), 0.0);
        assert_eq!(rate(300.0, 3.0), 100.0);
        assert_eq!(rate(300.0, 3.0), 100.0, "the same reading once more");
        assert_eq!(rate(10.0, 4.0), 0.0, "the director was started anew");
        assert_eq!(rate(20.0, 5.0), 10.0);
        assert_eq!(rate(30.0, 0.5), 0.0, "its clock too");
    }
}
