//! What a director knows besides the tables of its store.

use crate::conntrack::key::Target;
use crate::conntrack::table::TableState;
use crate::director::nominees::Nominees;
use crate::model::config::Config;
use crate::model::counters::Counters;
use crate::model::flow::Family;
use crate::model::id::ServerId;
use crate::model::key::ServiceKey;
use crate::model::meter::Meter;
use crate::model::news::NewsList;
use crate::model::rng::Rng;
use crate::model::seed::Seed;
use crate::model::standing::FailurePolicy;
use crate::model::tick::Tick;
use crate::proto::timeouts::TimeoutTable;
use crate::sched::pool::PickContext;

/// What a director knows besides the store's tables.
#[derive(Clone, Debug)]
pub(crate) struct Brain {
    pub(super) config: Config,
    pub(super) timeouts: TimeoutTable,
    /// The latest tick seen.
    pub(super) clock: Tick,
    pub(super) table: TableState,
    pub(super) counters: Counters,
    /// Traffic in total.
    pub(super) meter: Meter,
    /// When rates are estimated next.
    pub(super) next_estimate: Tick,
    /// Whether some server's or service's meter would still move at the next estimate, though nothing more is counted.
    pub(super) rates_fall: bool,
    /// Whether an estimate would have changed anything when the last sweep ended.
    pub(super) estimates: bool,
    pub(super) rng: Rng,
    /// What schedulers hash with.
    pub(super) scheduling: Seed,
    pub(super) timers: Timers,
    /// Services per family: without any, packets of that family are left alone.
    pub(super) families: [u32; 2],
    /// Services for all ports.
    pub(super) wildcards: u32,
    /// Services for port 21, and those whose persistence goes by call.
    pub(super) ftp_services: u32,
    pub(super) call_services: u32,
    /// What the last answer was to the question for a packet's service; `None` when services came or went since.
    pub(super) last_service: Option<(Sought, Option<u32>)>,
    /// The service that something was picked from last, and its place; `None` when services came or went since.
    pub(super) last_picked: Option<(ServiceKey, u32)>,
    /// Connections whose client port is not known yet.
    pub(super) without_client_port: u32,
    /// Whether connections are sent to a backup, and whether this is one.
    pub(super) master: bool,
    pub(super) backup: bool,
    pub(super) overload: Overload,
    /// What a full table could give up.
    pub(super) nominees: Nominees,
    /// Whether the stricter TCP table is in use.
    pub(super) secures_tcp: bool,
    /// Whether packets to the director need a look among replies first.
    pub(super) watches_local: bool,
    /// When removed servers are next looked over.
    pub(super) next_trash: Tick,
    /// Where the search for a service's vacant place goes on: behind the last one that was taken, so that filling a
    /// table does not look at what is filled again and again.
    pub(super) next_service_place: usize,
    pub(super) places: Places,
    /// Removed servers that still take a place.
    pub(super) trash: u32,
    /// Whether servers may be of another family than their service's without a tunnel: where no packet is rewritten.
    pub(super) joins_families: bool,
    /// Events lost that nobody was told of yet.
    pub(super) lost: u64,
    pub(super) news: NewsList,
    pub(super) failure_policy: Option<FailurePolicy>,
    /// When the next server that failures hold back may come back.
    pub(super) next_return: Option<Tick>,
    /// The first in the chain of servers that failures hold back.
    pub(super) held: Option<ServerId>,
    /// Where the search for connections of removed servers goes on, if one is under way.
    pub(super) flush: Option<u32>,
}

/// What a packet's service is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sought {
    pub(super) target: Target,
    pub(super) mark: u32,
}

/// When a scheduler wants to be called, and where the search for it begins.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    /// No scheduler wants to be called before this.
    pub(super) next: Option<Tick>,
    /// The place of the service after the one called last, so that none waits for long.
    pub(super) from: usize,
}

impl Timers {
    pub(crate) const NEW: Self = Self { next: None, from: 0 };

    /// A scheduler wants to be called then.
    pub(crate) fn expect(&mut self, at: Option<Tick>) {
        self.next = match (self.next, at) {
            (Some(next), Some(at)) => Some(next.min(at)),
            (next, at) => next.or(at),
        };
    }
}

