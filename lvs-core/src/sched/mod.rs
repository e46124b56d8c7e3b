//! Schedulers: who gets a new connection.
//!
//! Each is a file and a line in the list below. They follow IPVS's decisions to the last tie-break. Two rules
//! explain most of them: **the server added last comes first** in every walk, and among equals the first one
//! that was met wins.

mod cache;
mod dh;
mod either;
mod fo;
mod lblc;
mod lblcr;
mod lc;
mod maglev;
mod mh;
mod nq;
pub(crate) mod order;
mod ovf;
mod p2c;
pub(crate) mod pool;
pub(crate) mod prebuilt;
mod rr;
pub(crate) mod schedule;
mod sed;
pub(crate) mod server_list;
mod sh;
mod twos;
mod wlc;
mod wrr;

use crate::model::error::ParseError;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::tick::Tick;

pub use crate::model::config::ScheduleFlags;
pub use crate::model::rng::Rng;
pub use either::Either;
pub use pool::Pool;
pub use schedule::{Change, Schedule, TableLen};

/// Builds the enum of schedulers from their list: name, type, what they are for.
macro_rules! schedulers {
    ($($(#[$doc:meta])* $variant:ident($module:ident::$type:ident) = $name:literal,)+) => {
        /// The built-in schedulers, by the names that `ipvsadm -s` knows.
        ///
        /// ```
        /// use lvs_core::Scheduler;
        /// use lvs_core::sched::Schedule;
        /// for name in Scheduler::NAMES {
        ///     assert_eq!(Scheduler::from_name(name).unwrap().name(), *name);
        /// }
        /// assert!(Scheduler::from_name("best").is_none());
        /// assert_eq!("wlc".parse::<Scheduler>()?.to_string(), "wlc");
        /// # Ok::<(), lvs_core::error::ParseError>(())
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

            fn builder(&self) -> Option<server_list::Build> {
                match self { $(Self::$variant(scheduler) => scheduler.builder(),)+ }
            }

            fn hashes(&self) -> bool {
                match self { $(Self::$variant(scheduler) => scheduler.hashes(),)+ }
            }

            fn takes_flags(&self) -> bool {
                match self { $(Self::$variant(scheduler) => scheduler.takes_flags(),)+ }
            }

            fn next_tick(&self) -> Option<Tick> {
                match self { $(Self::$variant(scheduler) => scheduler.next_tick(),)+ }
            }

            fn on_tick(&mut self, pool: &mut Pool<'_>) {
                match self { $(Self::$variant(scheduler) => scheduler.on_tick(pool),)+ }
            }
        }

        impl core::str::FromStr for Scheduler {
            type Err = ParseError;

            /// A new scheduler by its name, in letters of either case.
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let name = Self::NAMES.iter().find(|name| text.eq_ignore_ascii_case(name));
                name.and_then(|name| Self::from_name(name)).ok_or(ParseError::Scheduler)
            }
        }

        impl core::fmt::Display for Scheduler {
            /// Writes the name.
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
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
    /// The power of two choices by observed latency and connections. Not one of IPVS.
    PowerOfTwo(p2c::PowerOfTwo) = "p2c",
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

#[cfg(feature = "serde")]
crate::model::serial::as_text!(Scheduler);
