//! The loop between devices and a forwarder, as far as it needs neither threads nor waiting.
//!
//! A program lends the engine its director, its forwarder, the frames that came in, and the sending halves of its
//! [`Ports`]. The engine decides the frames, sends them in the form that their port takes, sends what the forwarder has
//! to send itself, and sweeps the connection table in pieces. When nothing comes in, [`Engine::poll_at`] says until
//! when the program may sleep, which may be for ever. The engine keeps nothing of what it is lent, allocates nothing,
//! and works without std.
//!
//! ```text
//! frames ──> process ──> Forwarder (Director) ──> Send, SendPieces, Pass ──> Ports
//!            transmit_own ──> questions, announcements, waiting packets ───> Ports
//!            sweep ──> Director                    poll_at: sleep until then
//! ```
//!
//! One turn of a loop, for a device that lends batches:
//!
//! ```
//! use lvs_core::{Director, Store, Tick};
//! use lvs_core::batch::BATCH;
//! use lvs_forward::engine::{Engine, OWN_BUFFER, Ports};
//! use lvs_forward::{Forwarder, Frame, Outcome};
//!
//! /// Returns when the next turn is due if no frame comes; `None` for never.
//! fn turn<S: Store>(
//!     engine: &mut Engine,
//!     director: &mut Director<S>,
//!     forwarder: &mut Forwarder,
//!     now: Tick,
//!     batch: &mut [Frame<'_>],
//!     ports: &mut impl Ports,
//! ) -> Option<Tick> {
//!     let mut outcomes = [Outcome::Consumed; BATCH];
//!     engine.process(director, forwarder, now, batch, &mut outcomes, ports);
//!     let mut buffer = [0; OWN_BUFFER];
//!     engine.transmit_own(forwarder, now, &mut buffer, ports);
//!     engine.sweep(director, now);
//!     while let Some(event) = director.poll_event() {
//!         // Whoever wants to know is told here.
//!         drop(event);
//!     }
//!     engine.poll_at(director, forwarder)
//! }
//! ```

mod counters;
mod ports;
mod transmit;

use lvs_core::{Director, Store, Tick};

pub use self::counters::EngineCounters;
pub use self::ports::{NoPort, PortForm, Ports};
use self::transmit::{LocalWay, pass, send, send_pieces};
use crate::forwarder::Forwarder;
#[cfg(feature = "fragments")]
use crate::forwarder::Taken;
use crate::frame::{Frame, HEADROOM};
use crate::outcome::Outcome;

/// How large the buffer is that [`Engine::transmit_own`] needs, in bytes: the headroom, and the longest frame that a
/// forwarder makes itself.
pub const OWN_BUFFER: usize = HEADROOM + 2_048;

/// How often a piece of the connection table is swept while frames come in, in milliseconds.
const SWEEP_MS: u64 = 10;
/// How long the sweep of a large table rests between two pieces while nothing comes in, in milliseconds.
const IDLE_SWEEP_MS: u64 = 50;
/// Slots that are swept at a time at least: a microsecond's worth, and all of a small table.
const LEAST_SLOTS: usize = 1_024;

/// What the loop has to remember between its turns.
///
/// * For frames that came in: [`process`](Self::process).
/// * After each batch, and when [`poll_at`](Self::poll_at) says so: [`transmit_own`](Self::transmit_own), then
///   [`sweep`](Self::sweep). The order matters only for the delay of what is sent.
/// * Before sleeping: [`is_behind`](Self::is_behind), then [`poll_at`](Self::poll_at).
#[derive(Debug)]
pub struct Engine {
    last_sweep: Tick,
    /// Slots of the connection table that should have been swept by now.
    unswept: usize,
    counters: EngineCounters,
}

