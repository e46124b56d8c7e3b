//! What a worker tells of itself, in numbers.

use lvs_core::Tick;

use crate::device::{ReceiveCounters, TransmitCounters};

/// A worker's counters at one moment. All only grow, except the connections' number.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// When they were published, by the worker's clock.
    pub at: Tick,
    /// The director's.
    pub director: lvs_core::Counters,
    /// The forwarder's.
    pub forwarder: lvs_forward::Counters,
    /// The devices', in the order of their ports.
    pub ports: Vec<PortSnapshot>,
    /// The worker's own.
    pub worker: WorkerCounters,
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

/// What a worker itself counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounters {
    /// Batches of frames. Frames received by batches is how well work is shared: 32 at most.
    pub batches: u64,
    /// Times that it waited for something to do.
    pub waits: u64,
    /// Frames that were cut into several before they were sent: merged ones that the device or a tunnel cannot carry
    /// as one, and packets longer than the MTU that may be fragmented.
    pub cut: u64,
    /// Pieces that these became.
    pub pieces: u64,
    /// Frames lost because they could not be cut, or because no port has their number.
    pub unsendable: u64,
    /// Frames that were passed to this host, and went to the local port.
    pub passed: u64,
    /// Frames that the forwarder passed, and that were lost: for want of a local port, or because they are no IP packets to
    /// an own address.
    pub not_passed: u64,
    /// Events that nobody fetched in time.
    pub events_lost: u64,
}
