//! Batches of plain IPv4 packets: from header to header with nothing kept in between but 16 bytes of each.

use core::iter::Zip;
use core::slice::IterMut;

use lvs_core::{BATCH, Brief, Carry, Director, Found, Next, Packet, Store, Tick, Verdict};

use super::classify::Task;
use super::plain::Errand;
use super::short::layout_of;
use super::{Forwarder, Outcome, WORTH_IT};
use crate::frame::Frame;

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
        let mut count = 0;
        for (frame, brief) in frames.iter().zip(&mut briefs) {
            match self.brief(&gate, frame) {
                Some(found) if frame.mark == 0 => *brief = found,
                _ => break,
            }
            count += 1;
        }
        if count < frames.len().min(WORTH_IT) {
            return 0;
        }
        let briefs = briefs.get(..count).unwrap_or_default();
        let rest = frames.iter_mut().zip(outcomes.iter_mut());
        let mut porter = Porter { forwarder: self, now, rest, waiting: None };
        let decided = director.decide_briefs(now, briefs, &mut porter);
        if let Some((packet, verdict)) = porter.waiting
            && let Some(at) = decided.checked_sub(1)
            && let Some((frame, outcome)) = frames.get_mut(at).zip(outcomes.get_mut(at))
        {
            let task = Task::Flow(layout_of(&packet));
            *outcome = self.carry(director, now, frame, &task, Some((&packet, &verdict)));
        }
        decided
    }
}

/// Carries out what is decided, frame by frame.
struct Porter<'p, 'f, const A: usize, const N: usize> {
    forwarder: &'p mut Forwarder<A, N>,
    now: Tick,
    rest: Zip<IterMut<'p, Frame<'f>>, IterMut<'p, Outcome>>,
    /// What only the director can carry on with.
    waiting: Option<(Packet, Verdict)>,
}

impl<const A: usize, const N: usize> Carry for Porter<'_, '_, A, N> {
    #[inline(always)]
    fn follow(&mut self, brief: &Brief, found: &Found<'_>) -> Next {
        let Some((frame, outcome)) = self.rest.next() else { return Next::Go };
        let errand = Errand::found(brief, found);
        if self.forwarder.stride_v4(self.now, frame, &errand).is_some() {
            *outcome = Outcome::Send;
            return Next::Go;
        }
        let Self { forwarder, now, waiting, .. } = self;
        let forward = Verdict::Forward(found.forward());
        conclude(forwarder, *now, frame, outcome, (&brief.packet(), &forward), waiting)
    }

    #[inline(never)]
    fn carry(&mut self, packet: &Packet, verdict: &Verdict) -> Next {
        let Some((frame, outcome)) = self.rest.next() else { return Next::Go };
        let Self { forwarder, now, waiting, .. } = self;
        conclude(forwarder, *now, frame, outcome, (packet, verdict), waiting)
    }
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
    if verdict.needs_attention() || forwarder.answers_as_server(verdict) {
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
