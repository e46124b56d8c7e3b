//! Schedulers: who gets a new connection.
//!
//! Each is a file and a line in the list below. They follow IPVS's decisions to the last tie-break. Two rules
//! explain most of them: **the server added last comes first** in every walk, and among equals the first one
//! that was met wins.

mod ahead;
mod cache;
mod dh;
mod fo;
mod lblc;
mod lblcr;
mod lc;
mod maglev;
mod mh;
mod nq;
mod ovf;
mod pool;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

use crate::flow::{Family, Flow};
use crate::rng::Rng;
use crate::server::{Server, ServerId};
use crate::tick::Tick;

pub use ahead::{Build, Member, Prepared, Recipe, Roster};
pub(crate) use pool::Occasion;
pub use pool::Pool;

/// Chooses a real server for each new connection of one service.
///
/// The director calls [`on_change`](Self::on_change) once when the scheduler is bound to a service, and after every
/// addition, edit and removal of a real server, with the list as it is then (or what [`builder`](Self::builder) returns, later); and [`pick`](Self::pick) for
/// every new connection. Both run on the packet path's thread: neither may block, and `pick` should not
/// allocate. A scheduler keeps its own state; for a look-up table it borrows cells from the store by
/// [`table_len`](Self::table_len), so that it works without an allocator.
///
/// ```
/// use lvs_core::{Config, Director, Flow, Heap, Method, Pool, Rng, Schedule, Seed, ServerConfig, ServerId};
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

    /// What makes its look-up table, for a scheduler whose table follows from the servers' order, addresses and weights and from the service's
    /// family alone; none by default. The director then calls that instead of [`on_change`](Self::on_change): once before the
    /// first [`pick`](Self::pick) after any number of changes, unless it has been given a table that was made
    /// [ahead](Recipe).
    fn builder(&self) -> Option<Build> {
        None
    }

    /// When [`on_tick`](Self::on_tick) is to be called next, never by default. Asked after every
    /// [`on_change`](Self::on_change) and `on_tick`.
    fn next_tick(&self) -> Option<Tick> {
        None
    }

    /// Its time has come: the first [`sweep`](crate::Director::sweep) at or after [`next_tick`](Self::next_tick).
    /// For what is done now and then, such as forgetting what nobody asked for. A sweep calls one scheduler at
    /// most; how long that one takes, the next packet waits.
    fn on_tick(&mut self, pool: &mut Pool<'_>) {
        let _ = pool;
    }
}

/// How large a look-up table is to be, in cells of four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every change")]
pub enum Change {
    /// This server was added; it is now first.
    Added(ServerId),
    /// The scheduler was bound to the service. The list may already have servers.
    Bound,
    /// This server's weight, method or thresholds may have changed.
    Edited(ServerId),
    /// A server was removed; it is no longer in the list.
    Removed {
        /// The server.
        server: ServerId,
        /// The one that stood before it, if it was not the first.
        before: Option<ServerId>,
    },
}

/// Options of the hashing schedulers (ipvsadm `-b`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two switches with the names of ipvsadm")]
pub struct ScheduleFlags {
    /// A client whose server is unusable gets another one (`sh-fallback`, `mh-fallback`) instead of being rejected.
    pub fallback: bool,
    /// The client's port is hashed too (`sh-port`, `mh-port`), which spreads one client's connections.
    pub port: bool,
}

/// The chain of servers that starts at `from`.
pub(crate) fn walk(servers: &[Server], from: Option<ServerId>) -> impl Iterator<Item = (ServerId, &Server)> {
    let mut next = from;
    core::iter::from_fn(move || {
        let id = next?;
        let server = servers.get(id.0 as usize)?;
        next = server.next;
        Some((id, server))
    })
}

/// Whether a server with `load` and weight `weight` is less loaded per weight than the best so far.
pub(crate) fn lighter(load: i32, weight: u32, best_load: i32, best_weight: u32) -> bool {
    i64::from(best_load) * i64::from(weight) > i64::from(load) * i64::from(best_weight)
}

