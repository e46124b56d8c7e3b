//! The part of a table that the decision about one packet can come upon, as a small table of its own.
//!
//! A table of millions of entries cannot be copied between two batches. But a decision looks under a few hashes, takes
//! a few free slots, and in a full table looks at a known run of slots for one to give up. An [`Extract`] has just
//! these, so that the same code decides the same on it. Entries get other numbers in it; all that
//! refers to one is renumbered.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::index::{self, Cell, Index};
use super::slot::{Note, Slot};
use super::table::{TableState, split};

/// Entries that one packet can make at most, helpers' expectations included: a template, a connection, and what a
/// control connection announces. Beyond that an extract's table is full.
pub(crate) const MOST_NEW: usize = 8;

/// The entries that an extract has, in the order of their numbers there.
#[derive(Debug)]
pub(crate) struct Extract {
    ids: Vec<u32>,
    numbers: BTreeMap<u32, u32>,
    /// The free slots among them, or beside them, in the order in which they are taken.
    free: Vec<u32>,
    /// Whether the table has so little room that something may have to make some.
    pub(crate) is_short: bool,
}

impl Extract {
    /// Nothing but room for new entries, and what a search for one to give up can look at: `look` slots for each.
    pub(crate) fn begin(slots: &[Slot], state: &TableState, look: usize) -> Self {
        let room = slots.len().saturating_sub(state.live as usize);
        let mut extract =
            Self { ids: Vec::new(), numbers: BTreeMap::new(), free: Vec::new(), is_short: room < MOST_NEW };
        if extract.is_short {
            // In their order from where the search begins: so it meets the same ones in the same order.
            for ahead in 0..slots.len().min(look * MOST_NEW) {
                extract.add(((state.reclaim as usize + ahead) % slots.len()) as u32);
            }
            extract.free = state.free_slots(slots).take(MOST_NEW).collect();
            for id in extract.free.clone() {
                extract.add(id);
            }
        }
        extract
    }

    /// Has this entry too.
    pub(crate) fn add(&mut self, id: u32) {
        let number = self.ids.len() as u32;
        self.numbers.entry(id).or_insert_with(|| {
            self.ids.push(id);
            number
        });
    }

    /// Has everything that is found by this hash too.
    pub(crate) fn add_found(&mut self, cells: &[Cell], hash: u32) {
        for value in values(cells, hash) {
            self.add(split(value).0);
        }
    }

    /// Has too what controls the entries that it has.
    pub(crate) fn add_controllers(&mut self, slots: &[Slot]) {
        let mut next = 0;
        while let Some(&id) = self.ids.get(next) {
            let slot = slots.get(id as usize).filter(|slot| !slot.is_free());
            if let Some(controller) = slot.and_then(Slot::controller) {
                self.add(controller);
            }
            next += 1;
        }
    }

    /// The entries and free slots by their numbers in the table.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The number that an entry of the table has here.
    pub(crate) fn number(&self, id: u32) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    /// How many slots its table has.
    pub(crate) fn len(&self) -> usize {
        self.ids.len() + if self.is_short { 0 } else { MOST_NEW }
    }

    /// Fills the slots, notes and index of an empty table of [that length](Self::len). `hashes` are all those that its
    /// entries are found by.
    pub(crate) fn fill(
        &self,
        from: (&[Slot], &[Note], &[Cell]),
        into: (&mut [Slot], &mut [Note], &mut [Cell]),
        hashes: &BTreeSet<u32>,
    ) {
        let (slots, notes, cells) = from;
        let places = self.ids.iter().zip(into.0.iter_mut().zip(into.1));
        for (&id, (place, note)) in places {
            let (Some(slot), Some(said)) = (slots.get(id as usize), notes.get(id as usize)) else { continue };
            *place = *slot;
            *note = *said;
            if !slot.is_free()
                && let Some(controller) = slot.controller()
            {
                place.set_controller(self.number(controller));
            }
        }
        // The free slots stand in a list, which ends with the last of them.
        let mut next = u32::MAX;
        for number in self.free.iter().rev().filter_map(|&id| self.number(id)) {
            if let Some(place) = into.0.get_mut(number as usize) {
                *place = Slot::free_before(next);
                next = number;
            }
        }
        let mut index = Index::new(into.2);
        for &hash in hashes {
            // Newest first, as they are found; what is put in last is found first.
            let found: Vec<u32> = values(cells, hash).collect();
            for value in found.into_iter().rev() {
                let (id, _) = split(value);
                if let Some(number) = self.number(id) {
                    index.insert(hash, value - id + number);
                }
            }
        }
    }

    /// What its table remembers.
    pub(crate) fn state(&self, of: &TableState, hashes: &[u32]) -> TableState {
        let free = self.free.first().and_then(|&id| self.number(id));
        of.of_extract(free, self.ids.len() as u32, hashes)
    }
}

/// The values of a hash, newest first.
fn values(cells: &[Cell], hash: u32) -> impl Iterator<Item = u32> {
    let mut all = Vec::new();
    index::find(cells, hash, |value| {
        all.push(value);
        false
    });
    all.into_iter()
}
