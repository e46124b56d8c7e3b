//! What became of packets, recorded while they pass: frames as they came and as they left, under one number.
//!
//! ```text
//! worker: frame > copy > Engine::process > copies of what it sends > chunk --+
//!                                                  lock-free queue of chunks |
//! another thread: Session::read > Vec<TraceRecord> <-------------------------+
//! ```
//!
//! Nothing of this costs anything while nobody traces, but for one question per batch. A worker that is traced decides
//! its frames one by one, which by the forwarder's law is the same, copies what the [filter](crate::filter) means into
//! chunks that were allocated before, and never waits for anybody: where no chunk is free the record is lost, which is
//! counted, and the packet goes on. What a [flow offload](crate::offload) forwards inside the kernel passes no worker,
//! and is not seen.

mod chunk;
mod session;
mod tap;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use lvs_core::{Director, Store, Tick};
use lvs_forward::engine::{Engine, Ports};
use lvs_forward::parse::Link;
use lvs_forward::{Forwarder, Frame, Outcome};

pub(crate) use self::chunk::Ring;
use self::chunk::{Chunk, Entry, Kind};
pub use self::session::{Action, Session, TraceRecord};
use self::tap::{Tap, flow_of};
use crate::filter::PacketFilter;

use std::sync::Arc;

/// A worker's side of a trace.
pub(crate) struct Tracer {
    ring: Arc<Ring>,
    chunk: Option<Box<Chunk>>,
    filter: Option<PacketFilter>,
    /// The next packet's number: each worker has numbers of its own.
    next: u64,
}

impl Tracer {
    pub(crate) fn new(worker: usize, ring: Arc<Ring>, filter: Option<PacketFilter>) -> Self {
        Self { ring, chunk: None, filter, next: (worker as u64) << WORKER_SHIFT | 1 }
    }

    /// What [`Engine::process`] does, recorded.
    #[expect(clippy::too_many_arguments, reason = "what the engine is lent, and how frames begin")]
    pub(crate) fn process<S: Store>(
        &mut self,
        link: Link,
        engine: &mut Engine,
        director: &mut Director<S>,
        forwarder: &mut Forwarder,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
        ports: &mut impl Ports,
    ) {
        let time = SystemTime::now();
        for (frame, outcome) in frames.iter_mut().zip(outcomes) {
            let flow = flow_of(frame, link);
            let wanted = self.is_meant(flow.as_ref());
            let id = self.next;
            self.next += 1;
            let mut before = Entry::of(frame, link, Kind::In, id, time);
            self.make_room(frame.len());
            let start = self.chunk.as_ref().map(|chunk| chunk.mark());
            let kept = self.chunk.as_mut().is_some_and(|chunk| chunk.push(before, frame.bytes()));
            let counted = forwarder.counters().clone();
            let mut tap = Tap::new(ports, self, (id, Kind::Out, time), wanted);
            let one = core::slice::from_mut(frame);
            engine.process(director, forwarder, now, one, core::slice::from_mut(outcome), &mut tap);
            let (wanted, lost, left) = (tap.wanted, tap.lost, tap.flow);
            if !wanted {
                if let (Some(chunk), Some(start)) = (&mut self.chunk, start) {
                    chunk.undo(start);
                }
                continue;
            }
            self.ring.lose(lost + u64::from(!kept));
            if !kept {
                continue;
            }
            (before.outcome, before.dropped) = (Some(*outcome), forwarder.counters().dropped_since(&counted));
            // A client's packet names its connection by what came in, a server's by what leaves.
            let requests = [flow, left.map(|flow| flow.reversed())];
            let found = requests.into_iter().flatten().find_map(|flow| director.find_connection(&flow, now));
            before.connection = found.map(|of| (of.destination, of.method, of.state));
            if let (Some(chunk), Some(start)) = (&mut self.chunk, start) {
                chunk.replace(start, before);
            }
        }
        self.flush(false);
    }

    /// Lends what records what the forwarder sends by itself.
    pub(crate) fn own<'t, 'p, P: Ports>(&'t mut self, ports: &'p mut P) -> Tap<'t, 'p, P> {
        let id = self.next;
        self.next += 1;
        self.make_room(MOST_OWN);
        let wanted = self.filter.is_none();
        Tap::new(ports, self, (id, Kind::Own, SystemTime::now()), wanted)
    }

    /// Between two rounds: hands over what has been recorded. False when nobody has asked for it for so long that the
    /// trace is over.
    pub(crate) fn turn(&mut self, moved: bool) -> bool {
        self.flush(!moved);
        self.ring.is_heard()
    }

    /// Whether the filter means packets of this flow.
    fn is_meant(&self, flow: Option<&lvs_core::Flow>) -> bool {
        match (&self.filter, flow) {
            (None, _) => true,
            (Some(filter), Some(flow)) => filter.takes(flow),
            (Some(_), None) => false,
        }
    }

    /// A chunk with room for a frame of this length and what becomes of it, if one is free.
    fn make_room(&mut self, len: usize) {
        if self.chunk.as_ref().is_some_and(|chunk| !chunk.has_room(2 * len + SPARE)) {
            self.flush(true);
        }
        if self.chunk.is_none() {
            self.chunk = self.ring.take_empty();
        }
    }

    /// Hands the chunk over, if there is something in it: at once, or when nothing else waits to be read.
    fn flush(&mut self, at_once: bool) {
        if (at_once || self.ring.is_read())
            && let Some(chunk) = self.chunk.take_if(|chunk| !chunk.is_empty())
        {
            self.ring.hand_over(chunk);
        }
    }

    /// Hands over what is left.
    pub(crate) fn finish(&mut self) {
        self.flush(true);
    }
}

/// Where a worker's number stands in a packet's number.
const WORKER_SHIFT: u32 = 48;
/// Room for the headers of pieces and tunnels.
const SPARE: usize = 4_096;
/// The longest frames that a forwarder makes by itself, some of them.
const MOST_OWN: usize = 16_384;
