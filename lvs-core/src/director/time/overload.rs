//! What is done about overload: the switches `drop_entry`, `drop_packet` and `secure_tcp`, looked at once a second.
//!
//! Each has a mode ([`Defence`]): never, while memory or the table is short, or always. Memory
//! is short when what the program [reported](Director::report_available) is below
//! [`amemthresh`](crate::config::Tuning::amemthresh). The table is short when less than a sixteenth of it is free: it
//! is what a flood uses up here, where the memory for it was taken at the start.
//!
//! * **`drop_entry`** gives up entries that seem unimportant. Each second it looks at a 32nd of the table in runs of 16
//!   slots at random places. What it drops: handshakes that were not completed (TCP in `SYN_RECV`, SCTP in `INIT`);
//!   templates of persistence that no connection was ever established from; and of the connections that have been idle
//!   for a minute and had 1 to 8 packets, one of as many as it had packets. An entry that controls others stays.
//! * **`drop_packet`** refuses a part of the new connections: one in
//!   [`am_droprate`](crate::config::Tuning::am_droprate), or the more the shorter memory is; never all of them because
//!   the table is short, since that makes room for new ones. Refused packets are
//!   counted as [`Reason::Defence`](crate::Reason::Defence).
//! * **`secure_tcp`** makes connections by NAT count as established only after the server's own acknowledgement, by the
//!   second table of `proto/tcp`.

use crate::director::Director;
use crate::director::brain::Brain;
use crate::director::engine::Engine;
use crate::model::config::{Defence, Tuning};
use crate::model::event::Cause;
use crate::model::flow::Protocol;
use crate::model::state::{SctpState, State as ProtocolState, TcpState};
use crate::model::tick::Tick;
use crate::store::Store;

impl<S: Store> Director<S> {
    /// Tells how much memory (or any other resource that floods use up) is left, in the unit of
    /// [`Tuning::amemthresh`](crate::config::Tuning::amemthresh); IPVS counts pages. Below that threshold the defences
    /// in mode [`Automatic`](crate::config::Defence::Automatic) are on. As long as nothing is reported nothing is
    /// short.
    pub fn report_available(&mut self, available: u64) {
        self.brain.overload.available = available;
    }
}

impl<S: Store> Engine<'_, S> {
    /// What is due each second.
    pub(crate) fn defend(&mut self) {
        let now = self.brain.clock;
        if now < self.brain.overload.next {
            return;
        }
        self.brain.overload.next = now.next_multiple(1);
        let (live, all) = (self.brain.table.live as usize, self.tables.slots.len());
        self.brain.overload.full = all.saturating_sub(live) < all.div_ceil(SPARE);
        self.brain.look_at_resources();
        // This is what `drop_entry` does: each second a 32nd of the table is looked at, and what seems unimportant is
        // given up.
        if self.brain.config.tuning.drop_entry.is_on(self.brain.is_short()) {
            self.drop_entries();
        }
    }

    /// Looks at a 32nd of the table, in runs of 16 slots at random places, for what can be given up.
    fn drop_entries(&mut self) {
        let used = self.brain.table.used();
        for _ in 0..used.div_ceil(32 * RUN) {
            // At random, as IPVS draws chains of its hash table: a walk in order could be foreseen, and kept away from.
            let start = self.brain.rng.below(used);
            for id in start..used.min(start + RUN) {
                if self.is_dispensable(id) {
                    self.give_up(id, Cause::Dropped, false);
                }
            }
        }
    }

    fn is_dispensable(&mut self, id: u32) -> bool {
        let slot = &self.tables.slots[id as usize];
        if slot.is_free() || slot.children() > 0 {
            return false;
        }
        let candidate = if slot.is_template() {
            let server = &self.tables.servers[slot.server as usize];
            let service = self.tables.services.get(server.service.0 as usize).and_then(Option::as_ref);
            if !service.is_some_and(|service| service.one_packet) {
                // A template that no connection was ever established from costs a sender one SYN, so it is worth no
                // more than that.
                return !slot.is_assured();
            }
            true
        } else {
            match (slot.protocol(), slot.state()) {
                (_, ProtocolState::Tcp(TcpState::SynRecv | TcpState::SynAck))
                | (_, ProtocolState::Sctp(SctpState::Init1 | SctpState::Init)) => return true,
                (_, ProtocolState::Tcp(TcpState::Established))
                | (_, ProtocolState::Sctp(SctpState::Established))
                | (Protocol::Udp, _) => true,
                (Protocol::Tcp | Protocol::Sctp, _) => false,
            }
        };
        candidate
            && self.brain.is_unlucky(
                slot.last_used(&self.brain.timeouts).plus_secs(60).reached(self.now),
                slot.in_packets,
            )
    }
}

impl Brain {
    /// When the defences look at what there is; `None` while none is to be used.
    pub(crate) fn defends_at(&self) -> Option<Tick> {
        let Tuning { drop_entry, drop_packet, secure_tcp, .. } = self.config.tuning;
        // The latter two are on for good, or off for good, unless they go by what there is.
        let used = drop_entry != Defence::Never || [drop_packet, secure_tcp].contains(&Defence::Automatic);
        used.then_some(self.overload.next)
    }

