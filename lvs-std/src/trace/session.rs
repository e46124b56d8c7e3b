//! The reader's side of a trace.

use core::time::Duration;
use std::sync::Arc;
use std::time::SystemTime;

use lvs_forward::parse::{Parsed, parse};
use lvs_forward::{Frame, Outcome, PortId, complete_checksum};

use super::Tracer;
use super::chunk::{CHUNKS, Entry, Kind, Ring};
use crate::describe;
use crate::filter::PacketFilter;

/// A trace of all workers. It is over when nobody has [read](Self::read) it for ten seconds.
pub struct Session {
    rings: Vec<Arc<Ring>>,
}

impl Session {
    /// A trace of so many workers, with their sides of it. All of its memory is taken now, 8.3 MB for each worker.
    pub(crate) fn new(workers: usize, filter: Option<PacketFilter>) -> (Self, Vec<Tracer>) {
        let rings: Vec<_> = (0..workers).map(|_| Arc::new(Ring::new(CHUNKS))).collect();
        let tracers = rings.iter().enumerate().map(|(at, ring)| Tracer::new(at, ring.clone(), filter));
        let tracers = tracers.collect();
        (Self { rings }, tracers)
    }

    /// What was recorded since, up to about so many bytes of frames. Of each worker in the order in which it happened.
    #[must_use]
    pub fn read(&self, most: usize) -> Vec<TraceRecord> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (worker, ring) in self.rings.iter().enumerate() {
            ring.hear();
            let take = |records: &mut Vec<TraceRecord>, bytes: &mut usize| {
                ring.read(|chunk| {
                    for (entry, frame) in chunk.records() {
                        *bytes += frame.len();
                        records.push(TraceRecord::of(worker, entry, frame));
                    }
                })
            };
            while bytes < most && take(&mut records, &mut bytes) {}
        }
        records
    }

    /// How many records found no room, so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.rings.iter().map(|ring| ring.lost()).sum()
    }

    /// Whether somebody has read lately.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.rings.iter().all(|ring| ring.is_heard())
    }
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("workers", &self.rings.len()).finish_non_exhaustive()
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever writes traces handles each")]
pub enum Action {
    /// The frame goes no further.
    Drop,
    /// The frame is left to the machine.
    Pass,
    /// The frame leaves, edited, or an answer to it does.
    Send,
    /// The frame was a message to the director, or waits.
    Keep,
}

/// A frame as it came in, or as it left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceRecord {
    /// The packet's number: the same for what came in and what left because of it.
    pub id: u64,
    /// The worker that had it.
    pub worker: usize,
    /// Where it came in, or left.
    pub port: PortId,
    /// Whether it left.
    pub sent: bool,
    /// When, since 1970-01-01 UTC.
    pub time: Duration,
    /// The frame, with the link header of its port. Its checksums are complete.
    pub bytes: Vec<u8>,
    /// What became of it.
    pub action: Action,
    /// What it is and what became of it, and why, in words.
    pub comment: String,
}

impl TraceRecord {
    fn of(worker: usize, entry: &Entry, frame: &[u8]) -> Self {
        let bytes = completed(entry, frame);
        let what = describe::frame(&bytes, entry.link);
        let (action, comment) = match entry.kind {
            Kind::In => decided(entry, &what),
            Kind::Out => (Action::Send, format!("left as: {what}")),
            Kind::Own => (Action::Send, format!("sent by the director itself: {what}")),
        };
        Self {
            id: entry.id,
            worker,
            port: entry.port,
            sent: entry.kind != Kind::In,
            time: entry.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            bytes,
            action,
            comment,
        }
    }
}

/// What became of a frame that came in.
fn decided(entry: &Entry, what: &str) -> (Action, String) {
    let connection = entry
        .connection
        .map(|(server, method, state)| format!("by the connection to {server}, {method}, now {state}"));
    let counted = entry.dropped.map_or_else(String::new, |reason| format!(", counted as {reason}"));
    let (action, became) = match entry.outcome {
        Some(Outcome::Drop(reason)) => (Action::Drop, format!("dropped: {reason}")),
        Some(Outcome::Pass(reason)) => (Action::Pass, format!("left to the machine: {reason}")),
        Some(Outcome::Send | Outcome::SendPieces(_)) if entry.dropped.is_some() => {
            (Action::Drop, format!("dropped and answered{counted}"))
        }
        Some(Outcome::Send) => (Action::Send, format!("forwarded {}", connection.unwrap_or_else(as_host))),
        Some(Outcome::SendPieces(_)) => {
            (Action::Send, format!("forwarded in pieces {}", connection.unwrap_or_else(as_host)))
        }
        Some(Outcome::Assembled(_)) => (
            Action::Send,
            format!("the last fragment of a datagram, forwarded {}", connection.unwrap_or_else(as_host)),
        ),
        Some(Outcome::Consumed) | None => (
            Action::Keep,
            format!("kept: a message to the director, a fragment, or it waits for its next hop{counted}"),
        ),
    };
    (action, format!("{what}; {became}"))
}

fn as_host() -> String {
    "or answered by the director as a host".to_owned()
}

/// A frame whose checksum its device was to complete, as the device would send it.
fn completed(entry: &Entry, bytes: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    let len = copy.len();
    if let Some(mut frame) = Frame::new(&mut copy, 0, len, entry.port) {
        frame.offload = entry.offload;
        if let Ok(Parsed::Ip(layout, _)) = parse(&frame, entry.link) {
            let _ = complete_checksum(&mut frame, &layout);
        }
    }
    copy
}
