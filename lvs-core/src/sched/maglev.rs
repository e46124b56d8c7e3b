//! The table of Maglev hashing, as IPVS builds it.

use core::net::SocketAddr;

use super::order::fold_as;
use super::server_list::{ServerList, Source};
use super::wrr::gcd;
use crate::model::flow::Family;
use crate::model::id::ServerId;
use crate::model::seed::Seed;
use crate::model::server::Server;

/// Makes the table in the first cells, and notes in those that follow, if there is room for them. A list of servers
/// needs room for itself as well.
pub(super) fn build<const CELLS: usize, const WEIGHT_BITS: u32>(
    list: &mut ServerList<'_>,
    table: &mut [u32],
) -> bool {
    if list.len() > CELLS {
        return false;
    }
    // A scheduler that wraps this one may have asked for another size.
    let Some((table, rest)) = table.split_at_mut_checked(CELLS) else { return false };
    let len = if CELLS > NEAR { CELLS.div_ceil(NOTES) } else { 0 };
    let (notes, rest) = rest.split_at_mut_checked(len).unwrap_or_default();
    let scale = Scale::of::<WEIGHT_BITS>(list);
    let family = list.family();
    let (rows, _) = rest.as_chunks_mut();
    let mut ring = match (&mut list.source, rows) {
        (Source::Chain { servers, first }, _) => {
            scale.prepare::<CELLS>(servers, *first, family);
            Ring::Chain { servers, first: *first }
        }
        (Source::List(members), rows) => {
            let Some(rows) = rows.get_mut(..members.len()) else { return false };
            for (row, member) in rows.iter_mut().zip(*members) {
                let [at, skip, turns] = scale.start::<CELLS>(family, member.address(), member.last_weight());
                *row = [at, skip, turns, member.cell()];
            }
            Ring::List(rows)
        }
    };
    if notes.is_empty() {
        populate::<CELLS>(&mut ring, table);
    } else {
        populate_noted::<CELLS>(&mut ring, table, notes);
    }
    true
}

/// How weights become turns.
struct Scale {
    divisor: u32,
    shift: u32,
}

impl Scale {
    fn of<const WEIGHT_BITS: u32>(list: &ServerList<'_>) -> Self {
        let weights = || list.iter().map(|member| member.last_weight());
        let divisor = weights().filter(|&weight| weight > 0).map(i64::from).fold(0, gcd).max(1) as u32;
        let largest = weights().max().unwrap_or(0) / divisor;
        let bits = u32::BITS - largest.leading_zeros();
        Self { divisor, shift: bits.saturating_sub(WEIGHT_BITS) }
    }

    /// Start, step and turns of a server.
    fn start<const CELLS: usize>(&self, family: Family, address: SocketAddr, weight: u32) -> [u32; 3] {
        let cells = CELLS as u32;
        let turns = (weight / self.divisor) >> self.shift;
        [
            hash(FIRST_KEY, family, address, 0) % cells,
            hash(SECOND_KEY, family, address, 0) % (cells - 1) + 1,
            if turns == 0 { u32::from(weight != 0) } else { turns },
        ]
    }

    /// Gives it to every server of a chain.
    fn prepare<const CELLS: usize>(&self, servers: &mut [Server], first: Option<ServerId>, family: Family) {
        let mut next = first;
        while let Some(server) = next.and_then(|id| servers.get_mut(id.0 as usize)) {
            server.scratch = self.start::<CELLS>(family, server.address, server.last_weight());
            next = server.next;
        }
    }
}

/// Where a server stands in its walk through the cells, in a row or in a server's own place.
const AT: usize = 0;
/// How many cells it takes per round; 0 for none at all.
const TURNS: usize = 2;

/// The servers whose turn it is one after the other.
enum Ring<'a> {
    Chain { servers: &'a mut [Server], first: Option<ServerId> },
    List(&'a mut [[u32; 4]]),
}

impl Ring<'_> {
    /// Calls every server in turn, as often as its turns say, so often in all.
    #[inline(always)]
    fn in_turn(&mut self, mut free: usize, mut take: impl FnMut(&mut Stand)) {
        match self {
            Self::Chain { servers, first } => {
                if !super::order::walk(servers, *first).any(|(_, server)| server.scratch[TURNS] > 0) {
                    return;
                }
                while free > 0 {
                    let mut next = Stand::of(servers, *first);
                    while let Some((mut stand, after)) = next {
                        // Read before the walk of this one, whose end no processor foresees.
                        next = Stand::of(servers, after);
                        stand.take_turns(&mut free, &mut take);
                        servers[stand.cell as usize].scratch[AT] = stand.at as u32;
                    }
                }
            }
            Self::List(rows) => {
                if !rows.iter().any(|row| row[TURNS] > 0) {
                    return;
                }
                while free > 0 {
                    for row in rows.iter_mut() {
                        let [at, skip, turns, cell] = *row;
                        let mut stand =
                            Stand { cell, at: at as usize, skip: skip as usize, turns: turns as usize };
                        stand.take_turns(&mut free, &mut take);
                        row[AT] = stand.at as u32;
                    }
                }
            }
        }
    }
}

