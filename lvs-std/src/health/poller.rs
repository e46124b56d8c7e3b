//! What the engine waits for: descriptors (`epoll(7)`) and times.

use core::cmp::Reverse;
use core::mem::MaybeUninit;
use core::time::Duration;
use std::collections::BinaryHeap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// Descriptors that are watched, each with a number of its own.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Tells of a descriptor whenever it becomes readable or writable, until it is closed: by edges, so it must be used
    /// until it would block.
    pub(super) fn watch(&self, descriptor: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(token), flags)
    }

    /// Waits for `patience` at most, and returns the numbers of descriptors at which something happened.
    pub(super) fn wait(&self, patience: Option<Duration>, ready: &mut Vec<u64>) -> Result<(), Errno> {
        let patience = patience.map(|patience| {
            // The kernel counts in milliseconds before Linux 5.11; a rounded up wait is never too short.
            let millis = patience.as_micros().div_ceil(1_000).min(MOST_MILLIS);
            Timespec { tv_sec: (millis / 1_000) as i64, tv_nsec: (millis % 1_000) as i64 * 1_000_000 }
        });
        let mut room = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        ready.clear();
        match epoll::wait(&self.epoll, &mut room, patience.as_ref()) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Times at which something is due, the next first. They are rounded up to a common beat, so that what is due at nearly
/// the same time is done together.
#[derive(Debug)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    origin: Instant,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), origin: Instant::now() }
    }

    /// Notes that `token` is due at a time. One that was noted before is not forgotten: its owner knows that it has
    /// other plans.
    pub(super) fn set(&mut self, due: Instant, token: u64) {
        let beats = due.saturating_duration_since(self.origin).as_nanos().div_ceil(BEAT.as_nanos());
        let beats = u32::try_from(beats).unwrap_or(u32::MAX);
        let due = self.origin.checked_add(BEAT.saturating_mul(beats)).map_or(due, |beat| beat.max(due));
        self.heap.push(Reverse((due, token)));
    }

    /// How many are noted.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets those that are of no use.
    pub(super) fn retain(&mut self, mut of_use: impl FnMut(u64) -> bool) {
        self.heap.retain(|Reverse((_, token))| of_use(*token));
    }

    /// The next time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// A token that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u64> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, token))| token)
    }
}

/// Events that are fetched at a time.
const EVENTS: usize = 256;
/// What times are rounded up to. Four milliseconds make 10,000 checks a second 40 at a time.
const BEAT: Duration = Duration::from_millis(4);
/// A day.
const MOST_MILLIS: u128 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_never_early_and_at_most_a_beat_late() {
        let mut timers = Timers::new();
        let start = timers.origin;
        let dues: Vec<Instant> =
            [7, 3, 12, 3, 500].map(|millis| start + Duration::from_millis(millis)).into();
        for (token, due) in (0..).zip(&dues) {
            timers.set(*due, token);
        }
        let mut order = Vec::new();
        while let Some(next) = timers.next() {
            assert!(timers.pop(next - Duration::from_nanos(1)).is_none());
            let token = timers.pop(next).unwrap();
            let due = dues[token as usize];
            assert!(next >= due && next < due + BEAT, "{token}");
            order.push(token);
        }
        assert_eq!(order, [1, 3, 0, 2, 4]);
    }
}
