//! What this process and its programs in the kernel share: what is in the maps, and where.

use core::sync::atomic::Ordering;
use std::io;

use crate::sys::bpf::{Kind, Map};
use crate::sys::cells::{Cell, Cells};

/// What the programs of all ports share with each other and with this process.
pub(super) struct Maps {
    pub(super) routes: Map,
    /// Counters of connections.
    pub(super) cells: Cells,
    /// What concerns all connections: one cell, since programs find it without a call only if it is alone.
    common: Cells,
}

impl Maps {
    /// For so many connections.
    pub(super) fn new(connections: u32) -> io::Result<Self> {
        let routes = Map::new(Kind::Hash, key::LEN, route::LEN, 2 * connections)?;
        Ok(Self { routes, cells: Cells::new(connections)?, common: Cells::new(1)? })
    }

    /// For [`map_value`](crate::bpf::ebpf::Assembler::map_value).
    pub(super) const fn common(&self) -> &Map {
        self.common.map()
    }

    /// Spares the programs the look-up of every frame where no connection has an offload.
    pub(super) fn set_in_use(&self, in_use: bool) {
        // What all programs read is written only when it changes.
        if self.is_in_use() != in_use {
            for values in self.common.all() {
                values[common::IN_USE as usize / 8].store(in_use.into(), Ordering::Relaxed);
            }
        }
    }

    /// What the programs are told.
    pub(super) fn is_in_use(&self) -> bool {
        let in_use = |values: &Cell| values[common::IN_USE as usize / 8].load(Ordering::Relaxed) != 0;
        self.common.all().iter().any(in_use)
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
