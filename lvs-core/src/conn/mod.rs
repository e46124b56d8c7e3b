//! The connection table.

/// Names an entry of the connection table while that entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub(crate) u32);

impl ConnId {
    /// The slot's number, 0 up to the table's capacity.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}
