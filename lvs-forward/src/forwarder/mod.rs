//! The whole way of a frame: parse, decide, rewrite, address to the next hop.

mod beyond;
mod lane;
mod next_hop;
mod options;
mod plain;
mod short;
mod slow;
mod taken;

use heapless::Vec;
use lvs_core::batch::BATCH;
use lvs_core::{Direction, Director, Inspected, Method, Packet, Reason, Store, Tick, Verdict};

pub use self::options::Options;
pub use self::taken::Taken;

use self::beyond::Beyond;
use self::short::{LastOwn, Way, Ways, layout_of};
use self::slow::{Limiter, PathMtus, Task};
use crate::alg::ftp::Controls;
use crate::frame::{Frame, HEADROOM};
use crate::hash::Key;
use crate::host::Host;
use crate::outcome::Outcome;
use crate::reason::{Counters, DropReason, PassReason};
use crate::reassembly::Fragments;

/// How many plain packets in a row are processed as such.
const WORTH_IT: usize = 8;
/// No packet has this place in a batch.
const NONE: usize = usize::MAX;

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
///   for the answers, announcements, and errors about datagrams that never became whole.
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
///
/// The const parameters are its host's: how many addresses and neighbours it knows.
pub struct Forwarder<const ADDRESSES: usize = 64, const NEIGHBOURS: usize = 256> {
    pub(crate) host: Host<ADDRESSES, NEIGHBOURS>,
    options: Options,
    counters: Counters,
    fragments: Fragments,
    ftp: Controls,
    path_mtus: PathMtus,
    ways: Ways,
    last_own: LastOwn,
    /// Where the last replies went.
    beyond: Beyond,
    /// The next hop of the last reply, and the way to it.
    last_hop: Option<(u128, Way)>,
    limiter: Limiter,
    key: Key,
    identification: u32,
}

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// A forwarder that is this host on the wire. It has no room for [fragments](Self::with_fragments) yet.
    #[must_use]
    pub const fn new(host: Host<A, N>, options: Options) -> Self {
        let key = host.key();
        Self {
            host,
            options,
            counters: Counters::ZERO,
            fragments: Fragments::NONE,
            ftp: Controls::NONE,
            path_mtus: PathMtus::new(key),
            ways: Ways::new(),
            last_own: LastOwn::NONE,
            beyond: Beyond::NOWHERE,
            last_hop: None,
            limiter: Limiter::new(),
            key,
            identification: key.hash(1) as u32,
        }
    }

    /// The host, for changing its addresses, routes and neighbours, and for announcements.
    pub const fn host_mut(&mut self) -> &mut Host<A, N> {
        &mut self.host
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host<A, N> {
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

    /// What it has done so far. What the director has done is in the [director's](Director::counters).
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes one frame in and edits it in place.
    #[inline]
    pub fn process<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
    ) -> Outcome {
        if let Some(packet) = self.glance(frame) {
            let verdict = director.decide(now, &packet, Inspected::Nothing);
            return self.conclude(director, now, frame, &packet, &verdict);
        }
        self.process_the_long_way(director, now, frame)
    }

    fn process_the_long_way<S: Store>(
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
            (Task::Fragment(layout), None) if frame.assembly().is_none() => {
                self.fragment(director, now, frame, layout)
            }
            (_, None) => self.carry_out(now, frame, &task, None),
        }
    }

    /// Takes frames in, in order; the result is that of [`process`](Self::process) one by one, but faster, because the
    /// director looks up their connections together. Any number of frames; those past the length of
    /// `outcomes` (or the other way round) are left alone.
    pub fn process_batch<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
    ) {
        let count = frames.len().min(outcomes.len());
        let mut rest = frames.get_mut(..count).unwrap_or_default();
        let mut outcomes = outcomes;
        while !rest.is_empty() {
            let taken = self.process_run(director, now, rest, outcomes);
            rest = rest.get_mut(taken..).unwrap_or_default();
            outcomes = outcomes.get_mut(taken..).unwrap_or_default();
        }
    }

    /// Takes frames in, at least one and at most a batch; returns how many.
    fn process_run<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
    ) -> usize {
        match self.process_briefs(director, now, frames, outcomes) {
            0 => {}
            done => return done,
        }
        match self.process_plain(director, now, frames, outcomes) {
            0 => self.process_mixed(director, now, frames, outcomes),
            done => done,
        }
    }

    /// Takes in the plain packets that stand first, each carried out as soon as it is decided. Returns how many there
    /// were, 0, and nothing has happened, when they are too few to be worth it.
    fn process_plain<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
    ) -> usize {
        if self.options.reject {
            // What it says as a real server, it has to tell the director.
            return 0;
        }
        let mut packets: Vec<Packet, BATCH> = Vec::new();
        for frame in frames.iter().take(BATCH) {
            let Some(packet) = self.glance(frame) else { break };
            // A batch is no longer than this list.
            let _ = packets.push(packet);
        }
        if packets.len() < frames.len().min(WORTH_IT) {
            return 0;
        }
        let mut rest = frames.iter_mut().zip(outcomes.iter_mut());
        let mut waiting = None;
        let decided = director.decide_each(now, &packets, |_, packet, verdict| {
            let Some((frame, outcome)) = rest.next() else { return };
            if let Verdict::Forward(forward) = verdict
                && forward.helper.is_none()
                && let Some(done) = self.stride(now, frame, packet, forward)
            {
                *outcome = done;
            } else if verdict.requires_helper() {
                waiting = Some(*verdict);
            } else {
                *outcome =
                    self.carry_out(now, frame, &Task::Flow(layout_of(packet)), Some((packet, verdict)));
            }
        });
        if let Some(verdict) = waiting
            && let Some(at) = decided.checked_sub(1)
            && let Some(packet) = packets.get(at)
            && let Some((frame, outcome)) = frames.get_mut(at).zip(outcomes.get_mut(at))
        {
            *outcome =
                self.run_helper(director, now, frame, &Task::Flow(layout_of(packet)), packet, &verdict);
        }
        decided
    }

    /// Takes frames in up to the first fragment, that one included, and at most a batch. Returns how many there were:
    /// one at least.
    fn process_mixed<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
    ) -> usize {
        let mut packets: Vec<Packet, BATCH> = Vec::new();
        let mut plain = [None; BATCH];
        // Of the others. With each task, where its packet is, if it has one.
        let mut tasks: Vec<(Task, usize), BATCH> = Vec::new();
        let mut fragment = None;
        let mut count = 0;
        // Only the first pass may look at all frames: carrying out changes what the host knows of its neighbours,
        // which no look at a frame depends on.
        for ((frame, _), plain) in frames.iter().zip(outcomes.iter()).zip(&mut plain) {
            let next = packets.len();
            // A batch is no longer than these lists.
            if let Some(packet) = self.glance(frame) {
                let _ = packets.push(packet);
                *plain = Some(next);
                count += 1;
                continue;
            }
            let mut at = NONE;
            let task = self.classify(frame, |packet| {
                if packets.push(packet).is_ok() {
                    at = next;
                }
            });
            if let Task::Fragment(layout) = task {
                // It may make a packet, which is to be decided after these and before those that follow.
                fragment = Some(layout);
                break;
            }
            let _ = tasks.push((task, at));
            count += 1;
        }
        let mut verdicts = [Verdict::Pass(Reason::NoService); BATCH];
        let verdicts = verdicts.get_mut(..packets.len()).unwrap_or_default();
        let mut decided = director.decide_batch(now, &packets, verdicts);
        let mut tasks = tasks.iter();
        let looked_at = frames.iter_mut().zip(outcomes.iter_mut());
        for ((frame, outcome), plain) in looked_at.take(count).zip(plain) {
            *outcome = if let Some(at) = plain {
                if at >= decided {
                    decided += decide_more(director, now, &packets, verdicts, decided);
                }
                match packets.get(at).zip(verdicts.get(at)) {
                    Some((packet, verdict)) => self.conclude(director, now, frame, packet, verdict),
                    None => self.drop(DropReason::Malformed),
                }
            } else {
                match tasks.next() {
                    Some((task, at)) => {
                        if *at != NONE && *at >= decided {
                            decided += decide_more(director, now, &packets, verdicts, decided);
                        }
                        let decision = packets.get(*at).zip(verdicts.get(*at));
                        self.carry(director, now, frame, task, decision)
                    }
                    // Every frame that is not plain has a task.
                    None => self.drop(DropReason::Malformed),
                }
            };
        }
        if let Some(layout) = fragment
            && let Some((frame, outcome)) = frames.iter_mut().zip(outcomes).nth(count)
        {
            *outcome = self.fragment(director, now, frame, &layout);
            count += 1;
        }
        count
    }

    /// Carries out the verdict on a plain packet, by the short way if it goes.
    #[inline]
    fn conclude<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        packet: &Packet,
        verdict: &Verdict,
    ) -> Outcome {
        if let Verdict::Forward(forward) = verdict
            && forward.helper.is_none()
            && let Some(outcome) = self.stride(now, frame, packet, forward)
        {
            return outcome;
        }
        self.carry(director, now, frame, &Task::Flow(layout_of(packet)), Some((packet, verdict)))
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
                && self.answers_as_server(verdict)
            {
                return self.reject_as_server(director, now, frame, layout, packet, forward);
            }
        }
        self.carry_out(now, frame, task, decision)
    }

    /// Whether a request's real server is this very host, which [rejects](Options::reject) what comes to it.
    fn answers_as_server(&self, verdict: &Verdict) -> bool {
        let Verdict::Forward(forward) = verdict else { return false };
        self.options.reject
            && forward.direction == Direction::Request
            && (forward.method == Method::Local || self.host.owns(forward.address()))
    }

    /// The next frame that the director as a host has to send, see [`Host::poll_transmit`].
    pub fn poll_transmit<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        if self.fragments.has_expired(now)
            && let Some((len, port)) = self.report_expired(now, buffer)
        {
            return Frame::new(buffer, HEADROOM, HEADROOM + len, port);
        }
        self.host.poll_transmit(now, buffer)
    }

    /// When [`poll_transmit`](Self::poll_transmit) may have something at the earliest, if no frame comes in before: a
    /// time that has passed means now, `None` that nothing is due at all.
    #[must_use]
    pub fn poll_at(&self) -> Option<Tick> {
        self.fragments.expires_at().into_iter().chain(self.host.poll_at()).min()
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

/// Decides the packets behind a verdict that had to be carried out before them; says how many.
#[cold]
fn decide_more<S: Store>(
    director: &mut Director<S>,
    now: Tick,
    packets: &[Packet],
    verdicts: &mut [Verdict],
    decided: usize,
) -> usize {
    let rest = packets.get(decided..).zip(verdicts.get_mut(decided..));
    rest.map_or(0, |(packets, verdicts)| director.decide_batch(now, packets, verdicts))
}

impl<const A: usize, const N: usize> core::fmt::Debug for Forwarder<A, N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Forwarder")
            .field("host", &self.host)
            .field("options", &self.options)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
