//! What a scheduler is: the trait, and what it is told.

use super::pool::Pool;
use super::server_list::Build;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;
use crate::model::tick::Tick;

/// Chooses a real server for each new connection of one service.
///
/// The director calls [`on_change`](Self::on_change) once when the scheduler is bound to a service, and after every
/// addition, edit and removal of a real server, with the list as it is then (or what [`builder`](Self::builder)
/// returns, later); and [`pick`](Self::pick) for every new connection. Both run on the packet path's thread: neither
/// may block, and `pick` should not allocate. A scheduler keeps its own state; for a look-up table it borrows cells
/// from the store by [`table_len`](Self::table_len), so that it works without an allocator.
///
/// ```
/// use lvs_core::{Config, Director, Flow, Heap, Method, Seed, ServerConfig, ServerId};
/// use lvs_core::sched::{Pool, Rng, Schedule};
/// use lvs_core::{ServiceConfig, ServiceKey};
///
/// /// Sends everything to the usable server with the smallest port.
/// #[derive(Debug, Default)]
/// struct SmallestPort;
///
/// impl Schedule for SmallestPort {
///     fn name(&self) -> &'static str {
///         "smallest-port"
///     }
///
///     fn pick(&mut self, pool: &mut Pool<'_>, _flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
///         let usable = pool.iter().filter(|(_, server)| server.is_usable());
///         usable.min_by_key(|(_, server)| server.address().port()).map(|(id, _)| id)
///     }
/// }
///
/// let mut director = Director::new(Config::new(Seed::from_bytes([0; 16])), Heap::<SmallestPort>::with_capacity(100));
/// let service = ServiceKey::tcp("10.99.0.1".parse()?, 80);
/// director.add_service(service, ServiceConfig::new(SmallestPort))?;
/// director.add_server(service, ServerConfig::new("10.0.1.11:8080".parse()?, Method::Nat))?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub trait Schedule {
    /// The name that listings show. An edit of a service keeps the old scheduler's state if the new one has the
    /// same name.
    fn name(&self) -> &'static str;

    /// Chooses a server, or none: then the client gets ICMP port unreachable. An id that names no server of this
    /// service counts as none. `flow` goes from the client to the virtual address.
    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId>;

    /// Learns of a change to the list of servers. Nothing to do by default.
    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        let _ = (pool, change);
    }

    /// How many cells of look-up table it needs, none by default. They keep their content from call to call, and are
    /// all `u32::MAX` when the scheduler is bound.
    fn table_len(&self) -> TableLen {
        TableLen::NONE
    }

    /// What makes its look-up table, for a scheduler whose table follows from the servers' order, addresses and weights
    /// and from the service's family alone; none by default. The director then calls that instead of
    /// [`on_change`](Self::on_change): once before the first [`pick`](Self::pick) after any number of changes, unless
    /// it has been given a table that was made [ahead](crate::tables::TableBuilder).
    fn builder(&self) -> Option<Build> {
        None
    }

    /// Whether the choice follows from a hash of addresses, so that each client keeps its server as long as the servers
    /// stay the same: `sh`, `dh` and `mh`. Default false. The director does not ask; it is for tools that tell how
    /// many clients a change moves.
    fn hashes(&self) -> bool {
        false
    }

    /// Whether the service's [flags](super::ScheduleFlags) count for it: `sh` and `mh`. Default false. The director
    /// does not ask; it is for tools that refuse flags without meaning.
    fn takes_flags(&self) -> bool {
        false
    }

    /// When [`on_tick`](Self::on_tick) is to be called next, never by default. Asked after every
    /// [`on_change`](Self::on_change) and `on_tick`.
    fn next_tick(&self) -> Option<Tick> {
        None
    }

    /// Called when the scheduler's time has come: by the first [`sweep`](crate::Director::sweep) at or after
    /// [`next_tick`](Self::next_tick). For what is done now and then, such as forgetting what nobody asked for. A sweep
    /// calls one scheduler at most; how long that one takes, the next packet waits.
    fn on_tick(&mut self, pool: &mut Pool<'_>) {
        let _ = pool;
    }
}

/// How large a look-up table is to be, in cells of four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a range has two ends")]
pub struct TableLen {
    /// With less than this the scheduler cannot be bound.
    pub least: usize,
    /// What it has use for. [`Heap`](crate::Heap) lends as much, [`Fixed`](crate::Fixed) what it has.
    pub wanted: usize,
}

impl TableLen {
    /// No table.
    pub const NONE: Self = Self::exactly(0);

    /// So many cells, no less and no more.
    #[must_use]
    pub const fn exactly(cells: usize) -> Self {
        Self { least: cells, wanted: cells }
    }
}

/// What changed in a list of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every change")]
pub enum Change {
    /// A server was added; it is now first.
    Added(ServerId),
    /// The scheduler was bound to the service. The list may already have servers.
    Bound,
    /// A server's weight, method or thresholds may have changed.
    Edited(ServerId),
    /// A server was removed; it is no longer in the list.
    Removed {
        /// The server.
        server: ServerId,
        /// The one that stood before it, if it was not the first.
        before: Option<ServerId>,
    },
}
