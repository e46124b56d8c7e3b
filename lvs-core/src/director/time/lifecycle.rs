//! Time and ends: what expires, what makes room, what becomes of removed servers.

use super::sweep::{Hashes, WORK};
use crate::conntrack::table::Table;
use crate::director::Director;
use crate::director::brain::Brain;
use crate::director::engine::Engine;
use crate::model::budget::Budget;
use crate::model::event::{Cause, Event};
use crate::model::id::{ConnId, ServerId, ServerRef};
use crate::model::news::ServerFact;
use crate::model::server::{Life, Server, meant};
use crate::model::tick::{Stamp, Tick};
use crate::store::{Services as _, Store};

impl<S: Store> Director<S> {
    /// Ends the connections of a real server, and the templates that send clients to it, as if their time were up: what
    /// comes of them later is a packet of an unknown connection. Looks at `count` entries from `first` on, so that a
    /// large table can be gone through in parts between packets. Returns how many entries it ended.
    ///
    /// What controls others (a template, an FTP control connection) ends after those: go through the table twice.
    pub fn cut(&mut self, now: Tick, server: impl Into<ServerRef>, first: u32, count: u32) -> usize {
        let mut engine = self.engine_at(now);
        let Some(server) = meant(engine.tables.servers, server.into()) else { return 0 };
        let before = engine.brain.table.live;
        for id in first..first.saturating_add(count).min(engine.brain.table.used()) {
            let slot = &engine.tables.slots[id as usize];
            if !slot.is_free() && slot.server == server.0 {
                engine.give_up(id, Cause::Dropped, true);
            }
        }
        before.saturating_sub(engine.brain.table.live) as usize
    }
}