    /// Whether memory or the table is short.
    fn is_short(&self) -> bool {
        self.lacks_memory() || self.overload.full
    }

    fn lacks_memory(&self) -> bool {
        self.overload.available < u64::from(self.config.tuning.amemthresh)
    }

    /// Switches defences on and off as the modes and the resources want it.
    pub(crate) fn look_at_resources(&mut self) {
        let short = self.is_short();
        #[cfg(feature = "log")]
        self.tell_defences(short);
        let tuning = &self.config.tuning;
        self.secures_tcp = tuning.secure_tcp.is_on(short);
        // The further available memory is below the threshold, the smaller the rate: one in two at half of it, every
        // one at nothing.
        let threshold = u64::from(tuning.amemthresh);
        match tuning.drop_packet {
            Defence::Automatic if self.lacks_memory() => {
                let missing = threshold.saturating_sub(self.overload.available).max(1);
                self.overload.rate = u32::try_from(threshold / missing).unwrap_or(u32::MAX);
                self.overload.counter = self.overload.rate;
            }
            // The counter goes on from where it was.
            Defence::Automatic if short => self.overload.rate = tuning.am_droprate,
            Defence::Automatic | Defence::Never => {
                self.overload.rate = 0;
            }
            Defence::Always => self.overload.rate = tuning.am_droprate,
        }
    }

    /// Says what has become short, and which defences go on or off.
    #[cfg(feature = "log")]
    fn tell_defences(&mut self, short: bool) {
        let tuning = &self.config.tuning;
        let now = [
            ("memory is short", "memory is short no more", self.lacks_memory()),
            ("the connection table lacks room", "the connection table has room again", self.overload.full),
            ("drop_entry goes on", "drop_entry goes off", tuning.drop_entry.is_on(short)),
            ("drop_packet goes on", "drop_packet goes off", tuning.drop_packet.is_on(short)),
            ("secure_tcp goes on", "secure_tcp goes off", tuning.secure_tcp.is_on(short)),
        ];
        for (told, (begins, ends, is)) in self.overload.told.iter_mut().zip(now) {
            if core::mem::replace(told, is) != is {
                if is {
                    say!(warn, "{begins}");
                } else {
                    say!(info, "{ends}");
                }
            }
        }
    }

    /// Whether the next new connection is refused.
    #[inline]
    pub(crate) fn refuses_new(&mut self) -> bool {
        let state = &mut self.overload;
        if state.rate == 0 {
            return false;
        }
        state.counter = state.counter.saturating_sub(1);
        if state.counter > 0 {
            return false;
        }
        state.counter = state.rate;
        true
    }

    /// Of the idle entries with 1 to 8 packets, one of as many as it has packets.
    fn is_unlucky(&mut self, idle: bool, packets: u32) -> bool {
        let Some(spared) = self.overload.spared.get_mut(packets as usize).filter(|_| idle && packets > 0)
        else {
            return false;
        };
        *spared = spared.saturating_sub(1);
        if *spared > 0 {
            return false;
        }
        *spared = packets as u8;
        true
    }
}

/// The table is short when less than one in so many entries is free.
const SPARE: usize = 16;
/// Slots that are looked at together.
const RUN: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Config, Defence};
    use crate::model::seed::Seed;
    use crate::model::tick::Tick;
    use crate::store::Fixed;

    fn rates(drop_packet: Defence, available: u64) -> u32 {
        let mut store: Fixed<1, 1, 1, 1> = Fixed::new();
        let mut config = Config::new(Seed::from_bytes([0; 16]));
        config.tuning.drop_packet = drop_packet;
        let mut director = Director::new(config, &mut store);
        director.report_available(available);
        director.sweep(Tick::ZERO, 1);
        let refused = (0..1_000).filter(|_| director.brain.refuses_new()).count();
        refused as u32
    }

    #[test]
    fn the_shorter_memory_is_the_more_is_refused() {
        assert_eq!(rates(Defence::Never, 0), 0);
        assert_eq!(rates(Defence::Automatic, 1_024), 0);
        assert_eq!(rates(Defence::Automatic, 768), 250, "a quarter is missing");
        assert_eq!(rates(Defence::Automatic, 0), 1_000);
        // The first of them at once, as IPVS's counter begins at 0.
        assert_eq!(rates(Defence::Always, u64::MAX), 100);
    }

    #[test]
    fn of_idle_entries_with_few_packets_one_in_so_many_is_given_up() {
        let mut store: Fixed<1, 1, 1, 1> = Fixed::new();
        let mut director = Director::new(Config::new(Seed::from_bytes([0; 16])), &mut store);
        let mut unlucky =
            |idle, packets| (0..100).filter(|_| director.brain.is_unlucky(idle, packets)).count();
        assert_eq!(unlucky(true, 1), 100);
        assert_eq!(unlucky(true, 4), 25);
        assert_eq!(unlucky(true, 0), 0);
        assert_eq!(unlucky(true, 9), 0);
        assert_eq!(unlucky(false, 1), 0);
    }
}
