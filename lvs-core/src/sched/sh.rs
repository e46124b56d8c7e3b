//! `sh`: source hashing.

use super::order::{fold, hash8};
use super::pool::Pool;
use super::schedule::{Change, Schedule, TableLen};
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;
use crate::model::server::Server;

/// Gives all connections of one client to one server, as often as weights say. A client whose server is
/// quiesced or overloaded is rejected, unless [`fallback`](super::ScheduleFlags::fallback) is set.
///
/// The table follows from the list and the weights alone, so that it is the same in every director and after every
/// start. It has 256 cells, filled with runs as long as the weights: large weights starve whoever comes late.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceHash;

/// Cells of the look-up table.
pub(super) const BUCKETS: usize = 256;

impl Schedule for SourceHash {
    fn name(&self) -> &'static str {
        "sh"
    }

    fn hashes(&self) -> bool {
        true
    }

    fn takes_flags(&self) -> bool {
        true
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        // Without the port all connections of a client go to one server, which is what most use `sh` for.
        let port = if pool.flags().port { u32::from(flow.source_port) } else { 0 };
        let first = hash8(port.wrapping_add(fold(flow.addresses.source())));
        let (id, server) = pool.at(first)?;
        if server.is_usable() {
            return Some(id);
        }
        if !pool.flags().fallback {
            return None;
        }
        // IPVS adds the first hash twice, so the search starts at twice its value.
        for offset in 0..BUCKETS {
            let (id, server) = pool.at(((offset + first) % BUCKETS + first) % BUCKETS)?;
            if server.is_usable() {
                return Some(id);
            }
        }
        None
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, _change: Change) {
        fill(pool, |server| server.weight().max(1));
    }

    fn table_len(&self) -> TableLen {
        TableLen::exactly(BUCKETS)
    }
}

/// Fills the table with the servers in order, each in a run of `run` cells, round and round.
pub(super) fn fill(pool: &mut Pool<'_>, run: impl Fn(&Server) -> u32) {
    let (servers, first, table) = pool.parts();
    let mut turn = super::order::walk(servers, first);
    let mut current = None;
    let mut left = 0;
    for cell in table {
        if left == 0 {
            current = turn.next();
            if current.is_none() {
                turn = super::order::walk(servers, first);
                current = turn.next();
            }
            left = current.map_or(1, |(_, server)| run(server));
        }
        *cell = current.map_or(u32::MAX, |(id, _)| id.0);
        left -= 1;
    }
}