impl<S: Store> Engine<'_, S> {
    /// Takes an entry out whose time is up, and then what controlled it, if that has only lived for it.
    /// `hashes` is what it is found by, if that is known.
    pub(crate) fn expire(&mut self, id: u32, mut hashes: Option<Hashes>) {
        let mut next = Some(id);
        while let Some(id) = next {
            let slot = &self.tables.slots[id as usize];
            if slot.is_alive(self.now) {
                return;
            }
            // What controls it may have lived for it alone, and is over with it.
            next = slot.controller();
            let deadline = slot.deadline();
            self.close_known(id, deadline, Cause::Expired, hashes.take());
            self.brain.counters.expired += 1;
        }
    }

    /// Takes an entry out of the table and off its server, as of `when`.
    pub(crate) fn close(&mut self, id: u32, when: Stamp, cause: Cause) {
        self.close_known(id, when, cause, None);
    }

    /// As [`close`](Self::close), of a connection of [`Method::Direct`](crate::Method::Direct) that requests find by
    /// this hash.
    pub(crate) fn close_by(&mut self, id: u32, when: Stamp, cause: Cause, hash: u32) {
        self.close_known(id, when, cause, Some((hash, None)));
    }

    fn close_known(&mut self, id: u32, when: Stamp, cause: Cause, hashes: Option<Hashes>) {
        let slot = self.tables.slots[id as usize];
        let index = slot.server as usize;
        let server = ServerId(slot.server);
        if slot.is_template() {
            // A template for a call is found by a hash of the Call-ID, which only the store has.
            let call = if slot.is_call() { self.tables.by_key.call(id) } else { None };
            let hash = self.brain.template_hash(&slot.key(), call);
            self.tables.by_key.forget_call(id);
            self.connections().remove(id, hash, None);
            self.tables.servers[index].persistent = self.tables.servers[index].persistent.saturating_sub(1);
            return;
        }
        let address = self.tables.servers[index].address.ip();
        let (request, reply) =
            hashes.unwrap_or_else(|| Table::hashes(&slot, &slot.key(), address, self.brain.config.seed));
        self.connections().remove(id, request, reply);
        self.brain.without_client_port -= u32::from(slot.lacks_client_port());
        if let Some(controller) = slot.controller() {
            if slot.is_proven() || slot.in_packets >= PROVING_PACKETS {
                self.tables.slots[controller as usize].vouch_for_template();
            }
            let now = self.now;
            self.connections().release(controller, when, now);
        }
        let relieved = self.tables.servers[index].unbind(slot.is_active());
        let closed =
            Event::Closed { connection: ConnId(id), flow: slot.flow(), server, state: slot.state(), cause };
        self.note(closed);
        if relieved {
            self.note_server(server, ServerFact::Relieved);
        }
        if self.tables.servers[index].is_drained() {
            self.note_server(server, ServerFact::Drained);
        } else {
            // A stand-in is there for its connections alone.
            self.leave_standin(server);
        }
    }

    /// Ends an entry before its time, unless it controls others, and then also what controls it, if that has nothing
    /// left to control; of templates only those that have not proved their worth, or `all`.
    pub(crate) fn give_up(&mut self, id: u32, cause: Cause, all: bool) {
        let mut next = Some(id);
        while let Some(id) = next {
            let slot = &self.tables.slots[id as usize];
            // Its children name it by its slot, so it cannot go before them.
            if slot.children() > 0 {
                return;
            }
            next = slot.controller().filter(|&controller| {
                let above = &self.tables.slots[controller as usize];
                above.children() == 1 && (all || !above.is_template() || !above.is_assured())
            });
            self.close(id, self.now, cause);
        }
    }

    /// Estimates rates, every two seconds.
    pub(crate) fn estimate(&mut self) {
        let now = self.brain.clock;
        // What was counted while nothing was to be estimated waits for the end of its own two seconds.
        let counts = self.brain.estimates || now.is_multiple(ESTIMATE_PERIOD_SECS);
        if now >= self.brain.next_estimate {
            self.brain.next_estimate = now.next_multiple(ESTIMATE_PERIOD_SECS);
            if counts && self.brain.config.tuning.run_estimation {
                self.estimate_all();
            }
        }
        self.brain.estimates = self.brain.would_estimate();
    }

    fn estimate_all(&mut self) {
        self.brain.meter.tick();
        let mut fall = false;
        // No further than there are any: the places of a store may be many.
        let mut servers = 0;
        for service in
            self.tables.services.iter_mut().flatten().take(self.brain.families.iter().sum::<u32>() as usize)
        {
            service.meter.tick();
            fall |= service.meter.moves();
            servers += service.servers as usize;
        }
        for server in self.tables.servers.iter_mut().filter(|server| server.is_available()).take(servers) {
            server.meter.tick();
            fall |= server.meter.moves();
        }
        self.brain.rates_fall = fall;
    }

    /// Ends connections of removed servers, a part of the table at a time, if `expire_nodest_conn` was on at
    /// their removal.
    pub(crate) fn flush_orphans(&mut self, budget: &mut Budget) {
        let Some(mut id) = self.brain.flush else { return };
        let used = self.brain.table.used();
        // A part of the table at a time: IPVS has a thread for this, and here packets wait for it.
        while id < used && budget.lasts() {
            budget.spend(1, LOOK);
            let slot = &self.tables.slots[id as usize];
            if self.tables.servers.get(slot.server as usize).is_some_and(Server::is_removed) {
                self.give_up(id, Cause::Dropped, true);
                budget.spend(0, WORK);
            }
            id += 1;
        }
        self.brain.flush = (id < used).then_some(id);
    }

    /// Gives the places of removed servers back that nothing has referred to for two minutes (IPVS's trash: looked
    /// over every 60 s; noted as idle by one look, freed by one at least 120 s later).
    pub(crate) fn empty_trash(&mut self) {
        let now = self.brain.clock;
        self.brain.next_trash = now.plus_secs(TRASH_PERIOD_SECS);
        self.give_back_removed(|server, idle_since| match idle_since {
            // A place that a connection or a cache of `lblc` names must not go to another server: both name it by its
            // number.
            _ if server.is_referred_to() || server.holds > 0 => false,
            None => {
                server.life = Life::Removed { idle_since: Some(now) };
                false
            }
            Some(since) => now >= since.plus_secs(TRASH_IDLE_SECS),
        });
    }
}

/// What a look at a slot costs, where one at a wake-up time costs 1.
const LOOK: usize = 8;
/// From so many packets of its client on, a connection shows that its template is somebody's, whatever else is known.
const PROVING_PACKETS: u32 = 16;
/// How often removed servers are looked over.
pub(crate) const TRASH_PERIOD_SECS: u64 = 60;
const TRASH_IDLE_SECS: u64 = 120;
/// How often rates are estimated.
const ESTIMATE_PERIOD_SECS: u64 = 2;

impl Brain {
    /// Whether the next estimate of rates changes anything. All traffic is counted in total, too.
    pub(super) fn would_estimate(&self) -> bool {
        self.config.tuning.run_estimation && (self.rates_fall || self.meter.moves())
    }
}
