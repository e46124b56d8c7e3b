//! What an engine counts.

use core::ops::AddAssign;

/// What an engine has done, in frames unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineCounters {
    /// Frames that were cut into several before they were sent: merged ones that the device or a tunnel cannot carry as
    /// one, and packets longer than the MTU that may be fragmented.
    pub cut: u64,
    /// Pieces that these became.
    pub pieces: u64,
    /// Frames lost because they could not be cut, or because no port has their number.
    pub unsendable: u64,
    /// Frames that were passed to this host, and went to the local port.
    pub passed: u64,
    /// Frames that the forwarder passed, and that were lost: for want of a local port, or because they are no IP
    /// packets to an own address.
    pub not_passed: u64,
}

impl EngineCounters {
    pub(super) const ZERO: Self = Self { cut: 0, pieces: 0, unsendable: 0, passed: 0, not_passed: 0 };
}

impl AddAssign<&Self> for EngineCounters {
    /// What several engines have done, together.
    fn add_assign(&mut self, other: &Self) {
        let Self { cut, pieces, unsendable, passed, not_passed } = other;
        self.cut += cut;
        self.pieces += pieces;
        self.unsendable += unsendable;
        self.passed += passed;
        self.not_passed += not_passed;
    }
}
