//! Who has which link-layer address: a bounded cache (the states of RFC 4861 §7.3.2, for ARP too).
//!
//! Anybody on a link can make a host ask for neighbours that do not exist, and can speak as neighbours that nobody
//! needs. So an entry's [rank](rank::Rank) is what it has proved, and what a stranger can make gives way to what he
//! cannot:
//!
//! * A real server's or a gateway's gives way to none that a stranger makes, as long as it is wanted.
//! * A neighbour that has answered a question gives way once it has not been used for a minute.
//! * One that only spoke of itself gives way to newer ones, and the unused ones first.
//! * One that does not answer gives way first.
//!
//! Questions leave in the order in which they fell due, so many a millisecond: first those for neighbours that are
//! wanted or have proved themselves, then those that strangers caused. Each step takes as long in a full table as in an
//! empty one: a hash index finds entries, and lists keep their orders.

mod questions;
mod rank;
#[cfg(all(test, feature = "alloc"))]
mod tests;

use core::net::IpAddr;

use lvs_core::Tick;

use self::questions::{QUESTION, Question, Questions};
use self::rank::{RANK, RANKS, Rank};
use super::list::{Linked, Links, List, NONE};
use super::mac::MacAddress;
use super::waiting::{Arrived, Place, Queue, Ready, Waiting};
use crate::frame::{Frame, PortId};
use crate::hash::{Key, bucket};
use crate::header::address::to_bits;
use crate::memory::{Empty, Memory, Places};

/// How long an answer is believed without asking again, in milliseconds (RFC 4861 §10, `REACHABLE_TIME`).
const REACHABLE_MS: u64 = 30_000;
/// How long a neighbour that did not answer counts as absent before it is asked for again, in milliseconds.
const FAILED_MS: u64 = 5_000;
/// How long a neighbour stays wanted after somebody has looked for it, in milliseconds.
const WANTED_MS: u64 = 3_600_000;
/// Entries that may share a bucket: the most that a look-up can cost. With at most one entry a bucket on average, none
/// has so many by chance in the age of the universe, and a stranger does not know the key.
const CHAIN: usize = 16;
const NEVER: Tick = Tick::from_millis(u64::MAX);
/// Memory for more neighbours is taken when fewer places than this are left: more than one batch of packets can need.
const SPARE: usize = 128;

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    Known(MacAddress),
    /// The neighbour is being asked for.
    Pending,
    /// The neighbour did not answer lately.
    Failed,
    /// No place is left to remember the neighbour, or more questions wait than can be asked soon.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Configured: never asked for, never evicted.
    Static,
    /// The neighbour's link-layer address was heard; asked again when it is used after `until`.
    Known,
    /// Being asked for.
    Unanswered,
    /// Did not answer; absent until `until`.
    Failed,
}

/// One neighbour, or a place for one.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    bits: u128,
    until: Tick,
    /// When its next question is due.
    due: Tick,
    used: Tick,
    /// When it came to its place in the list of its rank.
    ranked: Tick,
    /// Until when a real server is behind it, as far as somebody has said so.
    wanted: Tick,
    /// The next entry of the same bucket, or the next free place.
    next: u32,
    of_rank: Links,
    in_questions: Links,
    /// What waits for its answer.
    queue: Queue,
    mac: MacAddress,
    port: PortId,
    state: State,
    rank: Rank,
    question: Question,
    /// Questions since the last answer.
    tries: u8,
    /// Whether it has answered a question since it last failed.
    proved: bool,
    /// Whether a route leads by it.
    gateway: bool,
}

impl Empty for Entry {
    const EMPTY: Self = Self {
        bits: 0,
        until: Tick::ZERO,
        due: Tick::ZERO,
        used: Tick::ZERO,
        ranked: Tick::ZERO,
        wanted: Tick::ZERO,
        next: NONE,
        of_rank: Links::NONE,
        in_questions: Links::NONE,
        queue: Queue::EMPTY,
        mac: MacAddress::ZERO,
        port: PortId(0),
        state: State::Free,
        rank: Rank::None,
        question: Question::None,
        tries: 0,
        proved: false,
        gateway: false,
    };
}

