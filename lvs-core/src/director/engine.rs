//! A director at work: what it knows and its tables, side by side, for the length of one call.

use super::brain::Brain;
use crate::conntrack::table::Table;
use crate::model::tick::Stamp;
use crate::store::{Store, TablesOf};

/// What every step of a decision needs: what the director knows, the store's tables, and the present moment.
pub(super) struct Engine<'a, S: Store> {
    pub(super) brain: &'a mut Brain,
    pub(super) tables: TablesOf<'a, S>,
    /// The moment that the caller of the director gave; none of the tables' moments that have passed is later.
    pub(super) now: Stamp,
}

impl<S: Store> Engine<'_, S> {
    /// The connection table.
    #[inline]
    pub(super) fn connections(&mut self) -> Table<'_> {
        self.tables.connections(&mut self.brain.table)
    }
}
