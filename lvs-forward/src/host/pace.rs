//! How many frames of the host's own may leave in a millisecond.

use lvs_core::Tick;

/// A bucket of tokens: so many a millisecond, and as many at once after a pause as its burst.
#[cfg_attr(feature = "alloc", derive(Clone))]
pub(super) struct Pace {
    each_ms: u64,
    burst: u64,
    tokens: u64,
    last: Tick,
}

impl Pace {
    /// Announcements: those of 20,000 addresses take less than a second.
    pub(super) const ANNOUNCEMENTS: Self = Self::new(32, 64);

    pub(super) const fn new(each_ms: u64, burst: u64) -> Self {
        Self { each_ms, burst, tokens: burst, last: Tick::ZERO }
    }

    /// Whether one more may leave now.
    pub(super) fn take(&mut self, now: Tick) -> bool {
        let earned = now.millis_since(self.last).saturating_mul(self.each_ms);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            self.last = now;
        }
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// When the next one may leave at the earliest.
    pub(super) fn next_at(&self) -> Tick {
        if self.tokens > 0 { Tick::ZERO } else { self.last.plus_millis(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_so_many_a_millisecond() {
        let mut pace = Pace::new(2, 5);
        let at = |millis: u64| Tick::from_millis(1_000 + millis);
        let taken = |pace: &mut Pace, millis| (0..100).filter(|_| pace.take(at(millis))).count();
        assert_eq!(taken(&mut pace, 0), 5);
        assert_eq!(pace.next_at(), at(1), "and not before");
        assert_eq!(taken(&mut pace, 1), 2);
        assert_eq!(taken(&mut pace, 3), 4);
        assert_eq!(taken(&mut pace, 9_000), 5);
    }
}