/// A server on its walk through the cells.
struct Stand {
    /// What names it.
    cell: u32,
    at: usize,
    skip: usize,
    turns: usize,
}

impl Stand {
    /// The walk of a server, and who comes after it.
    #[inline(always)]
    fn of(servers: &[Server], id: Option<ServerId>) -> Option<(Self, Option<ServerId>)> {
        let id = id?;
        let server = servers.get(id.0 as usize)?;
        let [at, skip, turns] = server.scratch.map(|number| number as usize);
        Some((Self { cell: id.0, at, skip, turns }, server.next))
    }

    #[inline(always)]
    fn take_turns(&mut self, free: &mut usize, take: &mut impl FnMut(&mut Self)) {
        let turns = self.turns.min(*free);
        (0..turns).for_each(|_| take(self));
        *free -= turns;
    }
}

/// Lets the servers take free cells in turn until all are taken.
fn populate<const CELLS: usize>(ring: &mut Ring<'_>, table: &mut [u32]) {
    table.fill(FREE);
    ring.in_turn(CELLS, |stand| {
        while table[stand.at] != FREE {
            stand.at = step::<CELLS>(stand.at, stand.skip);
        }
        table[stand.at] = stand.cell;
    });
}

/// Lets the servers take free cells in turn, for large tables. Most of the work is looking for free cells. Which ones
/// are taken is noted in a bit for each, which stay in the nearest cache; and when few are left, half of all steps
/// would still be to come, so it is asked of each of them how many steps away it is.
fn populate_noted<const CELLS: usize>(ring: &mut Ring<'_>, table: &mut [u32], notes: &mut [u32]) {
    notes.fill(0);
    table.fill(FREE);
    let mut left = CELLS;
    let mut last = LastCells { cells: [0; FEW], len: 0 };
    ring.in_turn(CELLS, |stand| {
        if left == FEW && CELLS < MANY {
            last.collect(notes);
        }
        match last.nearest::<CELLS>(stand) {
            Some(at) => stand.at = at,
            None => {
                stand.at = next_free::<CELLS>(notes, stand.at, stand.skip);
                notes[stand.at / NOTES] |= BITS[stand.at % NOTES];
            }
        }
        table[stand.at] = stand.cell;
        left -= 1;
    });
}

/// The first free cell of a walk. Four are looked at together, whose places do not wait for each other: most walks end
/// in the first four, and a processor foresees that as it cannot foresee at which. A function of its own, since it
/// wants nearly all registers: as a part of its caller it takes longer than step by step.
#[inline(never)]
fn next_free<const CELLS: usize>(notes: &[u32], mut at: usize, one: usize) -> usize {
    let two = step::<CELLS>(one, one);
    let (three, four) = (step::<CELLS>(two, one), step::<CELLS>(two, two));
    let is_taken = |at: usize| notes[at / NOTES] >> (at % NOTES) & 1;
    loop {
        let places = [at, step::<CELLS>(at, one), step::<CELLS>(at, two), step::<CELLS>(at, three)];
        let [a, b, c, d] = places.map(is_taken);
        let taken = a | b << 1 | c << 2 | d << 3;
        if taken != 0b1111 {
            return places[taken.trailing_ones() as usize % places.len()];
        }
        at = step::<CELLS>(at, four);
    }
}

/// The cells that are free at last.
struct LastCells {
    cells: [u32; FEW],
    len: usize,
}

impl LastCells {
    /// Finds them by the notes, which have a bit for every cell, and some that stand for none. There are as many as it
    /// has room for.
    fn collect(&mut self, notes: &[u32]) {
        let free = notes.iter().zip(0..).flat_map(|(&noted, word)| {
            let mut left = !noted;
            core::iter::from_fn(move || {
                let bit = (left != 0).then_some(left.trailing_zeros())?;
                left &= left - 1;
                Some(word * u32::BITS + bit)
            })
        });
        self.len = self.cells.iter_mut().zip(free).map(|(cell, at)| *cell = at).count();
    }

