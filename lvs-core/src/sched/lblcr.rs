//! `lblcr`: locality-based least connections with replication.

use super::cache::{Cache, Entry, NONE, Slab, is_past};
use super::lblc::is_overrun;
use super::order::lighter;
use super::pool::{Named, Pool};
use super::schedule::{Change, Schedule, TableLen};
use super::wlc;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;
use crate::model::server::Server;
use crate::model::tick::Tick;

/// Gives all connections to one virtual address to a set of servers, to the least loaded one in it. When that one
/// is overrun (as by `lblc`), the least loaded of all joins the set; a set that has not changed for
/// [`lblcr_expiration`](crate::config::Tuning::lblcr_expiration) loses its most loaded one.
///
/// The scheduler remembers up to 24,576 addresses with two servers each, fewer if the store's table is smaller; what
/// has no room is balanced as by `wlc`.
#[derive(Clone, Copy, Debug)]
pub struct LocalityReplication {
    cache: Cache,
    /// Members of the sets.
    members: Slab,
}

impl Schedule for LocalityReplication {
    fn name(&self) -> &'static str {
        "lblcr"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        let address = pool.destination(flow);
        let Some(entry) = self.cache.find(pool, address) else {
            let picked = wlc::least(pool)?;
            if let Some(entry) = self.cache.insert(pool, address) {
                self.cache.set_word(pool, entry, FIRST, NONE);
                self.cache.set_word(pool, entry, CHANGED, pool.now().stamp().to_bits());
                self.join(pool, entry, picked);
            }
            return Some(picked);
        };
        let least = self.least(pool, entry);
        let (_, expiration) = pool.expirations();
        let changed = self.cache.word(pool, entry, CHANGED);
        // A set of one is never reduced: the address would have no server.
        if self.set(pool, entry).nth(1).is_some() && is_past(pool, changed, expiration) {
            self.shrink(pool, entry);
        }
        if let Some(id) = least
            && pool.get(id).is_some_and(|server| !is_overrun(pool, server))
        {
            return Some(id);
        }
        let picked = wlc::least(pool)?;
        self.join(pool, entry, picked);
        Some(picked)
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        match change {
            Change::Bound => {
                self.cache.bind(pool, MEMBERS_PER_ENTRY * MEMBER as usize);
                let (end, entries) = self.cache.end();
                self.members = Slab::new(end, MEMBER, entries * MEMBERS_PER_ENTRY as u32);
            }
            Change::Added(_) | Change::Edited(_) | Change::Removed { .. } => {}
        }
    }

    fn table_len(&self) -> TableLen {
        Cache::table_len(MEMBERS_PER_ENTRY * MEMBER as usize)
    }

    fn next_tick(&self) -> Option<Tick> {
        self.cache.next_tick()
    }

    fn on_tick(&mut self, pool: &mut Pool<'_>) {
        let (_, expiration) = pool.expirations();
        let Self { cache, members } = self;
        let before = *cache;
        cache.collect(pool, expiration, |pool, entry| {
            let mut id = before.word(pool, entry, FIRST);
            for _ in 0..members.len() {
                if id >= members.len() {
                    break;
                }
                let next = members.get(pool, id, NEXT);
                pool.release(name(members, pool, id));
                members.give_back(pool, id);
                id = next;
            }
        });
    }
}

impl LocalityReplication {
    /// The members of an entry's set, newest first.
    fn set<'p>(&self, pool: &'p Pool<'_>, entry: Entry) -> impl Iterator<Item = u32> + use<'p> {
        self.members.chain(pool, self.cache.word(pool, entry, FIRST), NEXT)
    }

    /// The set's least loaded server that may be chosen.
    fn least(&self, pool: &Pool<'_>, entry: Entry) -> Option<ServerId> {
        let servers = self.set(pool, entry).filter_map(|id| {
            let name = name(&self.members, pool, id);
            pool.named(name).map(|server| (name.id, server))
        });
        let usable = servers.filter(|(_, server)| server.is_usable() && server.is_available());
        let less = |one: &Server, best: &Server| {
            lighter(one.overhead(), one.weight(), best.overhead(), best.weight())
        };
        usable.reduce(|best, other| if less(other.1, best.1) { other } else { best }).map(|(id, _)| id)
    }

    /// Takes the most loaded server out of the set. Neither thresholds nor removal matter here, as in IPVS.
    fn shrink(&mut self, pool: &mut Pool<'_>, entry: Entry) {
        let members = self.members;
        let servers = self
            .set(pool, entry)
            .filter_map(|id| pool.named(name(&members, pool, id)).map(|server| (id, server)));
        let weighty = servers.filter(|(_, server)| server.weight() > 0);
        let more = |one: &Server, best: &Server| {
            lighter(best.overhead(), best.weight(), one.overhead(), one.weight())
        };
        let most = weighty.reduce(|best, other| if more(other.1, best.1) { other } else { best });
        let Some((member, _)) = most else { return };
        let next = self.members.get(pool, member, NEXT);
        let before = self.set(pool, entry).take_while(|&id| id != member).last();
        match before {
            Some(before) => self.members.set(pool, before, NEXT, next),
            None => self.cache.set_word(pool, entry, FIRST, next),
        }
        pool.release(name(&self.members, pool, member));
        self.members.give_back(pool, member);
        self.cache.set_word(pool, entry, CHANGED, pool.now().stamp().to_bits());
    }

    /// Puts a server into the set, unless it is there or there is no room.
    fn join(&mut self, pool: &mut Pool<'_>, entry: Entry, server: ServerId) {
        let Some(new) = pool.name(server) else { return };
        if self.set(pool, entry).any(|id| name(&self.members, pool, id) == new) {
            return;
        }
        // Without room the address is balanced as by `wlc` this once, and keeps its old set.
        let Some(member) = self.members.take(pool) else { return };
        self.members.set(pool, member, NEXT, self.cache.word(pool, entry, FIRST));
        self.members.set(pool, member, ID, new.id.0);
        self.members.set(pool, member, GENERATION, new.generation);
        self.cache.set_word(pool, entry, FIRST, member);
        self.cache.set_word(pool, entry, CHANGED, pool.now().stamp().to_bits());
        pool.hold(new);
    }
}

impl Default for LocalityReplication {
    fn default() -> Self {
        Self { cache: Cache::default(), members: Slab::new(0, MEMBER, 0) }
    }
}

fn name(members: &Slab, pool: &Pool<'_>, member: u32) -> Named {
    Named { id: ServerId(members.get(pool, member, ID)), generation: members.get(pool, member, GENERATION) }
}

/// An entry's own words.
const FIRST: u32 = 0;
const CHANGED: u32 = 1;
/// Cells of a member, and what is in them.
const MEMBER: u32 = 3;
const NEXT: u32 = 0;
const ID: u32 = 1;
const GENERATION: u32 = 2;
/// How many members there are for each entry.
const MEMBERS_PER_ENTRY: usize = 2;
