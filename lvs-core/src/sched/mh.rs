//! `mh`: Maglev hashing (Eisenbud et al., "Maglev", NSDI 2016, section 3.4), as IPVS builds it.

use super::wrr::gcd;
use super::{Change, Pool, Schedule, TableLen, fold_as};
use crate::flow::{Family, Flow};
use crate::hash::Seed;
use crate::rng::Rng;
use crate::server::{Server, ServerId};
use core::net::SocketAddr;

/// Gives all connections of one client to one server, by weight, such that few clients move when a server comes or
/// goes. A quiesced server keeps its places: its clients are rejected, unless
/// [`fallback`](super::ScheduleFlags::fallback) gives them another server.
///
/// The table does not depend on the order in which servers were added, nor on any seed: two directors with the same
/// servers agree. It has `CELLS` cells, a prime; by default 4,093, that of IPVS's `CONFIG_IP_VS_MH_TAB_INDEX` 12. Weights above
/// `WEIGHT_BITS` bits are scaled down, half of that index. A kernel with index 16 has `Maglev<65_521, 8>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Maglev<const CELLS: usize = 4_093, const WEIGHT_BITS: u32 = 6>;

impl<const CELLS: usize, const WEIGHT_BITS: u32> Schedule for Maglev<CELLS, WEIGHT_BITS> {
    fn name(&self) -> &'static str {
        "mh"
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
        if pool.len() > CELLS {
            return;
        }
        let family = pool.family();
        let (servers, first, table) = pool.parts();
        // A scheduler that wraps this one may have asked for another size.
        let Some((cells, notes)) =
            table.get_mut(..room(CELLS)).and_then(|table| table.split_at_mut_checked(CELLS))
        else {
            return;
        };
        prepare(servers, first, family, CELLS as u32, WEIGHT_BITS);
        if notes.is_empty() {
            cells.fill(FREE);
            populate::<CELLS>(servers, first, cells);
        } else {
            populate_noted::<CELLS>(servers, first, cells, notes);
        }
    }

    fn table_len(&self) -> TableLen {
        TableLen::exactly(room(CELLS))
    }
}

/// Where a server stands in its walk through the cells.
const AT: usize = 0;
/// How far it steps.
const SKIP: usize = 1;
/// How many cells it takes per round; 0 for none at all.
const TURNS: usize = 2;

/// Gives every server its start, step and turns.
fn prepare(servers: &mut [Server], first: Option<ServerId>, family: Family, cells: u32, weight_bits: u32) {
    let weights = || super::walk(servers, first).map(|(_, server)| server.last_weight);
    let divisor = weights().filter(|&weight| weight > 0).map(i64::from).fold(0, gcd).max(1) as u32;
    let largest = weights().max().unwrap_or(0) / divisor;
    let bits = u32::BITS - largest.leading_zeros();
    let shift = bits.saturating_sub(weight_bits);
    let mut next = first;
    while let Some(server) = next.and_then(|id| servers.get_mut(id.0 as usize)) {
        let turns = (server.last_weight / divisor) >> shift;
        server.scratch[AT] = hash(FIRST_KEY, family, server.address, 0) % cells;
        server.scratch[SKIP] = hash(SECOND_KEY, family, server.address, 0) % (cells - 1) + 1;
        server.scratch[TURNS] = if turns == 0 { u32::from(server.last_weight != 0) } else { turns };
        next = server.next;
    }
}

/// Lets the servers take free cells in turn until all are taken.
fn populate<const CELLS: usize>(servers: &mut [Server], first: Option<ServerId>, table: &mut [u32]) {
    in_turn(servers, first, table.len(), |stand| {
        while table[stand.at] != FREE {
            stand.at = step::<CELLS>(stand.at, stand.skip);
        }
        table[stand.at] = stand.id.0;
    });
}