/// What the defences remember.
#[derive(Clone, Debug)]
pub(crate) struct Overload {
    pub(super) available: u64,
    /// Whether the table is short of room.
    pub(super) full: bool,
    /// When they are looked at next.
    pub(super) next: Tick,
    /// One of so many new connections is refused; 0 for none.
    pub(super) rate: u32,
    pub(super) counter: u32,
    /// By a connection's packets so far: how many of those that might be given up still are not.
    pub(super) spared: [u8; 9],
    /// What is short and which defences are on, as was said last.
    #[cfg(feature = "log")]
    pub(super) told: [bool; 5],
}

impl Overload {
    pub(crate) const NEW: Self = Self {
        available: u64::MAX,
        full: false,
        next: Tick::ZERO,
        rate: 0,
        counter: 0,
        spared: [0; 9],
        #[cfg(feature = "log")]
        told: [false; 5],
    };
}

impl Brain {
    /// What a director without services knows.
    pub(super) fn new(config: Config) -> Self {
        let rng = Rng::new(config.seed.derive(CHANCE).words().0);
        let scheduling = config.seed.derive(SCHEDULING);
        let mut brain = Self {
            timeouts: TimeoutTable::new(&config.timeouts),
            config,
            clock: Tick::ZERO,
            table: TableState::NEW,
            counters: Counters::ZERO,
            meter: Meter::ZERO,
            next_estimate: Tick::ZERO,
            rates_fall: false,
            // What came before the first sweep is estimated with it.
            estimates: true,
            rng,
            scheduling,
            timers: Timers::NEW,
            families: [0; 2],
            wildcards: 0,
            ftp_services: 0,
            call_services: 0,
            last_service: None,
            last_picked: None,
            without_client_port: 0,
            master: false,
            backup: false,
            overload: Overload::NEW,
            nominees: Nominees::NONE,
            secures_tcp: false,
            watches_local: false,
            next_trash: Tick::ZERO,
            next_service_place: 0,
            places: Places::NEW,
            trash: 0,
            joins_families: false,
            lost: 0,
            news: NewsList::EMPTY,
            failure_policy: None,
            next_return: None,
            held: None,
            flush: None,
        };
        brain.tuning_changed();
        brain
    }

    /// The present moment: `now`, unless a later one was given before.
    #[inline]
    pub(super) fn clock(&mut self, now: Tick) -> Tick {
        // A clock that goes back would bring expired entries back to life.
        self.clock = self.clock.max(now);
        self.clock
    }

    /// Draws the consequences of another configuration or role.
    pub(super) fn tuning_changed(&mut self) {
        // Both switches concern packets to the director, and are mostly off: one question instead of two for each
        // packet.
        self.watches_local = self.leaves_clients_alone() || self.config.tuning.nat_icmp_send;
        self.look_at_resources();
    }

    /// Services came or went: what was found by their keys is so no more.
    pub(super) const fn services_changed(&mut self) {
        (self.last_service, self.last_picked) = (None, None);
    }

    /// Whether a backup is to leave clients' packets to others.
    pub(super) const fn leaves_clients_alone(&self) -> bool {
        self.backup && self.config.tuning.backup_only
    }

    /// What the scheduler of a service learns besides its servers, and chance.
    #[inline(always)]
    pub(super) fn pick_context<'b>(&'b mut self, service: &'b ServiceKey) -> (PickContext<'b>, &'b mut Rng) {
        let context = PickContext {
            now: self.clock,
            service,
            seed: &self.scheduling,
            destination: None,
            tuning: &self.config.tuning,
        };
        (context, &mut self.rng)
    }

    #[inline]
    pub(super) fn serves(&self, family: Family) -> bool {
        self.families[family_index(family)] > 0
    }
}

/// Which places for servers are free.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The place that was given back last. The `next` of the [`Server`](crate::model::server::Server) in each of these
    /// places names the one before it.
    pub(super) vacant: Option<ServerId>,
    /// How many places have ever been taken; those behind them are free.
    pub(super) taken: usize,
    /// Where the search for a removed server goes on that another one can take the place of.
    pub(super) replaced: usize,
}

impl Places {
    pub(super) const NEW: Self = Self { vacant: None, taken: 0, replaced: 0 };
}

pub(super) const fn family_index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// Uses of the seed besides the connection table's hash and the index of services.
const CHANCE: u64 = 2;
const SCHEDULING: u64 = 3;

/// IPVS takes new flows from this port for active FTP data.
pub(super) const FTP_DATA_PORT: u16 = 20;
/// The virtual port of FTP.
pub(super) const FTP_PORT: u16 = 21;
