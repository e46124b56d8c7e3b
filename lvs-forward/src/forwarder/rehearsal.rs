//! A frame tried on a copy, so that what would become of it can be told without being done.

use lvs_core::config::NoMemory;
use lvs_core::conn::Rehearsal;
use lvs_core::sched::Schedule;
use lvs_core::{Director, Heap, Inspected, Packet, Tick, Verdict};

use super::Forwarder;
#[cfg(feature = "fast")]
use super::next_hop_cache::NextHopCache;
use super::slow::{Task, call_of};
use crate::frame::Frame;
use crate::outcome::Outcome;
#[cfg(feature = "fragments")]
use crate::reassembly::Fragments;

/// What would become of a frame.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rehearsed<P: Schedule> {
    /// What the director was asked about, its answer, and the director as it would be afterwards. `None` when the frame
    /// is none of its business.
    pub decision: Option<(Packet, Verdict, Rehearsal<P>)>,
    /// What would become of the frame. `None` for a fragment, which waits for the others of its datagram.
    pub outcome: Option<Outcome>,
    /// The forwarder as it would be afterwards: with the frames that it would send by itself, and what it would have
    /// counted. It has no room for fragments.
    pub forwarder: Forwarder,
}

impl Forwarder {
    /// What [`process`](Self::process) would do with a frame at this moment, done by the same code on copies of the
    /// director and of this forwarder. The frame is edited as it would be. Nothing changes here, which `&self` makes
    /// sure of.
    ///
    /// The copy takes as much memory as the host knows addresses, routes and neighbours, besides what
    /// [`Director::rehearsal`] takes; it is nothing for every packet. Fragments are not put together: of them only
    /// those are told that need not wait.
    ///
    /// # Errors
    ///
    /// [`NoMemory`].
    pub fn rehearse<P: Schedule + Clone>(
        &self,
        director: &Director<Heap<P>>,
        now: Tick,
        frame: &mut Frame<'_>,
    ) -> Result<Rehearsed<P>, NoMemory> {
        let mut forwarder = self.copy();
        let mut packet = None;
        let task = self.classify(frame, |found| packet = Some(found));
        let Some(packet) = packet else {
            let waits = cfg!(feature = "fragments")
                && matches!(task, Task::Fragment(_))
                && frame.assembly().is_none();
            let outcome = (!waits).then(|| forwarder.carry_out(now, frame, &task, None));
            return Ok(Rehearsed { decision: None, outcome, forwarder });
        };
        let mut rehearsal = director.rehearsal(&packet)?;
        let copy = &mut rehearsal.director;
        let verdict = copy.decide(now, &packet, Inspected::Nothing);
        let (verdict, outcome) = if verdict == Verdict::Inspect {
            let verdict = copy.decide(now, &packet, Inspected::CallId(call_of(frame, &task)));
            (verdict, forwarder.carry_out(now, frame, &task, Some((&packet, &verdict))))
        } else {
            (verdict, forwarder.carry(copy, now, frame, &task, Some((&packet, &verdict))))
        };
        Ok(Rehearsed { decision: Some((packet, verdict, rehearsal)), outcome: Some(outcome), forwarder })
    }

    /// A forwarder that would do the same with the next frame, fragments excepted.
    fn copy(&self) -> Self {
        Self {
            host: self.host.clone(),
            options: self.options,
            counters: self.counters.clone(),
            #[cfg(feature = "fragments")]
            fragments: Fragments::NONE,
            #[cfg(feature = "ftp")]
            ftp: self.ftp.clone(),
            path_mtus: self.path_mtus.clone(),
            // The fast tier's; it says what the slow one says.
            #[cfg(feature = "fast")]
            next_hops: NextHopCache::EMPTY,
            limiter: self.limiter.clone(),
            stray_limiter: self.stray_limiter.clone(),
            owed: self.owed.clone(),
            resets_from: self.resets_from,
            key: self.key,
            identification: self.identification,
        }
    }
}
