//! The fast tier: whole TCP and UDP packets over untagged Ethernet, of either family, a batch at a time.
//!
//! A batch goes through in three steps. [`parse`] turns headers into [`FastKey`]s by constant offsets, up to the first
//! frame that is not that simple. The director looks all of them up together and hands each one over as it decides.
//! Then the packet is rewritten in place ([`rewrite`], [`encap`]) while its headers are in registers, and its link
//! header overwritten from what the [`NextHopCache`](crate::forwarder::next_hop_cache::NextHopCache) remembers.
//!
//! All of it is generic over the family ([`wire`]: [`v4`], [`v6`]) and compiled once for each. Any step may decline,
//! before it has changed anything: what is out of the ordinary is the slow tier's, one frame at a time, with the same
//! result. A law and a fuzz target hold both against each other.

#[cfg(feature = "tunnel")]
mod encap;
mod parse;
mod rewrite;
mod v4;
mod v6;
mod wire;

use core::slice::IterMut;

use lvs_core::batch::{BATCH, FastKey, Hit, HitHandler, Next};
use lvs_core::{Direction, Director, Family, Forward, Method, Packet, Store, Tick, Verdict};

use self::rewrite::RewriteJob;
use self::wire::Wire;
use crate::forwarder::Forwarder;
use crate::forwarder::slow::Task;
use crate::frame::Frame;
use crate::header::layout::{Fragment, Layout};
use crate::header::{ethernet, ipv4, ipv6};
use crate::outcome::Outcome;
use crate::reason::DropReason;

impl Forwarder {
    /// Takes in the frames that stand first, as far as they are for the fast tier, and at most a batch. Returns how
    /// many that were, and whether the frame behind them is one for the slow tier.
    pub(super) fn process_fast<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
    ) -> (usize, bool) {
        let Some(gate) = frames.first().and_then(|frame| self.gate(frame.port)) else { return (0, true) };
        let batch = director.next_batch();
        self.parse_fast(&gate, frames, batch);
        let parsed = batch.len();
        let slow_next = frames.get(parsed).is_some_and(|frame| parsed < BATCH && gate.is_of(frame));
        if parsed == 0 {
            return (0, slow_next);
        }
        let mut waiting = None;
        let mut rewriter = Rewriter {
            forwarder: self,
            now,
            frames: frames.iter_mut(),
            outcomes: outcomes.iter_mut(),
            waiting: &mut waiting,
        };
        let decided = director.decide_fast(now, &mut rewriter);
        if let Some((packet, verdict)) = waiting
            && let Some(at) = decided.checked_sub(1)
            && let Some((frame, outcome)) = frames.get_mut(at).zip(outcomes.get_mut(at))
        {
            // The director is free again, and must be told something before it decides what follows.
            let task = Task::Flow(layout_of(&packet));
            *outcome = self.carry(director, now, frame, &task, Some((&packet, &verdict)));
        }
        (decided, slow_next && decided == parsed)
    }
}

/// Carries out what is decided, frame by frame.
struct Rewriter<'p, 'f> {
    forwarder: &'p mut Forwarder,
    now: Tick,
    frames: IterMut<'p, Frame<'f>>,
    outcomes: IterMut<'p, Outcome>,
    /// What only the director can carry on with.
    waiting: &'p mut Option<(Packet, Verdict)>,
}

impl<F: Wire> HitHandler<F> for Rewriter<'_, '_> {
    #[inline(always)]
    fn hit(&mut self, key: &FastKey<F>, hit: Hit<'_, F>) -> Next {
        let (Some(frame), Some(outcome)) = (self.frames.next(), self.outcomes.next()) else {
            return Next::Go;
        };
        let Self { forwarder, now, waiting, .. } = self;
        // The most frequent methods first, each by one comparison; a job is only in registers where it is made.
        let done = if hit.is_nat() {
            forwarder.translate(*now, frame, RewriteJob::of_hit(key, &hit))
        } else if hit.is_direct() {
            forwarder.redirect(*now, frame, RewriteJob::of_hit(key, &hit))
        } else if let (Some(tunnel), Direction::Request) = (hit.tunnel(), hit.direction()) {
            forwarder.encapsulate(*now, frame, key, hit.server(), hit.server_address(), tunnel)
        } else {
            None
        };
        if done.is_some() {
            *outcome = Outcome::Send;
            return Next::Go;
        }
        forwarder.carry_slowly(*now, frame, outcome, key, &Verdict::Forward(hit.forward()), waiting)
    }

    #[inline(always)]
    fn turns_away(&mut self, key: &FastKey<F>) -> bool {
        // Asked here and not of every packet: nobody can have a connection from such a source.
        let client = key.client();
        let Forwarder { host, next_hops, .. } = &mut *self.forwarder;
        let peers = F::peers(next_hops);
        // Looked up by what remembers the range of other hosts, in which the next client most likely is.
        if peers.is_other::<F>(client)
            || !peers.look_up::<F>(host, client)
            || !host.is_impossible_source(F::address(client))
        {
            return false;
        }
        // What this machine itself sends comes from its own addresses.
        let local = self.forwarder.options.local;
        if local.is_some() && self.frames.as_slice().first().map(|frame| frame.port) == local {
            return false;
        }
        if let (Some(_), Some(outcome)) = (self.frames.next(), self.outcomes.next()) {
            *outcome = self.forwarder.drop(DropReason::Martian);
        }
        true
    }