impl Linked<RANK> for Entry {
    fn links(&mut self) -> &mut Links {
        &mut self.of_rank
    }
}

impl Linked<QUESTION> for Entry {
    fn links(&mut self) -> &mut Links {
        &mut self.in_questions
    }
}

/// What neighbours, and packets that wait for them, are kept in.
pub(crate) struct NeighbourMemory {
    pub(super) places: Places<Entry>,
    pub(super) heads: Memory<u32>,
    pub(super) waiting: Places<Place>,
}

impl NeighbourMemory {
    /// Room for so many neighbours and packets, each in pieces of 2 to the power of its `shift`.
    #[cfg(feature = "alloc")]
    pub(super) fn owned(neighbours: usize, waiting: usize, shift: u32, waiting_shift: u32) -> Self {
        Self {
            places: Places::owned(neighbours, shift),
            heads: Memory::filled(neighbours),
            waiting: Places::owned(waiting, waiting_shift),
        }
    }
}

/// Why a new entry is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newcomer {
    /// Somebody who sets the host up knows it: a real server, a gateway, a configured neighbour.
    Wanted,
    /// A packet goes there.
    Asked,
    /// The neighbour has spoken of itself.
    Heard,
}

/// Packets that waited in vain and have not been counted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Packets whose neighbour did not answer.
    pub(crate) failed: u64,
    /// Packets that gave way to others, or whose neighbour did.
    pub(crate) pending: u64,
}

impl Lost {
    pub(crate) const NONE: Self = Self { failed: 0, pending: 0 };
}

/// The neighbours of all ports, and the packets that wait for them.
#[cfg_attr(feature = "alloc", derive(Clone))]
pub(crate) struct Neighbours {
    key: Key,
    places: Places<Entry>,
    /// The first entry of each bucket.
    heads: Memory<u32>,
    free: u32,
    free_count: usize,
    ranks: [List<RANK>; RANKS],
    questions: Questions,
    waiting: Waiting,
    lost: Lost,
    /// Goes up with everything that may change a way.
    changes: u32,
    /// Before this the host has nothing to send by itself.
    quiet_until: Tick,
}

impl Neighbours {
    pub(crate) fn new(key: Key, memory: NeighbourMemory) -> Self {
        let NeighbourMemory { places, heads, waiting } = memory;
        Self {
            key,
            places,
            heads,
            free: NONE,
            free_count: 0,
            ranks: [List::EMPTY; RANKS],
            questions: Questions::NONE,
            waiting: Waiting::new(waiting),
            lost: Lost::NONE,
            changes: 0,
            quiet_until: Tick::ZERO,
        }
    }

    /// How many neighbours there can be, and how many packets can wait for them.
    pub(crate) fn bounds(&self) -> (usize, usize) {
        (self.places.bound(), self.waiting.bound())
    }

    /// A number that is another one after a known neighbour has moved or is known no longer.
    #[inline]
    pub(crate) const fn changes(&self) -> u32 {
        self.changes
    }

    pub(crate) const fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    /// Whether the host has nothing to send by itself yet, as far as one comparison tells.
    #[inline]
    pub(crate) fn is_quiet(&self, now: Tick) -> bool {
        now < self.quiet_until
    }

    /// The host has nothing to send before this, unless [`wake`](Self::wake) is called.
    pub(crate) const fn rest(&mut self, until: Option<Tick>) {
        self.quiet_until = match until {
            Some(until) => until,
            None => NEVER,
        };
    }

    /// The host may have something to send now.
    pub(crate) const fn wake(&mut self) {
        self.quiet_until = Tick::ZERO;
    }

    /// The link-layer address of a next hop; starts to ask for it when it is not known. `gateway` when a route leads by
    /// it.
    #[inline]
    pub(crate) fn resolve(&mut self, now: Tick, port: PortId, bits: u128, gateway: bool) -> Resolution {
        match self.position(port, bits) {
            Some(at) => self.use_entry(now, at),
            None => self.ask_for(now, port, bits, gateway, Tick::ZERO),
        }
    }

