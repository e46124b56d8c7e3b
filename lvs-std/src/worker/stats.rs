//! What a worker tells of itself, in numbers.

use core::ops::AddAssign;
use core::time::Duration;

use lvs_core::Tick;
use lvs_forward::engine::EngineCounters;

use crate::device::{ReceiveCounters, TransmitCounters};
use crate::offload::FlowOffloadCounters;

/// A worker's counters at one moment. All only grow, except the connections' number.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// When they were published, by the worker's clock.
    pub at: Tick,
    /// The director's.
    pub director: lvs_core::stats::Counters,
    /// The forwarder's.
    pub forwarder: lvs_forward::Counters,
    /// The devices', in the order of their ports.
    pub ports: Vec<PortSnapshot>,
    /// The worker's own.
    pub worker: WorkerCounters,
}

impl Snapshot {
    /// What several workers have counted, together; `None` of none.
    pub(crate) fn total(of: &[Self]) -> Option<Self> {
        let (first, rest) = of.split_first()?;
        let mut total = first.clone();
        rest.iter().for_each(|one| total += one);
        Some(total)
    }
}

impl AddAssign<&Self> for Snapshot {
    /// What several workers of one director have counted, together. The time is the earliest of theirs.
    fn add_assign(&mut self, other: &Self) {
        let Self { at, director, forwarder, ports, worker } = other;
        self.at = self.at.min(*at);
        self.director += *director;
        self.forwarder += forwarder;
        self.ports.iter_mut().zip(ports).for_each(|(port, other)| *port += other);
        self.worker += worker;
    }
}

/// A port in a [`Snapshot`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortSnapshot {
    /// What came in.
    pub received: ReceiveCounters,
    /// What went out.
    pub transmitted: TransmitCounters,
    /// The device is gone or broken, and is no longer asked.
    pub failed: bool,
}

impl AddAssign<&Self> for PortSnapshot {
    fn add_assign(&mut self, other: &Self) {
        self.received += &other.received;
        self.transmitted += &other.transmitted;
        self.failed |= other.failed;
    }
}

/// What a worker itself counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounters {
    /// Batches of frames. Frames received by batches is how well work is shared: 32 at most.
    pub batches: u64,
    /// Times that it waited for something to do.
    pub waits: u64,
    /// How long it waited in all. The rest of its time it worked, or asked its devices again and again.
    pub waited: Duration,
    /// Frames that were cut into several before they were sent: merged ones that the device or a tunnel cannot carry
    /// as one, and packets longer than the MTU that may be fragmented.
    pub cut: u64,
    /// Pieces that these became.
    pub pieces: u64,
    /// Frames lost because they could not be cut, or because no port has their number.
    pub unsendable: u64,
    /// Frames that were passed to this host, and went to the local port.
    pub passed: u64,
    /// Frames that the forwarder passed, and that were lost: for want of a local port, or because they are no IP
    /// packets to an own address.
    pub not_passed: u64,
    /// Events that nobody fetched in time; [`Event::Lost`](lvs_core::Event::Lost) tells the program how many.
    pub events_lost: u64,
    /// Copies of frames that it handed to other workers of the same director.
    pub handed_over: u64,
    /// Copies that were lost: the other worker did not read its post in time, or the first fragment of a datagram did
    /// not come.
    pub handover_lost: u64,
    /// Questions for neighbours that it did not ask, because another worker of the same director had just done so.
    /// Each is among the questions of its forwarder.
    pub questions_shared: u64,
    /// What went past it in the kernel; it is in the director's counters as well.
    pub offload: FlowOffloadCounters,
}

impl WorkerCounters {
    /// The worker's own numbers, with those of its engine in their places.
    pub(super) const fn with_engine(mut self, engine: &EngineCounters) -> Self {
        self.cut = engine.cut;
        self.pieces = engine.pieces;
        self.unsendable = engine.unsendable;
        self.passed = engine.passed;
        self.not_passed = engine.not_passed;
        self
    }
}

impl AddAssign<&Self> for WorkerCounters {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            batches,
            waits,
            waited,
            cut,
            pieces,
            unsendable,
            passed,
            not_passed,
            events_lost,
            handed_over,
            handover_lost,
            questions_shared,
            offload,
        } = other;
        self.batches += batches;
        self.waits += waits;
        self.waited += *waited;
        self.cut += cut;
        self.pieces += pieces;
        self.unsendable += unsendable;
        self.passed += passed;
        self.not_passed += not_passed;
        self.events_lost += events_lost;
        self.handed_over += handed_over;
        self.handover_lost += handover_lost;
        self.questions_shared += questions_shared;
        self.offload += *offload;
    }
}
