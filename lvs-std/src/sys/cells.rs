//! Counters that this process shares with programs in the kernel: the values of a BPF array map, mapped
//! (`BPF_F_MMAPABLE`).

use core::mem::size_of;
use core::slice;
use core::sync::atomic::AtomicU64;
use std::io;
use std::os::fd::AsFd as _;

use crate::sys::bpf::{Kind, Map};
use crate::sys::mapping::Mapping;

/// A value of the map: a cache line. What the words mean, who makes the programs says.
pub(crate) type Cell = [AtomicU64; 8];

/// An array map and its values.
#[derive(Debug)]
pub(crate) struct Cells {
    map: Map,
    mapping: Mapping,
}

impl Cells {
    /// So many values, all zero.
    pub(crate) fn new(count: u32) -> io::Result<Self> {
        let map = Map::new(Kind::Array, size_of::<u32>(), size_of::<Cell>(), count)?;
        let mapping = Mapping::of(map.as_fd(), 0, count as usize * size_of::<Cell>(), false)?;
        Ok(Self { map, mapping })
    }

    /// The map, for programs.
    pub(crate) const fn map(&self) -> &Map {
        &self.map
    }

    /// The values.
    pub(crate) const fn all(&self) -> &[Cell] {
        let count = self.mapping.bytes() / size_of::<Cell>();
        // SAFETY: the mapping has `count` cells, begins at a page and so is aligned, and lasts as long as `self`. The
        // kernel writes to it meanwhile, which atomics allow.
        unsafe { slice::from_raw_parts(self.mapping.start().cast().as_ptr(), count) }
    }
}
