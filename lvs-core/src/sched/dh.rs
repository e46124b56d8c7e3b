//! `dh`: destination hashing.

use super::order::{fold, hash8};
use super::pool::Pool;
use super::schedule::{Change, Schedule, TableLen};
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives all connections to one virtual address to one server. Of use with firewall marks, where a service has many
/// addresses. Weights do not matter, except that 0 refuses: there is no other choice for that address.
#[derive(Clone, Copy, Debug, Default)]
pub struct DestinationHash;

impl Schedule for DestinationHash {
    fn name(&self) -> &'static str {
        "dh"
    }

    fn hashes(&self) -> bool {
        true
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        let (id, server) = pool.at(hash8(fold(pool.destination(flow))))?;
        (server.is_usable() && server.is_available()).then_some(id)
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        match change {
            // Weights do not matter to the table, and whether a server may be chosen is asked at each choice.
            Change::Edited(_) => {}
            Change::Bound | Change::Added(_) | Change::Removed { .. } => super::sh::fill(pool, |_| 1),
        }
    }

    fn table_len(&self) -> TableLen {
        TableLen::exactly(super::sh::BUCKETS)
    }
}
