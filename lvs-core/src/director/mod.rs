//! The director: everything together.

mod batch;
mod control;
mod follow;
mod lane;
mod listing;
pub(crate) mod offload;
mod prebuilt;
pub(crate) mod slow;
mod sync;
mod tally;
pub(crate) mod time;

use crate::conntrack::table::{ReadAhead, TableState};
use crate::hashing::HashTogether;
use crate::model::config::Config;
use crate::model::counters::Counters;
use crate::model::event::Event;
use crate::model::flow::Family;
use crate::model::key::ServiceKey;
use crate::model::meter::Meter;
use crate::model::rng::Rng;
use crate::model::seed::Seed;
use crate::model::tick::Tick;
use crate::proto::timeouts::TimeoutTable;
use crate::sched::pool::PickContext;
use crate::store::{Queue as _, Store};

pub use batch::BATCH;
pub use lane::{Carry, Found, Next};

/// A Linux Virtual Server director: it decides where packets go, and remembers.
///
/// Its methods come in four kinds:
///
/// * `decide*` for packets: [`decide`](Self::decide) for one, [`decide_batch`](Self::decide_batch) for many, with equal
///   results.
/// * `add_*`, `edit_*`, `remove_*` for control, at any time, between any two packets.
/// * [`sweep`](Self::sweep) for time: frees what has expired, with bounded work. Call it about every 10 ms, or
///   [`sweep_briefly`](Self::sweep_briefly) between batches.
/// * [`poll_event`](Self::poll_event), [`counters`](Self::counters) and the listings for what happened.
///
/// Ticks given to it never go back. Nothing here blocks, allocates per packet, or panics on any input.
///
/// ```
/// use lvs_core::*;
///
/// let store: Heap = Heap::with_capacity(10_000);
/// let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
/// let web = ServiceKey::tcp("10.99.0.1".parse()?, 80);
/// director.add_service(web, ServiceConfig::new(Scheduler::from_name("wlc").unwrap()))?;
/// director.add_server(web, ServerConfig::new("10.0.1.11:8080".parse()?, Method::Nat))?;
///
/// let flow = Flow::new(Protocol::Tcp, "192.0.2.7:40000".parse()?, "10.99.0.1:80".parse()?).unwrap();
/// let syn = Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60);
/// match director.decide(Tick::ZERO, &syn) {
///     Verdict::Forward(forward) => assert_eq!(forward.target, "10.0.1.11:8080".parse()?),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Director<S: Store> {
    store: S,
    brain: Brain,
}

/// What a director knows besides the store's tables.
#[derive(Debug)]
struct Brain {
    config: Config,
    timeouts: TimeoutTable,
    /// The latest tick seen.
    clock: Tick,
    table: TableState,
    counters: Counters,
    /// Traffic in total.
    meter: Meter,
    /// When rates are estimated next.
    next_estimate: Tick,
    rng: Rng,
    /// What schedulers hash with.
    scheduling: Seed,
    timers: time::timers::Timers,
    /// Services per family: without any, packets of that family are left alone.
    families: [u32; 2],
    /// Services for all ports.
    wildcards: u32,
    /// Services for port 21, and those whose persistence goes by call.
    ftp_services: u32,
    call_services: u32,
    /// What the last answer was to the question for a packet's service; `None` when services came or went since.
    last_service: Option<(slow::schedule::Sought, Option<u32>)>,
    /// Connections whose client port is not known yet.
    without_client_port: u32,
    /// Whether connections are sent to a backup, and whether this is one.
    master: bool,
    backup: bool,
    overload: time::overload::State,
    /// Whether the stricter TCP table is in use.
    secures_tcp: bool,
    /// Whether packets to the director need a look among replies first.
    watches_local: bool,
    /// When removed servers are next looked over.
    next_trash: Tick,
    /// Removed servers that still take a place.
    trash: u32,
    /// Where the search for connections of removed servers goes on, if one is under way.
    flush: Option<u32>,
}

