//! What happened so far, in numbers.

use core::ops::AddAssign;

use crate::model::reason::Reason;
use crate::model::traffic::Traffic;

/// The director's own counters. All only grow, except `live`.
///
/// ```
/// # use lvs_core::{Config, Director, Heap, Seed};
/// # let store: Heap = Heap::with_capacity(16);
/// # let director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
/// let counters = director.counters();
/// for (reason, packets) in counters.by_reason() {
///     assert_eq!(packets, counters.of(reason));
/// }
/// assert_eq!(counters.by_reason().map(|(_, packets)| packets).sum::<u64>(), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Counters {
    /// Traffic in total.
    pub traffic: Traffic,
    /// Entries in the connection table now, expired ones that no sweep has freed yet included.
    pub live: u32,
    /// Entries freed because their time was up.
    pub expired: u64,
    /// Entries given up for new ones while the table was full, see
    /// [`WhenFull::Reclaim`](crate::config::WhenFull::Reclaim).
    pub reclaimed: u64,
    /// Entries given up for new ones that counted as established by their clients' packets alone, see
    /// [`Cause::OneWay`](crate::event::Cause::OneWay).
    pub reclaimed_one_way: u64,
    /// Events that found the queue full.
    pub events_lost: u64,
    /// Packets not forwarded, in the order of [`Reason::ALL`].
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::model::serial::by_reason"))]
    pub(crate) reasons: [u64; Reason::ALL.len()],
}

impl Counters {
    pub(crate) const ZERO: Self = Self {
        traffic: Traffic::ZERO,
        reasons: [0; Reason::ALL.len()],
        live: 0,
        expired: 0,
        reclaimed: 0,
        reclaimed_one_way: 0,
        events_lost: 0,
    };

    /// How many packets were not forwarded for `reason`.
    #[must_use]
    pub const fn of(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize]
    }

    /// How many packets were not forwarded, for each reason.
    pub fn by_reason(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.reasons)
    }

    pub(crate) fn note(&mut self, reason: Reason) {
        self.reasons[reason as usize] += 1;
    }
}

impl AddAssign for Counters {
    /// What several directors have counted, together.
    fn add_assign(&mut self, other: Self) {
        let Self { traffic, reasons, live, expired, reclaimed, reclaimed_one_way, events_lost } = other;
        self.traffic += traffic;
        self.reasons.iter_mut().zip(reasons).for_each(|(count, more)| *count += more);
        self.live += live;
        self.expired += expired;
        self.reclaimed += reclaimed;
        self.reclaimed_one_way += reclaimed_one_way;
        self.events_lost += events_lost;
    }
}