    /// As [`resolve`](Self::resolve), for a neighbour that a real server is behind.
    pub(crate) fn want(&mut self, now: Tick, port: PortId, bits: u128, gateway: bool) -> Resolution {
        let wanted = now.plus_millis(WANTED_MS);
        let Some(at) = self.position(port, bits) else {
            return self.ask_for(now, port, bits, gateway, wanted);
        };
        if let Some(entry) = self.places.get_mut(at) {
            entry.wanted = wanted;
        }
        self.rank(now, at);
        self.use_entry(now, at)
    }

    /// Lets a neighbour stay wanted. One that has no entry is asked for; any other is left alone.
    pub(crate) fn keep_wanted(&mut self, now: Tick, port: PortId, bits: u128, gateway: bool) {
        let Some(at) = self.position(port, bits) else {
            self.ask_for(now, port, bits, gateway, now.plus_millis(WANTED_MS));
            return;
        };
        if let Some(entry) = self.places.get_mut(at) {
            entry.wanted = now.plus_millis(WANTED_MS);
        }
        self.rank(now, at);
    }

    /// Says of a neighbour, if it is known, whether a route leads by it.
    pub(crate) fn set_gateway(&mut self, port: PortId, bits: u128, gateway: bool) {
        if let Some(at) = self.position(port, bits)
            && let Some(entry) = self.places.get_mut(at)
        {
            entry.gateway = gateway;
            let now = entry.used;
            self.rank(now, at);
        }
    }

    #[inline]
    fn use_entry(&mut self, now: Tick, at: u32) -> Resolution {
        let Some(entry) = self.places.get_mut(at) else { return Resolution::Full };
        entry.used = now;
        let mac = entry.mac;
        match entry.state {
            State::Static => Resolution::Known(mac),
            State::Known => {
                // Used meanwhile as if it were certain: a packet that waits costs more than one that a silent neighbour
                // loses.
                if now >= entry.until && entry.question == Question::None && self.may_ask(at) {
                    self.ask(now, at);
                }
                Resolution::Known(mac)
            }
            State::Unanswered => Resolution::Pending,
            State::Failed if now < entry.until => Resolution::Failed,
            // Asked anew only when it is needed: a dead neighbour that nobody speaks to causes no traffic.
            State::Failed | State::Free => {
                if !self.may_ask(at) {
                    return Resolution::Full;
                }
                if let Some(entry) = self.places.get_mut(at) {
                    entry.state = State::Unanswered;
                }
                self.rank(now, at);
                self.ask(now, at);
                Resolution::Pending
            }
        }
    }

    fn ask_for(&mut self, now: Tick, port: PortId, bits: u128, gateway: bool, wanted: Tick) -> Resolution {
        let newcomer = if gateway || wanted > now { Newcomer::Wanted } else { Newcomer::Asked };
        if newcomer != Newcomer::Wanted && self.questions.is_crowded() {
            return Resolution::Full;
        }
        let Some(at) = self.make(now, port, bits, newcomer) else { return Resolution::Full };
        if let Some(entry) = self.places.get_mut(at) {
            (entry.state, entry.gateway, entry.wanted) = (State::Unanswered, gateway, wanted);
        }
        self.rank(now, at);
        self.ask(now, at);
        Resolution::Pending
    }

    /// Remembers what a neighbour said of itself; `create` also if nobody asked.
    pub(crate) fn learn(&mut self, now: Tick, port: PortId, address: IpAddr, mac: MacAddress, create: bool) {
        if mac.is_group() || mac == MacAddress::ZERO || address.is_unspecified() {
            return;
        }
        let bits = to_bits(address);
        let Some(at) = self
            .position(port, bits)
            .or_else(|| if create { self.make(now, port, bits, Newcomer::Heard) } else { None })
        else {
            return;
        };
        let Some(entry) = self.places.get_mut(at) else { return };
        // What an operator configured is not for the link to change: that is what it is configured for.
        if entry.state == State::Static {
            return;
        }
        let was_known = entry.state == State::Known;
        let moved = was_known && entry.mac != mac;
        let answered = entry.question != Question::None && entry.tries > 0;
        // What it says unasked is believed, but a neighbour of that name is asked when it is used next.
        entry.until =
            if answered || entry.proved && was_known && !moved { now.plus_millis(REACHABLE_MS) } else { now };
        // A question that is due stays due: else whoever speaks often enough in a neighbour's name is never asked.
        let due =
            was_known && !moved && !entry.proved && entry.question != Question::None && entry.tries == 0;
        entry.proved |= answered;
        (entry.state, entry.mac, entry.tries) = (State::Known, mac, 0);
        if moved {
            self.changed();
        }
        if due {
            self.rank(now, at);
        } else {
            self.settle(now, at);
        }
        self.release(at, mac);
    }

