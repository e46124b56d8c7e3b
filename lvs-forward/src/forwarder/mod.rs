//! The whole way of a frame: parse, decide, rewrite, address to the next hop.

#[cfg(feature = "fast")]
mod fast;
mod memory;
mod next_hop_cache;
mod options;
#[cfg(feature = "alloc")]
mod rehearsal;
mod slow;
#[cfg(feature = "fragments")]
mod taken;

use core::net::IpAddr;

use lvs_core::{Direction, Director, Inspected, Method, Packet, Store, Tick, Verdict};

pub use self::memory::{ForwarderArrays, ForwarderMemory, ForwarderSizes};
pub use self::options::{LocalTraffic, Options, PortSet};
#[cfg(feature = "alloc")]
pub use self::rehearsal::Rehearsed;
#[cfg(feature = "fragments")]
pub use self::taken::Taken;

#[cfg(feature = "fast")]
use self::next_hop_cache::NextHopCache;
use self::slow::{Limiter, OwedResets, PathMtus, Task};
#[cfg(feature = "ftp")]
use crate::alg::ftp::Controls;
use crate::frame::{Frame, HEADROOM, PortId};
use crate::hash::Key;
use crate::host::{Host, Lost};
use crate::outcome::Outcome;
use crate::reason::{Counters, DropReason, PassReason};
#[cfg(feature = "fragments")]
use crate::reassembly::Fragments;

/// Carries out what a [`Director`] decides, on frames, as a [`Host`] of its own.
///
/// A forwarder does no I/O and reads no clock: whoever owns it lends it frames, tells it the time, and sends what comes
/// out. The [`engine`](crate::engine) module has that loop for embedders who need nothing special. The methods are of
/// these kinds:
///
/// * **Frames in:** [`process_batch`](Self::process_batch), or [`process`](Self::process) for one. Each frame is edited
///   in place, and its [`Outcome`] says what to do with it. [`take`](Self::take) hands out a datagram that an outcome
///   speaks of.
/// * **Frames of its own:** [`poll_transmit`](Self::poll_transmit) has questions for neighbours, packets that waited
///   for the answers, announcements, resets for clients whose servers have spoken, and errors about datagrams that
///   never became whole.
/// * **Time:** [`poll_at`](Self::poll_at) says when `poll_transmit` may have something next.
/// * **Setting up, at any time:** [`host_mut`](Self::host_mut) for addresses, routes and neighbours,
///   [`set_options`](Self::set_options), [`set_fragments`](Self::set_fragments) and [`set_ftp`](Self::set_ftp) for
///   memory.
/// * **Looking:** [`counters`](Self::counters), [`host`](Self::host), [`options`](Self::options).
///
/// The order matters in three places. An outcome is dealt with before the next batch, because the loan of the frames
/// ends there. A datagram is taken before anything else is called, because its memory may be another's after the next
/// fragment. `poll_transmit` is called until it is `None` after every batch, because a batch may have made questions
/// necessary, and again when `poll_at` says so; at least every second, if a program would rather not ask.
pub struct Forwarder {
    pub(crate) host: Host,
    options: Options,
    counters: Counters,
    #[cfg(feature = "fragments")]
    fragments: Fragments,
    #[cfg(feature = "ftp")]
    ftp: Controls,
    path_mtus: PathMtus,
    #[cfg(feature = "fast")]
    next_hops: NextHopCache,
    limiter: Limiter,
    /// How many servers are told that their connection is not known.
    stray_limiter: Limiter,
    /// Resets that clients are owed.
    owed: OwedResets,
    /// No reset is sent before this moment.
    resets_from: Tick,
    key: Key,
    identification: u32,
}