impl<S: Store> Director<S> {
    /// A director without services. What a former director left in a store that was lent to it is forgotten.
    pub fn new(config: Config, mut store: S) -> Self {
        store.prepare(config.seed.derive(SERVICE_KEYS));
        let rng = Rng::new(config.seed.derive(CHANCE).words().0);
        let scheduling = config.seed.derive(SCHEDULING);
        let mut director = Self {
            store,
            brain: Brain {
                timeouts: TimeoutTable::new(&config.timeouts),
                config,
                clock: Tick::ZERO,
                table: TableState::NEW,
                counters: Counters::ZERO,
                meter: Meter::ZERO,
                next_estimate: Tick::ZERO,
                rng,
                scheduling,
                timers: time::timers::Timers::NEW,
                families: [0; 2],
                wildcards: 0,
                ftp_services: 0,
                call_services: 0,
                last_service: None,
                without_client_port: 0,
                master: false,
                backup: false,
                overload: time::overload::State::NEW,
                secures_tcp: false,
                watches_local: false,
                next_trash: Tick::ZERO,
                trash: 0,
                flush: None,
            },
        };
        director.brain.tuning_changed();
        director
    }

    /// Lets the director say which memory it will read next. With many connections, a batch reads memory that nobody has touched
    /// lately; by this it goes on meanwhile. Without it, it reads such memory early, all at once, and waits.
    ///
    /// Prefetch instructions are no safe code, which this crate has none but. `lvs-std`'s worker sets it.
    pub const fn set_read_ahead(&mut self, ahead: Option<ReadAhead>) {
        self.brain.table.ahead = ahead;
    }

    /// Lends the director a function that hashes several packets at one time, for [`decide_briefs`](Self::decide_briefs). Hashes are the
    /// same with it and without, and so is every decision.
    ///
    /// Code for instructions that not every machine has is no safe code, which this crate has none but. `lvs-std`'s worker sets it.
    pub const fn set_hash_together(&mut self, together: Option<HashTogether>) {
        self.brain.table.together = together;
    }

    /// Takes the oldest event, if there is one. Events that find the queue full are lost and counted.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.store.parts().events.pop()
    }

    /// How it behaves.
    pub const fn config(&self) -> &Config {
        &self.brain.config
    }

    /// Changes how it behaves. The seed stays what it was: connections are found by it. Other time-outs than before
    /// make this write 2 bytes for every connection there ever was at one time.
    pub fn set_config(&mut self, config: Config) {
        let seed = self.brain.config.seed;
        if config.timeouts != self.brain.config.timeouts {
            // A packet may now bring a deadline nearer without changing its connection's state.
            let now = self.brain.clock.stamp();
            self.store.parts().connections(&mut self.brain.table).wake_all(now);
        }
        self.brain.timeouts = TimeoutTable::new(&config.timeouts);
        self.brain.config = Config { seed, ..config };
        self.brain.tuning_changed();
    }

    /// Whether this director sends its connections to backups, and whether it is a backup itself; it may be both. As a master it
    /// notes in [`Event::Sync`] what is to be sent. Default neither.
    pub fn set_sync_role(&mut self, master: bool, backup: bool) {
        self.brain.master = master;
        self.brain.backup = backup;
        self.brain.tuning_changed();
    }

    /// What happened so far, in numbers.
    pub fn counters(&self) -> Counters {
        Counters { live: self.brain.table.live, traffic: self.brain.meter.live(), ..self.brain.counters }
    }

    /// Traffic in total, as `ipvsadm` shows it, and its rates.
    pub const fn meter(&self) -> &Meter {
        &self.brain.meter
    }
}

impl Brain {
    /// The present moment: `now`, unless a later one was given before.
    #[inline]
    fn clock(&mut self, now: Tick) -> Tick {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// Draws the consequences of another configuration or role.
    fn tuning_changed(&mut self) {
        self.watches_local = self.leaves_clients_alone() || self.config.tuning.nat_icmp_send;
        self.look_at_memory();
    }

    /// Whether a backup is to leave clients' packets to others.
    const fn leaves_clients_alone(&self) -> bool {
        self.backup && self.config.tuning.backup_only
    }

    /// What the scheduler of a service learns besides its servers, and chance.
    #[inline(always)]
    fn pick_context<'b>(&'b mut self, service: &'b ServiceKey) -> (PickContext<'b>, &'b mut Rng) {
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
    fn serves(&self, family: Family) -> bool {
        self.families[family_index(family)] > 0
    }
}

const fn family_index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// Uses of the seed besides the connection table's hash.
const SERVICE_KEYS: u64 = 1;
const CHANCE: u64 = 2;
const SCHEDULING: u64 = 3;

/// IPVS takes new flows from this port for active FTP data.
const FTP_DATA_PORT: u16 = 20;
/// The virtual port of FTP.
const FTP_PORT: u16 = 21;
