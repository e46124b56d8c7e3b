//! Slots, index and wake-up times together.
//!
//! "Expired is absent": a packet writes its connection's new deadline into the slot, which it has in hand anyway;
//! look-ups treat entries past their deadline as if they were not there; the sweep frees them. So that the
//! sweep need not read all slots, each has a wake-up time in an array of its own, 32 to a cache line: no later
//! than its deadline, though mostly earlier. The sweep reads that array; where it finds a time that has come it
//! looks at the slot, frees it, or moves the wake-up on to the present deadline. Packets write the array only
//! when a deadline comes nearer, that is on some changes of state.
//!
//! The sweep goes in rounds, each over all slots that were ever used. A round learns when the first of the times
//! comes that it has passed by; whoever writes an earlier one tells it. So between two rounds the table knows when the
//! next one is due, and nobody need look before.

use core::hint::black_box;
use core::ptr;

use super::deferred_inserts::DeferredInserts;
use super::expiry::{Lease, ROUND_SECS, Wake};
use super::index::{Cell, Index};
use super::key::Key;
use super::slot::{POSTPONED_SECS, Slot};
use crate::conntrack::hashing::HashTogether;
use crate::model::budget::Budget;
use crate::model::seed::Seed;
use crate::model::tick::{STAMPS_PER_SEC, Stamp, Tick};
use crate::proto::timeouts::TimeoutTable;

/// Asks for the memory at some addresses to be brought near, without waiting for it: a processor's prefetch
/// instruction. Addresses may be of anything; nothing must be read or written there.
pub type ReadAhead = fn(&[*const u8]);

/// What a table remembers besides its arrays.
#[derive(Clone, Debug)]
pub(crate) struct TableState {
    /// The free slot to be used next, `u32::MAX` for none; the slots freed last come first, as they are in the cache.
    free: u32,
    /// Slots from this number on were never used.
    fresh: u32,
    /// Entries, expired ones included.
    pub(crate) live: u32,
    /// Where the sweep goes on.
    pub(crate) cursor: u32,
    /// When it last began anew.
    round: Stamp,
    /// Whether that round is not over yet.
    sweeping: bool,
    /// No time comes before this: of no entry at all when no round is under way, else of none that the round has
    /// passed.
    soonest: Stamp,
    /// Where the search for something to give up goes on.
    pub(crate) reclaim: u32,
    /// What has changed in the index since a batch began, and what is still to be put into it.
    pub(crate) deferred: DeferredInserts,
    /// What brings memory near that will be read.
    pub(crate) ahead: Option<ReadAhead>,
    /// What hashes several packets at one time.
    pub(crate) together: Option<HashTogether>,
    /// Of an extract of a table: the hashes whose entries it has. A test build says so when another is looked up.
    #[cfg(debug_assertions)]
    extracted: Option<heapless::Vec<u32, 16>>,
}

impl TableState {
    pub(crate) const NEW: Self = Self {
        free: u32::MAX,
        fresh: 0,
        live: 0,
        cursor: 0,
        round: Stamp::ZERO,
        sweeping: false,
        soonest: Stamp::ZERO,
        reclaim: 0,
        deferred: DeferredInserts::NEW,
        ahead: None,
        together: None,
        #[cfg(debug_assertions)]
        extracted: None,
    };

