//! The sweep: what has expired is freed, in pieces that hold no packet up.
//!
//! An entry that ends is three places of memory that nobody has touched lately: its slot, and in the index where its
//! requests and its replies are found. As with the packets of a batch, a piece first reads them all, so that the reads
//! overlap, and then ends one entry after the other.

use core::hint::black_box;

use crate::conntrack::table::{Due, Table};
use crate::director::Director;
use crate::director::engine::Engine;
use crate::model::budget::Budget;
use crate::model::tick::Tick;
use crate::store::Store;

impl<S: Store> Director<S> {
    /// Frees what has expired, looking at no more than `budget` slots (less than 1 ns for each whose time has not
    /// come). Returns how many entries it freed.
    ///
    /// Expired connections are ignored from their deadline on, swept or not; but until they are swept they take their
    /// places and count for schedulers and thresholds. A budget of a hundredth of the capacity every 10 ms goes
    /// once around each second. While there are removed servers, a call once in 60 s also looks over all places for
    /// servers.
    ///
    /// Many slots may hold many expired entries: see [`sweep_briefly`](Self::sweep_briefly) for an end to that.
    pub fn sweep(&mut self, now: Tick, budget: usize) -> usize {
        self.sweep_within(now, Budget { slots: budget, work: usize::MAX }).freed
    }

    /// Frees what has expired like [`sweep`](Self::sweep), but for some 10 microseconds at most: packets can wait for
    /// that, and the rest can be swept after them. Says how far it came.
    ///
    /// ```
    /// # use lvs_core::{Config, Director, Heap, Seed, Tick};
    /// # let store: Heap = Heap::with_capacity(1_000);
    /// # let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
    /// // Once around each second: so many slots are owed for the milliseconds since the last time.
    /// let mut owed = director.capacity() / 100;
    /// while owed > 0 {
    ///     // .. a batch of packets ..
    ///     owed -= director.sweep_briefly(Tick::ZERO, owed).slots;
    /// }
    /// ```
    pub fn sweep_briefly(&mut self, now: Tick, budget: usize) -> Swept {
        self.sweep_within(now, Budget { slots: budget, work: BRIEF })
    }

    /// When the next [`sweep`](Self::sweep) has something to do: connections that expire, rates that change, timers of
    /// schedulers, servers that come back, removed ones that go, defences. A moment that has passed means now; `None`
    /// that only a packet or a call can change anything. It may come early, so a sweep then may find nothing yet.
    ///
    /// A program that sweeps the whole table at these moments, and after each packet and each change, learns the same
    /// events at the same times as one that sweeps all the time. (Which connection a full table
    /// [gives up](crate::config::WhenFull) depends on how often it was swept.) After a sweep that ended before it was
    /// through, this is now; a program with a large table may well let some time pass between the pieces.
    ///
    /// ```
    /// # use lvs_core::{Config, Director, Heap, Seed, Tick};
    /// # let store: Heap = Heap::with_capacity(1_000);
    /// # let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
    /// # let now = Tick::ZERO;
    /// // .. packets ..
    /// director.sweep(now, director.capacity());
    /// match director.poll_at() {
    ///     Some(at) => println!("sleep for {} ms", at.millis_since(now)),
    ///     None => println!("sleep until a packet comes"),
    /// }
    /// ```
    #[must_use]
    pub fn poll_at(&self) -> Option<Tick> {
        let brain = &self.brain;
        let due = [
            brain.table.poll_at(brain.clock),
            brain.flush.map(|_| brain.clock),
            brain.would_estimate().then_some(brain.next_estimate),
            brain.defends_at(),
            (brain.trash > 0).then_some(brain.next_trash),
            brain.timers.next,
            brain.next_return,
        ];
        due.into_iter().flatten().min()
    }

