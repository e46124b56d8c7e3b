//! From a hash to slots: open addressing that keeps order and needs no tombstones.
//!
//! An entry stands at or after its home cell, and no entry is farther from home than one that it overtakes
//! ("Robin Hood" linear probing; Celis 1986). So a look-up that misses stops early, and a removal moves the
//! following entries back by one instead of leaving a mark. Entries of equal hash stand newest first, which
//! makes the newest of equally good matches the one that is found, as in IPVS's chains.
//!
//! A cell holds 32 bits of hash and the slot's number, so that most look-ups read one cache line here and one in
//! the slots. There are nearly three cells per slot: with two entries for every NAT connection the load stays
//! below 70 %, with one for every other below 35 %.

use core::ptr;

/// Cells for so many slots of a table whose size is known only at run time.
#[cfg(feature = "alloc")]
pub(crate) const fn cells_for(slots: usize) -> usize {
    3 * slots - slots / 8
}

/// Cells per slot where the size is a type's, which can be multiplied by a whole number only.
pub(crate) const CELLS_PER_SLOT: usize = 3;

/// Cells from home on that count as near it.
const NEAR: usize = 6;

/// No value.
pub(crate) const NONE: u32 = u32::MAX;

/// A cell of the index: a hash in the lower half, a value in the upper one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell(u64);

impl Cell {
    pub(crate) const EMPTY: Self = Self::new(0, NONE);

    const fn new(hash: u32, value: u32) -> Self {
        Self((value as u64) << 32 | hash as u64)
    }

    const fn hash(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn value(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.value() == NONE
    }
}

/// The cells on loan from a store.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    cells: &'a mut [Cell],
}

impl<'a> Index<'a> {
    pub(crate) fn new(cells: &'a mut [Cell]) -> Self {
        Self { cells }
    }

    /// The first value of this hash that `accept` takes, newest first.
    #[inline]
    pub(crate) fn find(&self, hash: u32, accept: impl FnMut(u32) -> bool) -> Option<u32> {
        find(self.cells, hash, accept)
    }

    /// Reads the home cell of a hash.
    #[inline]
    pub(crate) fn touch_home(&self, hash: u32) -> u32 {
        self.cells.get(self.home(hash)).map_or(0, |cell| cell.value())
    }

    /// Where the home cell of a hash is in memory.
    #[inline]
    pub(crate) fn address_of_home(&self, hash: u32) -> *const u8 {
        self.cells.get(self.home(hash)).map_or(ptr::null(), ptr::from_ref).cast()
    }

    /// The first value of this hash, [`NONE`] when there is none. Nearly all stand near their home.
    #[inline(always)]
    pub(crate) fn first(&self, hash: u32) -> u32 {
        if let Some(near) = self.near(hash) {
            for cell in near {
                // Where the cell is empty, its value says that there is none.
                if cell.hash() == hash || cell.is_empty() {
                    return cell.value();
                }
            }
        }
        self.walk(hash)
    }

    /// Looks a hash up in an index that is in the caches: without a question from cell to cell, since how far from home
    /// a cell stands is chance, which no branch prediction foresees. It reads cells in vain, for which an index in
    /// memory would be waited for.
    #[inline(always)]
    pub(crate) fn first_at_hand(&self, hash: u32) -> u32 {
        if let Some(near) = self.near(hash) {
            let mut found = Cell::EMPTY;
            for &cell in near.iter().rev() {
                if cell.hash() == hash {
                    found = cell;
                }
            }
            // Behind an empty cell there is none.
            if !found.is_empty() || near.iter().any(|cell| cell.is_empty()) {
                return found.value();
            }
        }
        self.walk(hash)
    }

    /// The cells from home on that are near it, unless the last cell comes before.
    #[inline(always)]
    fn near(&self, hash: u32) -> Option<&[Cell; NEAR]> {
        self.cells.get(self.home(hash)..)?.first_chunk()
    }

    #[inline(never)]
    fn walk(&self, hash: u32) -> u32 {
        self.find(hash, |_| true).unwrap_or(NONE)
    }

    /// Puts a value before all others of its hash. `false`, and nothing changes, when every cell is taken.
    pub(crate) fn insert(&mut self, hash: u32, value: u32) -> bool {
        let mut at = self.home(hash);
        for distance in 0..self.cells.len() {
            let cell = self.cells[at];
            if cell.is_empty() {
                self.cells[at] = Cell::new(hash, value);
                return true;
            }
            if cell.hash() == hash || self.distance(at, cell.hash()) < distance {
                return self.squeeze_in(at, Cell::new(hash, value));
            }
            at = self.after(at);
        }
        false
    }

    /// Moves what stands from `at` up to the next empty cell on by one, which keeps its order.
    #[inline(never)]
    fn squeeze_in(&mut self, at: usize, cell: Cell) -> bool {
        let mut end = at;
        for _ in 0..self.cells.len() {
            if self.cells[end].is_empty() {
                while end != at {
                    let before = if end == 0 { self.cells.len() - 1 } else { end - 1 };
                    self.cells[end] = self.cells[before];
                    end = before;
                }
                self.cells[at] = cell;
                return true;
            }
            end = self.after(end);
        }
        false
    }