    /// What an extract of this table remembers, which has so many slots in use and this free one first.
    #[cfg(feature = "alloc")]
    pub(crate) fn of_extract(&self, free: Option<u32>, used: u32, hashes: &[u32]) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = hashes;
        Self {
            free: free.unwrap_or(u32::MAX),
            fresh: used,
            live: self.live,
            cursor: used,
            reclaim: 0,
            deferred: DeferredInserts::NEW,
            #[cfg(debug_assertions)]
            extracted: Some(hashes.iter().copied().take(16).collect()),
            ..self.clone()
        }
    }

    /// The free slots in the order in which they are taken.
    #[cfg(feature = "alloc")]
    pub(crate) fn free_slots(&self, slots: &[Slot]) -> impl Iterator<Item = u32> {
        let freed = core::iter::successors(Some(self.free), |&id| {
            slots.get(id as usize).filter(|slot| slot.is_free()).map(Slot::next_free)
        });
        let freed = freed.take_while(|&id| id != u32::MAX).take(slots.len());
        freed.chain(self.fresh..slots.len() as u32)
    }

    /// In an extract of a table, a decision may only look up what the extract was made with: else it would miss entries
    /// that the table has. Checked in test builds, and no code in others.
    #[inline(always)]
    pub(crate) fn looks_up(&self, hash: u32) {
        #[cfg(debug_assertions)]
        debug_assert!(
            self.extracted.as_ref().is_none_or(|hashes| hashes.contains(&hash)),
            "an extract was made without a hash that the decision looks up"
        );
        #[cfg(not(debug_assertions))]
        let _ = hash;
    }

    /// How many slots were ever used: the part of the table that is worth a look.
    pub(crate) const fn used(&self) -> u32 {
        self.fresh
    }

    /// When the sweep may have something to do: the clock's own time means now, `None` that there are no entries.
    pub(crate) fn poll_at(&self, clock: Tick) -> Option<Tick> {
        if self.live == 0 {
            return None;
        }
        let soonest = if self.sweeping { clock.stamp() } else { self.soonest };
        Some(clock.at_stamp(soonest))
    }

    /// An entry's time may come then.
    #[inline]
    const fn expect(&mut self, at: Stamp) {
        if at.before(self.soonest) {
            self.soonest = at;
        }
    }
}

/// The table's parts on loan.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) slots: &'a mut [Slot],
    index: Index<'a>,
    wakes: &'a mut [Wake],
    pub(crate) state: &'a mut TableState,
}

/// Slots that the sweep passes over at one time.
const RUN: usize = 64;

/// Bit of an index value that tells the entry of a NAT connection's replies from that of its requests.
const REPLY: u32 = 1 << 31;

/// The slot that a value of the index names, and whether by the key of its replies.
#[inline(always)]
pub(crate) const fn split(value: u32) -> (u32, bool) {
    (value & !REPLY, value & REPLY != 0)
}

/// The most connections that a table can have: slot numbers share 32 bits with one flag, and the index must be
/// addressable by a 32-bit hash.
pub(crate) const MAX_SLOTS: usize = 1 << 28;

impl<'a> Table<'a> {
    pub(crate) fn new(
        slots: &'a mut [Slot],
        cells: &'a mut [Cell],
        wakes: &'a mut [Wake],
        state: &'a mut TableState,
    ) -> Self {
        Self { slots, index: Index::new(cells), wakes, state }
    }

    /// The living connection that requests with this key belong to.
    #[inline]
    pub(crate) fn find_request(&self, hash: u32, key: &Key, now: Stamp) -> Option<u32> {
        self.index.find(hash, |value| self.is_request(value, key, now))
    }

    /// The living NAT connection that replies with this key belong to. `is_server(index)` says whether that server has
    /// the key's address.
    #[inline]
    pub(crate) fn find_reply(
        &mut self,
        hash: u32,
        key: &Key,
        now: Stamp,
        is_server: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        self.settle();
        let slots = &*self.slots;
        let found = self.index.find(hash, |value| {
            value & REPLY != 0
                && slots.get((value & !REPLY) as usize).is_some_and(|slot| {
                    slot.answers_client(key) && slot.is_alive(now) && is_server(slot.server)
                })
        });
        found.map(|value| value & !REPLY)
    }

    /// What the index has for a hash, `u32::MAX` for nothing: a slot that might be the one looked for, and as what it
    /// is found, which [`split`] takes apart. The index is read, the slot is not.
    #[inline]
    pub(crate) fn guess(&self, hash: u32) -> u32 {
        self.index.first(hash)
    }

    /// What [`guess`](Self::guess) finds, for an index that is in the caches.
    #[inline]
    pub(crate) fn guess_at_hand(&self, hash: u32) -> u32 {
        self.index.first_at_hand(hash)
    }

