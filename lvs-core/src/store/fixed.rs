//! The store without an allocator.

use core::fmt;

use heapless::Vec;

use super::{Queue, Services, Store, Tables, View, private};
use crate::conntrack::expiry::Wake;
use crate::conntrack::index::{CELLS_PER_SLOT, Cell};
use crate::conntrack::slot::{Note, Slot};
use crate::model::event::Event;
use crate::model::key::ServiceKey;
use crate::model::persistence::MAX_CALL_ID;
use crate::model::server::Server;
use crate::sched::Scheduler;
use crate::sched::schedule::{Schedule, TableLen};
use crate::store::service::Service;

/// A store whose size is its type: `CONNS` connections (98 bytes each), `SERVICES` virtual services, `SERVERS` real
/// servers (removed ones that still have connections count too), `EVENTS` waiting events (at least 1), and `TABLE`
/// cells of 4 bytes of look-up table for each service (256 for `sh` and `dh`, 4,093 for `mh`, 256 or more for `lblc`
/// and `lblcr`, which remember about a virtual address per 9 or 15 cells; 0 if none of these is used). `CALLS` is how
/// many calls a service with [`PersistenceEngine::Sip`](crate::service::PersistenceEngine::Sip) can tell apart at one
/// time (about 270 bytes each; looked up one after the other, so meant for some hundred).
///
/// The store may live in a `static`; then `&mut` of it is the store.
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
    const CALLS: usize = 0,
> {
    // All of these are full while a director has the store, and empty before: so a `static` of it is zeros.
    slots: Vec<Slot, CONNS>,
    cells: Vec<[Cell; CELLS_PER_SLOT], CONNS>,
    wakes: Vec<Wake, CONNS>,
    notes: Vec<Note, CONNS>,
    servers: Vec<Server, SERVERS>,
    services: Vec<Option<Service<P>>, SERVICES>,
    by_key: FixedServices<SERVICES, TABLE, CALLS>,
    events: FixedQueue<EVENTS>,
}

impl<const C: usize, const S: usize, const R: usize, const E: usize, const T: usize, P, const K: usize>
    Fixed<C, S, R, E, T, P, K>
{
    /// An empty store. `const`, so that a `static` can hold it; all of its bytes are zero, so that the `static` takes
    /// no room in the program's file.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(C <= crate::conntrack::table::MAX_SLOTS, "a table holds at most 2^28 connections") };
        const { assert!(E > 0, "the queue of events holds at least one") };
        Self {
            slots: Vec::new(),
            cells: Vec::new(),
            wakes: Vec::new(),
            notes: Vec::new(),
            servers: Vec::new(),
            services: Vec::new(),
            by_key: FixedServices {
                keys: heapless::LinearMap::new(),
                // They are filled when they are lent.
                tables: [[0; T]; S],
                lens: [0; S],
                calls: heapless::LinearMap::new(),
            },
            events: FixedQueue { events: heapless::Deque::new() },
        }
    }
}

impl<const C: usize, const S: usize, const R: usize, const E: usize, const T: usize, P, const K: usize>
    Default for Fixed<C, S, R, E, T, P, K>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const C: usize, const S: usize, const R: usize, const E: usize, const T: usize, P, const K: usize>
    fmt::Debug for Fixed<C, S, R, E, T, P, K>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed").field("connections", &C).field("services", &S).field("servers", &R).finish()
    }
}

impl<
    const C: usize,
    const S: usize,
    const R: usize,
    const E: usize,
    const T: usize,
    P: Schedule,
    const K: usize,
> Store for Fixed<C, S, R, E, T, P, K>
{
}

impl<
    const C: usize,
    const S: usize,
    const R: usize,
    const E: usize,
    const T: usize,
    P: Schedule,
    const K: usize,
> private::Parts for Fixed<C, S, R, E, T, P, K>
{
    type Scheduler = P;
    type Services = FixedServices<S, T, K>;
    type Queue = FixedQueue<E>;

    fn parts(&mut self) -> Tables<'_, P, Self::Services, Self::Queue> {
        Tables {
            slots: &mut self.slots,
            cells: self.cells.as_flattened_mut(),
            wakes: &mut self.wakes,
            notes: &mut self.notes,
            servers: &mut self.servers,
            services: &mut self.services,
            by_key: &mut self.by_key,
            events: &mut self.events,
        }
    }

    fn view(&self) -> View<'_, P, Self::Services> {
        View {
            slots: &self.slots,
            notes: &self.notes,
            servers: &self.servers,
            services: &self.services,
            by_key: &self.by_key,
        }
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

    fn prepare(&mut self, _seed: crate::model::seed::Seed) {
        refill(&mut self.slots, || Slot::FREE);
        refill(&mut self.cells, || [Cell::EMPTY; CELLS_PER_SLOT]);
        refill(&mut self.wakes, || Wake::ZERO);
        refill(&mut self.notes, || Note::EMPTY);
        refill(&mut self.servers, || Server::VACANT);
        refill(&mut self.services, || None);
        self.by_key.keys.clear();
        self.by_key.calls.clear();
        self.events.events.clear();
    }
}

/// As many new items as there is room for, in place of the old ones.
fn refill<T, const N: usize>(items: &mut Vec<T, N>, new: impl Fn() -> T) {
    items.clear();
    while items.push(new()).is_ok() {}
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

    fn prepare(&mut self, seed: crate::model::seed::Seed) {
        S::prepare(self, seed);
    }
}

/// A list: with the few services that a fixed store is made for, a walk is as fast as a hash.
#[derive(Debug)]
pub struct FixedServices<const S: usize, const T: usize, const K: usize> {
    keys: heapless::LinearMap<ServiceKey, u32, S>,
    /// As many cells for every service, used or not.
    tables: [[u32; T]; S],
    lens: [usize; S],
    calls: heapless::LinearMap<u32, Vec<u8, MAX_CALL_ID>, K>,
}

impl<const S: usize, const T: usize, const K: usize> Services for FixedServices<S, T, K> {
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

    fn call(&self, slot: u32) -> Option<&[u8]> {
        self.calls.get(&slot).map(|id| &**id)
    }

    fn keep_call(&mut self, slot: u32, id: &[u8]) -> bool {
        Vec::from_slice(id).is_ok_and(|id| self.calls.insert(slot, id).is_ok())
    }

    fn forget_call(&mut self, slot: u32) {
        self.calls.remove(&slot);
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

    fn room(&self) -> usize {
        E - self.events.len()
    }

    fn pop(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}
