//! The engine as seen from other threads: what is probed, and what came out.

use core::fmt;
use core::time::Duration;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Failure, Probe, State};

/// A probe of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(pub(super) u64);

impl fmt::Display for ProbeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// News of a probe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The probe's state, or the weight that it advises, is another one.
    Changed {
        /// Which.
        id: ProbeId,
        /// What it is.
        probe: Arc<Probe>,
        /// What is believed now.
        state: State,
        /// The weight that it advises, if it does.
        advice: Option<u32>,
        /// What was wrong with the last answer, unless it was good.
        why: Option<Failure>,
    },
    /// The attempt could not be made, for a reason on this side ([`Failure::is_ours`]). Told once until the next
    /// answer.
    Hindered {
        /// Which.
        id: ProbeId,
        /// What it is.
        probe: Arc<Probe>,
        /// What is missing.
        why: Failure,
    },
}

/// What is known of a probe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Which.
    pub id: ProbeId,
    /// What it is.
    pub probe: Arc<Probe>,
    /// How many asked for it.
    pub users: usize,
    /// What is believed.
    pub state: State,
    /// The weight that it advises, if it does.
    pub advice: Option<u32>,
    /// What was wrong with the last attempt; `None` when it went well, or none has ended.
    pub why: Option<Failure>,
    /// When the state became what it is.
    pub since: Instant,
}

/// Says what an engine probes. Clones speak to the same one, which stops when the last of them is gone.
#[derive(Clone)]
pub struct Probes {
    pub(super) line: Arc<Line>,
    pub(super) board: Arc<Board>,
}

/// The way to the engine.
pub(super) struct Line {
    pub(super) orders: Mutex<Sender<Order>>,
    pub(super) waker: OwnedFd,
}

/// What the engine is told.
#[derive(Debug)]
pub(super) enum Order {
    Watch(ProbeId, Arc<Probe>),
    Forget(ProbeId),
    Stop,
}

impl Line {
    /// Orders go in the order of the lock that is held while they are given.
    fn give(&self, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        // An engine that is gone probes nothing; its last reports stay.
        if orders.send(order).is_ok() {
            // A counter that is full wakes as well as any.
            let _ = rustix::io::write(&self.waker, &1_u64.to_ne_bytes());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.give(Order::Stop);
    }
}

impl Probes {
    /// Asks for a probe. If it is there already, it is shared: its state may be known at once, and no event tells of
    /// it.
    pub fn watch(&self, probe: Probe) -> ProbeId {
        let mut table = self.board.table();
        if let Some(&id) = table.ids.get(&probe) {
            if let Some(report) = table.reports.get_mut(&id) {
                report.users += 1;
            }
            return id;
        }
        let id = ProbeId(table.next);
        table.next += 1;
        let probe = Arc::new(probe);
        table.ids.insert(probe.clone(), id);
        table.unknown += 1;
        let report = Report {
            id,
            probe: probe.clone(),
            users: 1,
            state: State::Unknown,
            advice: None,
            why: None,
            since: Instant::now(),
        };
        table.reports.insert(id, report);
        self.line.give(Order::Watch(id, probe));
        id
    }

    /// Has no use for a probe any more that it asked for. It ends with its last user. False when there is no such
    /// probe.
    pub fn forget(&self, id: ProbeId) -> bool {
        let mut table = self.board.table();
        let Some(report) = table.reports.get_mut(&id) else { return false };
        report.users -= 1;
        if report.users > 0 {
            return true;
        }
        if let Some(report) = table.reports.remove(&id) {
            table.ids.remove(&report.probe);
            if report.state == State::Unknown {
                table.unknown -= 1;
            }
        }
        self.board.changed.notify_all();
        self.line.give(Order::Forget(id));
        true
    }

    /// What is known of a probe.
    #[must_use]
    pub fn report(&self, id: ProbeId) -> Option<Report> {
        self.board.table().reports.get(&id).cloned()
    }

    /// What is known of all, in the order in which they were first asked for.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let mut reports: Vec<Report> = self.board.table().reports.values().cloned().collect();
        reports.sort_unstable_by_key(|report| report.id);
        reports
    }

    /// Whether every probe has had an answer, good or bad.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.board.table().unknown == 0
    }

    /// Waits until [`is_ready`](Self::is_ready), for `patience` at most. False when it is not.
    #[must_use]
    pub fn wait_until_ready(&self, patience: Duration) -> bool {
        let table = self.board.table();
        let waited = self.board.changed.wait_timeout_while(table, patience, |table| table.unknown > 0);
        let (table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        table.unknown == 0
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("count", &self.board.table().reports.len()).finish_non_exhaustive()
    }
}

/// What is known, for all to read.
#[derive(Debug, Default)]
pub(super) struct Board {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    ids: HashMap<Arc<Probe>, ProbeId>,
    reports: HashMap<ProbeId, Report>,
    /// How many of them are unknown.
    unknown: usize,
    next: u64,
}

impl Board {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is new of a probe. Nothing if nobody wants it any more.
    pub(super) fn note(&self, id: ProbeId, state: State, advice: Option<u32>, why: Option<Failure>) {
        let mut table = self.table();
        let Some(report) = table.reports.get_mut(&id) else { return };
        let before = report.state;
        if before != state {
            report.since = Instant::now();
        }
        report.state = state;
        report.advice = advice;
        report.why = why;
        if before == State::Unknown && state != State::Unknown {
            table.unknown -= 1;
            self.changed.notify_all();
        }
    }
}
