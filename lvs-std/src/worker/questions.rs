//! One question for a neighbour serves all workers of a director.
//!
//! Each worker knows its own neighbours, and the answers go to all of them. So a question that another worker has just
//! asked need not be asked again: the worker waits for the answer to that one, and asks itself when none has come
//! until its own next try.

use core::fmt;
use core::hash::BuildHasher;
use core::sync::atomic::{AtomicU64, Ordering};
use std::hash::RandomState;
use std::time::Instant;

use lvs_forward::engine::{NoPort, PortForm, Ports};
use lvs_forward::host::NeighbourQuestion;
use lvs_forward::parse::Link;
use lvs_forward::{Frame, PortId};

/// What was asked lately, of all workers of a director.
pub(super) struct Questions {
    /// When a question was asked, in the lower half in milliseconds, and which one, in the upper half. Those of one
    /// cell displace each other: one that is forgotten is asked twice.
    cells: Box<[AtomicU64]>,
    hash: RandomState,
    began: Instant,
}

impl Questions {
    pub(super) fn new() -> Self {
        let cells = (0..CELLS).map(|_| AtomicU64::new(NEVER)).collect();
        Self { cells, hash: RandomState::new(), began: Instant::now() }
    }

    /// Whether nobody has asked this just now. It counts as asked afterwards.
    fn is_new(&self, question: NeighbourQuestion) -> bool {
        // A millisecond is short enough, and the time may begin anew after 49 days.
        self.is_new_at(self.began.elapsed().as_millis() as u32, question)
    }

    fn is_new_at(&self, now: u32, question: NeighbourQuestion) -> bool {
        let hash = self.hash.hash_one(question);
        let Some(cell) = self.cells.get(hash as usize % CELLS) else { return true };
        // Two workers that look at the same moment may both ask, which does no harm.
        let last = cell.load(Ordering::Relaxed);
        if last != NEVER && last >> 32 == hash >> 32 && now.wrapping_sub(last as u32) < SERVES_MS {
            return false;
        }
        cell.store(hash >> 32 << 32 | u64::from(now), Ordering::Relaxed);
        true
    }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions").finish_non_exhaustive()
    }
}

/// Ports that do not send what another worker has just asked.
pub(super) struct Asking<'a, P> {
    pub(super) ports: &'a mut P,
    pub(super) questions: &'a Questions,
    /// Questions that were not sent.
    pub(super) shared: u64,
}

impl<P: Ports> Asking<'_, P> {
    fn is_asked_already(&mut self, frame: &Frame<'_>) -> bool {
        let on_ethernet = self.ports.form(frame.port).is_some_and(|form| form.link == Link::Ethernet);
        let asked = on_ethernet
            && NeighbourQuestion::of(frame).is_some_and(|question| !self.questions.is_new(question));
        self.shared += u64::from(asked);
        asked
    }
}

impl<P: Ports> Ports for Asking<'_, P> {
    fn form(&self, port: PortId) -> Option<PortForm> {
        self.ports.form(port)
    }

    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        if self.is_asked_already(frame) { Ok(()) } else { self.ports.transmit(frame) }
    }

    fn hand_over(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        if self.is_asked_already(frame) { Ok(()) } else { self.ports.hand_over(frame) }
    }
}

/// How long a question serves others, in milliseconds: a little less than a worker waits for an answer before it asks
/// again (RFC 4861 §10, `RETRANS_TIMER`).
const SERVES_MS: u32 = 900;
/// 32 KB.
const CELLS: usize = 4_096;
const NEVER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::{Seed, Tick};
    use lvs_forward::engine::OWN_BUFFER;
    use lvs_forward::host::{Host, MacAddress, Port};

    #[test]
    fn a_question_serves_all_until_the_next_try_is_due() {
        let mut host = Host::new(Seed::from_bytes([7; 16]));
        let port = host.add_port(Port::ethernet(MacAddress([2; 6]), 1_500)).unwrap();
        host.add_address(port, [10, 0, 0, 1].into(), 24).unwrap();
        host.look_for(Tick::ZERO, [10, 0, 0, 7].into());
        let mut buffer = [0; OWN_BUFFER];
        let frame = host.poll_transmit(Tick::ZERO, &mut buffer).unwrap();
        let to_all = NeighbourQuestion::of(&frame).unwrap();
        let mut to_one = to_all;
        to_one.to = MacAddress([4; 6]);

        let questions = Questions::new();
        let asks = |now, question| questions.is_new_at(now, question);
        assert!(asks(5, to_all) && !asks(5, to_all) && !asks(904, to_all));
        assert!(asks(904, to_one), "who is asked alone may have another link-layer address by now");
        assert!(asks(905, to_all));
        // The clock begins anew.
        let mut elsewhere = to_all;
        elsewhere.port = PortId(1);
        assert!(asks(u32::MAX - 100, elsewhere) && !asks(100, elsewhere) && asks(900, elsewhere));
    }
}
