//! Look-up tables of services that are about to change, made by the thread that changes them.
//!
//! A worker has the new table within microseconds then, where it would take a millisecond to make a large one
//! (`mh`), and hold up packets of all services for that time. See [`lvs_core::tables::TableBuilder`].

use core::net::SocketAddr;
use std::collections::BTreeMap;

use lvs_core::sched::Schedule;
use lvs_core::tables::{Member, PrebuiltTable, TableBuilder};
use lvs_core::{Director, ServerConfig, ServiceKey, Store};

/// A service as a director has it, and as it is going to be.
#[derive(Clone, Debug)]
pub(crate) struct PlannedService {
    key: ServiceKey,
    builder: Option<TableBuilder>,
    members: Vec<Member>,
    /// Whether the table will have to be another one.
    changes: bool,
}

impl PlannedService {
    /// A service as it is. `None` if there is no such service, or no table of its can be made ahead, unless it `gets` a
    /// scheduler whose table can.
    pub(crate) fn read<S: Store>(director: &Director<S>, key: ServiceKey, gets: bool) -> Option<Self> {
        let builder = director.table_builder(key);
        if builder.is_none() && !gets {
            return None;
        }
        director.service(key)?;
        Some(Self { key, builder, members: director.members(key).collect(), changes: false })
    }

    /// A service that is still to be added.
    pub(crate) fn new<P: Schedule>(key: ServiceKey, scheduler: &P) -> Self {
        Self { key, builder: TableBuilder::of(scheduler, key.family()), members: Vec::new(), changes: true }
    }

    pub(crate) const fn key(&self) -> ServiceKey {
        self.key
    }

    /// The service's scheduler will be another one.
    pub(crate) fn reschedule<P: Schedule>(&mut self, scheduler: &P) {
        self.builder = TableBuilder::of(scheduler, self.key.family());
        self.changes = true;
    }

    pub(crate) fn add(&mut self, config: &ServerConfig) {
        self.members.insert(0, Member::new(config));
        self.changes = true;
    }

    pub(crate) fn edit(&mut self, config: &ServerConfig) {
        if let Some(at) = self.find(config.address) {
            self.members[at].edit(config);
            self.changes = true;
        }
    }

    pub(crate) fn remove(&mut self, address: SocketAddr) {
        if let Some(at) = self.find(address) {
            self.members.remove(at);
            self.changes = true;
        }
    }

    fn find(&self, address: SocketAddr) -> Option<usize> {
        let same = |of: SocketAddr| of.ip() == address.ip() && of.port() == address.port();
        self.members.iter().position(|member| same(member.address()))
    }

    /// Whether this one's table is that one's, too.
    fn is_like(&self, other: &Self) -> bool {
        self.key == other.key && self.changes == other.changes && self.members == other.members
    }

    /// The table for what the service will be.
    fn build(&self) -> Option<Table> {
        let builder = self.builder.filter(|_| self.changes)?;
        let room = vec![0; builder.room(self.members.len())];
        Some(Table { key: self.key, prepared: builder.build(self.members.clone(), room)? })
    }
}

/// A table for a service after a change.
#[derive(Clone, Debug)]
struct Table {
    key: ServiceKey,
    prepared: PrebuiltTable<Vec<Member>, Vec<u32>>,
}

/// Tables for services after a change. They are some hundred kilobytes each: whoever made them should get them
/// back, so that no worker has to return the memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrebuiltTables(Vec<Table>);

impl PrebuiltTables {
    /// Makes the tables of one director's services.
    fn of(planned: &BTreeMap<ServiceKey, PlannedService>) -> Self {
        Self(planned.values().filter_map(PlannedService::build).collect())
    }

    /// Makes the tables of several directors, which mostly have the same services with the same servers in the same
    /// places.
    pub(crate) fn of_each(all: &[BTreeMap<ServiceKey, PlannedService>]) -> Vec<Self> {
        let mut tables: Vec<Self> = Vec::with_capacity(all.len());
        for planned in all {
            let same = |other: &&BTreeMap<_, PlannedService>| {
                other.len() == planned.len()
                    && other.values().zip(planned.values()).all(|(a, b)| a.is_like(b))
            };
            let known = all.iter().take(tables.len()).position(|other| same(&other));
            tables.push(match known.and_then(|at| tables.get(at)) {
                Some(tables) => tables.clone(),
                None => Self::of(planned),
            });
        }
        tables
    }

    /// Gives them to the director, after the change. It makes those itself that are not for what it has now.
    pub(crate) fn adopt<S: Store>(&mut self, director: &mut Director<S>) {
        for table in &mut self.0 {
            director.adopt_table(table.key, &mut table.prepared);
        }
    }
}
