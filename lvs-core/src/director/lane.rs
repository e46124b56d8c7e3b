//! Many plain packets at once, by the shortest way.
//!
//! The same phases as [`batch`](super::batch) has, and for known connections the same steps as [`follow`](super::follow), but over
//! [briefs](Brief): a packet stays in a few registers from its header to its slot. What was guessed early, which slot a
//! hash belongs to, is checked against the slot itself when it is used, and guessed again once entries of that hash have come or
//! gone. So packets that open or end connections cost the others nothing.

use core::hint::black_box;
use core::net::{IpAddr, SocketAddr};
use core::ptr;

use super::batch::BATCH;
use super::follow::{Pace, Step, advance};
use super::slow::decide::Hint;
use super::tally::Tally;
use crate::brief::Brief;
use crate::conntrack::index::NONE;
use crate::conntrack::slot::Slot;
use crate::conntrack::table::{Table, split};
use crate::director::Director;
use crate::director::engine::Engine;
use crate::hashing::{HashTogether, Hashing};
use crate::model::id::{ConnId, ServerId};
use crate::model::method::{Method, Tunnel};
use crate::model::packet::Packet;
use crate::model::seed::Seed;
use crate::model::server::Server;
use crate::model::tick::Tick;
use crate::model::traffic::Traffic;
use crate::model::verdict::{Direction, Forward, Verdict};
use crate::store::{Store, Tables};

/// What is done with packets as soon as they are decided; see [`Director::decide_briefs`].
pub trait Carry {
    /// A packet of a known connection, which goes on.
    fn follow(&mut self, brief: &Brief, found: Found<'_>) -> Next;

    /// Any other packet, with the verdict on it.
    fn carry(&mut self, packet: &Packet, verdict: &Verdict) -> Next;
}

/// Whether further packets are to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Next {
    /// They are.
    Go,
    /// Not yet: this verdict has to be carried out first, because that tells the director something.
    Stop,
}

/// Where a packet of a known connection goes: a [`Forward`], each part of which is only made up when it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    slot: &'a Slot,
    server: &'a Server,
    id: u32,
    direction: Direction,
}

impl Found<'_> {
    /// Which way it goes.
    #[inline(always)]
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// The connection's forwarding method, with the server's present tunnel options.
    #[inline(always)]
    #[must_use]
    pub const fn method(&self) -> Method {
        self.slot.method(self.server.method)
    }

    /// Whether that is NAT.
    #[inline(always)]
    #[must_use]
    pub const fn is_nat(&self) -> bool {
        self.slot.is_nat()
    }

    /// Whether it is direct routing.
    #[inline(always)]
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.slot.is_direct()
    }

    /// Whether it is a tunnel of IPv4 or IPv6 in one of both (`ipip`).
    #[inline(always)]
    #[must_use]
    pub const fn is_wrapped(&self) -> bool {
        matches!(self.method(), Method::Tunnel(Tunnel::IpIp))
    }

    /// The real server.
    #[inline(always)]
    #[must_use]
    pub const fn server(&self) -> ServerId {
        ServerId(self.slot.server)
    }

    /// [`Forward::target`], if it is IPv4's, address and port in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn target_v4(&self) -> Option<(u32, u16)> {
        match (self.direction, self.server.address) {
            (Direction::Request, SocketAddr::V4(server)) => {
                Some((server.ip().to_bits(), self.slot.server_port))
            }
            (Direction::Request, SocketAddr::V6(_)) => None,
            (Direction::Reply, _) => Some(self.slot.virt_v4()),
        }
    }

    /// All of it.
    #[must_use]
    pub const fn forward(&self) -> Forward {
        let target = match self.direction {
            Direction::Request => SocketAddr::new(self.server.address.ip(), self.slot.server_port),
            Direction::Reply => self.slot.flow().destination(),
        };
        Forward {
            direction: self.direction,
            method: self.method(),
            target,
            connection: ConnId(self.id),
            server: self.server(),
            helper: None,
        }
    }
}