/// An address as 32 bits: an IPv6 one is the exclusive or of its four words.
pub(crate) fn fold(address: core::net::IpAddr) -> u32 {
    match address {
        core::net::IpAddr::V4(address) => address.to_bits(),
        core::net::IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// The same for an address in a service of this family: IPVS reads an IPv6 address in an IPv4 service (of a server
/// behind a tunnel) by its first word alone.
pub(crate) fn fold_as(family: Family, address: core::net::IpAddr) -> u32 {
    match (family, address) {
        (Family::V4, core::net::IpAddr::V6(address)) => (address.to_bits() >> 96) as u32,
        (Family::V4, core::net::IpAddr::V4(_)) | (Family::V6, _) => fold(address),
    }
}

/// IPVS's multiplicative hash of 32 bits to 8.
pub(crate) fn hash8(value: u32) -> usize {
    (value.wrapping_mul(0x61c8_8647) >> 24) as usize
}

/// Builds the enum of schedulers from their list: name, type, what they are for.
macro_rules! schedulers {
    ($($(#[$doc:meta])* $variant:ident($module:ident::$type:ident) = $name:literal,)+) => {
        /// The built-in schedulers, by the names that `ipvsadm -s` knows.
        ///
        /// ```
        /// use lvs_core::{Schedule, Scheduler};
        /// for name in Scheduler::NAMES {
        ///     assert_eq!(Scheduler::from_name(name).unwrap().name(), *name);
        /// }
        /// assert!(Scheduler::from_name("best").is_none());
        /// ```
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Scheduler {
            $($(#[$doc])* $variant($module::$type),)+
        }

        impl Scheduler {
            /// Every name, in alphabetical order.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// A new scheduler by its name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant($module::$type::default())),)+
                    _ => None,
                }
            }
        }

        impl Schedule for Scheduler {
            fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, rng: &mut Rng) -> Option<ServerId> {
                match self { $(Self::$variant(scheduler) => scheduler.pick(pool, flow, rng),)+ }
            }

            fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
                match self { $(Self::$variant(scheduler) => scheduler.on_change(pool, change),)+ }
            }

            fn table_len(&self) -> TableLen {
                match self { $(Self::$variant(scheduler) => scheduler.table_len(),)+ }
            }

            fn builder(&self) -> Option<Build> {
                match self { $(Self::$variant(scheduler) => scheduler.builder(),)+ }
            }

            fn next_tick(&self) -> Option<Tick> {
                match self { $(Self::$variant(scheduler) => scheduler.next_tick(),)+ }
            }

            fn on_tick(&mut self, pool: &mut Pool<'_>) {
                match self { $(Self::$variant(scheduler) => scheduler.on_tick(pool),)+ }
            }
        }

        $(impl From<$module::$type> for Scheduler {
            fn from(scheduler: $module::$type) -> Self {
                Self::$variant(scheduler)
            }
        })+

        pub use self::{$($module::$type),+};
    };
}

schedulers! {
    /// Destination hashing: a fixed server per virtual address.
    DestinationHash(dh::DestinationHash) = "dh",
    /// Weighted fail-over: all to the usable server of the highest weight.
    FailOver(fo::FailOver) = "fo",
    /// A server per virtual address, the least loaded one at first, while it is not overrun.
    LocalityLeastConnection(lblc::LocalityLeastConnection) = "lblc",
    /// A set of servers per virtual address, which grows while they are overrun.
    LocalityReplication(lblcr::LocalityReplication) = "lblcr",
    /// Least connections, weights ignored.
    LeastConnection(lc::LeastConnection) = "lc",
    /// Maglev hashing: a server per client that hardly moves when servers come and go.
    Maglev(mh::Maglev) = "mh",
    /// Never queue: an idle server if there is one, else shortest expected delay.
    NeverQueue(nq::NeverQueue) = "nq",
    /// Weighted overflow: the highest weight until it holds more connections than its weight, then the next.
    Overflow(ovf::Overflow) = "ovf",
    /// Round robin, weights ignored.
    RoundRobin(rr::RoundRobin) = "rr",
    /// Shortest expected delay.
    ShortestDelay(sed::ShortestDelay) = "sed",
    /// Source hashing: a fixed server per client.
    SourceHash(sh::SourceHash) = "sh",
    /// The less loaded of two servers that chance draws by weight.
    TwoChoices(twos::TwoChoices) = "twos",
    /// Weighted least connections: IPVS's default.
    WeightedLeastConnection(wlc::WeightedLeastConnection) = "wlc",
    /// Weighted round robin.
    WeightedRoundRobin(wrr::WeightedRoundRobin) = "wrr",
}

impl Default for Scheduler {
    /// `wlc`, as for `ipvsadm -A` without `-s`.
    fn default() -> Self {
        Self::WeightedLeastConnection(WeightedLeastConnection)
    }
}
