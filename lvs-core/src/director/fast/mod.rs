//! The fast tier: many packets at once, whole TCP and UDP packets of either family.
//!
//! A batch goes through in three steps: its keys are hashed and looked up together ([`lookup`]); then, in the order of
//! the packets, each one that says nothing new about its connection is counted there ([`update`]), and any other is
//! decided as [`decide`](crate::Director::decide) would, the slow tier. What was looked up early is a hint, checked
//! against the slot when it is used, and looked up again once entries of the same hash have come or gone. So a batch
//! equals its packets one by one, and packets that open or end connections cost the others nothing.
//!
//! All of it is generic over the address family and compiled once for each. A packet of a known connection stays in a
//! few registers from its header to its slot; no [`Verdict`] is made, but a [`Hit`] lent, of which the handler takes
//! what it needs.

mod hit;
mod lookup;
mod totals;
mod update;

use core::slice::IterMut;

pub use self::hit::{Hit, HitHandler, Next};
use self::totals::BatchTotals;
use self::update::Deadlines;
use crate::conntrack::family::{AddressFamily, V4, V6};
use crate::conntrack::fast_key::{BATCH, FastBatch, FastKey};
use crate::conntrack::hashing::Keys;
use crate::conntrack::index::NONE;
use crate::director::Director;
use crate::director::engine::Engine;
use crate::director::slow::decide::Hint;
use crate::model::packet::Packet;
use crate::model::tick::Tick;
use crate::model::verdict::{Inspected, Verdict};
use crate::store::Store;

impl<S: Store> Director<S> {
    /// An empty batch, to be filled with the packets that [`decide_fast`](Self::decide_fast) is to decide next.
    #[inline(always)]
    #[must_use]
    pub fn next_batch(&mut self) -> &mut FastBatch {
        self.batch.clear();
        &mut self.batch
    }

    /// Decides the packets of the [batch](Self::next_batch) in order, as [`decide`](Self::decide) would one by one, and
    /// hands each over with what was decided, in order.
    ///
    /// Returns how many it decided: all, unless the handler said [`Next::Stop`] for the last of them. It must do so for
    /// a verdict that [requires a helper](Verdict::requires_helper), which has to be carried out before the next packet
    /// is decided.
    #[inline]
    #[must_use = "packets after the one that stopped it are not decided yet"]
    pub fn decide_fast<H>(&mut self, now: Tick, handler: &mut H) -> usize
    where
        H: HitHandler<V4> + HitHandler<V6>,
    {
        let Self { store, brain, batch } = self;
        let now = brain.clock(now).stamp();
        Engine::<S> { brain, tables: store.parts(), now }.decide_fast(batch, handler)
    }

    /// Decides packets in order, as [`decide`](Self::decide) would one by one, but several times faster when there are
    /// many connections. Any number of packets; those past the length of `verdicts` (or the other way round) are left
    /// alone.
    ///
    /// Returns how many it decided. That is all, unless a verdict [requires a helper](Verdict::requires_helper): it is
    /// the last then, and once it is carried out the rest can be decided by another call.
    #[must_use = "packets after a verdict that requires a helper are not decided yet"]
    pub fn decide_batch(&mut self, now: Tick, packets: &[Packet], verdicts: &mut [Verdict]) -> usize {
        let count = packets.len().min(verdicts.len());
        let mut decided = 0;
        while let (Some(packets), Some(verdicts)) =
            (packets.get(decided..count), verdicts.get_mut(decided..count))
            && let (Some(packet), Some(verdict)) = (packets.first(), verdicts.first_mut())
        {
            let done = if self.next_batch().append(packets) == 0 {
                *verdict = self.decide(now, packet, Inspected::Nothing);
                1
            } else {
                self.decide_fast(now, &mut Verdicts(verdicts.iter_mut()))
            };
            decided += done;
            let last = done.checked_sub(1).and_then(|last| verdicts.get(last));
            if last.is_none_or(Verdict::requires_helper) {
                break;
            }
        }
        decided
    }
}

/// Writes verdicts down.
struct Verdicts<'a>(IterMut<'a, Verdict>);

impl<F: AddressFamily> HitHandler<F> for Verdicts<'_> {
    fn hit(&mut self, _: &FastKey<F>, hit: Hit<'_, F>) -> Next {
        self.keep(&Verdict::Forward(hit.forward()))
    }

    fn decided(&mut self, _: &FastKey<F>, verdict: &Verdict) -> Next {
        self.keep(verdict)
    }
}

impl Verdicts<'_> {
    fn keep(&mut self, verdict: &Verdict) -> Next {
        if let Some(place) = self.0.next() {
            *place = *verdict;
        }
        if verdict.requires_helper() { Next::Stop } else { Next::Go }
    }
}

/// What the packets of a batch share while they are decided.
#[derive(Clone, Copy)]
struct Pass<'a> {
    deadlines: Deadlines,
    hashes: &'a [u32; BATCH],
    guesses: &'a [u32; BATCH],
}

