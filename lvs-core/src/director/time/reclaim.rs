//! What a full table gives up for a new connection.
//!
//! The table is what a flood of forged packets uses up. So its entries are ranked by what they have proved, and the
//! least of a few makes room:
//!
//! * **Proven** is a TCP or SCTP connection whose server has answered once it was established: nobody who forges the
//!   client's address gets that far, since a server takes no data before its own number has come back to it. It is
//!   never given up before both ends have closed it. UDP has no such proof, because a server answers whoever asks.
//! * **One-way** is what counts as established by its client's packets alone: under DR and TUN every connection, under
//!   NAT one whose server says nothing. Two forged packets make one. They are ranked by how many packets came, which a
//!   forger has to pay for, and among equals the one that was silent for longest goes.
//! * **What was seen within the last second** is ranked with those of eight packets, so that a client comes through its
//!   handshake while older forged entries are there to go.
//!
//! So no flood can refuse new clients, unless the table is full of proven connections.

use crate::conntrack::slot::Slot;
use crate::director::engine::Engine;
use crate::model::budget::Budget;
use crate::model::config::WhenFull;
use crate::model::event::Cause;
use crate::model::state::{State, TcpState};
use crate::model::tick::{STAMPS_PER_SEC, Stamp};
use crate::proto::timeouts::TimeoutTable;
use crate::proto::view::Phase;
use crate::store::Store;

/// How willingly an entry is given up: the least goes first, and of two that are equal the one that is idle for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u8);

impl Rank {
    /// Closed, or closing without an answer.
    const OVER: Self = Self(0);
    /// A connection whose handshake was never completed; a template that nothing came of.
    const HALF_OPEN: Self = Self(1);
    /// Established by one packet, or a UDP flow of one.
    const FIRST: Self = Self(2);
    /// A template of connections that nothing but their clients' packets spoke for.
    const TEMPLATE: Self = Self(3);
    /// Seen just now, or another director or a helper vouches for it; and what has had 8 packets.
    const FRESH: Self = Self(5);
    /// A template of connections that have proved what they are.
    const PROVEN_TEMPLATE: Self = Self(6);
    /// Half closed for a while, though it was proven.
    const ABANDONED: Self = Self(15);

    /// By the number of the client's packets, of which a forger has to send each.
    const fn of_packets(packets: u32, answered: bool) -> Self {
        // Doubling, so that what is ranked higher has cost a forger twice as much.
        let doublings = if packets == 0 { 0 } else { packets.ilog2() };
        let doublings = if doublings < MOST_DOUBLINGS { doublings } else { MOST_DOUBLINGS };
        // A server answers forged datagrams as well, but not everybody's service is one that does.
        Self(Self::FIRST.0 + doublings as u8 + if answered { 2 } else { 0 })
    }

    /// The rank of an entry that is idle for so long, in stamps. `None` for one that is not to be given up.
    fn of(slot: &Slot, idle: u32) -> Option<Self> {
        // Its children name it by its slot, so it cannot go before them.
        if slot.is_free() || slot.children() > 0 {
            return None;
        }
        let fresh = if idle < STAMPS_PER_SEC { Self::FRESH } else { Self::OVER };
        if slot.is_template() {
            let rank = match (slot.is_assured(), slot.is_answered()) {
                (false, _) => Self::HALF_OPEN,
                (true, false) => Self::TEMPLATE,
                (true, true) => Self::PROVEN_TEMPLATE,
            };
            return Some(rank.max(fresh));
        }
        let state = slot.state();
        let expected = matches!(state, State::Tcp(TcpState::Listen));
        let vouched = expected || (slot.is_synced() && state.is_established());
        let floor = if vouched { Self::FRESH } else { fresh };
        let rank = match state.phase() {
            Phase::Over => return Some(Self::OVER),
            Phase::HalfOpen => Self::HALF_OPEN,
            Phase::Stateless => Self::of_packets(slot.in_packets, slot.is_answered()),
            Phase::Established if slot.is_answered() => return None,
            Phase::Established => Self::of_packets(slot.in_packets, false),
            // One end may still have much to say to the other.
            Phase::Closing if slot.is_answered() => {
                return (idle >= ABANDONED_SECS * STAMPS_PER_SEC).then_some(Self::ABANDONED);
            }
            // Only the last acknowledgement is missing.
            Phase::LastAck if slot.is_answered() => {
                return (idle >= LAST_ACK_SECS * STAMPS_PER_SEC).then_some(Self::OVER);
            }
            Phase::Closing | Phase::LastAck => Self::OVER,
        };
        Some(rank.max(floor))
    }
}

/// Packets are told apart up to the 32nd.
const MOST_DOUBLINGS: u32 = 5;
/// For how long a proven connection must be silent after one end has closed it.
const ABANDONED_SECS: u32 = 60;
/// For how long it must be so after both have.
const LAST_ACK_SECS: u32 = 2;

