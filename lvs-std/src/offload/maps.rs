//! What this process and its programs in the kernel share: what is in the maps, and where.

use core::sync::atomic::Ordering;
use std::io;

use crate::sys::bpf::{Kind, Map};
use crate::sys::cells::{Cell, Cells};

/// What the programs of all ports share with each other and with this process.
pub(super) struct Maps {
    routes: Table,
    /// Counters of connections.
    cells: Counters,
    /// What concerns all connections: one cell, since programs find it without a call only if it is alone.
    common: Counters,
}

/// A key as the programs have it.
pub(super) type Key = [u8; key::LEN];
/// A route as the programs have it.
type Route = [u8; route::LEN];

/// From keys to routes.
enum Table {
    Kernel(Map),
    #[cfg(any(test, feature = "lab"))]
    Simulated(core::cell::RefCell<std::collections::HashMap<Key, Route>>),
}

/// An array of counters.
enum Counters {
    Kernel(Cells),
    #[cfg(any(test, feature = "lab"))]
    Simulated(Box<[Cell]>),
}

impl Counters {
    const fn all(&self) -> &[Cell] {
        match self {
            Self::Kernel(cells) => cells.all(),
            #[cfg(any(test, feature = "lab"))]
            Self::Simulated(cells) => cells,
        }
    }
}

/// The maps' numbers in the instructions of programs that use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) routes: i32,
    pub(super) cells: i32,
    /// For [`map_value`](crate::bpf::ebpf::Assembler::map_value).
    pub(super) common: i32,
}

#[cfg(any(test, feature = "lab"))]
impl Numbers {
    /// The numbers of simulated maps.
    pub(super) const SIMULATED: Self = Self { routes: 1, cells: 2, common: 3 };
}

impl Maps {
    /// For so many connections.
    pub(super) fn new(connections: u32) -> io::Result<Self> {
        let routes = Map::new(Kind::Hash, key::LEN, route::LEN, 2 * connections)?;
        let counters = |count: u32| Cells::new(count).map(Counters::Kernel);
        Ok(Self { routes: Table::Kernel(routes), cells: counters(connections)?, common: counters(1)? })
    }

    /// Maps for so many connections that the kernel knows nothing of.
    #[cfg(any(test, feature = "lab"))]
    pub(super) fn simulated(connections: u32) -> Self {
        let counters = |count: u32| Counters::Simulated((0..count).map(|_| Cell::default()).collect());
        Self {
            routes: Table::Simulated(core::cell::RefCell::default()),
            cells: counters(connections),
            common: counters(1),
        }
    }

    pub(super) fn numbers(&self) -> Numbers {
        match (&self.routes, &self.cells, &self.common) {
            (Table::Kernel(routes), Counters::Kernel(cells), Counters::Kernel(common)) => Numbers {
                routes: routes.number(),
                cells: cells.map().number(),
                common: common.map().number(),
            },
            #[cfg(any(test, feature = "lab"))]
            _ => Numbers::SIMULATED,
        }
    }

    /// Has the programs find a route.
    pub(super) fn set_route(&self, key: &Key, route: &Route) -> io::Result<()> {
        match &self.routes {
            Table::Kernel(map) => map.set(key, route),
            #[cfg(any(test, feature = "lab"))]
            Table::Simulated(routes) => {
                routes.borrow_mut().insert(*key, *route);
                Ok(())
            }
        }
    }

    /// From now on the programs do not find it.
    pub(super) fn remove_route(&self, key: &Key) -> io::Result<()> {
        match &self.routes {
            Table::Kernel(map) => map.remove(key),
            #[cfg(any(test, feature = "lab"))]
            Table::Simulated(routes) => {
                routes.borrow_mut().remove(key);
                Ok(())
            }
        }
    }

    /// The route that a program finds.
    #[cfg(any(test, feature = "lab"))]
    pub(super) fn route(&self, key: &[u8]) -> Option<Route> {
        match &self.routes {
            Table::Kernel(_) => None,
            Table::Simulated(routes) => routes.borrow().get(key).copied(),
        }
    }

    /// Counters of connections.
    pub(super) const fn cells(&self) -> &[Cell] {
        self.cells.all()
    }

    /// What concerns all connections.
    pub(super) const fn common(&self) -> &[Cell] {
        self.common.all()
    }

    /// Spares the programs the look-up of every frame where no connection has an offload.
    pub(super) fn set_in_use(&self, in_use: bool) {
        // What all programs read is written only when it changes.
        if self.is_in_use() != in_use {
            for values in self.common() {
                values[common::IN_USE as usize / 8].store(in_use.into(), Ordering::Relaxed);
            }
        }
    }

    /// What the programs are told.
    pub(super) fn is_in_use(&self) -> bool {
        let in_use = |values: &Cell| values[common::IN_USE as usize / 8].load(Ordering::Relaxed) != 0;
        self.common().iter().any(in_use)
    }
}

/// What a route is found by.
pub(super) mod key {
    pub(in super::super) const SOURCE: i16 = 0;
    pub(in super::super) const DESTINATION: i16 = 16;
    pub(in super::super) const PORTS: i16 = 32;
    /// Where it comes in.
    pub(in super::super) const INTERFACE: i16 = 36;
    pub(in super::super) const LEN: usize = 40;
}

/// What is done to packets of a route.
pub(super) mod route {
    /// The frame's new beginning.
    pub(in super::super) const MACS: i16 = 0;
    /// The longest IP packet, of a merged frame the longest segment.
    pub(in super::super) const MTU: i16 = 12;
    /// Where it goes out.
    pub(in super::super) const INTERFACE: i16 = 16;
    /// Which counters it has.
    pub(in super::super) const CELL: i16 = 20;
    /// One of [`rewrite`](super::rewrite).
    pub(in super::super) const REWRITE: i16 = 24;
    /// One of [`direction`](super::direction).
    pub(in super::super) const DIRECTION: i16 = 28;
    pub(in super::super) const ADDRESS: i16 = 32;
    pub(in super::super) const PORTS: i16 = 48;
    /// What is added to the IPv4 header's sum, the hop included.
    pub(in super::super) const NETWORK_DELTA: i16 = 52;
    /// To the pseudo-header's.
    pub(in super::super) const PSEUDO_DELTA: i16 = 56;
    /// To the ports'.
    pub(in super::super) const PORTS_DELTA: i16 = 60;
    pub(in super::super) const LEN: usize = 64;
}

/// Which address is rewritten.
pub(super) mod rewrite {
    /// None: direct routing.
    pub(in super::super) const NOTHING: u32 = 0;
    pub(in super::super) const DESTINATION: u32 = 1;
    pub(in super::super) const SOURCE: u32 = 2;
}

/// As which packets are counted.
pub(super) mod direction {
    pub(in super::super) const REQUEST: u32 = 0;
    pub(in super::super) const REPLY: u32 = 1;
}

/// Counters of a connection: packets, and bytes behind them.
pub(super) mod cell {
    pub(in super::super) const REQUESTS: i16 = 0;
    pub(in super::super) const REPLIES: i16 = 16;
    /// Not 0: its packets are all the director's.
    pub(in super::super) const CLOSED: i16 = 32;
    /// Packets of both directions that the director did not get.
    pub(in super::super) const LEFT_OUT: i16 = 40;
}

/// What concerns all connections.
pub(super) mod common {
    /// Not 0: some connections have an offload.
    pub(in super::super) const IN_USE: i16 = 0;
}
