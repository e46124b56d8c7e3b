//! Where a director keeps things. Two stores, one code: [`Fixed`] is sized at compile time and needs no
//! allocator, [`Heap`] is sized at run time. Neither grows while packets flow.

#![expect(unnameable_types, reason = "the trait is sealed: what it is made of has no name outside")]

#[cfg(feature = "alloc")]
mod calls;
mod fixed;
#[cfg(feature = "alloc")]
mod heap;
pub(crate) mod service;

use crate::conntrack::expiry::Wake;
use crate::conntrack::index::Cell;
use crate::conntrack::slot::{Note, Slot};
use crate::conntrack::table::{Table, TableState};
use crate::model::event::Event;
use crate::model::key::ServiceKey;
use crate::model::server::Server;
use crate::sched::schedule::{Schedule, TableLen};
use crate::store::service::Service;

pub use fixed::Fixed;
#[cfg(feature = "alloc")]
pub use heap::{Capacity, Heap, NoMemory};

/// What a director keeps its tables in: [`Fixed`], `&mut` [`Fixed`], or [`Heap`]. Other crates cannot implement it.
pub trait Store: private::Parts {}

/// How the director reaches into a store.
pub(crate) mod private {
    use super::{Queue, Schedule, Services, TableLen, Tables};

    /// The store's parts, borrowed side by side.
    pub trait Parts {
        /// The scheduler of its services.
        type Scheduler: Schedule;
        /// The store's index of services.
        type Services: Services;
        /// The store's queue of events.
        type Queue: Queue;

        /// All parts, for changing them.
        fn parts(&mut self) -> Tables<'_, Self::Scheduler, Self::Services, Self::Queue>;

        /// What listings read.
        fn view(&self) -> super::View<'_, Self::Scheduler, Self::Services>;

        /// Makes a table for the service at `index`; says whether there is one now.
        fn lend_table(&mut self, index: u32, len: TableLen) -> bool;

        /// Takes the seed, before anything else happens, and forgets what another director may have left.
        fn prepare(&mut self, seed: crate::model::seed::Seed);
    }
}

/// The scheduler of a store's services.
pub type SchedulerOf<S> = <S as private::Parts>::Scheduler;

/// All parts of a store, for changing them.
pub(crate) type TablesOf<'a, S> = Tables<
    'a,
    <S as private::Parts>::Scheduler,
    <S as private::Parts>::Services,
    <S as private::Parts>::Queue,
>;

/// A store's parts for changing.
#[derive(Debug)]
pub struct Tables<'a, P, M, Q> {
    pub(crate) slots: &'a mut [Slot],
    pub(crate) cells: &'a mut [Cell],
    pub(crate) wakes: &'a mut [Wake],
    pub(crate) notes: &'a mut [Note],
    pub(crate) servers: &'a mut [Server],
    pub(crate) services: &'a mut [Option<Service<P>>],
    pub(crate) by_key: &'a mut M,
    pub(crate) events: &'a mut Q,
}

impl<P, M, Q> Tables<'_, P, M, Q> {
    pub(crate) fn connections<'b>(&'b mut self, state: &'b mut TableState) -> Table<'b> {
        Table::new(self.slots, self.cells, self.wakes, state)
    }
}

/// A store's parts for reading.
#[derive(Debug)]
pub struct View<'a, P, M> {
    pub(crate) slots: &'a [Slot],
    pub(crate) notes: &'a [Note],
    pub(crate) servers: &'a [Server],
    pub(crate) services: &'a [Option<Service<P>>],
    pub(crate) by_key: &'a M,
}

/// The index of services, the look-up tables of their schedulers, and the Call-IDs of their templates.
pub trait Services: core::fmt::Debug {
    /// The place of the service with this key.
    fn find(&self, key: &ServiceKey) -> Option<u32>;
    /// Remembers a place. The store's number of services bounds how many there are.
    fn insert(&mut self, key: ServiceKey, index: u32);
    /// Forgets it.
    fn remove(&mut self, key: &ServiceKey);
    /// The look-up table of the service at `index`: as many cells as its scheduler was lent.
    fn table(&mut self, index: u32) -> &mut [u32];
    /// The Call-ID of the template in a slot.
    fn call(&self, slot: u32) -> Option<&[u8]>;
    /// Remembers it; `false` when there is no room or it is too long.
    fn keep_call(&mut self, slot: u32, id: &[u8]) -> bool;
    /// Forgets it.
    fn forget_call(&mut self, slot: u32);
}

/// A bounded queue of events.
pub trait Queue: core::fmt::Debug {
    /// Appends an event; `false` when there is no room.
    fn push(&mut self, event: Event) -> bool;
    /// For how many more events there is room.
    fn room(&self) -> usize;
    /// Takes the oldest event.
    fn pop(&mut self) -> Option<Event>;
}

/// So many of these. Written once, all of it: pages that the first packets had to fetch one by one would delay them.
#[cfg(feature = "alloc")]
fn filled<T: Clone>(value: T, count: usize) -> Option<alloc::boxed::Box<[T]>> {
    let mut all = alloc::vec::Vec::new();
    all.try_reserve_exact(count).ok()?;
    all.resize(count, value);
    Some(all.into_boxed_slice())
}