/// The same for large tables. Most of the work is looking for free cells. Which ones are taken is noted in a bit for each, which stay
/// in the nearest cache; and when few are left, half of all steps would still be to come, so it is asked of each of
/// them how many steps away it is.
fn populate_noted<const CELLS: usize>(
    servers: &mut [Server],
    first: Option<ServerId>,
    table: &mut [u32],
    notes: &mut [u32],
) {
    notes.fill(0);
    table.fill(FREE);
    let mut left = CELLS;
    let mut last = LastCells { cells: [0; FEW], len: 0 };
    in_turn(servers, first, table.len(), |stand| {
        if left == FEW && CELLS < MANY {
            last.collect(table);
        }
        match last.nearest::<CELLS>(stand) {
            Some(at) => stand.at = at,
            None => {
                while notes[stand.at / NOTES] >> (stand.at % NOTES) & 1 != 0 {
                    stand.at = step::<CELLS>(stand.at, stand.skip);
                }
                notes[stand.at / NOTES] |= BITS[stand.at % NOTES];
            }
        }
        table[stand.at] = stand.id.0;
        left -= 1;
    });
}

/// The cells that are free at last.
struct LastCells {
    cells: [u32; FEW],
    len: usize,
}

impl LastCells {
    /// Finds them. There are as many as it has room for.
    fn collect(&mut self, table: &[u32]) {
        let free = table.iter().enumerate().filter(|(_, cell)| **cell == FREE);
        self.len = self.cells.iter_mut().zip(free).map(|(cell, (at, _))| *cell = at as u32).count();
    }

    /// Takes the one that a server comes to first. `None` as long as they were not collected.
    fn nearest<const CELLS: usize>(&mut self, stand: &Stand) -> Option<usize> {
        let cells = self.cells.get_mut(..self.len)?;
        if cells.is_empty() {
            return None;
        }
        // So many steps lead on by one cell; as a part of all of them, 2^64 for the whole, further rounds fall away by themselves.
        let one = inverse(stand.skip as u64, CELLS as u64) * (u64::MAX / CELLS as u64);
        let steps = |cell: u32| u64::from(cell).wrapping_sub(stand.at as u64).wrapping_mul(one);
        // What is lost by rounding, and the place in the lowest bits, are less than one step.
        let nearest =
            cells.iter().zip(0_u64..).map(|(&cell, place)| steps(cell) & !(FEW as u64 - 1) | place).min()?;
        let place = nearest as usize % FEW;
        let found = cells[place];
        self.len -= 1;
        cells[place] = cells[self.len];
        Some(found as usize)
    }
}

/// What gives 1 when it is multiplied by `of`, modulo a prime (Euclid's algorithm, extended).
const fn inverse(of: u64, prime: u64) -> u64 {
    let (mut larger, mut smaller) = (prime as i64, of as i64);
    let (mut before, mut factor) = (0_i64, 1_i64);
    while smaller > 1 {
        let quotient = larger / smaller;
        (larger, smaller) = (smaller, larger % smaller);
        (before, factor) = (factor, before - quotient * factor);
    }
    factor.rem_euclid(prime as i64) as u64
}

/// A server on its walk through the cells.
struct Stand {
    id: ServerId,
    at: usize,
    skip: usize,
    turns: usize,
    next: Option<ServerId>,
}

impl Stand {
    #[inline(always)]
    fn of(servers: &[Server], id: Option<ServerId>) -> Option<Self> {
        let id = id?;
        let server = servers.get(id.0 as usize)?;
        let [at, skip, turns] = server.scratch.map(|number| number as usize);
        Some(Self { id, at, skip, turns, next: server.next })
    }
}

/// Calls every server in turn, as often as its turns say, so often in all.
fn in_turn(
    servers: &mut [Server],
    first: Option<ServerId>,
    mut free: usize,
    mut take: impl FnMut(&mut Stand),
) {
    if !super::walk(servers, first).any(|(_, server)| server.scratch[TURNS] > 0) {
        return;
    }
    while free > 0 {
        let mut next = Stand::of(servers, first);
        while let Some(mut stand) = next {
            // Read before the walk of this one, whose end no processor foresees.
            next = Stand::of(servers, stand.next);
            let turns = stand.turns.min(free);
            (0..turns).for_each(|_| take(&mut stand));
            free -= turns;
            servers[stand.id.0 as usize].scratch[AT] = stand.at as u32;
        }
    }
}