    /// Takes a value out; says whether it was there.
    pub(crate) fn remove(&mut self, hash: u32, value: u32) -> bool {
        let mut at = self.home(hash);
        for _ in 0..self.cells.len() {
            let cell = self.cells[at];
            if cell.is_empty() {
                return false;
            }
            if cell.hash() == hash && cell.value() == value {
                self.close(at);
                return true;
            }
            at = self.after(at);
        }
        false
    }

    /// Moves what follows an emptied cell back by one, as far as that brings it nearer to home.
    fn close(&mut self, mut at: usize) {
        loop {
            let next = self.after(at);
            let cell = self.cells[next];
            if cell.is_empty() || self.distance(next, cell.hash()) == 0 {
                self.cells[at] = Cell::EMPTY;
                return;
            }
            self.cells[at] = cell;
            at = next;
        }
    }

    /// The cell where a hash belongs.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        home(self.cells.len(), hash)
    }

    /// How far `at` is from a hash's home.
    #[inline]
    fn distance(&self, at: usize, hash: u32) -> usize {
        distance(self.cells.len(), at, hash)
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        after(self.cells.len(), at)
    }
}

/// The cell where a hash belongs among `len`: the hash as a fraction of the whole, so that any length will do.
#[inline]
const fn home(len: usize, hash: u32) -> usize {
    ((hash as u64 * len as u64) >> 32) as usize
}

/// How far `at` is from a hash's home, among `len` cells.
#[inline]
const fn distance(len: usize, at: usize, hash: u32) -> usize {
    let home = home(len, hash);
    if at >= home { at - home } else { at + len - home }
}

/// The cell behind `at`, among `len`.
#[inline]
const fn after(len: usize, at: usize) -> usize {
    if at + 1 == len { 0 } else { at + 1 }
}

/// As [`Index::find`], in cells that are not to be changed.
#[inline]
pub(crate) fn find(cells: &[Cell], hash: u32, mut accept: impl FnMut(u32) -> bool) -> Option<u32> {
    let mut at = home(cells.len(), hash);
    for reached in 0..cells.len() {
        let cell = *cells.get(at)?;
        if cell.hash() == hash {
            if cell.is_empty() {
                return None;
            }
            if accept(cell.value()) {
                return Some(cell.value());
            }
        } else if cell.is_empty() || distance(cells.len(), at, cell.hash()) < reached {
            return None;
        }
        at = after(cells.len(), at);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32),
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Few hashes, at both ends of the range: many collisions, and runs across the end of the cells.
        let hash = prop_oneof![Just(0), Just(1), Just(u32::MAX), Just(u32::MAX - 1), any::<u32>()];
        let step = prop_oneof![hash.prop_map(Step::Insert), any::<usize>().prop_map(Step::Remove)];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn index_equals_a_list_of_newest_first(steps in steps(), len in 1_usize..40) {
            let mut cells = std::vec![Cell::EMPTY; len];
            let mut index = Index::new(&mut cells);
            let mut model: Vec<(u32, u32)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(hash) => {
                        let inserted = model.len() < len;
                        if inserted {
                            prop_assert!(index.insert(hash, number as u32));
                            model.insert(0, (hash, number as u32));
                        }
                    }
                    Step::Remove(which) if !model.is_empty() => {
                        let (hash, value) = model.remove(which % model.len());
                        prop_assert!(index.remove(hash, value));
                        prop_assert!(!index.remove(hash, value));
                    }
                    Step::Remove(_) => {}
                }
                for &(hash, _) in &model {
                    let mut found = Vec::new();
                    index.find(hash, |value| { found.push(value); false });
                    let expected: Vec<u32> =
                        model.iter().filter(|entry| entry.0 == hash).map(|entry| entry.1).collect();
                    prop_assert_eq!(index.first(hash), expected[0]);
                    prop_assert_eq!(index.first_at_hand(hash), expected[0]);
                    prop_assert_eq!(found, expected);
                    for absent in [hash.wrapping_add(1), !hash, 0] {
                        if model.iter().all(|entry| entry.0 != absent) {
                            prop_assert_eq!((index.first(absent), index.first_at_hand(absent)), (NONE, NONE));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_index_takes_no_more_and_still_finds() {
        let mut cells = [Cell::EMPTY; 3];
        let mut index = Index::new(&mut cells);
        assert!((0..3).all(|value| index.insert(value * 1_000, value)));
        assert_eq!(index.find(2_000, |_| true), Some(2));
        assert_eq!(index.find(77, |_| true), None);
        assert!(!index.insert(77, 9));
        assert_eq!((index.find(77, |_| true), index.find(1_000, |_| true)), (None, Some(1)));
    }
}
