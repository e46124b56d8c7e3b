//! Memory that is shared with the kernel (mmap(2)), and given back with the value that has it.

use core::ptr::{self, NonNull};
use std::io;
use std::os::fd::AsFd;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A mapping for reading and writing. What lies in it, and who may touch which byte when, is up to its user.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    /// Memory of the allocator instead, for tests without a kernel.
    #[cfg(test)]
    layout: Option<core::alloc::Layout>,
}

// SAFETY: the mapping belongs to this value alone, and is not tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: all that a shared reference gives is the place and the length. Whoever reads or writes there says why he may.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The memory that the kernel offers at an offset of this descriptor. `populate` has all pages there at once, so
    /// that no packet waits for a page fault.
    pub(super) fn of(fd: impl AsFd, offset: u64, bytes: usize, populate: bool) -> io::Result<Self> {
        let kind = if populate { MapFlags::SHARED | MapFlags::POPULATE } else { MapFlags::SHARED };
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no existing memory.
        let start = unsafe { mmap(ptr::null_mut(), bytes, PROTECTION, kind, fd, offset) }?;
        Self::at(start.cast(), bytes)
    }

    /// Memory of this process alone, all pages there at once, for the kernel to be told of.
    pub(super) fn anonymous(bytes: usize) -> io::Result<Self> {
        let kind = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no existing memory.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, PROTECTION, kind) }?;
        Self::at(start.cast(), bytes)
    }

    fn at(start: *mut u8, bytes: usize) -> io::Result<Self> {
        // The kernel maps nothing at address zero unless it is told to.
        let start = NonNull::new(start).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            start,
            bytes,
            #[cfg(test)]
            layout: None,
        })
    }

    /// Memory of the allocator in place of a mapping: zeros, and aligned as pages are.
    #[cfg(test)]
    pub(super) fn without_kernel(bytes: usize) -> Self {
        let layout = core::alloc::Layout::from_size_align(bytes, 4_096).unwrap();
        assert!(bytes > 0);
        // SAFETY: the layout has bytes, as was checked.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        Self { start: NonNull::new(start).unwrap(), bytes, layout: Some(layout) }
    }

    /// The first byte.
    pub(super) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes there are.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(test)]
        if let Some(layout) = self.layout {
            // SAFETY: the memory was allocated by this layout in `without_kernel`, and whatever was lent from it
            // borrowed from this value.
            return unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
        }
        // SAFETY: this is the mapping that was made for this value, and whatever was lent from it borrowed from the
        // value. The kernel holds the pages on its own as long as it uses them.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "it was mapped");
    }
}

const PROTECTION: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
