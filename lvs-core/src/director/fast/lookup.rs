//! Looking up the connections of a batch: hash all, read all index cells, read all slots.
//!
//! A look-up among many connections is two reads of memory that nobody has touched lately, and each takes as long as
//! the rest of a decision several times over. One after the other they add up; asked for together they overlap.

use core::hint::black_box;
use core::ptr;

use crate::conntrack::hashing::{HashTogether, Hashing, Keys};
use crate::conntrack::table::{Table, split};
use crate::director::engine::Engine;
use crate::model::seed::Seed;
use crate::store::Store;

impl<S: Store> Engine<'_, S> {
    /// Hashes packets of one family, and finds what the index has for each of them; [`split`] takes that apart.
    #[inline(always)]
    pub(super) fn guess(&mut self, keys: Keys<'_>, hashes: &mut [u32], guesses: &mut [u32]) {
        if !keys.is_empty() {
            self.guess_some(keys, hashes, guesses);
        }
    }

    // A function of its own, because each of its loops wants all registers.
    #[inline(never)]
    fn guess_some(&mut self, keys: Keys<'_>, hashes: &mut [u32], guesses: &mut [u32]) {
        let hashes = hashes.get_mut(..keys.len()).unwrap_or_default();
        let values = guesses.get_mut(..keys.len()).unwrap_or_default();
        let (seed, together) = (self.brain.config.seed, self.brain.table.together);
        let far = self.brain.table.live > NEAR;
        let ahead = self.brain.table.ahead.filter(|_| far);
        let table =
            Table::new(self.tables.slots, self.tables.cells, self.tables.wakes, &mut self.brain.table);
        if let Some(ahead) = ahead {
            // A few at a time: what they wait for comes while the next ones are hashed.
            for (group, hashes) in hashes.chunks_mut(GROUP).enumerate() {
                let mut cells = [ptr::null(); GROUP];
                hash(seed, together, keys.from(group * GROUP), hashes);
                for (&hash, cell) in hashes.iter().zip(&mut cells) {
                    *cell = table.address_of_home(hash);
                }
                ahead(&cells);
            }
            for (values, hashes) in values.chunks_mut(GROUP).zip(hashes.chunks(GROUP)) {
                let mut slots = [ptr::null(); GROUP];
                for ((value, slot), &hash) in values.iter_mut().zip(&mut slots).zip(hashes) {
                    *value = table.guess(hash);
                    *slot = table.address_of_slot(*value);
                }
                ahead(&slots);
            }
            return;
        }
        hash(seed, together, keys, hashes);
        let pairs = values.iter_mut().zip(&*hashes);
        if !far {
            pairs.for_each(|(value, &hash)| *value = table.guess_at_hand(hash));
            return;
        }
        // Nothing but reads: a question whose answer decides what is read next would make each wait for the one before.
        black_box(hashes.iter().fold(0, |sum, &hash| sum ^ table.touch_home(hash)));
        pairs.for_each(|(value, &hash)| *value = table.guess(hash));
        black_box(values.iter().fold(0, |sum, &value| sum ^ table.touch_slot(split(value).0)));
    }

    /// What the index has for a hash now that entries of that hash have come or gone.
    #[inline(never)]
    pub(super) fn guess_again(&mut self, hash: u32) -> u32 {
        let mut table = self.connections();
        table.settle();
        table.guess(hash)
    }
}

/// Hashes packets, together if there is a function for it.
#[inline(always)]
fn hash(seed: Seed, together: Option<HashTogether>, keys: Keys<'_>, hashes: &mut [u32]) {
    let hashing = Hashing::new(seed, keys, hashes);
    let _ = match together {
        Some(together) => together(hashing),
        None => hashing.run(),
    };
}

/// So many addresses are told to [`ReadAhead`](crate::accel::ReadAhead) at a time.
const GROUP: usize = 8;
/// So many connections stay in the caches by themselves: 64 bytes each, and cells.
const NEAR: u32 = 8_192;