    /// Reads the cell where a hash belongs, so that it is at hand when it is needed.
    #[inline]
    pub(crate) fn touch_home(&self, hash: u32) -> u32 {
        self.index.touch_home(hash)
    }

    /// Where that cell is in memory.
    #[inline]
    pub(crate) fn address_of_home(&self, hash: u32) -> *const u8 {
        self.index.address_of_home(hash)
    }

    /// Where the slot is that a value of the index names; null for none.
    #[inline]
    pub(crate) fn address_of_slot(&self, value: u32) -> *const u8 {
        self.slots.get(split(value).0 as usize).map_or(ptr::null(), ptr::from_ref).cast()
    }

    /// Reads a slot.
    #[inline]
    pub(crate) fn touch_slot(&self, id: u32) -> u32 {
        self.slots.get(id as usize).map_or(0, |slot| slot.server)
    }

    fn is_request(&self, value: u32, key: &Key, now: Stamp) -> bool {
        value & REPLY == 0
            && self.slots.get(value as usize).is_some_and(|slot| slot.answers(key) && slot.is_alive(now))
    }

    /// The newest living entry of this hash, of those that are found by requests or as templates, that `accept` takes.
    pub(crate) fn find(&self, hash: u32, now: Stamp, accept: impl Fn(u32, &Slot) -> bool) -> Option<u32> {
        self.index.find(hash, |value| {
            value & REPLY == 0
                && self
                    .slots
                    .get(value as usize)
                    .is_some_and(|slot| slot.is_alive(now) && accept(value, slot))
        })
    }

