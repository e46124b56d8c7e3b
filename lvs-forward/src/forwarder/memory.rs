//! The memory of what a forwarder remembers beside its host: lent by the program, or taken from the heap.

use heapless::Vec;

use super::slow::{OwedReset, PathMtu};
use crate::memory::{Memory, refill};

/// How much a forwarder remembers beside its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever makes a forwarder")]
pub struct ForwarderSizes {
    /// Real servers whose path MTU a router has told. Default 64.
    pub path_mtus: usize,
    /// Clients that are owed a reset because their connections are not known any more. Default 32.
    pub resets: usize,
}

impl ForwarderSizes {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { path_mtus: 64, resets: 32 }
    }

    /// How many bytes of the heap such a forwarder takes, all of them when it is made.
    #[must_use]
    pub const fn required_bytes(&self) -> usize {
        self.path_mtus * size_of::<PathMtu>() + self.resets * size_of::<Option<OwedReset>>()
    }
}

impl Default for ForwarderSizes {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory of what a forwarder remembers beside its host: of the heap ([`owned`](Self::owned), feature `alloc`), or
/// [`ForwarderArrays`] that a program lends.
pub struct ForwarderMemory {
    pub(super) path_mtus: Memory<PathMtu>,
    pub(super) resets: Memory<Option<OwedReset>>,
}

impl ForwarderMemory {
    /// Memory of the heap, all of it at once: a few KiB for the default sizes.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn owned(sizes: ForwarderSizes) -> Self {
        Self { path_mtus: Memory::filled(sizes.path_mtus), resets: Memory::filled(sizes.resets) }
    }

    /// The program's own memory. What was in it is forgotten.
    pub fn lent<const PATH_MTUS: usize, const RESETS: usize>(
        arrays: &'static mut ForwarderArrays<PATH_MTUS, RESETS>,
    ) -> Self {
        let ForwarderArrays { path_mtus, resets } = arrays;
        Self { path_mtus: Memory::Lent(refill(path_mtus)), resets: Memory::Lent(refill(resets)) }
    }
}

impl core::fmt::Debug for ForwarderMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ForwarderMemory").finish_non_exhaustive()
    }
}

/// Memory for a forwarder with these [sizes](ForwarderSizes) that a program lends it, such as a `static`. Each may be
/// 0.
pub struct ForwarderArrays<const PATH_MTUS: usize, const RESETS: usize> {
    path_mtus: Vec<PathMtu, PATH_MTUS>,
    resets: Vec<Option<OwedReset>, RESETS>,
}

impl<const PATH_MTUS: usize, const RESETS: usize> ForwarderArrays<PATH_MTUS, RESETS> {
    /// Empty memory: `const`, and all of its bytes are zero, so that a `static` of it takes no room in the program's
    /// file.
    #[must_use]
    pub const fn new() -> Self {
        Self { path_mtus: Vec::new(), resets: Vec::new() }
    }
}

impl<const PATH_MTUS: usize, const RESETS: usize> Default for ForwarderArrays<PATH_MTUS, RESETS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const PATH_MTUS: usize, const RESETS: usize> core::fmt::Debug for ForwarderArrays<PATH_MTUS, RESETS> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ForwarderArrays").finish_non_exhaustive()
    }
}
