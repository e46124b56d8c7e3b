//! The director: everything together.

mod brain;
mod control;
mod engine;
mod fast;
mod feed;
mod listing;
mod news;
mod nominees;
mod observe;
pub(crate) mod offload;
pub(crate) mod picker;
mod places;
mod prebuilt;
#[cfg(feature = "alloc")]
mod rehearsal;
pub(crate) mod slow;
mod sync;
pub(crate) mod time;

use brain::Brain;
use engine::Engine;

use crate::conntrack::fast_key::FastBatch;
use crate::conntrack::hashing::HashTogether;
use crate::conntrack::table::ReadAhead;
use crate::model::config::Config;
use crate::model::counters::Counters;
use crate::model::meter::Meter;
use crate::model::tick::Tick;
#[cfg(doc)]
use crate::model::verdict::Verdict;
use crate::proto::timeouts::TimeoutTable;
use crate::store::Store;

pub use fast::{Hit, HitHandler, Next};
#[cfg(feature = "alloc")]
pub use rehearsal::Rehearsal;

/// A Linux Virtual Server director: it decides where packets go, and remembers.
///
/// A director does nothing of its own accord: it has no clock, no thread and no socket. The program that embeds it
/// calls methods of five kinds:
///
/// * **Packets** go in by [`decide`](Self::decide) one at a time, by [`decide_batch`](Self::decide_batch) in runs, and
///   by [`decide_fast`](Self::decide_fast) where each is to be carried out as soon as it is decided. The results are
///   equal. What something faster has forwarded in the director's place is told by
///   [`account_offloaded`](Self::account_offloaded).
/// * **Control** changes services and real servers: `add_*`, `edit_*`, `remove_*`, [`zero`](Self::zero),
///   [`set_config`](Self::set_config). Each is allowed between any two packets, and changes nothing when it returns an
///   error.
/// * **Time** passes in [`sweep`](Self::sweep) and [`sweep_briefly`](Self::sweep_briefly), which free what has expired
///   with bounded work. Schedulers' timers, rates and the measures against overload run there too.
///   [`poll_at`](Self::poll_at) says when the next of these calls is due.
/// * **Helpers and other directors** add connections that no packet has begun: [`expect`](Self::expect),
///   [`apply_sync`](Self::apply_sync).
/// * **What happened** comes out of [`poll_event`](Self::poll_event), [`counters`](Self::counters) and the listings.
///
/// # Order of calls
///
/// A turn of a program's loop is best:
///
/// 1. `decide*` for the packets that have come, with the time taken once for all of them. Carry out each verdict that
///    [requires a helper](Verdict::requires_helper) before the next packet is decided.
/// 2. [`sweep_briefly`](Self::sweep_briefly), so that each second goes once around the table; and when no packets come,
///    again at [`poll_at`](Self::poll_at).
/// 3. [`poll_event`](Self::poll_event) until there is none: the queue is bounded, and events that find it full are lost
///    and counted. [`poll_server`](Self::poll_server) until there is none, for what must not be lost.
/// 4. Control, at any time between these.
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
/// match director.decide(Tick::ZERO, &syn, Inspected::Nothing) {
///     Verdict::Forward(forward) => assert_eq!(forward.target, "10.0.1.11:8080".parse()?),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Director<S: Store> {
    store: S,
    brain: Brain,
    /// The packets of the fast tier that come next. Kept here, because clearing it costs less than making one.
    batch: FastBatch,
}

impl<S: Store> Director<S> {
    /// A director without services. What a former director left in a store that was lent to it is forgotten.
    pub fn new(config: Config, mut store: S) -> Self {
        // Each use of the seed has a key of its own, so that what one table shows tells nothing about another.
        store.prepare(config.seed.derive(SERVICE_KEYS));
        Self { store, brain: Brain::new(config), batch: FastBatch::new() }
    }

    /// All of it at work, now that the caller says how late it is.
    #[inline]
    fn engine_at(&mut self, now: Tick) -> Engine<'_, S> {
        let now = self.brain.clock(now).stamp();
        Engine { brain: &mut self.brain, tables: self.store.parts(), now }
    }

    /// All of it at work for a call that takes no time: control does not move the clock.
    fn engine(&mut self) -> Engine<'_, S> {
        let now = self.brain.clock.stamp();
        Engine { brain: &mut self.brain, tables: self.store.parts(), now }
    }

    /// Lets the director say which memory it will read next. With many connections, a batch reads memory that nobody
    /// has touched lately; by this it goes on meanwhile. Without it, it reads such memory early, all at once, and
    /// waits.
    ///
    /// Prefetch instructions are no safe code, which this crate has none but. `lvs-std`'s worker sets it.
    pub const fn set_read_ahead(&mut self, ahead: Option<ReadAhead>) {
        self.brain.table.ahead = ahead;
    }

    /// Lends the director a function that hashes several packets at one time, for
    /// [`decide_fast`](Self::decide_fast). Hashes are the same with it and without, and so is every decision.
    ///
    /// Code for instructions that not every machine has is no safe code, which this crate has none but. `lvs-std`'s
    /// worker sets it.
    pub const fn set_hash_together(&mut self, together: Option<HashTogether>) {
        self.brain.table.together = together;
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
            self.engine().connections().wake_all(now);
        }
        self.brain.timeouts = TimeoutTable::new(&config.timeouts);
        // With another seed no connection would be found any more.
        self.brain.config = Config { seed, ..config };
        // What was never to be defended has not been looked at.
        self.brain.overload.next = Tick::ZERO;
        self.brain.tuning_changed();
    }

    /// Whether this director sends its connections to backups, and whether it is a backup itself; it may be both. As a
    /// master it notes in [`Event::Sync`](crate::Event::Sync) what is to be sent. Default neither.
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

/// Use of the seed for the index of services, beside those of the brain.
const SERVICE_KEYS: u64 = 1;