    /// Whether a free slot is left.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.state.free != u32::MAX || (self.state.fresh as usize) < self.slots.len()
    }

    /// Takes a free slot for an entry, which is then to be [put](Self::fill) there. `None` when the table is full.
    #[inline(always)]
    pub(crate) fn claim(&mut self) -> Option<u32> {
        if self.state.free != u32::MAX {
            let id = self.state.free;
            self.state.free = self.slots.get(id as usize)?.next_free();
            return Some(id);
        }
        let id = self.state.fresh;
        self.slots.get(id as usize)?;
        self.state.fresh += 1;
        Some(id)
    }

    /// Puts an entry with its time into a slot that was [claimed](Self::claim) for it, found by `request` and, under
    /// NAT, by `reply`.
    #[inline(always)]
    pub(crate) fn fill(&mut self, id: u32, mut slot: Slot, lease: Lease, request: u32, reply: Option<u32>) {
        // There are more than two cells per slot and at most two entries, so neither insertion can fail.
        self.put(request, id);
        if let Some(reply) = reply {
            self.state.deferred.mark(reply);
            if let Some(ahead) = self.state.ahead {
                ahead(&[self.index.address_of_home(reply)]);
            }
            if !self.state.deferred.put_off(reply, id | REPLY) {
                self.settle();
                self.index.insert(reply, id | REPLY);
            }
        }
        self.wakes[id as usize] = lease.wake;
        self.state.expect(lease.earliest);
        slot.deadline = lease.deadline;
        self.slots[id as usize] = slot;
        self.state.live += 1;
    }

    /// Both steps at one time.
    #[cfg(test)]
    fn insert(&mut self, slot: Slot, lease: Lease, request: u32, reply: Option<u32>) -> Option<u32> {
        let id = self.claim()?;
        self.fill(id, slot, lease, request, reply);
        Some(id)
    }

    /// Takes a connection out, by the hashes that it was inserted with.
    pub(crate) fn remove(&mut self, id: u32, request: u32, reply: Option<u32>) {
        self.settle();
        self.take(request, id);
        if let Some(reply) = reply {
            self.take(reply, id | REPLY);
        }
        self.slots[id as usize] = Slot::free_before(self.state.free);
        self.state.free = id;
        self.state.live -= 1;
    }

    /// Gives an entry another key; it was found by `old` and will be by `new`.
    pub(crate) fn rekey(&mut self, id: u32, key: &Key, old: (u32, Option<u32>), new: (u32, Option<u32>)) {
        self.settle();
        self.take(old.0, id);
        if let Some(reply) = old.1 {
            self.take(reply, id | REPLY);
        }
        self.put(new.0, id);
        if let Some(reply) = new.1 {
            self.put(reply, id | REPLY);
        }
        self.slots[id as usize].set_key(key);
    }

    /// Puts into the index what a batch has put off. All places are read before the first is written, so that the reads
    /// overlap.
    pub(crate) fn settle(&mut self) {
        let waiting = self.state.deferred.waiting();
        if waiting.is_empty() {
            return;
        }
        black_box(waiting.iter().fold(0, |sum, &(hash, _)| sum ^ self.index.touch_home(hash)));
        for &(hash, value) in waiting {
            self.index.insert(hash, value);
        }
        self.state.deferred.settled();
    }

    #[inline(always)]
    fn put(&mut self, hash: u32, value: u32) {
        self.state.deferred.mark(hash);
        self.index.insert(hash, value);
    }

    fn take(&mut self, hash: u32, value: u32) {
        self.state.deferred.mark(hash);
        self.index.remove(hash, value);
    }

    /// Gives an entry another deadline, which may be nearer than its present one.
    #[inline]
    pub(crate) fn lease(&mut self, id: u32, lease: Lease) {
        self.slots[id as usize].deadline = lease.deadline;
        self.wake_by(id, lease.wake);
        self.state.expect(lease.earliest);
    }

    /// Takes an entry that ended at `when` off the one that controls it.
    pub(crate) fn release(&mut self, controller: u32, when: Stamp, now: Stamp) {
        let Some(slot) = self.slots.get_mut(controller as usize) else { return };
        slot.lose_child();
        if slot.deadline.before(when) {
            // Until then it lived by its children, and was given more time for them again and again, whichever of them
            // is found to be over first. Where both end in the same moment the child is first, as its timer was set
            // last.
            slot.postpone_until(when);
        }
        // While it lived by its children the sweep has put its wake-up off, past deadlines of its own as well.
        let deadline = slot.deadline;
        self.wake_by(controller, Wake::towards(deadline, now));
        self.state.expect(deadline);
    }

    fn wake_by(&mut self, id: u32, by: Wake) {
        let wake = &mut self.wakes[id as usize];
        if by.before(*wake) {
            *wake = by;
        }
    }

    /// Lets the sweep look at every entry again.
    pub(crate) fn wake_all(&mut self, now: Stamp) {
        self.wakes[..self.state.fresh as usize].fill(Wake::at(now));
        self.state.soonest = now;
    }

    /// Whether there is something to sweep. Ends a round that has come to the end of the table, and begins the next one
    /// when a time has come. To be called before each piece of a sweep.
    pub(crate) fn is_due(&mut self, now: Stamp) -> bool {
        let state = &mut *self.state;
        if state.sweeping && state.cursor < state.fresh {
            return true;
        }
        state.sweeping = state.fresh > 0 && state.soonest.reached(now);
        if state.sweeping {
            (state.cursor, state.round) = (0, now);
            // What the round passes and what is written meanwhile says what comes before that.
            state.soonest = Wake::furthest(now).next_begin(now);
        }
        state.sweeping
    }

    /// Lets the sweep look at every entry again where it has not come around for so long that wake-ups left behind may
    /// look like the future. To be called before each sweep.
    pub(crate) fn catch_up(&mut self, now: Stamp) {
        if now.since(self.state.round) > ROUND_SECS * STAMPS_PER_SEC {
            self.wake_all(now);
            self.state.round = now;
        }
    }

    /// Goes past runs of slots whose time has not come, the first of which may be the present one.
    pub(crate) fn skip_quiet(&mut self, now: Stamp, budget: &mut Budget) {
        let used = self.state.fresh as usize;
        while budget.slots >= RUN && budget.work > 0 {
            let from = self.state.cursor as usize;
            let Some(run) = self.wakes.get(from..used).and_then(|wakes| wakes.first_chunk::<RUN>()) else {
                return;
            };
            // All are looked at, whatever is found: so the compiler takes many at a time.
            if run.iter().fold(false, |due, wake| due | wake.reached(now)) {
                return;
            }
            self.state.expect(Wake::first_of(run, now).next_begin(now));
            self.state.cursor = (from + RUN) as u32;
            budget.spend(RUN, RUN);
        }
    }

    /// Of the next slots in the sweep's order, up to the end of the table: those whose time may have come, each with
    /// its place among them.
    pub(crate) fn due_ahead(&self, now: Stamp, slots: usize) -> impl Iterator<Item = (usize, u32)> {
        let used = self.state.fresh as usize;
        let from = self.state.cursor as usize;
        let ahead = self.wakes.get(from..used).unwrap_or_default().iter().take(slots).enumerate();
        let due = ahead.filter(move |(_, wake)| wake.reached(now));
        due.map(move |(at, _)| (at, (from + at) as u32))
    }

    /// Goes on along the wake-up times until one belongs to an entry whose time is up, or `budget`, which counts the
    /// slots looked at, has come down to 0, or the round is over. An entry that controls others lives on; it is named
    /// again every 60 s.
    pub(crate) fn next_due(
        &mut self,
        now: Stamp,
        timeouts: &TimeoutTable,
        budget: &mut usize,
    ) -> Option<Due> {
        while *budget > 0 && self.state.cursor < self.state.fresh {
            *budget -= 1;
            let id = self.state.cursor;
            self.state.cursor = id + 1;
            let wake = &mut self.wakes[id as usize];
            if !wake.reached(now) {
                self.state.expect(wake.next_begin(now));
                continue;
            }
            let slot = &self.slots[id as usize];
            if slot.is_free() {
                // Nothing to do until it is used; the wake-up only has to come before it could look like the past.
                *wake = Wake::furthest(now);
            } else if slot.deadline.reached(now) {
                if slot.children() == 0 {
                    // It ends now. A free slot is left alone as long as that may be.
                    *wake = Wake::furthest(now);
                    return Some(Due::Expired(id));
                }
                // What it is given for that is found out when its time counts again: then how long they live is known.
                let due = slot.deadline.first_from(wake.begin(now), POSTPONED_SECS);
                if due.reached(now) {
                    let next = slot.deadline.next_after(now, POSTPONED_SECS);
                    *wake = Wake::at(next);
                    self.state.expect(next);
                    return Some(Due::Postponed(id));
                }
                *wake = Wake::at(due);
                self.state.expect(due);
            } else {
                // The next packet sets the deadline to this at the earliest; it is before the present one where the
                // time-outs were shortened since.
                let next = now.plus_secs(slot.timeout(timeouts));
                let next = if next.before(slot.deadline) { next } else { slot.deadline };
                *wake = Wake::towards(next, now);
                self.state.expect(next);
            }
        }
        None
    }

    /// The hashes that an entry with this key, but for a call's template, is found by.
    pub(crate) fn hashes(
        slot: &Slot,
        key: &Key,
        server: core::net::IpAddr,
        seed: Seed,
    ) -> (u32, Option<u32>) {
        (key.hash(seed), Self::reply_hash(slot, key, server, seed))
    }

    /// The one of these that replies find it by.
    #[inline]
    pub(crate) fn reply_hash(slot: &Slot, key: &Key, server: core::net::IpAddr, seed: Seed) -> Option<u32> {
        let replies = slot.is_nat() && !slot.is_template();
        replies.then(|| key.hash_at_server(server, slot.server_port, seed))
    }
}