    fn sweep_within(&mut self, now: Tick, mut budget: Budget) -> Swept {
        let mut engine = self.engine_at(now);
        let before = engine.brain.table.live;
        let asked = budget.slots;
        // Half of it at most goes to connections of removed servers: in a large table they must not keep what has
        // expired waiting.
        let mut flushing = Budget { slots: asked.div_ceil(2), work: budget.work / 2 };
        engine.flush_orphans(&mut flushing);
        budget.slots -= asked.div_ceil(2) - flushing.slots;
        budget.work -= budget.work / 2 - flushing.work;
        let all = engine.brain.table.used() as usize;
        let around = budget.slots >= all;
        // Once around is enough: a second round in the same call would find what the first has left.
        budget.slots = budget.slots.min(all);
        let rests = engine.free_expired(&mut budget) && engine.brain.flush.is_none();
        engine.nominate(asked, &mut budget);
        engine.defend();
        engine.bring_back();
        engine.estimate();
        if engine.brain.trash > 0 && engine.brain.clock >= engine.brain.next_trash {
            engine.empty_trash();
        }
        engine.tick();
        let freed = before.saturating_sub(engine.brain.table.live) as usize;
        // Slots whose time has not come need no look.
        let slots = if rests || around && budget.slots == 0 { asked } else { asked.min(all) - budget.slots };
        Swept { slots, freed }
    }
}

/// How far a sweep came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Swept {
    /// How many slots of its budget it is through with.
    pub slots: usize,
    /// How many entries it freed.
    pub freed: usize,
}

impl<S: Store> Engine<'_, S> {
    /// Frees what has expired; says whether that is all there is.
    fn free_expired(&mut self, budget: &mut Budget) -> bool {
        self.tables.connections(&mut self.brain.table).catch_up(self.now);
        loop {
            let mut table = self.tables.connections(&mut self.brain.table);
            if !table.is_due(self.now) {
                return true;
            }
            table.skip_quiet(self.now, budget);
            if !budget.lasts() {
                return false;
            }
            let ahead = (self.brain.table.used() - self.brain.table.cursor) as usize;
            let mut piece = PIECE.min(budget.slots).min(ahead);
            let slots = piece;
            // All memory that a piece needs is read before the first entry ends, so that the reads overlap.
            let foreseen = self.foresee(piece);
            while let Some(due) = self.tables.connections(&mut self.brain.table).next_due(
                self.now,
                &self.brain.timeouts,
                &mut piece,
            ) {
                match due {
                    Due::Expired(id) => self.expire(id, foreseen.hashes(id)),
                    Due::Postponed(id) => self.postponed(id),
                }
            }
            budget.spend(slots, slots + foreseen.due * WORK);
        }
    }

    /// Reads what the next slots need whose time may have come.
    fn foresee(&mut self, slots: usize) -> Foreseen {
        let mut foreseen = Foreseen { due: 0, first: u32::MAX, hashes: [None; PIECE] };
        let seed = self.brain.config.seed;
        let servers = &*self.tables.servers;
        let table =
            Table::new(self.tables.slots, self.tables.cells, self.tables.wakes, &mut self.brain.table);
        let due = || table.due_ahead(self.now, slots);
        // The sum is nobody's: it only keeps the compiler from leaving the reads out.
        black_box(due().fold(0, |sum, (_, id)| sum ^ table.touch_slot(id)));
        for (at, id) in due() {
            foreseen.due += 1;
            let Some(slot) = table.slots.get(id as usize) else { continue };
            // Templates are found by what is kept elsewhere.
            if slot.is_free() || slot.is_alive(self.now) || slot.is_template() {
                continue;
            }
            let Some(server) = servers.get(slot.server as usize) else { continue };
            if let Some(place) = foreseen.hashes.get_mut(at) {
                *place = Some(Table::hashes(slot, &slot.key(), server.address.ip(), seed));
            }
        }
        let known = foreseen.hashes.iter().flatten();
        black_box(known.fold(0, |sum, &(request, reply)| {
            sum ^ table.touch_home(request) ^ reply.map_or(0, |reply| table.touch_home(reply))
        }));
        foreseen.first = table.state.cursor;
        foreseen
    }
}

/// What was found out about the slots that are swept next.
struct Foreseen {
    /// How many have to be looked at.
    due: usize,
    /// The slot that the first of the hashes belongs to.
    first: u32,
    /// By what those that have expired are found.
    hashes: [Option<Hashes>; PIECE],
}

/// By what an entry is found by requests, and by replies.
pub(crate) type Hashes = (u32, Option<u32>);

impl Foreseen {
    fn hashes(&self, id: u32) -> Option<Hashes> {
        *self.hashes.get(id.wrapping_sub(self.first) as usize)?
    }
}

/// Slots that are read ahead together.
const PIECE: usize = 32;
/// What an entry that is due costs, where a slot whose time has not come costs 1.
pub(crate) const WORK: usize = 256;
/// The work of a brief sweep.
const BRIEF: usize = 32 * WORK;
