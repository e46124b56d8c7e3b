//! How many ICMP errors may be sent: a token bucket, as Linux's `icmp_msgs_per_sec` and `icmp_msgs_burst`.

use lvs_core::Tick;

/// Errors that may be sent at once after a pause, in percent of a second's worth.
const BURST_PERCENT: u64 = 5;

#[cfg_attr(feature = "alloc", derive(Clone))]
pub(crate) struct Limiter {
    /// Thousandths of an error.
    tokens: u64,
    last: Tick,
}

impl Limiter {
    pub(crate) const fn new() -> Self {
        Self { tokens: u64::MAX, last: Tick::ZERO }
    }

    /// Whether one more error may be sent, at `rate` per second; 0 stands for any number.
    pub(crate) fn allows(&mut self, now: Tick, rate: u32) -> bool {
        if rate == 0 {
            return true;
        }
        let rate = u64::from(rate);
        // At least one whole error: a burst of less would let nothing through at low rates, however long the pause.
        let most = (rate * BURST_PERCENT * 10).max(1_000);
        let earned = now.millis_since(self.last).saturating_mul(rate);
        self.tokens = self.tokens.saturating_add(earned).min(most);
        self.last = now;
        match self.tokens.checked_sub(1_000) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::new();
        let sent = |limiter: &mut Limiter, millis| {
            (0..10_000).filter(|_| limiter.allows(Tick::from_millis(millis), 1_000)).count()
        };
        assert_eq!(sent(&mut limiter, 0), 50);
        assert_eq!(sent(&mut limiter, 10), 10);
        assert_eq!(sent(&mut limiter, 100_000), 50);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let mut limiter = Limiter::new();
        assert!((0..10_000).all(|_| limiter.allows(Tick::ZERO, 0)));
    }

    #[test]
    fn a_low_rate_still_lets_one_through() {
        let mut limiter = Limiter::new();
        assert!(limiter.allows(Tick::ZERO, 1));
        assert!(!limiter.allows(Tick::from_millis(500), 1));
        assert!(limiter.allows(Tick::from_millis(1_000), 1));
    }
}
