//! The connection table: fixed capacity, keyed hashes, one cache line per connection.

mod index;
mod key;
mod slot;
mod table;

use core::net::SocketAddr;

use crate::flow::Flow;
use crate::method::Method;
use crate::proto::State;
use crate::server::ServerId;

pub(crate) use index::{CELLS_PER_SLOT, Cell, Index};
pub(crate) use key::Key;
pub(crate) use slot::Slot;
pub(crate) use table::{MAX_SLOTS, Table, TableState};

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

/// A connection as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Its entry.
    pub id: ConnId,
    /// From the client to the virtual address.
    pub flow: Flow,
    /// Its real server.
    pub server: ServerId,
    /// The real server's address, and the port that the connection uses there.
    pub destination: SocketAddr,
    /// Its forwarding method.
    pub method: Method,
    /// Its state.
    pub state: State,
    /// Milliseconds until it ends, if no further packet comes; 0 when its time is up.
    pub expires_in: u64,
    /// Packets from the client so far (modulo 2^32).
    pub in_packets: u32,
}