    /// What is believed of a neighbour now, without asking.
    pub(crate) fn known(&self, port: PortId, address: IpAddr) -> Option<MacAddress> {
        let at = self.position(port, to_bits(address))?;
        let entry = self.places.get(at)?;
        matches!(entry.state, State::Static | State::Known).then_some(entry.mac)
    }

    /// Configures a neighbour; `None` when there is no place for it.
    pub(crate) fn set(&mut self, port: PortId, address: IpAddr, mac: MacAddress) -> Option<()> {
        let bits = to_bits(address);
        let at = match self.position(port, bits) {
            Some(at) => at,
            None => self.make(Tick::ZERO, port, bits, Newcomer::Wanted)?,
        };
        let entry = self.places.get_mut(at)?;
        (entry.state, entry.mac, entry.tries) = (State::Static, mac, 0);
        self.changed();
        self.settle(Tick::ZERO, at);
        // Packets may wait for this very answer, and nobody will ask any more.
        self.release(at, mac);
        Some(())
    }

    /// Forgets a neighbour, configured or learnt.
    pub(crate) fn remove(&mut self, port: PortId, address: IpAddr) -> Option<()> {
        let at = self.position(port, to_bits(address))?;
        self.evict(at);
        self.changed();
        Some(())
    }

    /// Doubts what was learnt on a port, because another link may be behind it: each neighbour is asked for when it is
    /// needed next. Configured ones stay.
    pub(crate) fn flush(&mut self, now: Tick, port: PortId) {
        for at in (0..).take(self.places.bound()) {
            let Some(entry) = self.places.get_mut(at) else { break };
            if entry.port == port && matches!(entry.state, State::Known | State::Failed) {
                (entry.state, entry.until) = (State::Failed, Tick::ZERO);
                self.settle(now, at);
            }
        }
        self.changed();
    }

    /// Keeps a packet that begins with its IP header until its next hop has answered; `None` when it cannot wait.
    pub(crate) fn wait(
        &mut self,
        frame: &Frame<'_>,
        family: lvs_core::Family,
        port: PortId,
        bits: u128,
    ) -> Option<()> {
        self.wake();
        let at = self.position(port, bits)?;
        let entry = self.places.get(at).filter(|entry| entry.state == State::Unanswered)?;
        let wanted = entry.rank.is_sure();
        let packet = Arrived { frame, family, neighbour: at, port, wanted };
        let mut queue = entry.queue;
        if !self.waiting.may_wait(&queue, &packet) {
            return None;
        }
        if self.waiting.push(&mut queue, &packet).is_none() {
            let stranger = self.waiting.oldest_stranger().filter(|&stranger| wanted && stranger != at)?;
            let other = self.places.get_mut(stranger)?;
            self.lost.pending += u64::from(self.waiting.lose(&mut other.queue));
            self.waiting.push(&mut queue, &packet)?;
        }
        self.places.get_mut(at)?.queue = queue;
        Some(())
    }

    /// Whether a packet need not wait any longer.
    #[inline]
    pub(crate) const fn any_ready(&self) -> bool {
        self.waiting.any_ready()
    }

