//! Counters that this process shares with programs in the kernel: the values of a BPF array map, mapped
//! (`BPF_F_MMAPABLE`).

use core::mem::size_of;
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::AtomicU64;
use std::io;
use std::os::fd::AsFd;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::sys::bpf::{Kind, Map};

/// A value of the map: a cache line. What the words mean, who makes the programs says.
pub(crate) type Cell = [AtomicU64; 8];

/// An array map and its values.
#[derive(Debug)]
pub(crate) struct Cells {
    map: Map,
    start: NonNull<Cell>,
    count: usize,
}

// SAFETY: the mapping belongs to this value alone, is not tied to a thread, and is reached as atomics only.
unsafe impl Send for Cells {}

impl Cells {
    /// So many values, all zero.
    pub(crate) fn new(count: u32) -> io::Result<Self> {
        let map = Map::new(Kind::Array, size_of::<u32>(), size_of::<Cell>(), count)?;
        let count = count as usize;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no existing memory.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                count * size_of::<Cell>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.as_fd(),
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { map, start, count })
    }

    /// The map, for programs.
    pub(crate) const fn map(&self) -> &Map {
        &self.map
    }

    /// The values.
    pub(crate) const fn all(&self) -> &[Cell] {
        // SAFETY: the mapping has `count` cells, begins at a page and so is aligned, and lasts as long as `self`. The
        // kernel writes to it meanwhile, which atomics allow.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nobody has a reference into it any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.count * size_of::<Cell>()) };
        debug_assert!(unmapped.is_ok(), "it was mapped");
    }
}