impl<S: Store> Director<S> {
    /// Decides packets in order, as [`decide`](Self::decide) would one by one, and hands each over with what was decided, in
    /// order. Faster than [`decide_batch`](Self::decide_batch), for packets that a [`Brief`] can say.
    ///
    /// Returns how many it decided: all, unless `carry` said [`Next::Stop`] for the last of them. It must do so for a
    /// verdict that [needs attention](Verdict::requires_helper).
    #[inline]
    #[must_use = "packets after the one that stopped it are not decided yet"]
    pub fn decide_briefs(&mut self, now: Tick, briefs: &[Brief], carry: &mut impl Carry) -> usize {
        let mut engine = self.engine_at(now);
        let mut decided = 0;
        for briefs in briefs.chunks(BATCH) {
            let (done, next) = engine.decide_briefs(briefs, carry);
            decided += done;
            if next == Next::Stop {
                break;
            }
        }
        decided
    }
}

impl<S: Store> Engine<'_, S> {
    #[inline]
    fn decide_briefs(&mut self, briefs: &[Brief], carry: &mut impl Carry) -> (usize, Next) {
        let (mut hashes, mut guesses) = ([0; BATCH], [NONE; BATCH]);
        self.guess(briefs, &mut hashes, &mut guesses);
        self.brain.table.deferred.begin();
        let pace = self.brain.pace(self.now);
        let mut tally = Tally::default();
        let mut last = Next::Go;
        let mut done = 0;
        while let (Some(brief), Some(&hash), Some(&guess)) =
            (briefs.get(done), hashes.get(done), guesses.get(done))
        {
            done += 1;
            let guess =
                if self.brain.table.deferred.is_marked(hash) { self.guess_again(hash) } else { guess };
            let total = self.brain.meter.live_mut();
            // Each direction is compiled for itself, together with what is done with its packets.
            last = 'next: {
                if brief.is_passing() {
                    if let Some(found) =
                        follow_reply(&mut self.tables, &pace, brief, guess, &mut tally, total)
                    {
                        break 'next carry.follow(brief, found);
                    }
                } else if let Some(found) =
                    follow_request(&mut self.tables, &pace, brief, guess, &mut tally, total)
                {
                    break 'next carry.follow(brief, found);
                }
                let (packet, verdict) = self.decide_brief(brief, hash, guess);
                carry.carry(&packet, &verdict)
            };
            if last == Next::Stop {
                break;
            }
        }
        self.connections().settle();
        self.brain.table.deferred.end();
        tally.settle(self.tables.services, self.brain.meter.live_mut());
        (done, last)
    }

    /// The whole decision on a packet.
    #[inline(never)]
    fn decide_brief(&mut self, brief: &Brief, hash: u32, guess: u32) -> (Packet, Verdict) {
        let packet = brief.packet();
        let hint = Hint { hash, slot: None, absent: guess == NONE };
        let verdict = self.decide(&packet, Some(hint));
        (packet, verdict)
    }

    /// What the index has for packets' keys. A function of its own, because each loop wants all registers.
    #[inline(never)]
    fn guess(&mut self, briefs: &[Brief], hashes: &mut [u32; BATCH], guesses: &mut [u32; BATCH]) {
        let (seed, together) = (self.brain.config.seed, self.brain.table.together);
        let far = self.brain.table.live > NEAR;
        let ahead = self.brain.table.ahead.filter(|_| far);
        let table =
            Table::new(self.tables.slots, self.tables.cells, self.tables.wakes, &mut self.brain.table);
        if let Some(ahead) = ahead {
            // A few at a time: what they wait for comes while the next ones are hashed.
            for (hashes, briefs) in hashes.chunks_mut(GROUP).zip(briefs.chunks(GROUP)) {
                let mut cells = [ptr::null(); GROUP];
                hash(seed, together, briefs, hashes);
                for ((&hash, cell), _) in hashes.iter().zip(&mut cells).zip(briefs) {
                    *cell = table.address_of_home(hash);
                }
                ahead(&cells);
            }
            let hashes = hashes.get(..briefs.len()).unwrap_or_default();
            for (guesses, hashes) in guesses.chunks_mut(GROUP).zip(hashes.chunks(GROUP)) {
                let mut slots = [ptr::null(); GROUP];
                for ((guess, slot), &hash) in guesses.iter_mut().zip(&mut slots).zip(hashes) {
                    *guess = table.guess_value(hash);
                    *slot = table.address_of_slot(*guess);
                }
                ahead(&slots);
            }
            return;
        }
        hash(seed, together, briefs, hashes);
        // Nothing but reads: a question whose answer decides what is read next would make each wait for the one before.
        if far {
            let hashes = hashes.iter().zip(briefs);
            black_box(hashes.fold(0, |sum, (&hash, _)| sum ^ table.touch_home(hash)));
        }
        let each = guesses.iter_mut().zip(&*hashes).zip(briefs);
        if !far {
            each.for_each(|((guess, &hash), _)| *guess = table.guess_value_at_hand(hash));
            return;
        }
        each.for_each(|((guess, &hash), _)| *guess = table.guess_value(hash));
        let guesses = guesses.iter().zip(briefs);
        black_box(guesses.fold(0, |sum, (&guess, _)| sum ^ table.touch_slot(split(guess).0)));
    }

    #[inline(never)]
    fn guess_again(&mut self, hash: u32) -> u32 {
        let mut table = self.connections();
        table.settle();
        table.guess_value(hash)
    }
}

