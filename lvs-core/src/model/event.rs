//! What happened, for whoever wants to log, replicate or drain: a bounded queue that the caller empties.

use crate::model::flow::Flow;
use crate::model::id::{ConnId, ServerId};
use crate::model::state::State;
use crate::model::sync_entry::SyncEntry;

/// Something that happened to a connection or a real server. Read with
/// [`Director::poll_event`](crate::Director::poll_event).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A connection left the table.
    Closed {
        /// The entry that it had; it may be in use again.
        connection: ConnId,
        /// Client and virtual address.
        flow: Flow,
        /// The connection's real server.
        server: ServerId,
        /// The state that it was in.
        state: State,
        /// Why.
        cause: Cause,
    },
    /// The last connection of a real server that was removed or has weight 0 is gone.
    Drained {
        /// The real server.
        server: ServerId,
    },
    /// The queue was full: so many events are missing here, see [`Director::poll_event`](crate::Director::poll_event).
    Lost {
        /// How many.
        count: u64,
    },
    /// A connection was scheduled.
    Opened {
        /// The entry that it got.
        connection: ConnId,
        /// Client and virtual address.
        flow: Flow,
        /// The chosen real server.
        server: ServerId,
    },
    /// As a master: a backup is to be told this ([`Director::set_sync_role`](crate::Director::set_sync_role),
    /// [`Master::push`](crate::sync::Master::push)).
    Sync(SyncEntry),
    /// A real server reached its upper threshold: schedulers leave it out.
    Overloaded {
        /// The real server.
        server: ServerId,
    },
    /// A real server fell below its lower threshold and is scheduled again.
    Relieved {
        /// The real server.
        server: ServerId,
    },
}

/// Why a connection left the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every cause")]
pub enum Cause {
    /// The time-out of the connection's state was over.
    Expired,
    /// The connection was given up before its time: by the defence [`drop_entry`](crate::config::Tuning::drop_entry),
    /// because its real server was removed ([`expire_nodest_conn`](crate::config::Tuning::expire_nodest_conn)), or by
    /// [`cut`](crate::Director::cut).
    Dropped,
    /// The connection made room while the table was full, and counted as established by its client's packets alone: its
    /// replies bypass the director (DR, TUN), or its server never answered. Such packets can be forged.
    OneWay,
    /// The connection made room while the table was full.
    Reclaimed,
    /// Whoever had opened it closed it ([`Picker::close`](crate::Picker::close)).
    Released,
}
