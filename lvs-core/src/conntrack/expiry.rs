//! When the sweep looks at an entry next, in two bytes.

use crate::model::state::{State, TcpState};
use crate::model::tick::Stamp;
use crate::proto::timeouts::TimeoutTable;

/// A moment in units of 1.024 s, modulo 2^16 of them.
///
/// The moment is rounded down, so that an entry is looked at no later than it should be; a look that comes too early
/// costs a read of its slot, and exact times are in there. Up to 4.6 hours ahead can be told, and what is further away
/// is looked at in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wake(u16);

impl Wake {
    pub(crate) const ZERO: Self = Self(0);

    /// The unit that a moment is in. One further ahead than can be told looks like an earlier one.
    #[inline]
    pub(crate) const fn at(moment: Stamp) -> Self {
        Self((moment.units() >> UNIT_BITS) as u16)
    }

    /// The unit of a moment after `now`, or as far ahead as can be told.
    pub(super) const fn towards(moment: Stamp, now: Stamp) -> Self {
        // Sixteen bits reach 18 hours, of which three quarters are kept for the past: a wake-up that a slow sweep left
        // behind must not look like the future.
        let ahead = moment.since(now);
        if ahead < (HORIZON as u32) << UNIT_BITS { Self::at(moment) } else { Self::furthest(now) }
    }

    /// As far ahead as can be told.
    pub(super) const fn furthest(now: Stamp) -> Self {
        Self(Self::at(now).0.wrapping_add(HORIZON))
    }

    /// Whether its unit has begun.
    #[inline]
    pub(super) const fn reached(self, now: Stamp) -> bool {
        self.0.wrapping_sub(Self::at(now).0).wrapping_sub(1) >= HORIZON
    }

    /// Whether it is before `other`, where they are less than 9 hours apart.
    #[inline]
    pub(crate) const fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i16) < 0
    }

    /// When its unit begins, if it has not been reached.
    pub(super) const fn next_begin(self, now: Stamp) -> Stamp {
        let ahead = self.0.wrapping_sub(Self::at(now).0) as u32;
        Stamp::from_bits((now.units() >> UNIT_BITS).wrapping_add(ahead) << UNIT_BITS)
    }

    /// The first of several, none of which has been reached.
    #[inline]
    pub(super) fn first_of<const N: usize>(wakes: &[Self; N], now: Stamp) -> Self {
        let now = Self::at(now).0;
        let ahead = wakes.iter().fold(HORIZON, |least, wake| least.min(wake.0.wrapping_sub(now)));
        Self(now.wrapping_add(ahead))
    }

    /// When its unit began, if that was `now` or less than [`ROUND_SECS`] twice before.
    pub(super) const fn begin(self, now: Stamp) -> Stamp {
        // Sixteen bits do not tell which round they are of; counted back from now they do.
        let past = Self::at(now).0.wrapping_sub(self.0) as u32;
        Stamp::from_bits((now.units() >> UNIT_BITS).wrapping_sub(past) << UNIT_BITS)
    }
}

/// A new deadline for an entry, with the wake-up that belongs to it: no later than the deadline, and no later than any
/// deadline that further packets may give the entry while its state stays what it is.
///
/// Deadlines are written by a lease or by a [`Renewal`] and in no other way, so none can come nearer than its wake-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(super) deadline: Stamp,
    pub(super) wake: Wake,
    /// The moment that the wake-up stands for.
    pub(super) earliest: Stamp,
}

impl Lease {
    /// The time that an entry's state gives it: `timeout` seconds from now.
    #[inline]
    pub(crate) const fn of_state(now: Stamp, timeout: u32) -> Self {
        let deadline = now.plus_secs(timeout);
        Self { deadline, wake: Wake::towards(deadline, now), earliest: deadline }
    }

    /// Another time than the entry's state gives it. A packet that changes nothing starts the state's own `timeout`,
    /// which may be the shorter one.
    pub(crate) const fn of_its_own(now: Stamp, secs: u32, timeout: u32) -> Self {
        let earliest = now.plus_secs(if timeout < secs { timeout } else { secs });
        Self { deadline: now.plus_secs(secs), wake: Wake::towards(earliest, now), earliest }
    }

    /// No more time.
    pub(crate) const fn over(now: Stamp) -> Self {
        Self::of_state(now, 0)
    }
}

/// The deadlines that packets which change no state give their connections at a moment. The wake-ups of those are early
/// enough already, see [`Lease`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    pub(super) established: Stamp,
    pub(super) udp: Stamp,
}

impl Renewal {
    pub(crate) const fn at(now: Stamp, timeouts: &TimeoutTable) -> Self {
        Self {
            established: now.plus_secs(timeouts.of(State::Tcp(TcpState::Established))),
            udp: now.plus_secs(timeouts.of(State::Udp)),
        }
    }
}

/// A unit is so many bits of a [`Stamp`]: 256 times 4 ms.
const UNIT_BITS: u32 = 8;
/// Units that can be told ahead; the other three quarters of the range are the past.
const HORIZON: u16 = 1 << 14;
/// The longest that once around the table may take: an entry that is passed at the beginning of one round and at the
/// end of the next must not find its time to look like the future again.
pub(super) const ROUND_SECS: u32 = 6 * 3_600;

const _: () = assert!(2 * ROUND_SECS < (u16::MAX - HORIZON) as u32 * 1_024 / 1_000);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tick::MAX_TIMEOUT_SECS;
    use proptest::prelude::*;

    /// Moments at both ends of the stamps' range, and anywhere.
    fn moment() -> impl Strategy<Value = Stamp> {
        let bits = prop_oneof![0_u32..2_000, u32::MAX - 2_000..=u32::MAX, any::<u32>()];
        bits.prop_map(Stamp::from_bits)
    }

    proptest! {
        #[test]
        fn a_wake_up_is_never_late_and_mostly_less_than_a_unit_early(
            now in moment(),
            secs in 0..=MAX_TIMEOUT_SECS,
        ) {
            let deadline = now.plus_secs(secs);
            prop_assert!(Wake::at(deadline).reached(deadline));
            let wake = Wake::towards(deadline, now);
            // Where the deadline is further away than can be told, it comes before.
            prop_assert!(wake.reached(now.plus_secs(secs.min(16_778))));
            let soon = secs < 2 && Wake::at(deadline) == Wake::at(now);
            prop_assert_eq!(wake.reached(now), soon, "no look for nothing");
            if secs < 16_000 {
                prop_assert_eq!(wake, Wake::at(deadline));
                prop_assert!(!wake.reached(deadline.minus_secs(2)) || secs < 2);
                prop_assert!(deadline.since(wake.begin(deadline)) < 1 << UNIT_BITS);
            }
        }

        #[test]
        fn a_wake_up_stays_reached_for_as_long_as_two_rounds_may_take(
            moment in moment(),
            late in 0..=2 * ROUND_SECS,
        ) {
            let now = moment.plus_secs(late);
            prop_assert!(Wake::at(moment).reached(now));
            prop_assert_eq!(Wake::at(Wake::at(moment).begin(now)), Wake::at(moment));
            prop_assert!(moment.since(Wake::at(moment).begin(now)) < 1 << UNIT_BITS);
        }

        #[test]
        fn wake_ups_have_an_order(moment in moment(), secs in 2_u32..30_000) {
            let (earlier, later) = (Wake::at(moment), Wake::at(moment.plus_secs(secs)));
            prop_assert!(earlier.before(later) && !later.before(earlier) && !later.before(later));
        }
    }
}