/// For how long an entry has had no packet.
fn idle(slot: &Slot, timeouts: &TimeoutTable, now: Stamp) -> u32 {
    let last = slot.last_used(timeouts);
    // One that was given more time than its state has, by a message or a helper, looks as if it was yet to be used.
    if last.before(now) { now.since(last) } else { 0 }
}

impl<S: Store> Engine<'_, S> {
    /// A slot for a new entry, if need be that of another one that makes room.
    #[inline(always)]
    pub(crate) fn claim(&mut self) -> Option<u32> {
        match self.connections().claim() {
            Some(id) => Some(id),
            None => self.claim_of_others(),
        }
    }

    #[cold]
    #[inline(never)]
    fn claim_of_others(&mut self) -> Option<u32> {
        if self.reclaim() { self.connections().claim() } else { None }
    }

    /// Makes room for one entry in a full table, if the policy allows and something of less worth is at hand.
    fn reclaim(&mut self) -> bool {
        match self.brain.config.when_full {
            WhenFull::Refuse => return false,
            WhenFull::Reclaim => {}
        }
        let len = self.tables.slots.len() as u32;
        let mut victim: Option<(Rank, u32, u32)> = None;
        // A table is full when a flood is under way. A look at all of it would cost milliseconds, and for every packet.
        for _ in 0..RECLAIM_LOOK.min(len) {
            let id = self.brain.table.reclaim % len;
            self.brain.table.reclaim = id + 1;
            let slot = &self.tables.slots[id as usize];
            if !slot.is_free() && !slot.is_alive(self.now) {
                self.expire(id, None);
                return true;
            }
            let idle = idle(slot, &self.brain.timeouts, self.now);
            let Some(rank) = Rank::of(slot, idle) else { continue };
            if victim.is_none_or(|(least, longest, _)| rank < least || rank == least && idle > longest) {
                victim = Some((rank, idle, id));
            }
        }
        if let Some((_, _, id)) = victim {
            // The new entry takes this very place. The next search begins behind it, so that where all are equal the
            // oldest go first.
            self.brain.table.reclaim = id + 1;
            self.give_way(id);
            return true;
        }
        let nominee = self.take_nominee();
        if let Some(id) = nominee {
            self.give_way(id);
        }
        nominee.is_some()
    }

    /// Ends an entry for a new one, and the template that it alone has come from, if nothing else speaks for that.
    fn give_way(&mut self, id: u32) {
        let slot = &self.tables.slots[id as usize];
        let one_way = !slot.is_template() && slot.state().is_established();
        let controller = slot.controller();
        self.close(id, self.now, if one_way { Cause::OneWay } else { Cause::Reclaimed });
        self.brain.counters.reclaimed += 1;
        self.brain.counters.reclaimed_one_way += u64::from(one_way);
        let Some(id) = controller else { return };
        let above = &self.tables.slots[id as usize];
        if above.is_template() && !above.is_assured() && above.children() == 0 {
            self.close(id, self.now, Cause::Reclaimed);
            self.brain.counters.reclaimed += 1;
        }
    }

    /// Looks for entries that may be given up while the table is full, a piece at a time, so that a new connection
    /// finds one wherever in the table it is.
    pub(crate) fn nominate(&mut self, slots: usize, budget: &mut Budget) {
        if self.brain.config.when_full == WhenFull::Refuse || self.connections().has_room() {
            return;
        }
        let len = self.tables.slots.len() as u32;
        for _ in 0..slots.min(len as usize) {
            if budget.work < LOOK || self.brain.nominees.is_full() {
                return;
            }
            budget.spend(0, LOOK);
            let id = self.brain.nominees.cursor % len;
            self.brain.nominees.cursor = id + 1;
            if self.may_go(id) {
                self.brain.nominees.push(id);
            }
        }
    }

    /// An entry that was found to be one that may be given up, and still is.
    fn take_nominee(&mut self) -> Option<u32> {
        while let Some(id) = self.brain.nominees.pop() {
            if self.may_go(id) {
                return Some(id);
            }
        }
        None
    }

    fn may_go(&self, id: u32) -> bool {
        self.tables.slots.get(id as usize).is_some_and(|slot| {
            let idle = idle(slot, &self.brain.timeouts, self.now);
            !slot.is_free() && slot.children() == 0 && !slot.is_alive(self.now)
                || Rank::of(slot, idle).is_some()
        })
    }
}

/// What a look at a slot costs, where one at a wake-up time costs 1.
const LOOK: usize = 8;
/// How many slots a full table looks at for one to give up.
pub(crate) const RECLAIM_LOOK: u32 = 64;
