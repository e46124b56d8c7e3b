//! Many packets at once.
//!
//! A look-up among many connections is two reads of memory that nobody has touched lately, and each takes as
//! long as the rest of the decision several times over. One after the other they add up; asked for together they
//! overlap. So a batch first hashes all packets, then reads all index cells, then all slots, and only then
//! decides, one after the other, with everything in the cache.
//!
//! What was found early is a hint, good only as long as no entry of the packet's hash has come or gone since: a packet that makes
//! or ends a connection marks its hashes, and later ones of these look again. Thus the result equals that of `decide` in order.

use core::hint::black_box;

use super::slow::decide::Hint;
use crate::conntrack::key::Key;
use crate::conntrack::table::Table;
use crate::director::Director;
use crate::director::engine::Engine;
use crate::model::packet::{Packet, Path};
use crate::model::tick::Tick;
use crate::model::verdict::Verdict;
use crate::store::Store;

/// Packets that are looked up together. More than the memory reads that a core keeps under way, few enough that what
/// was read stays in the first-level cache.
pub const BATCH: usize = 32;

impl<S: Store> Director<S> {
    /// Decides packets in order, as [`decide`](Self::decide) would one by one, but several times faster when there are
    /// many connections. Any number of packets; those past the length of `verdicts` (or the other way round)
    /// are left alone.
    ///
    /// Returns how many it decided. That is all, unless a verdict [needs attention](Verdict::requires_helper): it is the
    /// last then, and once it is carried out the rest can be decided by another call.
    #[must_use = "packets after a verdict that needs attention are not decided yet"]
    pub fn decide_batch(&mut self, now: Tick, packets: &[Packet], verdicts: &mut [Verdict]) -> usize {
        let count = packets.len().min(verdicts.len());
        let mut verdicts = verdicts.iter_mut();
        self.decide_each(now, packets.get(..count).unwrap_or_default(), |_, _, decided| {
            if let Some(verdict) = verdicts.next() {
                *verdict = *decided;
            }
        })
    }

    /// The same, but hands each verdict to `each` as soon as it is made, with the packet and its place: what is done with
    /// it at once need not be stored. Verdicts come in order.
    #[inline]
    #[must_use = "packets after a verdict that needs attention are not decided yet"]
    pub fn decide_each(
        &mut self,
        now: Tick,
        packets: &[Packet],
        mut each: impl FnMut(usize, &Packet, &Verdict),
    ) -> usize {
        let mut engine = self.engine_at(now);
        let mut decided = 0;
        for packets in packets.chunks(BATCH) {
            let (done, stopped) = engine.decide_chunk(packets, &mut |at, packet, verdict| {
                each(decided + at, packet, verdict);
            });
            decided += done;
            if stopped {
                break;
            }
        }
        decided
    }
}

impl<S: Store> Engine<'_, S> {
    #[inline]
    fn decide_chunk(
        &mut self,
        packets: &[Packet],
        each: &mut impl FnMut(usize, &Packet, &Verdict),
    ) -> (usize, bool) {
        let mut hints = [Hint { hash: 0, slot: None, absent: false }; BATCH];
        self.look_ahead(packets, &mut hints);
        self.brain.table.deferred.begin();
        let pace = self.brain.pace(self.now);
        let mut stopped = None;
        for (at, (packet, hint)) in packets.iter().zip(&hints).enumerate() {
            if let Some(id) = hint.slot
                && !self.brain.table.deferred.is_marked(hint.hash)
                && let Some(forward) = self.follow(&pace, packet, id)
            {
                each(at, packet, &Verdict::Forward(forward));
                continue;
            }
            let verdict = self.decide_hinted(packet, hint);
            hand_over(each, at, packet, &verdict);
            if verdict.requires_helper() {
                stopped = Some(at + 1);
                break;
            }
        }
        self.connections().settle();
        self.brain.table.deferred.end();
        (stopped.unwrap_or(packets.len()), stopped.is_some())
    }

    /// The whole decision, with what was found early if that still holds.
    #[inline(never)]
    fn decide_hinted(&mut self, packet: &Packet, hint: &Hint) -> Verdict {
        let holds = !self.brain.table.deferred.is_marked(hint.hash);
        // The time may be up, also because a packet before this one brought the deadline forward.
        let slot = hint.slot.filter(|&id| holds && self.tables.slots[id as usize].is_alive(self.now));
        self.decide(packet, Some(Hint { slot, absent: hint.absent && holds, ..*hint }))
    }

    /// Finds the packets' slots as far as that is possible without deciding anything.
    #[inline]
    fn look_ahead(&mut self, packets: &[Packet], hints: &mut [Hint; BATCH]) {
        let seed = self.brain.config.seed;
        let mut keys = [Key::EMPTY; BATCH];
        for ((packet, key), hint) in packets.iter().zip(&mut keys).zip(hints.iter_mut()) {
            *key = match packet.path {
                Path::Local | Path::Captured => Key::of_request(&packet.flow),
                Path::Through => Key::of_reply(&packet.flow),
            };
            hint.hash = key.hash(seed);
        }
        let servers = &*self.tables.servers;
        let table =
            Table::new(self.tables.slots, self.tables.cells, self.tables.wakes, &mut self.brain.table);
        // Nothing but reads: a question whose answer decides what is read next would make each wait for the one before.
        let hashes = hints.iter().take(packets.len()).map(|hint| hint.hash);
        black_box(hashes.fold(0, |sum, hash| sum ^ table.touch_home(hash)));
        let mut guesses = [u32::MAX; BATCH];
        for (guess, hint) in guesses.iter_mut().zip(hints.iter()).take(packets.len()) {
            *guess = table.guess(hint.hash);
        }
        black_box(guesses.iter().fold(0, |sum, &guess| sum ^ table.touch_slot(guess)));
        for (((packet, key), hint), guess) in packets.iter().zip(&keys).zip(hints).zip(guesses) {
            hint.absent = guess == u32::MAX;
            let Some(slot) = table.slots.get(guess as usize) else { continue };
            let fits = match packet.path {
                // Client port 0 has rules of its own.
                Path::Local | Path::Captured => slot.answers(key) && key.client_port() != 0,
                Path::Through => {
                    slot.answers_client(key)
                        && servers
                            .get(slot.server as usize)
                            .is_some_and(|server| key.other_is(server.address.ip()))
                }
            };
            hint.slot = fits.then_some(guess);
        }
    }
}

/// Keeps what is done with verdicts in the rare case apart from the same in the frequent one.
#[inline(never)]
fn hand_over(each: &mut impl FnMut(usize, &Packet, &Verdict), at: usize, packet: &Packet, verdict: &Verdict) {
    each(at, packet, verdict);
}
