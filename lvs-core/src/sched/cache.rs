//! What `lblc` and `lblcr` remember: something for each virtual address, in cells that the store lent.
//!
//! ```text
//! cells:  heads of the chains │ entries: next, time of use, address (4), two words │ what else the scheduler keeps
//! ```
//!
//! Every access is checked, and every walk is bounded: the cells belong to the scheduler that was bound, but one that
//! wraps a built-in one may write to them as well, or ask for fewer.

use core::net::IpAddr;

use super::pool::Pool;
use super::schedule::TableLen;
use crate::model::tick::{MAX_TIMEOUT_SECS, STAMPS_PER_SEC, Stamp, Tick};

/// A map from addresses to two words, with the ageing of IPVS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cache {
    buckets: u32,
    entries: Slab,
    /// The bucket that the last partial look ended at.
    rover: u32,
    /// Counts the rounds from one full look to the next.
    round: u32,
    next_tick: Option<Tick>,
}

/// An entry's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Cache {
    /// How many cells a cache is to have that keeps `beside` cells per entry outside of it.
    pub(super) const fn table_len(beside: usize) -> TableLen {
        let wanted = MAX_BUCKETS + MAX_ENTRIES * (ENTRY as usize + beside);
        TableLen { least: LEAST_CELLS, wanted }
    }

    /// Begins anew in the cells that the pool has.
    pub(super) fn bind(&mut self, pool: &mut Pool<'_>, beside: usize) {
        let (cells, each) = (pool.table().len(), ENTRY as usize + beside);
        let past_heads = cells.saturating_sub(MAX_BUCKETS) / each;
        // Few cells are shared out evenly between heads and entries, since a head without an entry is of no use.
        let (buckets, len) = if past_heads >= MAX_BUCKETS {
            (MAX_BUCKETS, past_heads.min(MAX_ENTRIES))
        } else {
            let len = cells / (each + 1);
            (len.checked_ilog2().map_or(0, |log| 1 << log), len)
        };
        pool.table_mut().fill(NONE);
        let (buckets, len) = (buckets as u32, len as u32);
        let entries = Slab::new(buckets, ENTRY, len);
        *self = Self { buckets, entries, round: 1, next_tick: Some(pool.now().plus_secs(ROUND_SECS)), ..NEW };
    }

    /// The first cell behind it, and how many entries it can have.
    pub(super) const fn end(&self) -> (u32, u32) {
        (self.entries.end(), self.entries.len)
    }

    /// When [`collect`](Self::collect) is due.
    pub(super) const fn next_tick(&self) -> Option<Tick> {
        self.next_tick
    }

    /// The entry of an address; it counts as used now.
    pub(super) fn find(&self, pool: &mut Pool<'_>, address: IpAddr) -> Option<Entry> {
        let words = words(address);
        let head = self.head(pool, address)?;
        let found = self.chain(pool, head).find(|&entry| {
            (0..4).all(|word| self.entries.get(pool, entry.0, ADDRESS + word) == words[word as usize])
        })?;
        self.entries.set(pool, found.0, USED, pool.now().stamp().to_bits());
        Some(found)
    }

    /// Adds an entry for an address that has none; `None` when there is no room.
    pub(super) fn insert(&mut self, pool: &mut Pool<'_>, address: IpAddr) -> Option<Entry> {
        let head = self.head(pool, address)?;
        let id = self.entries.take(pool)?;
        self.entries.set(pool, id, USED, pool.now().stamp().to_bits());
        for (word, value) in (0..).zip(words(address)) {
            self.entries.set(pool, id, ADDRESS + word, value);
        }
        let first = cell(pool, head);
        self.entries.set(pool, id, NEXT, first);
        set_cell(pool, head, id);
        Some(Entry(id))
    }

    /// The scheduler's two words of an entry, `word` 0 or 1.
    pub(super) fn word(&self, pool: &Pool<'_>, entry: Entry, word: u32) -> u32 {
        self.entries.get(pool, entry.0, OWN + word)
    }

    pub(super) fn set_word(&self, pool: &mut Pool<'_>, entry: Entry, word: u32, value: u32) {
        self.entries.set(pool, entry.0, OWN + word, value);
    }

    /// Forgets what has not been used for long: every half hour everything past `expiration` seconds, and every minute,
    /// while more than two thirds of the room is taken, some of what is past six minutes. `release` lets
    /// go of what an entry refers to.
    pub(super) fn collect(
        &mut self,
        pool: &mut Pool<'_>,
        expiration: u32,
        mut release: impl FnMut(&mut Pool<'_>, Entry),
    ) {
        self.next_tick = Some(pool.now().plus_secs(ROUND_SECS));
        let high = self.entries.len / 3 * 2;
        if self.round.is_multiple_of(FULL_ROUNDS) {
            for bucket in 0..self.buckets {
                self.purge(pool, bucket, expiration, &mut release);
            }
            self.round = 1;
        } else if self.entries.taken <= high {
            self.round += 1;
        } else {
            // A third more than what is too much, and no more than half of the limit: whoever is forgotten may get
            // another server.
            let mut goal = ((self.entries.taken - high) * 4 / 3).min(high / 2);
            for _ in 0..self.buckets {
                self.rover = (self.rover + 1) % self.buckets;
                goal = goal.saturating_sub(self.purge(pool, self.rover, CROWDED_SECS, &mut release));
                if goal == 0 {
                    break;
                }
            }
        }
    }

    /// Removes a bucket's entries that were not used for so many seconds, and says how many.
    fn purge(
        &mut self,
        pool: &mut Pool<'_>,
        bucket: u32,
        secs: u32,
        release: &mut impl FnMut(&mut Pool<'_>, Entry),
    ) -> u32 {
        let now = pool.now().stamp();
        let mut purged = 0;
        let mut before: Option<u32> = None;
        let mut next = cell(pool, bucket);
        // Bounded, since the cells may have been written by another scheduler that wraps this one: a ring would never
        // end.
        for _ in 0..self.entries.len {
            if next >= self.entries.len {
                break;
            }
            let id = next;
            next = self.entries.get(pool, id, NEXT);
            let used = Stamp::from_bits(self.entries.get(pool, id, USED));
            if now.since(used) < stamps(secs) {
                before = Some(id);
                continue;
            }
            release(pool, Entry(id));
            match before {
                Some(before) => self.entries.set(pool, before, NEXT, next),
                None => set_cell(pool, bucket, next),
            }
            self.entries.give_back(pool, id);
            purged += 1;
        }
        purged
    }

    /// The cell that holds the head of an address's chain.
    fn head(&self, pool: &Pool<'_>, address: IpAddr) -> Option<u32> {
        (self.buckets > 0).then(|| pool.hash(address) as u32 & (self.buckets - 1))
    }

    fn chain<'p>(&self, pool: &'p Pool<'_>, head: u32) -> impl Iterator<Item = Entry> + use<'p> {
        let slab = self.entries;
        slab.chain(pool, cell(pool, head), NEXT).map(Entry)
    }
}

impl Default for Cache {
    fn default() -> Self {
        NEW
    }
}

/// Whether more than `secs` seconds passed since the moment that `bits` stands for.
pub(super) fn is_past(pool: &Pool<'_>, bits: u32, secs: u32) -> bool {
    pool.now().stamp().since(Stamp::from_bits(bits)) > stamps(secs)
}

/// Equal pieces of a table, given out and taken back one by one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slab {
    base: u32,
    /// Cells of a piece. The first one links the free ones.
    stride: u32,
    len: u32,
    /// Pieces that were in use at one time.
    reached: u32,
    /// Pieces in use now.
    taken: u32,
    free: u32,
}

