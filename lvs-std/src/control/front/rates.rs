//! How fast clients may go: a token bucket for each process that may command the director, and one for each user whose
//! processes may not.
//!
//! Turns keep one process from holding up another. These limits keep a loop that has run away from keeping the thread,
//! and through it the workers, busy for ever. A client whose bucket is empty is not refused: it is not listened to
//! until there is a token again, and finds that its socket takes no more.

use core::time::Duration;
use std::collections::HashMap;
use std::time::Instant;

use super::places::Peer;

/// Steps that clients may have: a step is a command, or a page of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Rates {
    /// A second, for each process that may command the director; `None` for as many as it likes.
    pub(in crate::control) commanding: Option<u32>,
    /// A second, for each user whose processes may not.
    pub(in crate::control) others: u32,
}

impl Rates {
    /// With the usual one for those that may not command the director.
    pub(in crate::control) const fn new(commanding: Option<u32>) -> Self {
        Self { commanding, others: 100 }
    }
}

/// Who has a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Identity {
    Process(u32, i32),
    /// All processes together: for a user without rights, to start another process costs nothing.
    User(u32),
}

/// The buckets. Each is kept as the time when it is full again, so nothing is filled up as time goes by.
#[derive(Debug)]
pub(super) struct Buckets {
    rates: Rates,
    /// When each bucket is full, of those that are not.
    full_at: HashMap<Identity, Instant>,
}

impl Buckets {
    pub(super) fn new(rates: Rates) -> Self {
        Self { rates, full_at: HashMap::new() }
    }

    /// How long a client has to wait for its next step; `None` if it may have it now.
    pub(super) fn pause(&self, peer: &Peer, now: Instant) -> Option<Duration> {
        let (identity, token) = self.bucket(peer)?;
        let missing = self.full_at.get(&identity)?.saturating_duration_since(now);
        // A bucket holds the tokens of some seconds. While there is one in it, less than that time is missing.
        let left = missing.saturating_sub(FULL.saturating_sub(token));
        (!left.is_zero()).then_some(left)
    }

    /// Takes the token of a step.
    pub(super) fn take(&mut self, peer: &Peer, now: Instant) {
        let Some((identity, token)) = self.bucket(peer) else { return };
        if self.full_at.len() >= MOST && !self.full_at.contains_key(&identity) {
            self.make_room(now);
        }
        let full_at = self.full_at.entry(identity).or_insert(now);
        *full_at = (*full_at).max(now).checked_add(token).unwrap_or(now);
    }

    /// Leaves the buckets that are full; if there is none, the one that is nearest to it.
    fn make_room(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= MOST
            && let Some(first) = self.full_at.iter().min_by_key(|(_, full_at)| **full_at)
        {
            let first = *first.0;
            self.full_at.remove(&first);
        }
    }

    /// Whose bucket it is, and after how long there is another token in it.
    fn bucket(&self, peer: &Peer) -> Option<(Identity, Duration)> {
        let (identity, rate) = if peer.privileged {
            (Identity::Process(peer.user, peer.process), self.rates.commanding?)
        } else {
            (Identity::User(peer.user), self.rates.others)
        };
        Some((identity, Duration::from_secs(1) / rate.max(1)))
    }
}

/// The time in which an empty bucket is filled: as many steps as a client has in that time it may have at once.
const FULL: Duration = Duration::from_secs(16);
/// Buckets that are not full, at most.
const MOST: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 10_000;

    fn peer(user: u32, process: i32) -> Peer {
        Peer { user, process, privileged: user == 0 }
    }

    /// How many steps a client has from `now` on for so many milliseconds, if it takes every one that it gets.
    fn steps(buckets: &mut Buckets, peer: &Peer, now: Instant, millis: u64) -> u64 {
        let (end, mut at, mut count) = (now + Duration::from_millis(millis), now, 0);
        while at <= end {
            match buckets.pause(peer, at) {
                Some(pause) => at += pause,
                None => {
                    buckets.take(peer, at);
                    count += 1;
                }
            }
        }
        count
    }

    #[test]
    fn a_client_has_the_steps_of_a_full_bucket_at_once_and_then_its_rate() {
        let (mut buckets, now) = (Buckets::new(Rates::new(Some(RATE))), Instant::now());
        assert_eq!(
            steps(&mut buckets, &peer(0, 1), now, 0),
            160_000,
            "a large table is restored without a pause"
        );
        let second = now + Duration::from_secs(1);
        assert_eq!(steps(&mut buckets, &peer(0, 1), second, 0), 10_000);
        assert_eq!(steps(&mut buckets, &peer(0, 1), second, 2_000), 20_000);
        let later = now + Duration::from_secs(60);
        assert_eq!(steps(&mut buckets, &peer(0, 1), later, 0), 160_000, "it is full again");
    }

    #[test]
    fn a_pause_is_as_short_as_the_next_token_is_near() {
        let (mut buckets, now) = (Buckets::new(Rates::new(Some(RATE))), Instant::now());
        let _ = steps(&mut buckets, &peer(0, 1), now, 0);
        assert_eq!(buckets.pause(&peer(0, 1), now), Some(Duration::from_micros(100)));
        assert_eq!(buckets.pause(&peer(0, 1), now + Duration::from_micros(100)), None);
    }

    #[test]
    fn a_process_that_runs_away_takes_nothing_from_another_one() {
        let (mut buckets, now) = (Buckets::new(Rates::new(Some(RATE))), Instant::now());
        let _ = steps(&mut buckets, &peer(0, 1), now, 5_000);
        assert_eq!(buckets.pause(&peer(0, 2), now), None);
    }

    #[test]
    fn processes_of_a_user_that_may_not_command_share_a_bucket() {
        let (mut buckets, now) = (Buckets::new(Rates::new(None)), Instant::now());
        assert_eq!(steps(&mut buckets, &peer(7, 1), now, 0), 1_600);
        assert!(buckets.pause(&peer(7, 2), now).is_some(), "another process is no way around it");
        assert_eq!(buckets.pause(&peer(8, 3), now), None, "another user has another bucket");
    }

    #[test]
    fn without_a_limit_a_client_that_may_command_never_waits() {
        let (mut buckets, now) = (Buckets::new(Rates::new(None)), Instant::now());
        for _ in 0..1_000_000 {
            buckets.take(&peer(0, 1), now);
        }
        assert_eq!(buckets.pause(&peer(0, 1), now), None);
        assert!(buckets.full_at.is_empty(), "nothing is kept of it");
    }

    #[test]
    fn buckets_are_bounded_and_the_fullest_one_is_forgotten_first() {
        let (mut buckets, now) = (Buckets::new(Rates::new(Some(RATE))), Instant::now());
        let _ = steps(&mut buckets, &peer(0, 1), now, 0);
        for process in 0..10_000 {
            buckets.take(&peer(0, 2 + process), now);
        }
        assert!(buckets.full_at.len() <= MOST);
        assert!(buckets.pause(&peer(0, 1), now).is_some(), "an empty one is not");
    }
}
