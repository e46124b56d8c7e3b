//! The memory of a host's tables: lent by the program, or taken from the heap.

use heapless::Vec;

use super::address::{AddressMemory, Own};
use super::neighbour::{Entry, NeighbourMemory};
use super::route::{MAX_ROUTES, Route};
use super::waiting::Place;
use crate::memory::{Memory, Places, refill};

/// How much a host can know: the bounds of its tables.
///
/// The memory of a host on the heap grows to them in pieces, as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever makes a host")]
pub struct HostSizes {
    /// Own addresses, those of ports and virtual ones. Default 20,000.
    pub addresses: usize,
    /// Neighbours whose link-layer addresses are known or being asked for: clients, real servers and routers on the
    /// links of the host. Default 16,384.
    pub neighbours: usize,
    /// Packets that wait for a neighbour's answer. Default 64.
    pub waiting: usize,
}

impl HostSizes {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { addresses: 20_000, neighbours: 16_384, waiting: 64 }
    }

    /// How many bytes such a host takes of the heap when it is made, and at most.
    #[must_use]
    pub const fn required_bytes(&self) -> (usize, usize) {
        let Self { addresses, neighbours, waiting } = *self;
        let index = (2 * addresses + neighbours) * size_of::<u32>();
        let routes = MAX_ROUTES * size_of::<Route>();
        let all = index
            + routes
            + addresses * size_of::<Own>()
            + neighbours * size_of::<Entry>()
            + waiting * size_of::<Place>();
        let start = index
            + routes
            + first_piece(addresses) * size_of::<Own>()
            + first_piece(neighbours) * size_of::<Entry>()
            + least(waiting, 1 << WAITING_SHIFT) * size_of::<Place>();
        (start, all)
    }
}

impl Default for HostSizes {
    fn default() -> Self {
        Self::new()
    }
}

const fn least(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

const fn first_piece(bound: usize) -> usize {
    least(bound, 1 << SHIFT)
}

/// Addresses and neighbours come in pieces of 256, packets in pieces of 16: a piece is filled within microseconds.
const SHIFT: u32 = 8;
const WAITING_SHIFT: u32 = 4;

/// The memory of a host's tables.
///
/// On the heap ([`owned`](Self::owned), feature `alloc`) it grows to its bounds in pieces. A program without a heap
/// lends [`HostArrays`].
pub struct HostMemory {
    pub(super) addresses: AddressMemory,
    pub(super) neighbours: NeighbourMemory,
    pub(super) routes: Memory<Route>,
}

impl HostMemory {
    /// Memory of the heap, as much of it as is needed at a time.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn owned(sizes: HostSizes) -> Self {
        let HostSizes { addresses, neighbours, waiting } = sizes;
        Self {
            addresses: AddressMemory::owned(addresses, SHIFT),
            neighbours: NeighbourMemory::owned(neighbours, waiting, SHIFT, WAITING_SHIFT),
            routes: Memory::filled(MAX_ROUTES),
        }
    }

    /// The program's own memory.
    ///
    /// ```
    /// use lvs_core::Seed;
    /// use lvs_forward::host::{Host, HostArrays, HostMemory};
    /// let arrays: &'static mut HostArrays<8, 32, 4> = Box::leak(Box::new(HostArrays::new()));
    /// let host = Host::with_memory(Seed::from_bytes([7; 16]), HostMemory::lent(arrays));
    /// assert_eq!(host.sizes().neighbours, 32);
    /// ```
    pub fn lent<
        const ADDRESSES: usize,
        const NEIGHBOURS: usize,
        const WAITING: usize,
        const ROUTES: usize,
    >(
        arrays: &'static mut HostArrays<ADDRESSES, NEIGHBOURS, WAITING, ROUTES>,
    ) -> Self {
        let HostArrays { own, own_heads, own_sorted, neighbours, neighbour_heads, waiting, routes } = arrays;
        Self {
            addresses: AddressMemory {
                places: Places::lent(refill(own)),
                heads: Memory::Lent(refill(own_heads)),
                sorted: Memory::Lent(refill(own_sorted)),
            },
            neighbours: NeighbourMemory {
                places: Places::lent(refill(neighbours)),
                heads: Memory::Lent(refill(neighbour_heads)),
                waiting: Places::lent(refill(waiting)),
            },
            routes: Memory::Lent(refill(routes)),
        }
    }
}

impl core::fmt::Debug for HostMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HostMemory").finish_non_exhaustive()
    }
}

/// Memory for a host with so many addresses, neighbours and waiting packets (see [`HostSizes`]) and routes, those of
/// its ports' prefixes among them, that a program lends it, such as a `static`.
pub struct HostArrays<
    const ADDRESSES: usize,
    const NEIGHBOURS: usize,
    const WAITING: usize,
    const ROUTES: usize = MAX_ROUTES,
> {
    own: Vec<Own, ADDRESSES>,
    own_heads: Vec<u32, ADDRESSES>,
    own_sorted: Vec<u32, ADDRESSES>,
    neighbours: Vec<Entry, NEIGHBOURS>,
    neighbour_heads: Vec<u32, NEIGHBOURS>,
    waiting: Vec<Place, WAITING>,
    routes: Vec<Route, ROUTES>,
}

impl<const ADDRESSES: usize, const NEIGHBOURS: usize, const WAITING: usize, const ROUTES: usize>
    HostArrays<ADDRESSES, NEIGHBOURS, WAITING, ROUTES>
{
    /// Empty memory: `const`, and all of its bytes are zero, so that a `static` of it takes no room in the program's
    /// file.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            own: Vec::new(),
            own_heads: Vec::new(),
            own_sorted: Vec::new(),
            neighbours: Vec::new(),
            neighbour_heads: Vec::new(),
            waiting: Vec::new(),
            routes: Vec::new(),
        }
    }
}

impl<const ADDRESSES: usize, const NEIGHBOURS: usize, const WAITING: usize, const ROUTES: usize> Default
    for HostArrays<ADDRESSES, NEIGHBOURS, WAITING, ROUTES>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const ADDRESSES: usize, const NEIGHBOURS: usize, const WAITING: usize, const ROUTES: usize>
    core::fmt::Debug for HostArrays<ADDRESSES, NEIGHBOURS, WAITING, ROUTES>
{
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HostArrays").finish_non_exhaustive()
    }
}
