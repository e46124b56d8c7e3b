//! The store with an allocator: sized when it is made, and never again.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use hashbrown::HashTable;

use super::calls::Calls;
use super::{Queue, Services, Store, Tables, View, filled, private};
use crate::conntrack::expiry::Wake;
use crate::conntrack::index::{Cell, cells_for};
use crate::conntrack::slot::{Note, Slot};
use crate::conntrack::table::MAX_SLOTS;
use crate::model::event::Event;
use crate::model::key::ServiceKey;
use crate::model::seed::Seed;
use crate::model::server::Server;
use crate::sched::Scheduler;
use crate::sched::schedule::{Schedule, TableLen};
use crate::store::service::Service;

/// How much a [`Heap`] holds. Everything but the look-up tables of hashing schedulers is allocated at once when the
/// store is made, so the memory is known before the start.
///
/// ```
/// use lvs_core::config::Capacity;
/// let capacity = Capacity::new(1 << 20);
/// let without = Capacity::new(0).required_bytes();
/// assert_eq!((capacity.required_bytes() - without) / capacity.connections, 97);
/// // With the defaults for the rest, and a million connections: less than 100 for each.
/// assert!(Capacity::new(1_000_000).required_bytes() < 100_000_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Capacity {
    /// Connections, at most 2^28 (more are cut to that). 97 bytes each.
    pub connections: usize,
    /// Virtual services. Default 1,024.
    pub services: usize,
    /// Real servers of all services, removed ones that still have connections included. Default 4,096.
    pub servers: usize,
    /// Events that wait to be read; further ones are lost and counted. Default 1,024.
    pub events: usize,
    /// Calls that services with [`PersistenceEngine::Sip`](crate::service::PersistenceEngine::Sip) tell apart at one
    /// time, of 288 bytes each. Default 896. Without room a packet that begins a call is dropped and counted.
    pub calls: usize,
    /// Bytes of the look-up tables of schedulers, together: 1 KiB for each service with `sh` or `dh`, 16 KiB with `mh`,
    /// 772 KiB with `lblc`, 1,348 KiB with `lblcr`. They are allocated when such a service comes, and freed when it
    /// goes. A service whose table would be beyond this is refused. Default 1 GiB.
    pub tables: usize,
}

impl Capacity {
    /// Room for so many connections, and the defaults for the rest.
    #[must_use]
    pub const fn new(connections: usize) -> Self {
        Self { connections, services: 1_024, servers: 4_096, events: 1_024, calls: 896, tables: 1 << 30 }
    }

    /// Bytes that a store of this capacity allocates when it is made: all but [`tables`](Self::tables). `usize::MAX`
    /// when it is more than that.
    #[must_use]
    pub const fn required_bytes(&self) -> usize {
        let connections = if self.connections < MAX_SLOTS { self.connections } else { MAX_SLOTS };
        let per_connection = size_of::<Slot>() + size_of::<Wake>() + size_of::<Note>();
        let per_service = size_of::<Option<Service<Scheduler>>>() + size_of::<Box<[u32]>>();
        connections
            .saturating_mul(per_connection)
            .saturating_add(cells_for(connections).saturating_mul(size_of::<Cell>()))
            .saturating_add(self.services.saturating_mul(per_service))
            .saturating_add(map_cells(self.services).saturating_mul(size_of::<(ServiceKey, u32)>() + 1))
            .saturating_add(Calls::bytes(self.calls))
            .saturating_add(self.servers.saturating_mul(size_of::<Server>()))
            .saturating_add(self.events.saturating_mul(size_of::<Event>()))
    }
}

/// The cells of a hash map for so many entries: at most 7 entries per 8 cells, a power of two of them, with one control
/// byte each.
const fn map_cells(entries: usize) -> usize {
    match entries.saturating_mul(8).div_ceil(7).checked_next_power_of_two() {
        _ if entries == 0 => 0,
        Some(cells) if cells < 4 => 4,
        Some(cells) => cells,
        None => usize::MAX,
    }
}

/// A store of run-time size.
///
/// ```
/// use lvs_core::{Config, Director, Heap, Seed};
/// let store: Heap = Heap::with_capacity(10_000);
/// let director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
/// assert_eq!(director.capacity(), 10_000);
/// ```
pub struct Heap<P = Scheduler> {
    slots: Box<[Slot]>,
    cells: Box<[Cell]>,
    wakes: Box<[Wake]>,
    notes: Box<[Note]>,
    servers: Box<[Server]>,
    services: Box<[Option<Service<P>>]>,
    by_key: HeapServices,
    events: HeapQueue,
    /// Whether a director has had it.
    used: bool,
}