    /// Copies the next packet that need not wait any longer to `buffer[start..]`.
    pub(crate) fn pop_ready<'a>(&mut self, buffer: &'a mut [u8], start: usize) -> Option<Ready<'a>> {
        self.waiting.pop(buffer, start)
    }

    /// The packets that waited in vain since the last call.
    pub(crate) const fn take_lost(&mut self) -> Lost {
        core::mem::replace(&mut self.lost, Lost::NONE)
    }

    pub(crate) const fn lose_ready(&mut self) {
        self.lost.pending += 1;
    }

    /// Takes a piece of memory if places are short, so that the packets of the next batch find some.
    pub(crate) fn grow_if_short(&mut self) {
        if self.free_count + self.places.spare() < SPARE {
            self.places.grow();
        }
        self.waiting.grow_if_short();
    }

    fn release(&mut self, at: u32, mac: MacAddress) {
        self.wake();
        if let Some(entry) = self.places.get_mut(at) {
            self.waiting.release(&mut entry.queue, mac);
        }
    }

    /// Loses what waits for a neighbour, and says how much it was.
    fn lose(&mut self, at: u32) -> u64 {
        let mut lost = 0;
        if let Some(entry) = self.places.get_mut(at) {
            while self.waiting.lose(&mut entry.queue) {
                lost += 1;
            }
        }
        lost
    }

    /// A place for a neighbour that is not in the table, in its bucket, of no rank yet.
    fn make(&mut self, now: Tick, port: PortId, bits: u128, newcomer: Newcomer) -> Option<u32> {
        let bucket = bucket(self.key.hash(bits), self.heads.get().len());
        if self.chain(bucket).nth(CHAIN - 1).is_some() {
            let loose = |&at: &u32| {
                self.places.get(at).is_some_and(|entry| !entry.rank.is_sure() && entry.rank != Rank::None)
            };
            let victim = self.chain(bucket).find(loose)?;
            self.evict(victim);
        }
        let at = self.take(newcomer).or_else(|| {
            let victim = self.victim(now, newcomer)?;
            self.evict(victim);
            self.take(newcomer)
        })?;
        // Places may be short now.
        self.wake();
        let head = self.heads.get_mut().get_mut(bucket)?;
        let next = core::mem::replace(head, at);
        *self.places.get_mut(at)? = Entry { bits, port, next, used: now, ranked: now, ..Entry::EMPTY };
        Some(at)
    }

    fn take(&mut self, newcomer: Newcomer) -> Option<u32> {
        if let Some(entry) = self.places.get(self.free) {
            self.free_count = self.free_count.saturating_sub(1);
            return Some(core::mem::replace(&mut self.free, entry.next));
        }
        let taken = self.places.take();
        // Who sets a host up has the time; for packets, memory is taken ahead.
        if taken.is_none() && newcomer == Newcomer::Wanted && self.places.grow() {
            return self.places.take();
        }
        taken
    }

    /// Gives an entry's place back.
    fn evict(&mut self, at: u32) {
        self.lost.pending += self.lose(at);
        self.forget_question(at);
        self.leave_rank(at);
        self.unlink(at);
        if let Some(entry) = self.places.get_mut(at) {
            let known = matches!(entry.state, State::Known | State::Static);
            *entry = Entry { next: self.free, ..Entry::EMPTY };
            self.free = at;
            self.free_count += 1;
            if known {
                self.changed();
            }
        }
    }

    #[inline]
    fn position(&self, port: PortId, bits: u128) -> Option<u32> {
        let bucket = bucket(self.key.hash(bits), self.heads.get().len());
        self.chain(bucket)
            .find(|&at| self.places.get(at).is_some_and(|entry| entry.bits == bits && entry.port == port))
    }

    /// The places of a bucket's entries.
    #[inline]
    fn chain(&self, bucket: usize) -> impl Iterator<Item = u32> {
        let mut at = self.heads.get().get(bucket).copied().unwrap_or(NONE);
        core::iter::from_fn(move || {
            let next = self.places.get(at)?.next;
            Some(core::mem::replace(&mut at, next))
        })
        .take(CHAIN)
    }

    /// Takes an entry out of its bucket.
    fn unlink(&mut self, at: u32) {
        let Some(&Entry { bits, next, .. }) = self.places.get(at) else { return };
        let bucket = bucket(self.key.hash(bits), self.heads.get().len());
        let before =
            self.chain(bucket).find(|&other| self.places.get(other).is_some_and(|other| other.next == at));
        if let Some(before) = before.and_then(|before| self.places.get_mut(before)) {
            before.next = next;
        } else if let Some(head) = self.heads.get_mut().get_mut(bucket).filter(|head| **head == at) {
            *head = next;
        }
    }
}