/// What the sweep came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The time of the entry is up.
    Expired(u32),
    /// The time of the entry is up, but it controls others.
    Postponed(u32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow::{Flow, Protocol};
    use crate::model::method::Method;

    fn key(protocol: Protocol, client: &str, virt: &str) -> Key {
        Key::of_request(&Flow::new(protocol, client.parse().unwrap(), virt.parse().unwrap()).unwrap())
    }

    #[test]
    fn what_goes_in_the_batch_that_it_came_in_leaves_nothing_in_the_index() {
        let (mut slots, mut cells) =
            ([Slot::FREE; 2], [Cell::EMPTY; 2 * super::super::index::CELLS_PER_SLOT]);
        let (mut wakes, mut state) = ([Wake::ZERO; 2], TableState::NEW);
        let mut table = Table::new(&mut slots, &mut cells, &mut wakes, &mut state);
        let slot = Slot::new(&key(Protocol::Tcp, "192.0.2.7:1", "10.99.0.1:80"), 0, 80, Method::Nat);
        table.state.deferred.begin();
        assert_eq!(table.insert(slot, Lease::over(Stamp::ZERO), 7, Some(9)), Some(0));
        assert_eq!(table.guess(9), u32::MAX, "it waits for the end of the batch");
        table.remove(0, 7, Some(9));
        table.settle();
        assert_eq!((table.guess(7), table.guess(9)), (u32::MAX, u32::MAX));
    }

    #[test]
    fn entries_of_one_hash_are_told_apart_by_every_part_of_their_key() {
        let (mut slots, mut cells) =
            ([Slot::FREE; 9], [Cell::EMPTY; 9 * super::super::index::CELLS_PER_SLOT]);
        let (mut wakes, mut state) = ([Wake::ZERO; 9], TableState::NEW);
        let mut table = Table::new(&mut slots, &mut cells, &mut wakes, &mut state);
        let later = Stamp::ZERO.plus_secs(10);
        let keys = [
            key(Protocol::Tcp, "192.0.2.7:1", "10.99.0.1:80"),
            key(Protocol::Udp, "192.0.2.7:1", "10.99.0.1:80"),
            key(Protocol::Tcp, "192.0.2.8:1", "10.99.0.1:80"),
            key(Protocol::Tcp, "192.0.2.7:2", "10.99.0.1:80"),
            key(Protocol::Tcp, "192.0.2.7:1", "10.99.0.2:80"),
            key(Protocol::Tcp, "192.0.2.7:1", "10.99.0.1:81"),
            key(Protocol::Tcp, "[::192.0.2.7]:1", "[::10.99.0.1]:80"),
            key(Protocol::Tcp, "[1::192.0.2.7]:1", "[::10.99.0.1]:80"),
            key(Protocol::Tcp, "[::192.0.2.7]:1", "[1::10.99.0.1]:80"),
        ];
        // One hash for everything: requests and replies stand in one chain.
        let server = "10.0.0.11".parse().unwrap();
        for (number, key) in keys.iter().enumerate() {
            let slot = Slot::new(key, number as u32, 8_000 + number as u16, Method::Nat);
            let lease = Lease::of_state(Stamp::ZERO, 10);
            assert_eq!(table.insert(slot, lease, 7, Some(7)), Some(number as u32));
        }
        for (number, key) in keys.iter().enumerate() {
            let id = number as u32;
            assert_eq!(table.find_request(7, key, Stamp::ZERO), Some(id));
            assert_eq!(table.find_request(7, key, later), None, "its time is up");
            let reply = key.at_server(server, 8_000 + number as u16);
            assert_eq!(table.find_reply(7, &reply, Stamp::ZERO, |at| at == id), Some(id));
            assert_eq!(table.find_reply(7, &reply, Stamp::ZERO, |_| false), None, "another server");
            let other = key.at_server(server, 9_000);
            assert_eq!(table.find_reply(7, &other, Stamp::ZERO, |_| true), None, "another port there");
        }
        table.remove(3, 7, Some(7));
        assert_eq!(table.find_request(7, &keys[3], Stamp::ZERO), None);
        assert_eq!(table.find_request(7, &keys[2], Stamp::ZERO), Some(2));
    }
}
