//! Which neighbour gives way when there is no place for another.

use lvs_core::Tick;

use super::questions::Question;
use super::{Entry, Neighbours, Newcomer, State};

/// What a neighbour has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// The neighbour did not answer.
    Silent,
    /// The neighbour has not answered yet.
    Unanswered,
    /// The neighbour spoke of itself, as anybody can.
    Heard,
    /// The neighbour has answered a question.
    Proved,
    /// A real server or a gateway is behind it.
    Wanted,
    /// None: it was configured, or is no neighbour.
    None,
}

/// The lists of entries of one rank.
pub(super) const RANK: usize = 0;
/// How many ranks have a list.
pub(super) const RANKS: usize = Rank::None as usize;

/// How long a neighbour is in use after a packet went to it, in milliseconds.
const IN_USE_MS: u64 = 60_000;
/// Entries that are looked at to find one that gives way.
const LOOKS: usize = 8;

impl Rank {
    /// Whether no stranger could have made it so.
    pub(super) const fn is_sure(self) -> bool {
        matches!(self, Self::Proved | Self::Wanted)
    }
}

impl Entry {
    fn is_wanted(&self, now: Tick) -> bool {
        self.gateway || now < self.wanted
    }

    fn right_rank(&self, now: Tick) -> Rank {
        match self.state {
            State::Free | State::Static => Rank::None,
            _ if self.is_wanted(now) => Rank::Wanted,
            // One that has fallen silent keeps its rank while it is asked.
            State::Known | State::Unanswered if self.proved => Rank::Proved,
            State::Known => Rank::Heard,
            State::Unanswered => Rank::Unanswered,
            State::Failed => Rank::Silent,
        }
    }
}

impl Neighbours {
    /// Brings an entry to the list of its rank, and its question to where that belongs.
    pub(super) fn rank(&mut self, now: Tick, at: u32) {
        let Some(entry) = self.places.get(at) else { return };
        let rank = entry.right_rank(now);
        if rank == entry.rank {
            return;
        }
        let (was_sure, question) = (entry.rank.is_sure(), entry.question);
        if question != Question::None && was_sure != rank.is_sure() {
            self.questions.remove(&mut self.places, at);
        }
        self.move_to(now, at, rank);
        if question != Question::None && was_sure != rank.is_sure() {
            self.questions.push(&mut self.places, at, question);
        }
    }

    /// An entry has no question any more, and perhaps another rank.
    pub(super) fn settle(&mut self, now: Tick, at: u32) {
        self.forget_question(at);
        self.rank(now, at);
    }

    pub(super) fn leave_rank(&mut self, at: u32) {
        self.move_to(Tick::ZERO, at, Rank::None);
    }

    /// Appends an entry to the list of a rank.
    fn move_to(&mut self, now: Tick, at: u32, rank: Rank) {
        let Some(entry) = self.places.get_mut(at) else { return };
        entry.ranked = now;
        let was = core::mem::replace(&mut entry.rank, rank);
        if let Some(list) = self.ranks.get_mut(was as usize) {
            list.remove(&mut self.places, at);
        }
        if let Some(list) = self.ranks.get_mut(rank as usize) {
            list.push(&mut self.places, at);
        }
    }

    fn first(&self, rank: Rank) -> Option<(u32, &Entry)> {
        let at = self.ranks.get(rank as usize)?.first()?;
        Some((at, self.places.get(at)?))
    }

    /// The entry that gives way to a new one; `None` when none does.
    pub(super) fn victim(&mut self, now: Tick, newcomer: Newcomer) -> Option<u32> {
        if let Some((at, _)) = self.first(Rank::Silent) {
            return Some(at);
        }
        if let Some((at, entry)) = self.first(Rank::Unanswered) {
            // Where every question is displaced before it is asked, none is ever answered.
            return (newcomer != Newcomer::Asked || entry.tries > 0).then_some(at);
        }
        self.victim_heard(now)
            .or_else(|| self.victim_proved(now, newcomer))
            .or_else(|| self.victim_wanted(now, newcomer))
    }

    /// One that spoke of itself, and that nobody has used since it was looked at last, if there is one among the first.
    fn victim_heard(&mut self, now: Tick) -> Option<u32> {
        for _ in 0..LOOKS {
            let (at, entry) = self.first(Rank::Heard)?;
            if entry.used <= entry.ranked {
                return Some(at);
            }
            self.move_to(now, at, Rank::Heard);
        }
        self.first(Rank::Heard).map(|(at, _)| at)
    }

    /// One that has answered, and is not in use.
    fn victim_proved(&mut self, now: Tick, newcomer: Newcomer) -> Option<u32> {
        for _ in 0..LOOKS {
            let (at, entry) = self.first(Rank::Proved)?;
            if now.millis_since(entry.used) >= IN_USE_MS {
                return Some(at);
            }
            self.move_to(now, at, Rank::Proved);
        }
        // What is wanted comes before what only happens to be in use.
        let (at, _) = self.first(Rank::Proved)?;
        (newcomer == Newcomer::Wanted).then_some(at)
    }

    /// One that nobody has looked for lately.
    fn victim_wanted(&mut self, now: Tick, newcomer: Newcomer) -> Option<u32> {
        for _ in 0..LOOKS {
            let (at, entry) = self.first(Rank::Wanted)?;
            let idle = now.millis_since(entry.used) >= IN_USE_MS;
            if entry.is_wanted(now) {
                self.move_to(now, at, Rank::Wanted);
            } else if idle || newcomer == Newcomer::Wanted {
                return Some(at);
            } else {
                self.rank(now, at);
            }
        }
        None
    }
}