impl<P> Heap<P> {
    /// A store for so many connections, with the default sizes for the rest.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_capacity(connections: usize) -> Self {
        Self::new(Capacity::new(connections))
    }

    /// A store of these sizes. Writes all of its memory once, so that no page is missing later.
    ///
    /// # Panics
    ///
    /// When there is no memory for it, see [`try_new`](Self::try_new) and [`Capacity::required_bytes`].
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        match Self::try_new(capacity) {
            Ok(store) => store,
            Err(error) => panic!("{error}"),
        }
    }

    /// A store of these sizes, as by [`new`](Self::new), or the word that there is no memory for it. A system that
    /// promises more memory than it has may still end the program when all of it is written.
    ///
    /// # Errors
    ///
    /// [`NoMemory`].
    pub fn try_new(capacity: Capacity) -> Result<Self, NoMemory> {
        let connections = capacity.connections.min(MAX_SLOTS);
        let no_memory = NoMemory { bytes: capacity.required_bytes() };
        // Of these only the table of connections is long. All others have sizes that are small beside it, or that
        // only a program can choose.
        let slots = filled(Slot::FREE, connections).ok_or(no_memory)?;
        let cells = filled(Cell::EMPTY, cells_for(connections)).ok_or(no_memory)?;
        let wakes = filled(Wake::ZERO, connections).ok_or(no_memory)?;
        let notes = filled(Note::EMPTY, connections).ok_or(no_memory)?;
        let servers = filled(Server::VACANT, capacity.servers).ok_or(no_memory)?;
        let mut services = Vec::new();
        services.try_reserve_exact(capacity.services).map_err(|_| no_memory)?;
        services.resize_with(capacity.services, || None);
        Ok(Self {
            slots,
            cells,
            wakes,
            notes,
            servers,
            services: services.into_boxed_slice(),
            by_key: HeapServices {
                keys: HashTable::with_capacity(capacity.services),
                seed: Seed::from_words(0, 0),
                tables: (0..capacity.services).map(|_| Box::default()).collect(),
                cells: 0,
                most_cells: capacity.tables / size_of::<u32>(),
                calls: Calls::try_new(capacity.calls).ok_or(no_memory)?,
            },
            events: HeapQueue { events: filled(None, capacity.events).ok_or(no_memory)?, first: 0, len: 0 },
            used: false,
        })
    }
}

/// There is no memory for a store, see [`Heap::try_new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct NoMemory {
    /// The bytes that the store needs.
    pub bytes: usize,
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for tables of {} bytes: lower the number of connections", self.bytes)
    }
}

impl core::error::Error for NoMemory {}

impl<P> Heap<P> {
    /// Where the memory is that packets read at random, as addresses: for a caller who can ask the operating system for
    /// large pages. It stays there as long as the store lives, also when the store is moved.
    #[must_use]
    pub fn addresses(&self) -> [Range<usize>; 2] {
        let slots = self.slots.as_ptr_range();
        let cells = self.cells.as_ptr_range();
        [slots.start.addr()..slots.end.addr(), cells.start.addr()..cells.end.addr()]
    }
}

impl<P: Clone> Heap<P> {
    /// The index of connections.
    pub(crate) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The slots of templates that have a Call-ID.
    pub(crate) fn slots_of_calls(&self) -> impl Iterator<Item = u32> {
        self.by_key.calls.slots()
    }

    /// A store with the same services and servers, and a table of so many connections, which is empty. Of the look-up
    /// tables it has those of the services at `tables`, and of Call-IDs none but the room for them.
    pub(crate) fn without_connections(&self, connections: usize, tables: &[u32]) -> Result<Self, NoMemory> {
        let capacity = Capacity {
            connections,
            services: self.services.len(),
            servers: 0,
            events: EVENTS_OF_COPY,
            calls: self.by_key.calls.capacity(),
            tables: self.by_key.most_cells.saturating_mul(size_of::<u32>()),
        };
        let mut copy = Self::try_new(capacity)?;
        copy.servers.clone_from(&self.servers);
        copy.services.clone_from(&self.services);
        copy.by_key.keys.clone_from(&self.by_key.keys);
        copy.by_key.seed = self.by_key.seed;
        copy.by_key.cells = self.by_key.cells;
        copy.by_key.calls.begin(self.by_key.seed);
        for &index in tables {
            let from = self.by_key.tables.get(index as usize);
            if let (Some(into), Some(from)) = (copy.by_key.tables.get_mut(index as usize), from) {
                into.clone_from(from);
            }
        }
        copy.used = true;
        Ok(copy)
    }
}

/// Events of one packet, with room to spare.
const EVENTS_OF_COPY: usize = 16;

impl<P> fmt::Debug for Heap<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Heap");
        out.field("connections", &self.slots.len()).field("services", &self.services.len());
        out.field("servers", &self.servers.len()).finish()
    }
}

impl<P: Schedule> Store for Heap<P> {}

impl<P: Schedule> private::Parts for Heap<P> {
    type Scheduler = P;
    type Services = HeapServices;
    type Queue = HeapQueue;

