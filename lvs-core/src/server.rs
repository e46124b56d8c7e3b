//! Real servers.

/// Names a real server while it exists or a connection still refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub(crate) u32);

impl ServerId {
    /// The id with this number. One that names nothing is harmless: look-ups by it find nothing.
    #[must_use]
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The server's number, 0 up to the store's capacity for servers.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}
