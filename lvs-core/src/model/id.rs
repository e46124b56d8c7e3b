//! Ids: small numbers that name an entry of the connection table, a service or a real server.

/// Names an entry of the connection table while that entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ConnId(pub(crate) u32);

impl ConnId {
    /// The id of no entry: of a packet under one-packet scheduling.
    pub const NONE: Self = Self(u32::MAX);

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

/// Names a virtual service while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ServiceId(pub(crate) u32);

impl ServiceId {
    /// The service's number, 0 up to the store's capacity for services.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Names a real server while it exists or a connection still refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
