//! `lblc`: locality-based least connections.

use super::cache::{Cache, Entry};
use super::pool::{Named, Pool};
use super::schedule::{Change, Schedule, TableLen};
use super::wlc;
use crate::model::flow::Flow;
use crate::model::id::ServerId;
use crate::model::rng::Rng;
use crate::model::server::Server;
use crate::model::tick::Tick;

/// Gives all connections to one virtual address to one server, chosen as `wlc` would when the first one came, until
/// that server is quiesced, removed, or overrun: with more active connections than its weight, while
/// another has less than half of its own. Meant for caches behind a firewall mark.
///
/// The scheduler remembers up to 24,576 addresses, fewer if the store's table is smaller; further ones are balanced as
/// by `wlc`. An upper threshold does not keep connections from a server that an address already has, as in IPVS.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalityLeastConnection {
    cache: Cache,
}

impl Schedule for LocalityLeastConnection {
    fn name(&self) -> &'static str {
        "lblc"
    }

    fn pick(&mut self, pool: &mut Pool<'_>, flow: &Flow, _rng: &mut Rng) -> Option<ServerId> {
        let address = pool.destination(flow);
        let known = self.cache.find(pool, address);
        if let Some(name) = known.map(|entry| self.name(pool, entry))
            && let Some(server) = pool.named(name)
            && server.is_available()
            && server.weight() > 0
            && !is_overrun(pool, server)
        {
            return Some(name.id);
        }
        // The cached server is gone, quiesced or overrun. The least loaded one takes the address over.
        let picked = wlc::least(pool)?;
        if let Some(name) = pool.name(picked) {
            match known {
                Some(entry) if self.name(pool, entry) == name => {}
                Some(entry) => {
                    pool.release(self.name(pool, entry));
                    self.put(pool, entry, name);
                }
                None => {
                    if let Some(entry) = self.cache.insert(pool, address) {
                        self.put(pool, entry, name);
                    }
                }
            }
        }
        Some(picked)
    }

    fn on_change(&mut self, pool: &mut Pool<'_>, change: Change) {
        match change {
            Change::Bound => self.cache.bind(pool, 0),
            // A removed server that comes back has its addresses again.
            Change::Added(_) | Change::Edited(_) | Change::Removed { .. } => {}
        }
    }

    fn table_len(&self) -> TableLen {
        Cache::table_len(0)
    }

    fn next_tick(&self) -> Option<Tick> {
        self.cache.next_tick()
    }

    fn on_tick(&mut self, pool: &mut Pool<'_>) {
        let (expiration, _) = pool.expirations();
        // The closure reads entries while the cache changes; places of entries do not move meanwhile.
        let before = *self;
        self.cache.collect(pool, expiration, |pool, entry| pool.release(before.name(pool, entry)));
    }
}

impl LocalityLeastConnection {
    fn name(&self, pool: &Pool<'_>, entry: Entry) -> Named {
        let [id, generation] = [ID, GENERATION].map(|word| self.cache.word(pool, entry, word));
        Named { id: ServerId(id), generation }
    }

    fn put(&self, pool: &mut Pool<'_>, entry: Entry, name: Named) {
        self.cache.set_word(pool, entry, ID, name.id.0);
        self.cache.set_word(pool, entry, GENERATION, name.generation);
        pool.hold(name);
    }
}

/// Whether `server` has more than it should while another one has little.
pub(super) fn is_overrun(pool: &Pool<'_>, server: &Server) -> bool {
    let idles = |server: &Server| u64::from(server.active()) * 2 < u64::from(server.weight());
    server.active() > server.weight() && pool.iter().any(|(_, server)| idles(server))
}

/// What an entry's own words are.
const ID: u32 = 0;
const GENERATION: u32 = 1;
