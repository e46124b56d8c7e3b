//! Look-up tables that are made ahead: before the change that needs them, by another thread than the packets'.
//!
//! To make a large table takes a millisecond, and packets of all services would wait for it. So a change comes in three
//! steps: what the servers are is read ([`Director::members`](crate::Director::members)), the table for what they will
//! be is made elsewhere ([`TableBuilder::build`]), and after the change the director takes it over
//! ([`Director::adopt_table`](crate::Director::adopt_table)), if it is for just the servers that there are then. If it
//! is not, the director makes the table itself, before the next connection: a table never belongs to other servers than
//! it is used for.

use super::schedule::Schedule;
use super::server_list::{Build, Member, NEW, ServerList, Source};
use crate::model::flow::Family;
use crate::model::id::ServerId;

/// How the look-up table of a service is made, to be carried to where that is done.
#[derive(Clone, Copy, Debug)]
pub struct TableBuilder {
    build: Build,
    family: Family,
    cells: usize,
}

impl TableBuilder {
    /// How the table of a scheduler is made in a service of this family; `None` if its table cannot be made ahead.
    pub fn of<P: Schedule>(scheduler: &P, family: Family) -> Option<Self> {
        let build = scheduler.builder()?;
        Some(Self { build, family, cells: scheduler.table_len().least })
    }

    /// How many words [`build`](Self::build) needs for so many servers: the table, a bit for each of its cells, and
    /// four words for each server.
    #[must_use]
    pub const fn room(&self, servers: usize) -> usize {
        self.cells + self.cells.div_ceil(u32::BITS as usize) + 4 * servers
    }

    /// Makes the table for these servers, newest first, in memory of at least [`room`](Self::room) words. `None` where
    /// there is too little, or no table for so many servers.
    pub fn build<M: AsMut<[Member]>, T: AsMut<[u32]>>(
        &self,
        mut members: M,
        mut table: T,
    ) -> Option<PrebuiltTable<M, T>> {
        let list = members.as_mut();
        // A server that is still to be added has no id. Its place in the list stands for it until the table is taken
        // over.
        let mut adds = false;
        for (member, place) in list.iter_mut().zip(NEW..) {
            if member.cell & NEW != 0 {
                (member.cell, adds) = (place, true);
            }
        }
        let room = table.as_mut().get_mut(..self.room(list.len()))?;
        let mut servers = ServerList { len: list.len(), source: Source::List(list), family: self.family };
        (self.build)(&mut servers, room).then_some(PrebuiltTable { builder: *self, members, table, adds })
    }

    fn is(&self, other: &Self) -> bool {
        // Functions of one address do the same. Those of two may do so too, and are then taken for others, which does
        // no harm.
        core::ptr::fn_addr_eq(self.build, other.build)
            && self.family == other.family
            && self.cells == other.cells
    }
}

/// A look-up table with the servers that it is for. Only [`TableBuilder::build`] makes one.
#[derive(Clone, Debug)]
pub struct PrebuiltTable<M, T> {
    builder: TableBuilder,
    members: M,
    table: T,
    /// Whether some of the servers were still to be added.
    adds: bool,
}

impl<M: AsMut<[Member]>, T: AsMut<[u32]>> PrebuiltTable<M, T> {
    /// Whether it is for exactly these servers by this builder; servers that were still to be added get their ids.
    pub(crate) fn suits(
        &mut self,
        builder: &TableBuilder,
        mut servers: impl Iterator<Item = (ServerId, Member)>,
    ) -> bool {
        let members = self.members.as_mut();
        self.builder.is(builder)
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
        let (Some(from), Some(to)) = (table.get(..self.builder.cells), cells.get_mut(..self.builder.cells))
        else {
            return false;
        };
        // A copy and not an exchange: the cells are the store's, and some twenty microseconds are little beside a
        // millisecond.
        to.copy_from_slice(from);
        if !self.adds {
            return true;
        }
        // Servers that have come since were named by their places. So it seems with a cell that names none, and still
        // does. Mostly there are few of them, so many cells are looked at together.
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

/// Cells that are looked at together.
const RUN: usize = 32;