/// Hashes packets, together if there is a function for it.
#[inline(always)]
fn hash(seed: Seed, together: Option<HashTogether>, briefs: &[Brief], hashes: &mut [u32]) {
    let hashing = Hashing::new(seed, briefs, hashes);
    let _ = match together {
        Some(together) => together(hashing),
        None => hashing.run(),
    };
}

/// Decides a client's packet of the connection that the index names, if it is that and there is nothing to it but counts and the
/// deadline. `None`, and nothing has changed, otherwise. What service and director count is tallied.
#[inline(always)]
fn follow_request<'t, P, M, Q>(
    tables: &'t mut Tables<'_, P, M, Q>,
    pace: &Pace,
    brief: &Brief,
    guess: u32,
    tally: &mut Tally,
    total: &mut Traffic,
) -> Option<Found<'t>> {
    let (id, by_reply) = split(guess);
    let slot = tables.slots.get_mut(id as usize)?;
    let server = tables.servers.get_mut(slot.server as usize)?;
    if by_reply || !slot.answers_brief(brief) {
        return None;
    }
    tally.turn_to(server.service, tables.services, total)?;
    let length = u32::from(brief.length());
    let direction = Direction::Request;
    advance(slot, server, pace, &Step { is_tcp: brief.is_tcp(), direction, length })?;
    tally.count_request(length);
    Some(Found { slot, server, id, direction })
}

/// The same for a real server's packet under NAT.
#[inline(always)]
fn follow_reply<'t, P, M, Q>(
    tables: &'t mut Tables<'_, P, M, Q>,
    pace: &Pace,
    brief: &Brief,
    guess: u32,
    tally: &mut Tally,
    total: &mut Traffic,
) -> Option<Found<'t>> {
    let (id, by_reply) = split(guess);
    let slot = tables.slots.get_mut(id as usize)?;
    let server = tables.servers.get_mut(slot.server as usize)?;
    let IpAddr::V4(address) = server.address.ip() else { return None };
    if !by_reply || !slot.answers_passing_brief(brief) || address.to_bits() != brief.other() {
        return None;
    }
    tally.turn_to(server.service, tables.services, total)?;
    let length = u32::from(brief.length());
    let direction = Direction::Reply;
    advance(slot, server, pace, &Step { is_tcp: brief.is_tcp(), direction, length })?;
    tally.count_reply(length);
    Some(Found { slot, server, id, direction })
}

/// So many addresses are said at a time.
const GROUP: usize = 8;

/// So many connections stay in the caches by themselves: 64 bytes each, and cells.
const NEAR: u32 = 8_192;
