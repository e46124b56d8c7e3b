//! How long a real server takes to answer, and how it has stood: what embedders observe.

use crate::model::tick::Tick;

/// What came of a connection to a real server, or of a request on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The connection was served, which ends failures in a row.
    Success,
    /// The connection was served, and this long that took. `p2c` goes by latencies.
    Latency {
        /// Microseconds, such as until a connection was made or the first byte of an answer came.
        micros: u32,
    },
    /// The connection was refused, timed out, or was reset before an answer. A failure counts as a latency of five
    /// seconds.
    Failure,
}

/// When failures in a row hold a real server back; see [`Director::observe`](crate::Director::observe).
///
/// ```
/// use lvs_core::pick::FailurePolicy;
/// // Five failures in a row, for ten seconds; at most a third of a service's servers at one time.
/// let policy = FailurePolicy::new(5, 10).with_share(33);
/// assert_eq!((policy.failures, policy.secs, policy.share), (5, 10, 33));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FailurePolicy {
    /// So many failures in a row, at least 1.
    pub failures: u32,
    /// For so many seconds the first time, at least 1. Each time without a success in between it is twice as long, up
    /// to 64 times.
    pub secs: u32,
    /// No more than so many of a hundred of a service's usable servers are held back at one time, rounded down, so that
    /// a fault that all share does not take the last one away. Default 50.
    pub share: u8,
}

impl FailurePolicy {
    /// So many failures in a row hold a server back for so many seconds.
    #[must_use]
    pub const fn new(failures: u32, secs: u32) -> Self {
        Self { failures, secs, share: 50 }
    }

    /// Holds back no more than so many of a hundred.
    #[must_use]
    pub const fn with_share(mut self, share: u8) -> Self {
        self.share = share;
        self
    }
}

/// An average of latencies that forgets: each counts an eighth, and what is old loses half of its height each ten
/// seconds, so that a server that was slow once, and that nobody has asked since, is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Latency {
    /// Microseconds times 16; 0 while nothing was seen.
    average: u64,
    /// When the last one was seen.
    at: Tick,
}

impl Latency {
    /// Adds one.
    pub(crate) fn add(&mut self, now: Tick, micros: u32) {
        let new = u64::from(micros) * UNIT;
        let before = self.scaled(now);
        // A peak is believed at once, and forgotten by and by: to find out late that a server hangs costs more than to
        // spare it for a while.
        self.average = if new >= before { new } else { before - (before - new) / 8 };
        self.at = now;
    }

    /// Microseconds, as of now.
    pub(crate) fn micros(self, now: Tick) -> u64 {
        self.scaled(now) / UNIT
    }

    fn scaled(self, now: Tick) -> u64 {
        let idle = now.millis_since(self.at);
        let halvings = idle / HALF_LIFE_MILLIS;
        let kept = u32::try_from(halvings).ok().and_then(|by| self.average.checked_shr(by)).unwrap_or(0);
        // Between two halvings along a straight line.
        kept - kept / 2 * (idle % HALF_LIFE_MILLIS) / HALF_LIFE_MILLIS
    }
}

const UNIT: u64 = 16;
const HALF_LIFE_MILLIS: u64 = 10_000;

/// Whether failures hold a server back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// In a row.
    pub(crate) failures: u32,
    /// How often it was held back since its last success.
    pub(crate) times: u8,
    /// Until when it is.
    pub(crate) until: Option<Tick>,
    /// The weight that it has then.
    pub(crate) weight: u32,
}

impl Standing {
    /// Nothing was seen.
    pub(crate) const NEW: Self = Self { failures: 0, times: 0, until: None, weight: 0 };

    pub(crate) fn succeed(&mut self) {
        // One that is held back stays so for its time: a late answer is no sign of health.
        if self.until.is_none() {
            *self = Self::NEW;
        }
    }

    pub(crate) fn hold(&mut self, until: Tick, weight: u32) {
        self.until = Some(until);
        self.times = self.times.saturating_add(1);
        self.weight = weight;
    }

    /// Ends it, and gives the weight.
    pub(crate) fn come_back(&mut self) -> u32 {
        self.until = None;
        self.failures = 0;
        self.weight
    }
}

impl Latency {
    /// Nothing was seen.
    pub(crate) const NEW: Self = Self { average: 0, at: Tick::ZERO };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let mut latency = Latency::NEW;
        assert_eq!(latency.micros(Tick::ZERO), 0);
        latency.add(Tick::ZERO, 1_000);
        latency.add(Tick::ZERO, 9_000);
        assert_eq!(latency.micros(Tick::ZERO), 9_000);
        latency.add(Tick::ZERO, 1_000);
        assert_eq!(latency.micros(Tick::ZERO), 8_000);
        assert_eq!(latency.micros(Tick::from_millis(5_000)), 6_000);
        assert_eq!(latency.micros(Tick::from_millis(10_000)), 4_000);
        assert_eq!(latency.micros(Tick::from_millis(u64::MAX)), 0);
    }

    proptest! {
        #[test]
        fn an_average_lies_between_what_was_seen_and_never_rises_by_itself(
            seen in proptest::collection::vec((0_u64..30_000, any::<u32>()), 1..40), later: u64,
        ) {
            let (mut latency, mut now) = (Latency::NEW, Tick::ZERO);
            for &(wait, micros) in &seen {
                now = now.plus_millis(wait);
                latency.add(now, micros);
            }
            let most = seen.iter().map(|&(_, micros)| u64::from(micros)).max().unwrap_or(0);
            prop_assert!(latency.micros(now) <= most);
            prop_assert!(latency.micros(now.plus_millis(later)) <= latency.micros(now));
        }
    }
}