    #[inline(always)]
    fn decided(&mut self, key: &FastKey<F>, verdict: &Verdict) -> Next {
        let (Some(frame), Some(outcome)) = (self.frames.next(), self.outcomes.next()) else {
            return Next::Go;
        };
        self.forwarder.carry_verdict_fast(self.now, frame, outcome, key, verdict, self.waiting)
    }
}

impl Forwarder {
    /// Carries a verdict of the director's slow tier out on a packet of the fast one.
    #[inline(never)]
    fn carry_verdict_fast<F: Wire>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        outcome: &mut Outcome,
        key: &FastKey<F>,
        verdict: &Verdict,
        waiting: &mut Option<(Packet, Verdict)>,
    ) -> Next {
        if let Verdict::Forward(forward) = verdict
            && forward.helper.is_none()
            && self.forward_fast(now, frame, key, forward).is_some()
        {
            *outcome = Outcome::Send;
            return Next::Go;
        }
        self.carry_slowly(now, frame, outcome, key, verdict, waiting)
    }

    /// Forwards a packet in place. `None`, and nothing has changed, when its next hop is not remembered, or the packet
    /// is the slow tier's.
    #[inline(always)]
    fn forward_fast<F: Wire>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        key: &FastKey<F>,
        forward: &Forward,
    ) -> Option<()> {
        match (forward.method, forward.direction) {
            (Method::Nat, _) => self.translate(now, frame, RewriteJob::of_forward(key, forward)),
            (Method::Direct, _) | (Method::Tunnel(_), Direction::Reply) => {
                self.redirect(now, frame, RewriteJob::of_forward(key, forward))
            }
            (Method::Tunnel(tunnel), Direction::Request) => {
                self.encapsulate(now, frame, key, forward.server, &forward.target, tunnel)
            }
            (Method::Bypass | Method::Local, _) => None,
        }
    }

    /// Forwards a packet whose next hop has to be found first, or whose checksum is unfinished. `None`, and nothing has
    /// changed, when the packet is the slow tier's.
    fn forward_unprepared<F: Wire>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        key: &FastKey<F>,
        forward: &Forward,
    ) -> Option<()> {
        if forward.direction == Direction::Request {
            self.next_hops.find_server(&mut self.host, now, forward.server, forward.address())?;
        }
        self.forward_fast(now, frame, key, forward).or_else(|| self.forward_partial(now, frame, key, forward))
    }

    /// Carries a verdict out by the slow tier, unless the director has to be told something: then it waits, and the
    /// director stops after this packet.
    #[inline(never)]
    fn carry_slowly<F: Wire>(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        outcome: &mut Outcome,
        key: &FastKey<F>,
        verdict: &Verdict,
        waiting: &mut Option<(Packet, Verdict)>,
    ) -> Next {
        if let Verdict::Forward(forward) = verdict
            && forward.helper.is_none()
            && self.forward_unprepared(now, frame, key, forward).is_some()
        {
            *outcome = Outcome::Send;
            return Next::Go;
        }
        let packet = key.packet();
        let asks = verdict.requires_helper()
            || self.answers_as_server(frame.port, verdict)
            || self.resets_stray(frame, &packet, verdict);
        if asks {
            *waiting = Some((packet, *verdict));
            return Next::Stop;
        }
        *outcome = self.carry_out(now, frame, &Task::Flow(layout_of(&packet)), Some((&packet, verdict)));
        Next::Go
    }
}

/// Tunnels whose code was left out: what becomes of packets for them the slow tier says.
#[cfg(not(feature = "tunnel"))]
impl Forwarder {
    fn encapsulate<F: Wire>(
        &mut self,
        _now: Tick,
        _frame: &mut Frame<'_>,
        _key: &FastKey<F>,
        _server: lvs_core::ServerId,
        _target: &core::net::SocketAddr,
        _tunnel: lvs_core::Tunnel,
    ) -> Option<()> {
        None
    }
}

/// Where the parts of a packet of the fast tier are.
const fn layout_of(packet: &Packet) -> Layout {
    let family = packet.flow.addresses.family();
    let header = match family {
        Family::V4 => ipv4::LEN,
        Family::V6 => ipv6::LEN,
    };
    Layout {
        network: ethernet::LEN as u32,
        transport: (ethernet::LEN + header) as u32,
        end: ethernet::LEN as u32 + packet.length,
        family,
        protocol: packet.flow.protocol.number(),
        fragment: Fragment::Whole,
    }
}

#[cfg(test)]
mod tests;