    fn parts(&mut self) -> Tables<'_, P, HeapServices, HeapQueue> {
        Tables {
            slots: &mut self.slots,
            cells: &mut self.cells,
            wakes: &mut self.wakes,
            notes: &mut self.notes,
            servers: &mut self.servers,
            services: &mut self.services,
            by_key: &mut self.by_key,
            events: &mut self.events,
        }
    }

    fn view(&self) -> View<'_, P, HeapServices> {
        View {
            slots: &self.slots,
            notes: &self.notes,
            servers: &self.servers,
            services: &self.services,
            by_key: &self.by_key,
        }
    }

    fn lend_table(&mut self, index: u32, len: TableLen) -> bool {
        let HeapServices { tables, cells: lent, most_cells, .. } = &mut self.by_key;
        let Some(table) = tables.get_mut(index as usize) else { return false };
        let others = *lent - table.len();
        if len.wanted > most_cells.saturating_sub(others) {
            return false;
        }
        let mut cells = Vec::new();
        // A service can be added at any time. Where memory is short the call is refused, rather than the program ended.
        if cells.try_reserve_exact(len.wanted).is_err() {
            return false;
        }
        cells.resize(len.wanted, u32::MAX);
        *table = cells.into_boxed_slice();
        *lent = others + len.wanted;
        true
    }

    fn prepare(&mut self, seed: Seed) {
        // A new store is empty already: to fill it once more would write all of its memory for nothing.
        if core::mem::replace(&mut self.used, true) {
            self.slots.fill(Slot::FREE);
            self.cells.fill(Cell::EMPTY);
            self.servers.fill(Server::VACANT);
            self.services.fill_with(|| None);
            self.events.clear();
        }
        self.by_key.keys.clear();
        self.by_key.calls.begin(seed);
        self.by_key.seed = seed;
    }
}

/// A hash map: services change rarely and may be many.
#[derive(Debug)]
pub struct HeapServices {
    keys: HashTable<(ServiceKey, u32)>,
    /// Whoever sends packets chooses the keys that are looked up.
    seed: Seed,
    /// A look-up table for each service that needs one, made when its scheduler is bound.
    tables: Box<[Box<[u32]>]>,
    /// Cells of all of them together, and how many there may be.
    cells: usize,
    most_cells: usize,
    calls: Calls,
}

impl Services for HeapServices {
    #[inline]
    fn find(&self, key: &ServiceKey) -> Option<u32> {
        self.keys.find(key.hash(self.seed), |entry| entry.0 == *key).map(|entry| entry.1)
    }

    fn insert(&mut self, key: ServiceKey, index: u32) {
        self.remove(&key);
        let seed = self.seed;
        self.keys.insert_unique(key.hash(seed), (key, index), |entry| entry.0.hash(seed));
    }

    fn remove(&mut self, key: &ServiceKey) {
        if let Ok(entry) = self.keys.find_entry(key.hash(self.seed), |entry| entry.0 == *key) {
            entry.remove();
        }
    }

    #[inline]
    fn table(&mut self, index: u32) -> &mut [u32] {
        self.tables.get_mut(index as usize).map(|table| &mut **table).unwrap_or_default()
    }

    fn call(&self, slot: u32) -> Option<&[u8]> {
        self.calls.get(slot)
    }

    fn keep_call(&mut self, slot: u32, id: &[u8]) -> bool {
        self.calls.keep(slot, id)
    }

    fn forget_call(&mut self, slot: u32) {
        self.calls.forget(slot);
    }
}

/// A ring of events, written out here because it never grows: a `VecDeque` asks for each event whether it has to.
#[derive(Debug)]
pub struct HeapQueue {
    events: Box<[Option<Event>]>,
    /// Where the oldest is.
    first: usize,
    len: usize,
}

impl HeapQueue {
    fn clear(&mut self) {
        (self.first, self.len) = (0, 0);
    }

    /// The place of the event after so many others.
    const fn place(&self, after: usize) -> usize {
        let at = self.first + after;
        if at < self.events.len() { at } else { at - self.events.len() }
    }
}

impl Queue for HeapQueue {
    #[inline(always)]
    fn push(&mut self, event: Event) -> bool {
        let room = self.len < self.events.len();
        if room {
            let at = self.place(self.len);
            if let Some(place) = self.events.get_mut(at) {
                *place = Some(event);
                self.len += 1;
            }
        }
        room
    }

    fn room(&self) -> usize {
        self.events.len() - self.len
    }

    #[inline]
    fn pop(&mut self) -> Option<Event> {
        self.len = self.len.checked_sub(1)?;
        let event = self.events.get_mut(self.first)?.take();
        self.first = self.place(1);
        event
    }
}

// What a store allocates is said in events.
const _: () = assert!(size_of::<Option<Event>>() == size_of::<Event>());