impl<S: Store> Engine<'_, S> {
    #[inline]
    fn decide_fast<H>(&mut self, batch: &FastBatch, handler: &mut H) -> usize
    where
        H: HitHandler<V4> + HitHandler<V6>,
    {
        // What is looked up of IPv4's packets comes first.
        let count_v4 = batch.v4.len();
        let (mut hashes, mut guesses) = ([0; BATCH], [NONE; BATCH]);
        let (hashes_v4, hashes_v6) = hashes.split_at_mut(count_v4);
        let (guesses_v4, guesses_v6) = guesses.split_at_mut(count_v4);
        self.guess(Keys::V4(&batch.v4), hashes_v4, guesses_v4);
        self.guess(Keys::V6(&batch.v6), hashes_v6, guesses_v6);

        self.brain.table.deferred.begin();
        let pass = Pass { deadlines: self.brain.deadlines(self.now), hashes: &hashes, guesses: &guesses };
        // The two families have different services, so that each keeps its own while they take turns.
        let (mut totals_v4, mut totals_v6) = (BatchTotals::default(), BatchTotals::default());
        let decided = if batch.v6.is_empty() {
            self.decide_all(pass, &batch.v4, &mut totals_v4, handler)
        } else if batch.v4.is_empty() {
            self.decide_all(pass, &batch.v6, &mut totals_v6, handler)
        } else {
            self.decide_in_turn(pass, batch, (&mut totals_v4, &mut totals_v6), handler)
        };
        self.connections().settle();
        self.brain.table.deferred.end();
        totals_v4.settle(self.tables.services, self.brain.meter.live_mut());
        totals_v6.settle(self.tables.services, self.brain.meter.live_mut());
        decided
    }

    /// Decides packets that are all of one family; returns how many.
    #[inline(always)]
    fn decide_all<F: AddressFamily>(
        &mut self,
        pass: Pass<'_>,
        keys: &[FastKey<F>],
        totals: &mut BatchTotals,
        handler: &mut impl HitHandler<F>,
    ) -> usize {
        let mut at = 0;
        for key in keys {
            let next = self.decide_one(pass, (key, at), totals, handler);
            at += 1;
            if next == Next::Stop {
                break;
            }
        }
        at
    }

    /// Decides packets of both families in the order in which they came; returns how many. It is not a loop for each
    /// run of a family: what a loop prepares would cost more than it spares where families take turns.
    #[inline(always)]
    fn decide_in_turn<H>(
        &mut self,
        pass: Pass<'_>,
        batch: &FastBatch,
        (totals_v4, totals_v6): (&mut BatchTotals, &mut BatchTotals),
        handler: &mut H,
    ) -> usize
    where
        H: HitHandler<V4> + HitHandler<V6>,
    {
        let (mut v4, mut v6) = (batch.v4.iter(), batch.v6.iter());
        let (mut at_v4, mut at_v6) = (0, batch.v4.len());
        let mut order = batch.order();
        for decided in 0..batch.len() {
            let next = if order & 1 == 0 {
                let Some(key) = v4.next() else { return decided };
                at_v4 += 1;
                self.decide_one(pass, (key, at_v4 - 1), totals_v4, handler)
            } else {
                let Some(key) = v6.next() else { return decided };
                at_v6 += 1;
                self.decide_one(pass, (key, at_v6 - 1), totals_v6, handler)
            };
            order >>= 1;
            if next == Next::Stop {
                return decided + 1;
            }
        }
        batch.len()
    }

    /// Decides a packet; what was looked up of it is in the place `at`.
    #[inline(always)]
    fn decide_one<F: AddressFamily>(
        &mut self,
        pass: Pass<'_>,
        (key, at): (&FastKey<F>, usize),
        totals: &mut BatchTotals,
        handler: &mut impl HitHandler<F>,
    ) -> Next {
        // A batch has no more places than that: the remainder only spares a question.
        let (hash, guess) = (pass.hashes[at % BATCH], pass.guesses[at % BATCH]);
        let guess = if self.brain.table.deferred.is_marked(hash) { self.guess_again(hash) } else { guess };
        let deadlines = &pass.deadlines;
        let total = self.brain.meter.live_mut();
        // Each direction is compiled for itself, together with what is done with its packets.
        if key.is_passing() {
            if let Some(hit) = update::known_reply(&mut self.tables, deadlines, key, guess, totals, total) {
                return handler.hit(key, hit);
            }
        } else if let Some(hit) =
            update::known_request(&mut self.tables, deadlines, key, guess, totals, total)
        {
            return handler.hit(key, hit);
        } else if handler.turns_away(key) {
            return Next::Go;
        }
        let verdict = self.decide_slowly(key, hash, guess);
        handler.decided(key, &verdict)
    }

    /// The whole decision on a packet.
    #[inline(never)]
    fn decide_slowly<F: AddressFamily>(&mut self, key: &FastKey<F>, hash: u32, guess: u32) -> Verdict {
        let hint = Hint { hash, absent: guess == NONE };
        self.decide(&key.packet(), Some(hint))
    }
}
