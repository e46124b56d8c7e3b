//! How long a real server takes to answer, and how it has stood: what embedders observe.

use crate::model::id::ServerId;
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
    /// No more than so many of a hundred of a service's servers of a weight above 0 are held back at one time, rounded
    /// down, so that a fault that all share does not take the last one away. More than 99 count as 99. It is looked at
    /// when a server would be held back: who is held back already stays so when others are removed or quiesced. Default
    /// 50.
    pub share: u8,
}

impl FailurePolicy {
    /// So many failures in a row hold a server back for so many seconds.
    #[must_use]
    pub const fn new(failures: u32, secs: u32) -> Self {
        Self { failures, secs, share: 50 }
    }

    /// Holds back no more than so many of a hundred, 99 at most.
    #[must_use]
    pub const fn with_share(mut self, share: u8) -> Self {
        self.share = share;
        self
    }

    /// Whether one more may be held back where so many of `all` are.
    pub(crate) fn allows(&self, held: u64, all: u64) -> bool {
        (held + 1) * 100 <= all * u64::from(self.share.min(MOST_SHARE))
    }
}

/// With every share below a hundred of a hundred, one server is left.
const MOST_SHARE: u8 = 99;

/// An average of latencies that forgets: each counts an eighth, and what is old loses half of its height each ten
/// seconds, so that a server that was slow once, and that nobody has asked since, is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Latency {
    /// Microseconds times 16, at least 16; 0 while nothing was seen.
    average: u64,
    /// When the last one was seen.
    at: Tick,
}

impl Latency {
    /// Adds one.
    pub(crate) fn add(&mut self, now: Tick, micros: u32) {
        let new = u64::from(micros.max(1)) * UNIT;
        let before = self.scaled(now);
        // A peak is believed at once, and forgotten by and by: to find out late that a server hangs costs more than to
        // spare it for a while.
        self.average = if new >= before { new } else { before - (before - new) / 8 };
        self.at = now;
    }

    /// Microseconds, as of now: 0 if none was ever seen, else at least 1. What is forgotten by and by is how slow a
    /// server was, and never that it is known.
    pub(crate) fn micros(self, now: Tick) -> u64 {
        if self.average == 0 { 0 } else { (self.scaled(now) / UNIT).max(1) }
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

/// A server's weight, and whether failures hold it back. While they do its weight stays what was configured, and counts
/// as 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// What schedulers go by: each change to the others sets it, so that they read one number.
    counted: u32,
    configured: u32,
    /// The last one configured that was not 0: `mh` keeps a quiesced server's places.
    last: u32,
    /// Failures in a row.
    failures: u32,
    /// How often it was held back since its last success.
    times: u8,
    /// Until when it is.
    until: Option<Tick>,
}

impl Standing {
    /// Of a server of this weight that nothing was seen of.
    pub(crate) const fn new(weight: u32) -> Self {
        Self { counted: weight, configured: weight, last: weight, failures: 0, times: 0, until: None }
    }

    /// The weight that schedulers go by.
    #[inline(always)]
    pub(crate) const fn counted(&self) -> u32 {
        self.counted
    }

    /// The weight as configured.
    pub(crate) const fn configured(&self) -> u32 {
        self.configured
    }

    pub(crate) const fn last_weight(&self) -> u32 {
        self.last
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) const fn held_until(&self) -> Option<Tick> {
        self.until
    }

    /// Gives it another weight; how it stands, it stands.
    pub(crate) fn configure(&mut self, weight: u32) {
        self.configured = weight;
        if weight != 0 {
            self.last = weight;
        }
        self.hold_until(self.until);
    }

    pub(crate) fn succeed(&mut self) {
        // One that is held back stays so for its time: a late answer is no sign of health.
        if self.until.is_none() {
            (self.failures, self.times) = (0, 0);
        }
    }

    pub(crate) const fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether its failures are enough to hold it back, which they do not yet.
    pub(crate) fn has_failed(&self, policy: FailurePolicy) -> bool {
        // Who came back on trial has one failure.
        let enough = if self.times > 0 { 1 } else { policy.failures.max(1) };
        self.failures >= enough && self.until.is_none()
    }

    /// Holds it back from now on. Says until when.
    pub(crate) fn hold(&mut self, now: Tick, policy: FailurePolicy) -> Tick {
        let secs = u64::from(policy.secs.max(1)) << self.times.min(MOST_DOUBLINGS);
        let until = now.plus_secs(secs);
        self.times = self.times.saturating_add(1);
        self.hold_until(Some(until));
        until
    }

    /// Ends it: the server is on trial.
    pub(crate) fn come_back(&mut self) {
        self.failures = 0;
        self.hold_until(None);
    }

    /// Forgets all failures. A server that is held back may come back at once.
    pub(crate) fn forgive(&mut self) {
        (self.failures, self.times) = (0, 0);
        self.hold_until(self.until.map(|_| Tick::ZERO));
    }

    fn hold_until(&mut self, until: Option<Tick>) {
        self.until = until;
        self.counted = if until.is_some() { 0 } else { self.configured };
    }
}

/// How often the time of being held back is doubled at the most.
const MOST_DOUBLINGS: u8 = 6;

/// A server's place in the chain of those that are held back. Who is removed meanwhile stays in it until the chain is
/// next gone through, whatever server has the place then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldLink {
    pub(crate) listed: bool,
    pub(crate) next: Option<ServerId>,
}

impl HeldLink {
    pub(crate) const NONE: Self = Self { listed: false, next: None };
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
        assert_eq!(latency.micros(Tick::from_millis(u64::MAX)), 1);
        latency.add(Tick::from_millis(u64::MAX), 0);
        assert_eq!(latency.micros(Tick::from_millis(u64::MAX)), 1, "it is known");
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
            prop_assert!((1..=most.max(1)).contains(&latency.micros(now)));
            prop_assert!(latency.micros(now.plus_millis(later)) <= latency.micros(now));
        }
    }
}
