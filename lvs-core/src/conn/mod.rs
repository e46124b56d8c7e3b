//! The connection table.

/// Names an entry of the connection table while that entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub(crate) u32);

impl ConnId {
    /// The id with this number. One that names nothing is harmless: look-ups by it find nothing.
    #[must_use]
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The slot's number, 0 up to the table's capacity.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}
