//! What happened so far, in numbers.

use core::ops::AddAssign;

use crate::model::reason::Reason;
use crate::model::traffic::Traffic;

/// The director's own counters. All only grow, except `live`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Traffic in total.
    pub traffic: Traffic,
    /// Packets not forwarded, by [`Reason`] in the order of [`Reason::ALL`]; see [`Counters::of`].
    pub reasons: [u64; Reason::ALL.len()],
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