impl Forwarder {
    /// A forwarder that is this host on the wire, with memory of the heap for the default [sizes](ForwarderSizes). It
    /// has no room for [fragments](Self::with_fragments) yet.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn new(host: Host, options: Options) -> Self {
        Self::with_memory(host, ForwarderMemory::owned(ForwarderSizes::new()), options)
    }

    /// A forwarder that is this host on the wire. It has no room for [fragments](Self::with_fragments) yet. All that
    /// grows with what it can know is in the memory that it and its host are given; the forwarder itself takes
    /// 5.4 KB on machines of 32 bits, and 3.5 KB without the feature `full`.
    ///
    /// ```
    /// use lvs_core::Seed;
    /// use lvs_forward::host::{Host, HostArrays, HostMemory};
    /// use lvs_forward::{Forwarder, ForwarderArrays, ForwarderMemory, Options};
    /// # use static_cell::ConstStaticCell;
    ///
    /// // 8 addresses, 32 neighbours, 4 packets that wait for one, 8 routes; 4 path MTUs, 4 resets.
    /// static HOST: ConstStaticCell<HostArrays<8, 32, 4, 8>> = ConstStaticCell::new(HostArrays::new());
    /// static MEMORY: ConstStaticCell<ForwarderArrays<4, 4>> = ConstStaticCell::new(ForwarderArrays::new());
    ///
    /// let host = Host::with_memory(Seed::from_bytes([7; 16]), HostMemory::lent(HOST.take()));
    /// let forwarder = Forwarder::with_memory(host, ForwarderMemory::lent(MEMORY.take()), Options::new());
    /// # drop(forwarder);
    /// ```
    #[must_use]
    pub fn with_memory(host: Host, memory: ForwarderMemory, options: Options) -> Self {
        let ForwarderMemory { path_mtus, resets } = memory;
        let key = host.key();
        Self {
            host,
            options,
            counters: Counters::ZERO,
            #[cfg(feature = "fragments")]
            fragments: Fragments::NONE,
            #[cfg(feature = "ftp")]
            ftp: Controls::NONE,
            path_mtus: PathMtus::new(key, path_mtus),
            #[cfg(feature = "fast")]
            next_hops: NextHopCache::EMPTY,
            limiter: Limiter::new(),
            stray_limiter: Limiter::new(),
            owed: OwedResets::new(resets),
            resets_from: Tick::ZERO,
            key,
            identification: key.hash(1) as u32,
        }
    }

    /// The host, for changing its addresses, routes and neighbours, and for announcements.
    pub const fn host_mut(&mut self) -> &mut Host {
        &mut self.host
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// How it behaves.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Changes how it behaves, from the next frame on.
    pub const fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Sends no reset before `until`, and no port unreachable for a TCP segment: what would be answered so is dropped
    /// in silence and counted as [`DropReason::ResetHeld`]. For a director that does not know its services yet, or
    /// whose partners may know connections that it does not know: what it has not caught up with must not be ended.
    /// [`Tick::ZERO`], as at the start, holds nothing back.
    pub const fn hold_resets(&mut self, until: Tick) {
        self.resets_from = until;
    }

    /// What it has done so far. What the director has done is in the [director's](Director::counters).
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes one frame in and edits it in place. Frames that come together are faster by
    /// [`process_batch`](Self::process_batch).
    pub fn process<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
    ) -> Outcome {
        let mut packet = None;
        let task = self.classify(frame, |found| packet = Some(found));
        match (&task, &packet) {
            (_, Some(packet)) => {
                let verdict = director.decide(now, packet, Inspected::Nothing);
                self.carry(director, now, frame, &task, Some((packet, &verdict)))
            }
            #[cfg(feature = "fragments")]
            (Task::Fragment(layout), None) if frame.assembly().is_none() => {
                self.fragment(director, now, frame, layout)
            }
            #[cfg(not(feature = "fragments"))]
            (Task::Fragment(_), None) => self.drop(DropReason::LeftOut),
            (_, None) => self.carry_out(now, frame, &task, None),
        }
    }

    /// Takes frames in, in order; the result is that of [`process`](Self::process) one by one, but faster, because the
    /// director looks up their connections together. Any number of frames; those past the length of
    /// `outcomes` (or the other way round) are left alone. It makes no difference whether a datagram that has become
    /// whole is [taken](Self::take) after its frame or after the batch, as long as no more of a batch do than
    /// [`Fragments`] have room for beside those in the making: 32 with memory from the heap, none with lent memory.
    pub fn process_batch<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
    ) {
        let count = frames.len().min(outcomes.len());
        let mut done = 0;
        while let (Some(frames), Some(outcomes)) =
            (frames.get_mut(done..count), outcomes.get_mut(done..count))
            && !frames.is_empty()
        {
            #[cfg(feature = "fast")]
            let (fast, slow_next) = self.process_fast(director, now, frames, outcomes);
            #[cfg(not(feature = "fast"))]
            let (fast, slow_next) = (0, true);
            done += fast;
            // What the fast tier has declined is not parsed by it again.
            if slow_next && let (Some(frame), Some(outcome)) = (frames.get_mut(fast), outcomes.get_mut(fast))
            {
                *outcome = self.process(director, now, frame);
                done += 1;
            }
        }
    }

    /// Carries a verdict out, and before that what the director has to be told.
    fn carry<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        task: &Task,
        decision: Option<(&Packet, &Verdict)>,
    ) -> Outcome {
        if let Some((packet, verdict)) = decision {
            if verdict.requires_helper() {
                return self.run_helper(director, now, frame, task, packet, verdict);
            }
            if let Task::Flow(layout) = task
                && let Verdict::Forward(forward) = verdict
                && self.answers_as_server(frame.port, verdict)
            {
                return self.reject_as_server(director, now, frame, layout, packet, forward);
            }
            if let Task::Flow(layout) = task
                && self.resets_stray(frame, packet, verdict)
                && let Some(outcome) = self.reset_stray(director, now, frame, layout, packet)
            {
                return outcome;
            }
        }
        self.carry_out(now, frame, task, decision)
    }

    /// Whether a request's real server is this very host, which [rejects](Options::reject) what comes to it.
    fn answers_as_server(&self, port: PortId, verdict: &Verdict) -> bool {
        let Verdict::Forward(forward) = verdict else { return false };
        // What costs least is asked first: nearly every packet is no such one.
        self.options.reject
            && forward.direction == Direction::Request
            && (forward.method == Method::Local || self.host.owns(forward.address()))
            && !self.host.is_local_server(forward.address())
            && self.refuses_at(port, forward.address())
    }

    /// Whether a frame comes from this machine's own stack, by the [local port](Options::local).
    pub(crate) fn is_from_here(&self, frame: &Frame<'_>) -> bool {
        self.options.local == Some(frame.port)
    }

    /// Whether what nobody takes is refused at this port, when it is for this address.
    pub(crate) fn refuses_at(&self, port: PortId, address: IpAddr) -> bool {
        self.options.reject && !(self.options.shared.contains(port) && self.host.is_of_machine(address))
    }

    /// The next frame that the director as a host has to send, see [`Host::poll_transmit`].
    pub fn poll_transmit<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        #[cfg(feature = "fragments")]
        if self.fragments.has_expired(now)
            && let Some((len, port)) = self.report_expired(now, buffer)
        {
            return Frame::new(buffer, HEADROOM, HEADROOM + len, port);
        }
        if let Some((start, end, port)) = self.send_owed(now, buffer) {
            return Frame::new(buffer, start, end, port);
        }
        let Self { host, counters, .. } = self;
        let own = host.poll_transmit(now, buffer);
        // What waited in vain is a drop like any other.
        let lost = host.take_lost();
        if lost != Lost::NONE {
            counters.count_drops(DropReason::HopFailed, lost.failed);
            counters.count_drops(DropReason::HopPending, lost.pending);
        }
        own
    }

    /// When [`poll_transmit`](Self::poll_transmit) may have something at the earliest, if no frame comes in before: a
    /// time that has passed means now, `None` that nothing is due at all.
    #[must_use]
    pub fn poll_at(&self) -> Option<Tick> {
        let own = self.owed.due_at().into_iter().chain(self.host.poll_at());
        #[cfg(feature = "fragments")]
        let own = own.chain(self.fragments.expires_at());
        own.min()
    }

    fn drop(&mut self, reason: DropReason) -> Outcome {
        self.counters.count_drop(reason);
        Outcome::Drop(reason)
    }

    fn pass(&mut self, reason: PassReason) -> Outcome {
        self.counters.count_pass(reason);
        Outcome::Pass(reason)
    }

    /// A new identification for a packet of our own.
    fn next_identification(&mut self) -> u32 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }
}

impl core::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Forwarder")
            .field("host", &self.host)
            .field("options", &self.options)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
