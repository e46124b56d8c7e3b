//! `mh`: Maglev hashing (Eisenbud et al., "Maglev", NSDI 2016, section 3.4), as IPVS builds it.

use core::net::SocketAddr;

use super::maglev::{self, FIRST_KEY, hash};
use super::pool::Pool;
use super::schedule::{Change, Schedule, TableLen};
use super::server_list::Build;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;

/// Gives all connections of one client to one server, by weight, such that few clients move when a server comes or
/// goes. A quiesced server keeps its places: its clients are rejected, unless
/// [`fallback`](super::ScheduleFlags::fallback) gives them another server.
///
/// The table does not depend on the order in which servers were added, nor on any seed: two directors with the same
/// servers agree. It has `CELLS` cells, a prime; by default 4,093, that of IPVS's `CONFIG_IP_VS_MH_TAB_INDEX` 12.
/// Weights above `WEIGHT_BITS` bits are scaled down, half of that index. A kernel with index 16 has `Maglev<65_521,
/// 8>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Maglev<const CELLS: usize = 4_093, const WEIGHT_BITS: u32 = 6>;

impl<const CELLS: usize, const WEIGHT_BITS: u32> Schedule for Maglev<CELLS, WEIGHT_BITS> {
    fn name(&self) -> &'static str {
        "mh"
    }

    fn hashes(&self) -> bool {
        true
    }

    fn takes_flags(&self) -> bool {
        true
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        let port = if pool.flags().port { flow.source_port } else { 0 };
        let client = SocketAddr::new(flow.addresses.source(), port);
        let family = pool.family();
        let first = hash(FIRST_KEY, family, client, 0) as usize % CELLS;
        let (id, server) = pool.at(first)?;
        if server.is_usable() {
            return Some(id);
        }
        if !pool.flags().fallback {
            return None;
        }
        // As IPVS looks on: each step hashes anew, so that clients of a lost server are spread over all others.
        for offset in 0..CELLS {
            let again = ((offset + first) % CELLS) as u32;
            let (id, server) = pool.at(hash(FIRST_KEY, family, client, again) as usize % CELLS)?;
            if server.is_usable() {
                return Some(id);
            }
        }
        None
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, _change: Change) {
        pool.build(maglev::build::<CELLS, WEIGHT_BITS>);
    }

    fn table_len(&self) -> TableLen {
        TableLen { least: CELLS, wanted: maglev::room(CELLS) }
    }

    fn builder(&self) -> Option<Build> {
        Some(maglev::build::<CELLS, WEIGHT_BITS>)
    }
}
