//! Records in memory that was allocated before, and their way from a worker to whoever reads them.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crossbeam_queue::ArrayQueue;
use lvs_core::Method;
use lvs_core::conn::State;
use lvs_forward::parse::Link;
use lvs_forward::{DropReason, Frame, Offload, Outcome, PortId};

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A frame as it came in.
    In,
    /// A frame as it left because of that.
    Out,
    /// A frame that the director sent by itself.
    Own,
}

/// A record, but for its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) port: PortId,
    pub(super) link: Link,
    pub(super) time: SystemTime,
    pub(super) offload: Offload,
    /// What became of a frame that came in.
    pub(super) outcome: Option<Outcome>,
    /// Why it was dropped, also if an answer left.
    pub(super) dropped: Option<DropReason>,
    /// The connection that it belongs to: its server's address, method, state.
    pub(super) connection: Option<(SocketAddr, Method, State)>,
    /// Where its bytes are, in the chunk.
    start: usize,
    len: usize,
}

impl Entry {
    pub(super) const fn of(frame: &Frame<'_>, link: Link, kind: Kind, id: u64, time: SystemTime) -> Self {
        let Frame { port, offload, .. } = *frame;
        Self {
            id,
            kind,
            port,
            link,
            time,
            offload,
            outcome: None,
            dropped: None,
            connection: None,
            start: 0,
            len: 0,
        }
    }
}

/// Some records and their bytes, in memory that does not grow.
pub(crate) struct Chunk {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

/// A place between two records.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize, usize);

impl Chunk {
    fn new() -> Box<Self> {
        Box::new(Self { entries: Vec::with_capacity(ENTRIES), bytes: Vec::with_capacity(BYTES) })
    }

    pub(super) fn has_room(&self, len: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= len
            && self.entries.capacity() - self.entries.len() >= PER_PACKET
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a record; false when there is no room.
    pub(super) fn push(&mut self, mut entry: Entry, bytes: &[u8]) -> bool {
        let room = self.bytes.capacity() - self.bytes.len() >= bytes.len()
            && self.entries.len() < self.entries.capacity();
        if room {
            (entry.start, entry.len) = (self.bytes.len(), bytes.len());
            self.bytes.extend_from_slice(bytes);
            self.entries.push(entry);
        }
        room
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.entries.len(), self.bytes.len())
    }

    /// Takes out what was added since.
    pub(super) fn undo(&mut self, Mark(entries, bytes): Mark) {
        self.entries.truncate(entries);
        self.bytes.truncate(bytes);
    }

    /// Says more of the record that was added at this place.
    pub(super) fn replace(&mut self, Mark(at, _): Mark, entry: Entry) {
        if let Some(place) = self.entries.get_mut(at) {
            *place = Entry { start: place.start, len: place.len, ..entry };
        }
    }

    /// The records, in their order.
    pub(super) fn records(&self) -> impl Iterator<Item = (&Entry, &[u8])> {
        let bytes = |of: &Entry| self.bytes.get(of.start..of.start + of.len).unwrap_or_default();
        self.entries.iter().map(move |entry| (entry, bytes(entry)))
    }
}

/// A worker's chunks: empty ones to it, full ones from it. No end ever waits for the other.
pub(crate) struct Ring {
    full: ArrayQueue<Box<Chunk>>,
    empty: ArrayQueue<Box<Chunk>>,
    lost: AtomicU64,
    /// When the trace was asked for last.
    heard: AtomicU64,
    began: Instant,
    /// One reader at a time.
    pub(super) reading: Mutex<()>,
}

impl Ring {
    /// All of its memory is taken now.
    pub(crate) fn new(chunks: usize) -> Self {
        let (full, empty) = (ArrayQueue::new(chunks.max(1)), ArrayQueue::new(chunks.max(1)));
        for _ in 0..chunks {
            let _ = empty.push(Chunk::new());
        }
        let (lost, heard) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { full, empty, lost, heard, began: Instant::now(), reading: Mutex::new(()) }
    }

    pub(super) fn take_empty(&self) -> Option<Box<Chunk>> {
        self.empty.pop()
    }

    pub(super) fn is_read(&self) -> bool {
        self.full.is_empty()
    }

    pub(super) fn hand_over(&self, chunk: Box<Chunk>) {
        // There are no more chunks than places.
        let _ = self.full.push(chunk);
    }

    pub(super) fn lose(&self, records: u64) {
        if records > 0 {
            self.lost.fetch_add(records, Ordering::Relaxed);
        }
    }

    /// How many records found no room.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Somebody is there who reads.
    pub(super) fn hear(&self) {
        self.heard.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether somebody has read lately.
    pub(super) fn is_heard(&self) -> bool {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(heard) < PATIENCE
    }

    /// The oldest full chunk is lent, and is empty afterwards. False when there is none.
    pub(super) fn read(&self, take: impl FnOnce(&Chunk)) -> bool {
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut chunk) = self.full.pop() else { return false };
        take(&chunk);
        chunk.entries.clear();
        chunk.bytes.clear();
        let _ = self.empty.push(chunk);
        true
    }
}

/// Chunks of a worker; 8.3 MB with their records.
pub(super) const CHUNKS: usize = 32;
const BYTES: usize = 192 * 1_024;
const ENTRIES: usize = 512;
/// Records of one frame and what it is sent as, most of the time.
const PER_PACKET: usize = 8;
/// A trace that nobody has read for so long is over.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunks_of_a_worker_take_the_memory_that_is_told() {
        let bytes = CHUNKS * (BYTES + ENTRIES * size_of::<Entry>());
        assert!((8_200_000..8_300_000).contains(&bytes), "{bytes}");
    }
}
