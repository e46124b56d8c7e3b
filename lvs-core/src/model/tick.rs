//! Time as an argument: milliseconds that the caller counts.

use core::ops::Add;
use core::time::Duration;

/// A moment, in milliseconds since any fixed start that the caller chose.
///
/// The core keeps no clock: every method that depends on time takes a `Tick` first. Ticks given to one
/// director never go back; one that does is treated as if no time had passed.
///
/// Deadlines inside the connection table have a resolution of 4 ms (the kernel's jiffy at `HZ` 250) and are
/// compared modulo 2^32 of these units, so a table must be swept at least once in 99 days.
///
/// ```
/// use lvs_core::Tick;
/// let start = Tick::from_millis(0);
/// assert_eq!(start.plus_secs(2).as_millis(), 2_000);
///
/// // From a clock of the standard library: what has elapsed since a start that the program keeps.
/// let started = std::time::Instant::now();
/// let now = Tick::from(started.elapsed());
/// assert!(now + core::time::Duration::from_secs(1) > now);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The start of the caller's count.
    pub const ZERO: Self = Self(0);

    /// A moment `millis` milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `millis` milliseconds later; the last representable one instead of an overflow.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// The moment `secs` seconds later; the last representable one instead of an overflow.
    #[must_use]
    pub const fn plus_secs(self, secs: u64) -> Self {
        self.plus_millis(secs.saturating_mul(1_000))
    }

    /// Milliseconds from `earlier` to this moment, 0 when `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The first moment after this one that is a whole number of times `secs` seconds from the start.
    pub(crate) const fn next_multiple(self, secs: u64) -> Self {
        let period = secs * 1_000;
        Self((self.0 / period).saturating_add(1).saturating_mul(period))
    }

    /// Whether it is a whole number of times `secs` seconds from the start.
    pub(crate) const fn is_multiple(self, secs: u64) -> bool {
        self.0.is_multiple_of(secs * 1_000)
    }

    /// When a moment of the connection table comes; this one if it has come by then.
    pub(crate) const fn at_stamp(self, moment: Stamp) -> Self {
        match moment.millis_after(self.stamp()) {
            0 => self,
            after => Self(self.0 / MILLIS_PER_STAMP * MILLIS_PER_STAMP).plus_millis(after),
        }
    }

    /// The moment in units of the connection table.
    pub(crate) const fn stamp(self) -> Stamp {
        Stamp((self.0 / MILLIS_PER_STAMP) as u32)
    }
}

impl From<Duration> for Tick {
    /// The moment so long after the start: whole milliseconds, and the last representable one where there are more.
    fn from(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Tick> for Duration {
    /// The time since the start.
    fn from(tick: Tick) -> Self {
        Self::from_millis(tick.0)
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    /// The moment so much later: whole milliseconds, and the last representable one instead of an overflow.
    fn add(self, later: Duration) -> Self {
        self.plus_millis(Self::from(later).0)
    }
}

/// A moment inside the connection table: 4 ms units modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u32);

impl Stamp {
    pub(crate) const ZERO: Self = Self(0);

    /// The stamp as a number, for tables of numbers.
    pub(crate) const fn to_bits(self) -> u32 {
        self.0
    }

    /// The stamp of such a number.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// How long ago `earlier` was, in units of 4 ms, up to 2^32 of them.
    pub(crate) const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The stamp `secs` seconds later. Values past [`MAX_TIMEOUT_SECS`] would compare as past ones.
    pub(crate) const fn plus_secs(self, secs: u32) -> Self {
        Self(self.0.wrapping_add(secs.wrapping_mul(STAMPS_PER_SEC)))
    }

    /// The stamp `secs` seconds earlier.
    pub(crate) const fn minus_secs(self, secs: u32) -> Self {
        Self(self.0.wrapping_sub(secs.wrapping_mul(STAMPS_PER_SEC)))
    }

    /// The first moment after `now` that lies a whole number of times `secs` (at least one time) after this one, where
    /// this one is `now` or before it.
    pub(crate) const fn next_after(self, now: Self, secs: u32) -> Self {
        let step = secs.wrapping_mul(STAMPS_PER_SEC);
        let past = now.0.wrapping_sub(self.0);
        Self(self.0.wrapping_add((past / step + 1).wrapping_mul(step)))
    }

    /// The first moment at `from` or after it that is this one, or lies a whole number of times `secs` after it.
    pub(crate) const fn first_from(self, from: Self, secs: u32) -> Self {
        if from.reached(self) { self } else { self.next_after(Self(from.0.wrapping_sub(1)), secs) }
    }

    /// The number of 4 ms units, modulo 2^32.
    pub(crate) const fn units(self) -> u32 {
        self.0
    }

    /// Whether this moment is `now` or before it.
    pub(crate) const fn reached(self, now: Self) -> bool {
        now.0.wrapping_sub(self.0) as i32 >= 0
    }

    /// Whether this moment is before `other`.
    pub(crate) const fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Milliseconds from `now` to this moment, 0 when it is reached.
    pub(crate) const fn millis_after(self, now: Self) -> u64 {
        if self.reached(now) { 0 } else { self.0.wrapping_sub(now.0) as u64 * MILLIS_PER_STAMP }
    }
}

/// The longest time-out that the table can hold, in seconds (57 days): well inside half of the stamp's range, so
/// that a late sweep still sees a passed deadline as passed.
pub const MAX_TIMEOUT_SECS: u32 = 5_000_000;

const MILLIS_PER_STAMP: u64 = 4;
/// Stamps in a second.
pub(crate) const STAMPS_PER_SEC: u32 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_ticks_and_never_overflow() {
        assert_eq!(Tick::from(Duration::from_micros(1_999)), Tick::from_millis(1));
        assert_eq!(Tick::from(Duration::MAX), Tick::from_millis(u64::MAX));
        assert_eq!(Tick::from_millis(5) + Duration::MAX, Tick::from_millis(u64::MAX));
        let late = Tick::from_millis(u64::MAX);
        assert_eq!(Tick::from(Duration::from(late)), late);
    }

    #[test]
    fn stamps_compare_across_the_wrap() {
        let now = Tick::from_millis(u64::from(u32::MAX) * 4 - 40).stamp();
        let later = now.plus_secs(1);
        assert!(!later.reached(now));
        assert!(now.before(later));
        assert_eq!(later.millis_after(now), 1_000);
        assert!(later.reached(now.plus_secs(1)));
    }

    #[test]
    fn the_next_of_a_series_is_after_now() {
        let start = Stamp::ZERO.plus_secs(5);
        assert_eq!(start.next_after(start, 60), start.plus_secs(60));
        assert_eq!(start.next_after(start.plus_secs(59), 60), start.plus_secs(60));
        assert_eq!(start.next_after(start.plus_secs(60), 60), start.plus_secs(120));
        assert_eq!(start.next_after(start.plus_secs(601), 60), start.plus_secs(660));
        for (from, first) in [(0, 5), (5, 5), (6, 65), (65, 65), (66, 125)] {
            let from = Stamp::ZERO.plus_secs(from);
            assert_eq!(start.first_from(from, 60), Stamp::ZERO.plus_secs(first));
        }
    }

    #[test]
    fn the_longest_timeout_is_still_in_the_future() {
        let now = Tick::from_millis(12_345).stamp();
        assert!(!now.plus_secs(MAX_TIMEOUT_SECS).reached(now));
    }
}
