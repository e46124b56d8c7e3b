//! Look-up tables that are made ahead: before the change that needs them, by another thread than the packets'.
//!
//! To make a large table takes a millisecond, and packets of all services would wait for it. So a change comes in three steps: what the
//! servers are is read ([`Director::members`](crate::Director::members)), the table for what they will be is made elsewhere
//! ([`Recipe::build`]), and after the change the director takes it over
//! ([`Director::adopt_table`](crate::Director::adopt_table)), if it is for just the servers that there are then. If it is not, the director
//! makes the table itself, before the next connection: a table never belongs to other servers than it is used for.

use core::net::SocketAddr;

use super::{Schedule, walk};
use crate::flow::Family;
use crate::server::{Server, ServerConfig, ServerId};

/// Makes a look-up table for the servers of a service: of the lent cells, the first [`least`](super::TableLen::least) are the table, and the
/// others are room for the work. Says whether there is a table now; else everything is left as it was.
///
/// The same servers, whatever their ids, must give the same table.
pub type Build = fn(&mut Roster<'_>, &mut [u32]) -> bool;

/// A real server as far as look-up tables follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    address: SocketAddr,
    weight: u32,
    last_weight: u32,
    /// What stands for it in cells: its id, or [`NEW`] and its place in the list while it is still to be added.
    cell: u32,
}

impl Member {
    /// A server that will be added.
    #[must_use]
    pub fn new(config: &ServerConfig) -> Self {
        let weight = config.weight.get();
        let address = SocketAddr::new(config.address.ip(), config.address.port());
        Self { address, weight, last_weight: weight, cell: NEW }
    }

    pub(crate) const fn of(id: ServerId, server: &Server) -> Self {
        Self { address: server.address, weight: server.weight, last_weight: server.last_weight, cell: id.0 }
    }

    /// The same after [`Director::edit_server`](crate::Director::edit_server).
    pub fn edit(&mut self, config: &ServerConfig) {
        self.weight = config.weight.get();
        if self.weight != 0 {
            self.last_weight = self.weight;
        }
    }

    /// Address and port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The weight; 0 is quiesced.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }

    /// The last weight other than 0 (0 if there was none).
    #[must_use]
    pub const fn last_weight(&self) -> u32 {
        self.last_weight
    }

    /// What names it in the cells of a table.
    #[must_use]
    pub const fn cell(&self) -> u32 {
        self.cell
    }

    /// Whether it is this server, which stands at this place.
    const fn is(&self, id: ServerId, other: &Self) -> bool {
        (self.cell & NEW != 0 || self.cell == id.0)
            && self.weight == other.weight
            && self.last_weight == other.last_weight
    }
}

/// The servers of a service, newest first, lent to a [`Build`].
#[derive(Debug)]
pub struct Roster<'a> {
    pub(super) source: Source<'a>,
    family: Family,
    len: usize,
}

/// Where they are.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// In a director's store.
    Chain { servers: &'a mut [Server], first: Option<ServerId> },
    /// In a list.
    List(&'a [Member]),
}

impl<'a> Roster<'a> {
    pub(crate) fn chain(
        servers: &'a mut [Server],
        first: Option<ServerId>,
        len: usize,
        family: Family,
    ) -> Self {
        Self { source: Source::Chain { servers, first }, family, len }
    }

    /// The family of clients and virtual addresses. Servers behind tunnels may be of the other one.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// How many servers there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The servers in order, newest first.
    pub fn iter(&self) -> impl Iterator<Item = Member> {
        let (chain, list) = match &self.source {
            Source::Chain { servers, first } => (Some(walk(servers, *first)), None),
            Source::List(members) => (None, Some(members.iter().copied())),
        };
        let chain = chain.into_iter().flatten().map(|(id, server)| Member::of(id, server));
        chain.chain(list.into_iter().flatten())
    }
}

/// How the look-up table of a service is made, to be carried to where that is done.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    build: Build,
    family: Family,
    cells: usize,
}

