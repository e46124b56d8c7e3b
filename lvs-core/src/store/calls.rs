//! The Call-IDs of templates in a [`Heap`](super::Heap): a bounded map from a slot's number.
//!
//! All of its memory is there from the start, and calls come and go on packets' ways. A map that leaves marks where an
//! entry was would have to be made anew now and then; this one is an index without marks over an array with a list of
//! its free places.

use alloc::boxed::Box;

use super::filled;
use crate::conntrack::index::{Cell, Index, find};
use crate::model::persistence::MAX_CALL_ID;
use crate::model::seed::Seed;

/// The Call-ID of a template.
#[derive(Clone, Debug)]
struct Kept {
    /// The template's slot; of a free place the next free one.
    slot: u32,
    id: heapless::Vec<u8, MAX_CALL_ID>,
}

/// Call-IDs by slot.
#[derive(Debug)]
pub(super) struct Calls {
    seed: Seed,
    cells: Box<[Cell]>,
    kept: Box<[Kept]>,
    free: u32,
}

impl Calls {
    /// Bytes for so many calls.
    pub(super) const fn bytes(calls: usize) -> usize {
        calls.saturating_mul(size_of::<Kept>() + CELLS_PER_CALL * size_of::<Cell>())
    }

    /// Room for so many calls.
    pub(super) fn try_new(calls: usize) -> Option<Self> {
        let cells = filled(Cell::EMPTY, calls.checked_mul(CELLS_PER_CALL)?)?;
        let kept = filled(Kept { slot: NONE, id: heapless::Vec::new() }, calls)?;
        let mut calls = Self { seed: Seed::from_words(0, 0), cells, kept, free: NONE };
        calls.list_all();
        Some(calls)
    }

    /// Forgets all, and hashes with another seed from now on.
    pub(super) fn begin(&mut self, seed: Seed) {
        self.seed = seed;
        if self.cells.iter().any(|cell| !cell.is_empty()) {
            self.cells.fill(Cell::EMPTY);
            self.list_all();
        }
    }

    fn list_all(&mut self) {
        self.free = NONE;
        for (place, kept) in self.kept.iter_mut().enumerate().rev() {
            kept.slot = core::mem::replace(&mut self.free, place as u32);
        }
    }

    /// For how many calls there is room, those that are kept included.
    pub(super) fn capacity(&self) -> usize {
        self.kept.len()
    }

    /// The slots whose Call-IDs are kept.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        let places = self.cells.iter().filter(|cell| !cell.is_empty()).map(|cell| cell.value());
        places.filter_map(|place| Some(self.kept.get(place as usize)?.slot))
    }

    pub(super) fn get(&self, slot: u32) -> Option<&[u8]> {
        Some(&self.kept.get(self.find(slot)? as usize)?.id)
    }

    /// Keeps the Call-ID of a template; `false` when there is no room or it is too long.
    pub(super) fn keep(&mut self, slot: u32, id: &[u8]) -> bool {
        self.forget(slot);
        let place = self.free;
        let Some(kept) = self.kept.get_mut(place as usize) else { return false };
        kept.id.clear();
        if kept.id.extend_from_slice(id).is_err() {
            return false;
        }
        self.free = core::mem::replace(&mut kept.slot, slot);
        Index::new(&mut self.cells).insert(hash(self.seed, slot), place)
    }

    pub(super) fn forget(&mut self, slot: u32) {
        let Some(place) = self.find(slot) else { return };
        Index::new(&mut self.cells).remove(hash(self.seed, slot), place);
        if let Some(kept) = self.kept.get_mut(place as usize) {
            kept.slot = core::mem::replace(&mut self.free, place);
        }
    }

    fn find(&self, slot: u32) -> Option<u32> {
        find(&self.cells, hash(self.seed, slot), |place| {
            self.kept.get(place as usize).is_some_and(|kept| kept.slot == slot)
        })
    }
}

/// What the Call-ID of the template in a slot is found by.
const fn hash(seed: Seed, slot: u32) -> u32 {
    (seed.hash([], slot as u64 | 4 << 56) >> 32) as u32
}

/// No place.
const NONE: u32 = u32::MAX;
/// At most half of the cells are taken.
const CELLS_PER_CALL: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn calls_equal_a_bounded_map(
            room in 0_usize..12,
            steps in prop::collection::vec((any::<bool>(), 0_u32..20, 250_usize..258), 0..200),
        ) {
            let mut calls = Calls::try_new(room).unwrap();
            let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            for (keeps, slot, len) in steps {
                let id = std::vec![slot as u8; len];
                model.remove(&slot);
                if keeps {
                    let taken = model.len() < room && len <= MAX_CALL_ID;
                    prop_assert_eq!(calls.keep(slot, &id), taken);
                    if taken {
                        model.insert(slot, id);
                    }
                } else {
                    calls.forget(slot);
                }
                for slot in 0..20 {
                    prop_assert_eq!(calls.get(slot), model.get(&slot).map(|id| &**id));
                }
            }
            calls.begin(Seed::from_words(1, 2));
            prop_assert!((0..20).all(|slot| calls.get(slot).is_none()));
            prop_assert_eq!((0..20).filter(|&slot| calls.keep(slot, b"x")).count(), room);
        }
    }
}
