//! Verdicts that ask for a look into the packet.

use lvs_core::{Director, Packet, Store, Tick, Verdict};

use super::classify::Task;
use super::{Forwarder, Outcome};
use crate::frame::Frame;
use crate::layout::Layout;
use crate::offload::merged_payload;
use crate::sip::call_id;

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// Finds what the director asks for, tells it, and carries out what it says then.
    #[cold]
    #[inline(never)]
    pub(super) fn attend<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        frame: &mut Frame<'_>,
        task: &Task,
        packet: &Packet,
        verdict: &Verdict,
    ) -> Outcome {
        match verdict {
            Verdict::Inspect => {
                let layout = if let Task::Flow(layout) = task { Some(layout) } else { None };
                let call = layout.and_then(|layout| payload(frame, layout)).and_then(call_id);
                let verdict = director.decide_call(now, packet, call);
                self.carry_out(now, frame, task, Some((packet, &verdict)))
            }
            Verdict::Forward(_) | Verdict::Drop(_) | Verdict::Pass(_) | Verdict::Reject(_) => {
                self.carry_out(now, frame, task, Some((packet, verdict)))
            }
        }
    }
}

/// What a packet carries for the application.
fn payload<'f>(frame: &'f Frame<'_>, layout: &Layout) -> Option<&'f [u8]> {
    let (start, len) = merged_payload(frame.bytes(), layout)?;
    frame.bytes().get(start..)?.get(..len)
}
