//! What happened so far, in numbers.

use core::ops::AddAssign;

use crate::verdict::Reason;

/// Traffic of a service, a real server or the whole director, as `ipvsadm --stats` shows it.
///
/// Bytes are those of whole IP packets. A packet counts when it is decided, so one that is later too big or has
/// no hop left to live counts as well, as in IPVS. A removed real server counts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from real servers that passed the director.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes from real servers that passed the director.
    pub out_bytes: u64,
}

impl Traffic {
    pub(crate) const ZERO: Self =
        Self { connections: 0, in_packets: 0, out_packets: 0, in_bytes: 0, out_bytes: 0 };

    pub(crate) fn count_in(&mut self, length: u32) {
        self.in_packets += 1;
        self.in_bytes += u64::from(length);
    }

    pub(crate) fn count_out(&mut self, length: u32) {
        self.out_packets += 1;
        self.out_bytes += u64::from(length);
    }
}

impl AddAssign for Traffic {
    /// What several directors had, together.
    fn add_assign(&mut self, other: Self) {
        let Self { connections, in_packets, out_packets, in_bytes, out_bytes } = other;
        self.connections += connections;
        self.in_packets += in_packets;
        self.out_packets += out_packets;
        self.in_bytes += in_bytes;
        self.out_bytes += out_bytes;
    }
}

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
    /// Entries given up for new ones while the table was full, see [`WhenFull::Reclaim`](crate::WhenFull::Reclaim).
    pub reclaimed: u64,
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
        let Self { traffic, reasons, live, expired, reclaimed, events_lost } = other;
        self.traffic += traffic;
        self.reasons.iter_mut().zip(reasons).for_each(|(count, more)| *count += more);
        self.live += live;
        self.expired += expired;
        self.reclaimed += reclaimed;
        self.events_lost += events_lost;
    }
}