impl Recipe {
    /// That of a scheduler in a service of this family; `None` if its table cannot be made ahead.
    pub fn of<P: Schedule>(scheduler: &P, family: Family) -> Option<Self> {
        let build = scheduler.builder()?;
        Some(Self { build, family, cells: scheduler.table_len().least })
    }

    /// How many words [`build`](Self::build) needs for so many servers: the table, a bit for each of its cells, and four words for each server.
    #[must_use]
    pub const fn room(&self, servers: usize) -> usize {
        self.cells + self.cells.div_ceil(u32::BITS as usize) + 4 * servers
    }

    /// Makes the table for these servers, newest first, in memory of at least [`room`](Self::room) words. `None` where there is too little,
    /// or no table for so many servers.
    pub fn build<M: AsMut<[Member]>, T: AsMut<[u32]>>(
        &self,
        mut members: M,
        mut table: T,
    ) -> Option<Prepared<M, T>> {
        let list = members.as_mut();
        let mut adds = false;
        for (member, place) in list.iter_mut().zip(NEW..) {
            if member.cell & NEW != 0 {
                (member.cell, adds) = (place, true);
            }
        }
        let room = table.as_mut().get_mut(..self.room(list.len()))?;
        let mut roster = Roster { len: list.len(), source: Source::List(list), family: self.family };
        (self.build)(&mut roster, room).then_some(Prepared { recipe: *self, members, table, adds })
    }

    fn is(&self, other: &Self) -> bool {
        // Functions of one address do the same. Those of two may do so too, and are then taken for others, which does no harm.
        core::ptr::fn_addr_eq(self.build, other.build)
            && self.family == other.family
            && self.cells == other.cells
    }
}

/// A look-up table with the servers that it is for. Only [`Recipe::build`] makes one.
#[derive(Clone, Debug)]
pub struct Prepared<M, T> {
    recipe: Recipe,
    members: M,
    table: T,
    /// Whether some of the servers were still to be added.
    adds: bool,
}

impl<M: AsMut<[Member]>, T: AsMut<[u32]>> Prepared<M, T> {
    /// Whether it is for exactly these servers by this recipe; servers that were still to be added get their ids.
    pub(crate) fn suits(
        &mut self,
        recipe: &Recipe,
        mut servers: impl Iterator<Item = (ServerId, Member)>,
    ) -> bool {
        let members = self.members.as_mut();
        self.recipe.is(recipe)
            && members.iter_mut().all(|member| match servers.next() {
                Some((id, server)) if member.address == server.address && member.is(id, &server) => {
                    member.cell = id.0;
                    true
                }
                Some(_) | None => false,
            })
            && servers.next().is_none()
    }

    /// Copies the table, once it [suits](Self::suits). `false` where the cells are too few.
    pub(crate) fn copy_to(&mut self, cells: &mut [u32]) -> bool {
        let (members, table) = (self.members.as_mut(), self.table.as_mut());
        let (Some(from), Some(to)) = (table.get(..self.recipe.cells), cells.get_mut(..self.recipe.cells))
        else {
            return false;
        };
        to.copy_from_slice(from);
        if !self.adds {
            return true;
        }
        // Servers that have come since were named by their places. So it seems with a cell that names none, and still does. Mostly there are
        // few of them, so many cells are looked at together.
        let (runs, rest) = to.as_chunks_mut::<RUN>();
        for run in runs.iter_mut().map(<[u32; RUN]>::as_mut_slice).chain([rest]) {
            if run.iter().fold(0, |all, cell| all | cell) & NEW == 0 {
                continue;
            }
            for cell in run.iter_mut().filter(|cell| **cell & NEW != 0) {
                *cell = members.get((*cell & !NEW) as usize).map_or(u32::MAX, |member| member.cell);
            }
        }
        true
    }
}

/// What tells the place of a server that is still to be added from ids, which are less: a store has room for fewer servers.
const NEW: u32 = 1 << 31;
/// Cells that are looked at together.
const RUN: usize = 32;
