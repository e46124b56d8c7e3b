//! The connection table: fixed capacity, keyed hashes, one cache line per connection.

mod index;
mod key;
mod late;
mod slot;
mod table;
mod wake;

use core::net::{IpAddr, SocketAddr};

use crate::flow::Flow;
use crate::method::Method;
use crate::proto::State;
use crate::server::ServerId;

#[cfg(feature = "alloc")]
pub(crate) use index::cells_for;
pub(crate) use index::{CELLS_PER_SLOT, Cell, Index, NONE};
pub use key::TemplateTarget;
pub(crate) use key::{Key, Target};
pub(crate) use slot::{Note, Slot};
pub use table::ReadAhead;
pub(crate) use table::{Due, MAX_SLOTS, Table, TableState, split};
pub(crate) use wake::Wake;

/// Names an entry of the connection table while that entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// A template of persistence as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Template<'a> {
    /// Its entry.
    pub id: ConnId,
    /// The first address of the clients' network.
    pub client: IpAddr,
    /// What they are sent on from. Port 65535 for one that was put aside and only ages.
    pub target: TemplateTarget,
    /// Their real server.
    pub server: ServerId,
    /// The real server's address, and its port if the template is for one port, else 0.
    pub destination: SocketAddr,
    /// The forwarding method that the server had when it was made.
    pub method: Method,
    /// Whether a connection from it was established, or answered under UDP.
    pub assured: bool,
    /// How many connections keep it alive.
    pub connections: u32,
    /// Milliseconds until it ends, if no further connection comes; 0 when its time is up.
    pub expires_in: u64,
    /// The call that it is for, under [`Engine::Sip`](crate::Engine::Sip).
    pub call: Option<&'a [u8]>,
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
    /// The firewall mark of its first packet, 0 for none.
    pub mark: u32,
    /// What controls it: the template or the FTP connection that it came from.
    pub controller: Option<ConnId>,
    /// Whether the client's port is not known yet (FTP data); it is 0 in `flow` then.
    pub lacks_client_port: bool,
    /// Whether it came from another director.
    pub synced: bool,
}
