//! Batches of plain IPv4 packets: from header to header with nothing kept in between but 16 bytes of each.

use core::slice::IterMut;

use lvs_core::batch::{BATCH, Brief, Carry, Found, Next};
use lvs_core::{Director, Packet, ServerId, Store, Tick, Verdict};

use super::plain::{Errand, Gate, Wrapping};
use super::short::layout_of;
use super::slow::Task;
use super::{Forwarder, WORTH_IT};
use crate::frame::Frame;
use crate::outcome::Outcome;

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// Takes in the plain IPv4 packets that stand first, each carried out as soon as it is decided. Returns how many there were, 0, and
    /// nothing has happened, when they are too few to be worth it.
    pub(super) fn process_briefs<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frames: &mut [Frame<'_>],
        outcomes: &mut [Outcome],
    ) -> usize {
        let Some(gate) = frames.first().and_then(|frame| self.gate(frame.port)) else { return 0 };
        let mut briefs = [Brief::EMPTY; BATCH];
        let count = self.briefs(&gate, frames, &mut briefs);
        if count < frames.len().min(WORTH_IT) {
            return 0;
        }
        let briefs = briefs.get(..count).unwrap_or_default();
        let mut waiting = None;
        let mut porter = Porter {
            forwarder: self,
            now,
            frames: frames.iter_mut(),
            outcomes: outcomes.iter_mut(),
            waiting: &mut waiting,
        };
        let decided = director.decide_briefs(now, briefs, &mut porter);
        if let Some((packet, verdict)) = waiting
            && let Some(at) = decided.checked_sub(1)
            && let Some((frame, outcome)) = frames.get_mut(at).zip(outcomes.get_mut(at))
        {
            let task = Task::Flow(layout_of(&packet));
            *outcome = self.carry(director, now, frame, &task, Some((&packet, &verdict)));
        }
        decided
    }

    /// What there is to say of the plain packets that stand first; says how many. A function of its own, because a loop like this wants
    /// all registers.
    #[inline(never)]
    fn briefs(&mut self, gate: &Gate, frames: &[Frame<'_>], briefs: &mut [Brief; BATCH]) -> usize {
        let mut count = 0;
        for (frame, place) in frames.iter().zip(briefs) {
            match self.brief(gate, frame) {
                Some(brief) if frame.mark == 0 => *place = brief,
                _ => break,
            }
            count += 1;
        }
        count
    }
}

/// Carries out what is decided, frame by frame.
struct Porter<'p, 'f, const A: usize, const N: usize> {
    forwarder: &'p mut Forwarder<A, N>,
    now: Tick,
    frames: IterMut<'p, Frame<'f>>,
    outcomes: IterMut<'p, Outcome>,
    /// What only the director can carry on with.
    waiting: &'p mut Option<(Packet, Verdict)>,
}

impl<const A: usize, const N: usize> Carry for Porter<'_, '_, A, N> {
    #[inline(always)]
    fn follow(&mut self, brief: &Brief, found: Found<'_>) -> Next {
        let (Some(frame), Some(outcome)) = (self.frames.next(), self.outcomes.next()) else {
            return Next::Go;
        };
        let Self { forwarder, now, waiting, .. } = self;
        // The most frequent ones first, each by one comparison; an errand is only in registers where it is made.
        let strode = if found.is_nat() {
            forwarder.translate_v4(*now, frame, Errand::found(brief, &found))
        } else if found.is_direct() {
            forwarder.redirect_v4(*now, frame, Errand::found(brief, &found))
        } else if found.is_wrapped() {
            let wrapping = Errand::found(brief, &found).into_tunnel();
            wrapping.and_then(|of| wrap(forwarder, *now, frame, of.len, of.server, of.address))
        } else {
            None
        };
        if strode.is_some() {
            *outcome = Outcome::Send;
            return Next::Go;
        }
        conclude_found(forwarder, *now, frame, outcome, *brief, found, waiting)
    }

    #[inline(always)]
    fn carry(&mut self, packet: &Packet, verdict: &Verdict) -> Next {
        let (Some(frame), Some(outcome)) = (self.frames.next(), self.outcomes.next()) else {
            return Next::Go;
        };
        let Self { forwarder, now, waiting, .. } = self;
        conclude(forwarder, *now, frame, outcome, (packet, verdict), waiting)
    }
}

/// The same for a packet of a known connection.
#[inline(never)]
fn conclude_found<const A: usize, const N: usize>(
    forwarder: &mut Forwarder<A, N>,
    now: Tick,
    frame: &mut Frame<'_>,
    outcome: &mut Outcome,
    brief: Brief,
    found: Found<'_>,
    waiting: &mut Option<(Packet, Verdict)>,
) -> Next {
    let verdict = Verdict::Forward(found.forward());
    conclude(forwarder, now, frame, outcome, (&brief.packet(), &verdict), waiting)
}

/// A function of its own, because it wants all registers.
#[inline(never)]
fn wrap<const A: usize, const N: usize>(
    forwarder: &mut Forwarder<A, N>,
    now: Tick,
    frame: &mut Frame<'_>,
    len: usize,
    server: ServerId,
    address: u32,
) -> Option<()> {
    forwarder.wrap_v4(now, frame, Wrapping { len, server, address })
}

/// Carries a verdict out, by a short way if it goes, unless the director has to be told something.
#[inline(never)]
fn conclude<const A: usize, const N: usize>(
    forwarder: &mut Forwarder<A, N>,
    now: Tick,
    frame: &mut Frame<'_>,
    outcome: &mut Outcome,
    (packet, verdict): (&Packet, &Verdict),
    waiting: &mut Option<(Packet, Verdict)>,
) -> Next {
    if verdict.requires_helper() || forwarder.answers_as_server(verdict) {
        *waiting = Some((*packet, *verdict));
        return Next::Stop;
    }
    let strode = match verdict {
        Verdict::Forward(forward) => forwarder.stride(now, frame, packet, forward),
        Verdict::Drop(_) | Verdict::Inspect | Verdict::Pass(_) | Verdict::Reject(_) => None,
    };
    *outcome = match strode {
        Some(outcome) => outcome,
        None => forwarder.carry_out(now, frame, &Task::Flow(layout_of(packet)), Some((packet, verdict))),
    };
    Next::Go
}