    /// Takes the one that a server comes to first. `None` as long as they were not collected.
    fn nearest<const CELLS: usize>(&mut self, stand: &Stand) -> Option<usize> {
        let cells = self.cells.get_mut(..self.len)?;
        if cells.is_empty() {
            return None;
        }
        // So many steps lead on by one cell; as a part of all of them, 2^64 for the whole, further rounds fall away by
        // themselves.
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

/// The next cell of a walk. A division would cost more than all the rest.
const fn step<const CELLS: usize>(at: usize, skip: usize) -> usize {
    let next = at + skip;
    if next < CELLS { next } else { next - CELLS }
}

/// Words of a table with so many cells: notes follow them where the cells are too many for the nearest cache.
pub(super) const fn room(cells: usize) -> usize {
    if cells > NEAR { cells + cells.div_ceil(NOTES) } else { cells }
}

/// What is in a free cell.
const FREE: u32 = u32::MAX;
/// Cells that the nearest cache holds easily.
const NEAR: usize = 4_096;
/// Free cells that are few: to ask as many takes about as long as it takes to come upon one of them, in a table of
/// 65,521. A power of two.
const FEW: usize = 256;
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
pub(super) const FIRST_KEY: Seed = Seed::from_words(2_654_435_761, 2_654_435_761);
const SECOND_KEY: Seed = Seed::from_words(2_654_446_892, 2_654_446_892);

/// The low half of SipHash-1-3 of the sum of offset, port and folded address, as on 64-bit kernels.
pub(super) fn hash(key: Seed, family: Family, of: SocketAddr, offset: u32) -> u32 {
    let value = offset.wrapping_add(u32::from(of.port())).wrapping_add(fold_as(family, of.ip()));
    key.hash([], 4 << 56 | u64::from(value)) as u32
}

#[cfg(test)]
mod tests {
    use super::super::Maglev;
    use super::super::prebuilt::TableBuilder;
    use super::super::server_list::Member;
    use super::*;
    use crate::model::standing::Standing;

    #[test]
    fn hashes_are_those_of_ipvs() {
        let server = |last| SocketAddr::from(([10, 0, 0, last], 80));
        assert_eq!(hash(FIRST_KEY, Family::V4, server(11), 0), 0x4bc8_5788);
        assert_eq!(hash(SECOND_KEY, Family::V4, server(11), 0), 0x65b4_e270);
        assert_eq!(hash(FIRST_KEY, Family::V4, server(12), 0), 0xa1a9_0e04);
        assert_eq!(hash(SECOND_KEY, Family::V4, server(13), 0), 0x79df_f951);
    }

    #[test]
    fn a_table_is_the_same_with_notes_and_without_from_a_chain_and_from_a_list() {
        const CELLS: usize = 8_191;
        let mut servers = [const { Server::VACANT }; 37];
        for (index, server) in servers.iter_mut().enumerate() {
            server.address = SocketAddr::from(([10, 0, 0, index as u8], 80));
            server.standing = Standing::new(index as u32 % 5);
            server.next = Some(ServerId(index as u32 + 1));
        }
        servers[36].next = None;
        let first = Some(ServerId(0));
        let members = [(); 37];
        let mut at = 0;
        let members = members.map(|()| {
            let member = Member::of(ServerId(at as u32), &servers[at]);
            at += 1;
            member
        });
        let (mut plain, mut noted) = ([7; CELLS], [7; room(CELLS)]);
        let mut chain = ServerList::chain(&mut servers, first, 37, Family::V4);
        assert!(build::<CELLS, 6>(&mut chain, &mut plain) && build::<CELLS, 6>(&mut chain, &mut noted));
        assert_eq!(plain, noted[..CELLS]);
        assert!(!plain.contains(&FREE));
        let builder = TableBuilder::of(&Maglev::<CELLS, 6>, Family::V4).unwrap();
        let mut memory = [7; CELLS + CELLS.div_ceil(NOTES) + 4 * 37];
        assert!(builder.build(members, &mut memory[1..]).is_none(), "too little room");
        assert!(builder.build(members, &mut memory[..]).is_some());
        assert_eq!(plain, memory[..CELLS]);
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
