//! Questions for neighbours: in the order in which they fall due, the important ones first, never too many at once.

use core::net::IpAddr;

use lvs_core::Tick;

use super::{Entry, FAILED_MS, Neighbours, State};
use crate::frame::PortId;
use crate::header::address::from_bits;
use crate::host::list::List;
use crate::host::mac::MacAddress;
use crate::host::pace::Pace;
use crate::memory::Places;

/// Between two questions, in milliseconds (RFC 4861 §10, `RETRANS_TIMER`).
const RETRY_MS: u64 = 1_000;
/// Questions before giving up (`MAX_MULTICAST_SOLICIT`, `MAX_UNICAST_SOLICIT`).
const TRIES: u8 = 3;
/// Questions a millisecond for neighbours that are wanted or have answered before: 16,384 take a second.
const SURE_EACH_MS: u64 = 16;
/// Questions a millisecond that strangers cause.
const STRANGERS_EACH_MS: u64 = 2;
/// After a pause so many may leave at once.
const BURST: u64 = 32;
/// First questions of strangers' that may wait for their turn: an eighth of a second's worth, so that the answers are
/// not too late for those who are there.
const STRANGERS_WAITING: usize = 256;

/// The lists of entries with a question.
pub(super) const QUESTION: usize = 1;

/// What question an entry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    None,
    /// To be asked as soon as it is its turn.
    First,
    /// To be asked again, or to be given up, when it is due.
    Again,
}

/// A question that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) port: PortId,
    pub(crate) target: IpAddr,
    /// Asked of one neighbour, to hear that it is still there; otherwise of all.
    pub(crate) known: Option<MacAddress>,
}

/// The questions of one importance.
#[cfg_attr(feature = "alloc", derive(Clone))]
struct Turn {
    first: List<QUESTION>,
    /// All of them wait equally long, so that the first one is due first.
    again: List<QUESTION>,
    pace: Pace,
}

impl Turn {
    const fn new(each_ms: u64) -> Self {
        Self { first: List::EMPTY, again: List::EMPTY, pace: Pace::new(each_ms, BURST) }
    }

    fn list(&mut self, question: Question) -> Option<&mut List<QUESTION>> {
        match question {
            Question::None => None,
            Question::First => Some(&mut self.first),
            Question::Again => Some(&mut self.again),
        }
    }

    /// The entry whose question is due, if it may be asked now.
    fn next(&mut self, now: Tick, places: &Places<Entry>) -> Option<u32> {
        let due = |at: &u32| places.get(*at).is_some_and(|entry| entry.due <= now);
        let at = self.again.first().filter(due).or_else(|| self.first.first())?;
        self.pace.take(now).then_some(at)
    }

    fn next_at(&self, places: &Places<Entry>) -> Option<Tick> {
        let again = self.again.first().and_then(|at| places.get(at)).map(|entry| entry.due);
        let first = self.first.first().map(|_| Tick::ZERO);
        first.or(again).map(|due| due.max(self.pace.next_at()))
    }
}

/// All questions.
#[cfg_attr(feature = "alloc", derive(Clone))]
pub(super) struct Questions {
    sure: Turn,
    strangers: Turn,
}

impl Questions {
    pub(super) const NONE: Self =
        Self { sure: Turn::new(SURE_EACH_MS), strangers: Turn::new(STRANGERS_EACH_MS) };

    /// Whether strangers have caused more questions than can be asked soon.
    pub(super) const fn is_crowded(&self) -> bool {
        self.strangers.first.len() >= STRANGERS_WAITING
    }

    /// Gives an entry a question, at the end of the list of those of its importance.
    pub(super) fn push(&mut self, places: &mut Places<Entry>, at: u32, question: Question) {
        let Some(entry) = places.get_mut(at) else { return };
        entry.question = question;
        let turn = if entry.rank.is_sure() { &mut self.sure } else { &mut self.strangers };
        if let Some(list) = turn.list(question) {
            list.push(places, at);
        }
    }

    /// Takes an entry's question away.
    pub(super) fn remove(&mut self, places: &mut Places<Entry>, at: u32) {
        let Some(entry) = places.get_mut(at) else { return };
        let question = core::mem::replace(&mut entry.question, Question::None);
        let turn = if entry.rank.is_sure() { &mut self.sure } else { &mut self.strangers };
        if let Some(list) = turn.list(question) {
            list.remove(places, at);
        }
    }
}

impl Neighbours {
    /// Lets an entry be asked for, from the first question on.
    pub(super) fn ask(&mut self, now: Tick, at: u32) {
        self.wake();
        if let Some(entry) = self.places.get_mut(at) {
            (entry.tries, entry.due) = (0, now);
            self.questions.push(&mut self.places, at, Question::First);
        }
    }

    /// Whether an entry without a question may have one.
    pub(super) fn may_ask(&self, at: u32) -> bool {
        self.places.get(at).is_some_and(|entry| entry.rank.is_sure()) || !self.questions.is_crowded()
    }

    pub(super) fn forget_question(&mut self, at: u32) {
        self.questions.remove(&mut self.places, at);
    }

    /// When there may be a question to ask, or a neighbour to give up; `None` when nothing waits for an answer.
    pub(crate) fn poll_at(&self) -> Option<Tick> {
        let Questions { sure, strangers } = &self.questions;
        [sure, strangers].into_iter().filter_map(|turn| turn.next_at(&self.places)).min()
    }

    /// The next question that is due. A neighbour that does not answer fails.
    pub(crate) fn poll(&mut self, now: Tick) -> Option<Query> {
        // It ends with the tokens at the latest, those of neighbours that fail included.
        loop {
            let Questions { sure, strangers } = &mut self.questions;
            let at = sure.next(now, &self.places).or_else(|| strangers.next(now, &self.places))?;
            self.questions.remove(&mut self.places, at);
            if let Some(query) = self.question(now, at) {
                return Some(query);
            }
        }
    }

    fn question(&mut self, now: Tick, at: u32) -> Option<Query> {
        let entry = self.places.get_mut(at)?;
        if entry.tries >= TRIES {
            if entry.state == State::Unanswered {
                self.fail(now, at);
                return None;
            }
            // One that fell silent may have changed its link-layer address.
            (entry.state, entry.tries) = (State::Unanswered, 0);
            self.changed();
            self.rank(now, at);
        }
        let entry = self.places.get_mut(at)?;
        entry.tries += 1;
        entry.due = now.plus_millis(RETRY_MS);
        let known = (entry.state == State::Known).then_some(entry.mac);
        let query = Query { port: entry.port, target: from_bits(entry.bits), known };
        self.questions.push(&mut self.places, at, Question::Again);
        Some(query)
    }

    /// A neighbour did not answer: what waited for it is lost.
    fn fail(&mut self, now: Tick, at: u32) {
        self.lost.failed += self.lose(at);
        if let Some(entry) = self.places.get_mut(at) {
            (entry.state, entry.proved) = (State::Failed, false);
            entry.until = now.plus_millis(FAILED_MS);
        }
        self.rank(now, at);
    }
}