/// The next cell of a walk. A division would cost more than all the rest.
const fn step<const CELLS: usize>(at: usize, skip: usize) -> usize {
    let next = at + skip;
    if next < CELLS { next } else { next - CELLS }
}

/// Words of a table with so many cells: notes follow them where the cells are too many for the nearest cache.
const fn room(cells: usize) -> usize {
    if cells > NEAR { cells + cells.div_ceil(NOTES) } else { cells }
}

/// What is in a free cell.
const FREE: u32 = u32::MAX;
/// Cells that the nearest cache holds easily.
const NEAR: usize = 4_096;
/// Free cells that are few: to ask as many takes about as long as it takes to come upon one of them, in a table of 65,521. A power of two.
const FEW: usize = 512;
/// Cells that are too many for the steps between them to be told apart in 64 bits with what is rounded off.
const MANY: usize = 1 << 18;
/// Notes in a word.
const NOTES: usize = u32::BITS as usize;
/// Each of them alone. A shift instead would be made at every step of the search.
const BITS: [u32; NOTES] = {
    let mut bits = [1; NOTES];
    let mut at = 1;
    while at < NOTES {
        bits[at] = bits[at - 1] << 1;
        at += 1;
    }
    bits
};

/// IPVS's two fixed keys.
const FIRST_KEY: Seed = Seed::from_words(2_654_435_761, 2_654_435_761);
const SECOND_KEY: Seed = Seed::from_words(2_654_446_892, 2_654_446_892);

/// The low half of SipHash-1-3 of the sum of offset, port and folded address, as on 64-bit kernels.
fn hash(key: Seed, family: Family, of: SocketAddr, offset: u32) -> u32 {
    let value = offset.wrapping_add(u32::from(of.port())).wrapping_add(fold_as(family, of.ip()));
    key.hash([], 4 << 56 | u64::from(value)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_ipvs() {
        let server = |last| SocketAddr::from(([10, 0, 0, last], 80));
        assert_eq!(hash(FIRST_KEY, Family::V4, server(11), 0), 0x4bc8_5788);
        assert_eq!(hash(SECOND_KEY, Family::V4, server(11), 0), 0x65b4_e270);
        assert_eq!(hash(FIRST_KEY, Family::V4, server(12), 0), 0xa1a9_0e04);
        assert_eq!(hash(SECOND_KEY, Family::V4, server(13), 0), 0x79df_f951);
    }

    #[test]
    fn a_large_table_is_the_same_with_notes_and_without() {
        const CELLS: usize = 8_191;
        let mut servers = [const { Server::VACANT }; 37];
        for (index, server) in servers.iter_mut().enumerate() {
            server.address = SocketAddr::from(([10, 0, 0, index as u8], 80));
            server.last_weight = index as u32 % 5;
            server.next = Some(ServerId(index as u32 + 1));
        }
        servers[36].next = None;
        let first = Some(ServerId(0));
        let (mut plain, mut noted, mut notes) = ([FREE; CELLS], [0; CELLS], [7; CELLS.div_ceil(NOTES)]);
        prepare(&mut servers, first, Family::V4, CELLS as u32, 6);
        populate::<CELLS>(&mut servers, first, &mut plain);
        prepare(&mut servers, first, Family::V4, CELLS as u32, 6);
        populate_noted::<CELLS>(&mut servers, first, &mut noted, &mut notes);
        assert_eq!(plain, noted);
        assert!(!plain.contains(&FREE));
    }

    #[test]
    fn an_address_of_the_other_family_is_folded_by_that_of_the_service() {
        let tunnelled = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], 80));
        let first_word = SocketAddr::from(([0x20, 0x01, 0x0d, 0xb8], 80));
        let by = |family, address| hash(FIRST_KEY, family, address, 0);
        assert_eq!(by(Family::V4, tunnelled), by(Family::V4, first_word));
        assert_ne!(by(Family::V6, tunnelled), by(Family::V4, first_word));
        assert_eq!(by(Family::V6, first_word), by(Family::V4, first_word));
    }
}