impl Engine {
    /// An engine that has done nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { last_sweep: Tick::ZERO, unswept: 0, counters: EngineCounters::ZERO }
    }

    /// What it has done since it was made.
    #[must_use]
    pub const fn counters(&self) -> &EngineCounters {
        &self.counters
    }

    /// Decides frames and sends them on their way; `outcomes` says afterwards what became of each. Frames past the
    /// length of `outcomes` are left alone. [`BATCH`](lvs_core::batch::BATCH) frames at a time are the best number.
    ///
    /// What the forwarder passes goes to the [local port](crate::Options::local) without its link header, if there is
    /// one that [takes](crate::Options::local_traffic) it.
    pub fn process<S: Store>(
        &mut self,
        director: &mut Director<S>,
        forwarder: &mut Forwarder,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
        ports: &mut impl Ports,
    ) {
        forwarder.process_batch(director, now, frames, outcomes);
        let counters = &mut self.counters;
        let way = LocalWay::of(forwarder.options());
        for (frame, outcome) in frames.iter_mut().zip(outcomes) {
            match *outcome {
                Outcome::Send => send(frame, ports, counters),
                Outcome::SendPieces(cut) => send_pieces(frame, cut, ports, counters),
                Outcome::Pass(reason) => {
                    pass(frame, (way, reason), forwarder.host(), ports, counters);
                }
                #[cfg(feature = "fragments")]
                Outcome::Assembled(datagram) => {
                    // Its memory is the forwarder's, and may be another datagram's after the next fragment.
                    if let Some(taken) = forwarder.take(datagram) {
                        send_taken(taken, way, ports, counters);
                    }
                }
                #[cfg(not(feature = "fragments"))]
                Outcome::Assembled(_) => {}
                Outcome::Drop(_) | Outcome::Consumed => {}
            }
        }
    }

    /// Sends what the forwarder's host has to send: questions for neighbours, packets that waited for the answers,
    /// announcements, errors about datagrams that never became whole.
    ///
    /// `buffer` must have [`OWN_BUFFER`] bytes; with a shorter one nothing is sent.
    pub fn transmit_own(
        &mut self,
        forwarder: &mut Forwarder,
        now: Tick,
        buffer: &mut [u8],
        ports: &mut impl Ports,
    ) {
        while let Some(mut frame) = forwarder.poll_transmit(now, buffer) {
            self.transmit(&mut frame, ports);
        }
    }

    /// Sends a finished frame by the port that it names: as it is, or in pieces if the port's device does not take it
    /// so. Its bytes must not be edited afterwards. For frames that come from elsewhere than the forwarder.
    pub fn transmit(&mut self, frame: &mut Frame<'_>, ports: &mut impl Ports) {
        send(frame, ports, &mut self.counters);
    }

    /// Frees expired connections: once around the table each second, if packets leave the time for it, in pieces that
    /// hold none of them up for long. An idle program goes from piece to piece while [`is_behind`](Self::is_behind).
    pub fn sweep<S: Store>(&mut self, director: &mut Director<S>, now: Tick) {
        let elapsed = now.millis_since(self.last_sweep);
        if elapsed < SWEEP_MS && self.unswept == 0 {
            return;
        }
        if elapsed >= SWEEP_MS {
            self.last_sweep = now;
            let capacity = director.capacity();
            // After a long sleep the whole table is due, but once is enough.
            let due = (capacity as u64 * elapsed.min(1_000)).div_ceil(1_000) as usize;
            self.unswept = self.unswept.saturating_add(due.max(LEAST_SLOTS)).min(capacity);
        }
        let swept = director.sweep_briefly(now, self.unswept);
        self.unswept = self.unswept.saturating_sub(swept.slots);
    }

    /// Whether a part of the connection table waits to be swept, so that the next turn should follow at once.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.unswept > 0
    }

    /// When the next turn is due if nothing comes in: when the [director](Director::poll_at) or the
    /// [forwarder](Forwarder::poll_at) has something to do. A time that has passed means at once; `None` that nothing
    /// is due until a frame or a command comes. The table is swept every 10 ms at most, and one of more than a thousand
    /// connections in pieces, so that what expires may wait for that.
    #[must_use]
    pub fn poll_at<S: Store>(&self, director: &Director<S>, forwarder: &Forwarder) -> Option<Tick> {
        if self.is_behind() {
            return Some(self.last_sweep);
        }
        let sweep = director.poll_at().map(|due| {
            let pause = if due <= self.last_sweep { IDLE_SWEEP_MS } else { SWEEP_MS };
            due.max(self.last_sweep.plus_millis(pause))
        });
        sweep.into_iter().chain(forwarder.poll_at()).min()
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends or passes a datagram that came in fragments.
#[cfg(feature = "fragments")]
fn send_taken(mut taken: Taken<'_>, way: LocalWay, ports: &mut impl Ports, counters: &mut EngineCounters) {
    match taken.outcome {
        Outcome::Send => send(&mut taken.frame, ports, counters),
        Outcome::SendPieces(cut) => send_pieces(&mut taken.frame, cut, ports, counters),
        Outcome::Pass(reason) => pass(&mut taken.frame, (way, reason), taken.host, ports, counters),
        Outcome::Assembled(_) | Outcome::Consumed | Outcome::Drop(_) => {}
    }
}
