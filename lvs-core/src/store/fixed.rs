//! The store without an allocator.

use core::fmt;

use super::{Queue, Services, Store, Tables, View, private};
use crate::conn::{CELLS_PER_SLOT, Cell, Slot};
use crate::event::Event;
use crate::sched::{Schedule, Scheduler, TableLen};
use crate::server::Server;
use crate::service::{Service, ServiceKey};
use crate::tick::Stamp;

/// A store whose size is its type: `CONNS` connections (92 bytes each), `SERVICES` virtual services, `SERVERS` real
/// servers (removed ones that still have connections count too), `EVENTS` waiting events (at least 1), and `TABLE` cells
/// of 4 bytes of look-up table for each service (256 for `sh` and `dh`, 4,093 for `mh`, 256 or more for
/// `lblc` and `lblcr`, which remember about a virtual address per 9 or 15 cells; 0 if none of these is used).
///
/// It may live in a `static`; then `&mut` of it is the store.
///
/// ```
/// use lvs_core::{Config, Director, Fixed, Seed};
/// let mut store: Fixed<1_024, 4, 16, 32, 256> = Fixed::new();
/// let director = Director::new(Config::new(Seed::from_bytes([7; 16])), &mut store);
/// assert_eq!(director.capacity(), 1_024);
/// ```
pub struct Fixed<
    const CONNS: usize,
    const SERVICES: usize,
    const SERVERS: usize,
    const EVENTS: usize,
    const TABLE: usize = 0,
    P = Scheduler,
> {
    slots: [Slot; CONNS],
    cells: [[Cell; CELLS_PER_SLOT]; CONNS],
    wakes: [Stamp; CONNS],
    servers: [Server; SERVERS],
    services: [Option<Service<P>>; SERVICES],
    by_key: FixedServices<SERVICES, TABLE>,
    events: FixedQueue<EVENTS>,
}

impl<const C: usize, const S: usize, const R: usize, const E: usize, const T: usize, P>
    Fixed<C, S, R, E, T, P>
{
    /// An empty store. `const`, so that a `static` can hold it.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(C <= crate::conn::MAX_SLOTS, "a table holds at most 2^28 connections") };
        const { assert!(E > 0, "the queue of events holds at least one") };
        Self {
            slots: [Slot::FREE; C],
            cells: [[Cell::EMPTY; CELLS_PER_SLOT]; C],
            wakes: [Stamp::ZERO; C],
            servers: [const { Server::VACANT }; R],
            services: [const { None }; S],
            by_key: FixedServices {
                keys: heapless::LinearMap::new(),
                tables: [[u32::MAX; T]; S],
                lens: [0; S],
            },
            events: FixedQueue { events: heapless::Deque::new() },
        }
    }
}

impl<const C: usize, const S: usize, const R: usize, const E: usize, const T: usize, P> Default
    for Fixed<C, S, R, E, T, P>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const C: usize, const S: usize, const R: usize, const E: usize, const T: usize, P> fmt::Debug
    for Fixed<C, S, R, E, T, P>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed").field("connections", &C).field("services", &S).field("servers", &R).finish()
    }
}

impl<const C: usize, const S: usize, const R: usize, const E: usize, const T: usize, P: Schedule> Store
    for Fixed<C, S, R, E, T, P>
{
}

impl<const C: usize, const S: usize, const R: usize, const E: usize, const T: usize, P: Schedule>
    private::Parts for Fixed<C, S, R, E, T, P>
{
    type Scheduler = P;
    type Services = FixedServices<S, T>;
    type Queue = FixedQueue<E>;

    fn parts(&mut self) -> Tables<'_, P, Self::Services, Self::Queue> {
        Tables {
            slots: &mut self.slots,
            cells: self.cells.as_flattened_mut(),
            wakes: &mut self.wakes,
            servers: &mut self.servers,
            services: &mut self.services,
            by_key: &mut self.by_key,
            events: &mut self.events,
        }
    }

    fn view(&self) -> View<'_, P, Self::Services> {
        View { slots: &self.slots, servers: &self.servers, services: &self.services, by_key: &self.by_key }
    }

    fn lend_table(&mut self, index: u32, len: TableLen) -> bool {
        let Some(own) = self.by_key.lens.get_mut(index as usize) else { return false };
        if len.least > T {
            return false;
        }
        *own = len.wanted.min(T);
        self.by_key.tables[index as usize].fill(u32::MAX);
        true
    }

    fn prepare(&mut self, _seed: crate::Seed) {
        self.slots.fill(Slot::FREE);
        self.cells.as_flattened_mut().fill(Cell::EMPTY);
        self.servers.fill(Server::VACANT);
        self.services.fill_with(|| None);
        self.by_key.keys.clear();
        self.events.events.clear();
    }
}

impl<S: Store + ?Sized> Store for &mut S {}

impl<S: Store + ?Sized> private::Parts for &mut S {
    type Scheduler = S::Scheduler;
    type Services = S::Services;
    type Queue = S::Queue;

    fn parts(&mut self) -> Tables<'_, Self::Scheduler, Self::Services, Self::Queue> {
        S::parts(self)
    }

    fn view(&self) -> View<'_, Self::Scheduler, Self::Services> {
        S::view(self)
    }

    fn lend_table(&mut self, index: u32, len: TableLen) -> bool {
        S::lend_table(self, index, len)
    }

    fn prepare(&mut self, seed: crate::Seed) {
        S::prepare(self, seed);
    }
}

/// A list: with the few services that a fixed store is made for, a walk is as fast as a hash.
#[derive(Debug)]
pub struct FixedServices<const S: usize, const T: usize> {
    keys: heapless::LinearMap<ServiceKey, u32, S>,
    /// As many cells for every service, used or not.
    tables: [[u32; T]; S],
    lens: [usize; S],
}

impl<const S: usize, const T: usize> Services for FixedServices<S, T> {
    fn find(&self, key: &ServiceKey) -> Option<u32> {
        self.keys.get(key).copied()
    }

    fn insert(&mut self, key: ServiceKey, index: u32) {
        // There is a place in the list for every place in the array of services.
        let _ = self.keys.insert(key, index);
    }

    fn remove(&mut self, key: &ServiceKey) {
        self.keys.remove(key);
    }

    fn table(&mut self, index: u32) -> &mut [u32] {
        let len = self.lens.get(index as usize).copied().unwrap_or(0);
        self.tables.get_mut(index as usize).and_then(|cells| cells.get_mut(..len)).unwrap_or_default()
    }
}

/// A ring of events.
#[derive(Debug)]
pub struct FixedQueue<const E: usize> {
    events: heapless::Deque<Event, E>,
}

impl<const E: usize> Queue for FixedQueue<E> {
    fn push(&mut self, event: Event) -> bool {
        self.events.push_back(event).is_ok()
    }

    fn pop(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}