impl Slab {
    /// `len` pieces of `stride` cells from cell `base` on.
    pub(super) const fn new(base: u32, stride: u32, len: u32) -> Self {
        Self { base, stride, len, reached: 0, taken: 0, free: NONE }
    }

    const fn end(&self) -> u32 {
        self.base + self.stride * self.len
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn get(&self, pool: &Pool<'_>, id: u32, word: u32) -> u32 {
        if id < self.len { cell(pool, self.base + id * self.stride + word) } else { NONE }
    }

    pub(super) fn set(&self, pool: &mut Pool<'_>, id: u32, word: u32, value: u32) {
        if id < self.len {
            set_cell(pool, self.base + id * self.stride + word, value);
        }
    }

    /// A free piece.
    pub(super) fn take(&mut self, pool: &Pool<'_>) -> Option<u32> {
        // Pieces that were given back first, so that the cells in use stay few and in the caches.
        let id = if self.free < self.len {
            let id = self.free;
            self.free = self.get(pool, id, 0);
            id
        } else if self.reached < self.len {
            self.reached += 1;
            self.reached - 1
        } else {
            return None;
        };
        self.taken += 1;
        Some(id)
    }

    pub(super) fn give_back(&mut self, pool: &mut Pool<'_>, id: u32) {
        self.set(pool, id, 0, self.free);
        self.free = id;
        self.taken = self.taken.saturating_sub(1);
    }

    /// The pieces from `first` on that are linked by their cell `link`.
    pub(super) fn chain<'p>(
        self,
        pool: &'p Pool<'_>,
        first: u32,
        link: u32,
    ) -> impl Iterator<Item = u32> + use<'p> {
        let mut next = first;
        let step = move || {
            let id = next;
            next = self.get(pool, id, link);
            (id < self.len).then_some(id)
        };
        core::iter::from_fn(step).take(self.len as usize)
    }
}

fn cell(pool: &Pool<'_>, at: u32) -> u32 {
    pool.table().get(at as usize).copied().unwrap_or(NONE)
}

fn set_cell(pool: &mut Pool<'_>, at: u32, value: u32) {
    if let Some(cell) = pool.table_mut().get_mut(at as usize) {
        *cell = value;
    }
}

/// An address in four words. All addresses of a service are of one family.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [address.to_bits(), 0, 0, 0],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
        }
    }
}

/// Seconds in stamps.
fn stamps(secs: u32) -> u32 {
    secs.min(MAX_TIMEOUT_SECS) * STAMPS_PER_SEC
}

const NEW: Cache = Cache { buckets: 0, entries: Slab::new(0, ENTRY, 0), rover: 0, round: 1, next_tick: None };

/// No entry, no piece.
pub(super) const NONE: u32 = u32::MAX;
/// Cells of an entry, and what is in them.
const ENTRY: u32 = 8;
const NEXT: u32 = 0;
const USED: u32 = 1;
const ADDRESS: u32 = 2;
const OWN: u32 = 6;
/// IPVS has so many chains.
const MAX_BUCKETS: usize = 1 << 10;
/// IPVS refuses to remember more addresses than this, and begins to forget in earnest above two thirds of it.
const MAX_ENTRIES: usize = 24_576;
/// Room for about 16 addresses: with less than that a cache is of no use.
const LEAST_CELLS: usize = 256;
/// Time between two looks.
const ROUND_SECS: u64 = 60;
/// Every so many looks, a full one.
const FULL_ROUNDS: u32 = 30;
/// An entry that was not used for so long goes when there are many.
const CROWDED_SECS: u32 = 360;
