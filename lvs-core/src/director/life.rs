//! Time and ends: what expires, what makes room, what becomes of removed servers.

use super::{Brain, Director};
use crate::conn::{ConnId, Table};
use crate::event::{Cause, Event};
use crate::proto::Worth;
use crate::server::{Life, Server, ServerId};
use crate::store::{Queue, Store, Tables};
use crate::tick::{Stamp, Tick};

impl<S: Store> Director<S> {
    /// Frees what has expired, looking at no more than `budget` slots (about 1 ns for each whose time has not come).
    /// Returns how many entries it freed.
    ///
    /// Expired connections are ignored from their deadline on, swept or not; but until they are swept they take their
    /// places and count for schedulers and thresholds. A budget of a hundredth of the capacity every 10 ms goes
    /// once around each second. While there are removed servers, a call once in 60 s also looks over all places for
    /// servers.
    pub fn sweep(&mut self, now: Tick, budget: usize) -> usize {
        let now = self.brain.clock(now);
        let mut tables = self.store.parts();
        let stamp = now.stamp();
        let flushed = self.brain.flush_orphans(&mut tables, stamp, budget.div_ceil(2));
        let mut left = (budget - flushed).min(self.brain.table.used() as usize);
        let mut freed = 0;
        while let Some(id) =
            tables.connections(&mut self.brain.table).next_due(stamp, &self.brain.timeouts, &mut left)
        {
            self.brain.close(&mut tables, id, Cause::Expired);
            freed += 1;
        }
        self.brain.counters.expired += freed as u64;
        if self.brain.trash > 0 && now >= self.brain.next_trash {
            self.brain.empty_trash(tables.servers, now);
        }
        self.brain.tick(&mut tables, now);
        freed
    }
}

impl Brain {
    /// Takes a connection out of the table and off its server.
    pub(super) fn close<P, M, Q: Queue>(&mut self, tables: &mut Tables<'_, P, M, Q>, id: u32, cause: Cause) {
        let slot = tables.slots[id as usize];
        let index = slot.server as usize;
        let (request, reply) = Table::hashes(&slot, tables.servers[index].address.ip(), self.config.seed);
        tables.connections(&mut self.table).remove(id, request, reply);
        let server = ServerId(slot.server);
        let relieved = tables.servers[index].unbind(slot.state().is_active());
        let closed =
            Event::Closed { connection: ConnId(id), flow: slot.flow(), server, state: slot.state(), cause };
        self.note(tables, closed);
        if relieved {
            self.note(tables, Event::Relieved { server });
        }
        if tables.servers[index].is_drained() {
            self.note(tables, Event::Drained { server });
        }
    }

    /// Makes room for one connection in a full table, if the policy allows and something of less worth is at hand.
    pub(super) fn reclaim<P, M, Q: Queue>(&mut self, tables: &mut Tables<'_, P, M, Q>, now: Stamp) -> bool {
        match self.config.when_full {
            crate::WhenFull::Refuse => return false,
            crate::WhenFull::Reclaim => {}
        }
        let len = tables.slots.len() as u32;
        let mut victim: Option<(Worth, u32)> = None;
        for _ in 0..RECLAIM_LOOK.min(len) {
            let id = self.table.reclaim % len;
            self.table.reclaim = id + 1;
            let slot = &tables.slots[id as usize];
            if slot.deadline.reached(now) {
                self.counters.expired += 1;
                self.close(tables, id, Cause::Expired);
                return true;
            }
            let worth = slot.state().worth();
            if worth < Worth::Established && victim.is_none_or(|(least, _)| worth < least) {
                victim = Some((worth, id));
            }
        }
        let Some((_, id)) = victim else { return false };
        self.counters.reclaimed += 1;
        self.close(tables, id, Cause::Reclaimed);
        true
    }

    /// Ends connections of removed servers, a part of the table at a time, if `expire_nodest_conn` was on at
    /// their removal. Returns how many slots it looked at.
    fn flush_orphans<P, M, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        budget: usize,
    ) -> usize {
        let Some(from) = self.flush else { return 0 };
        let used = self.table.used();
        let to = from.saturating_add(u32::try_from(budget).unwrap_or(u32::MAX)).min(used);
        for id in from..to {
            let slot = &tables.slots[id as usize];
            if tables.servers.get(slot.server as usize).is_some_and(|server| !server.is_available()) {
                tables.connections(&mut self.table).bring_forward(id, now);
            }
        }
        self.flush = (to < used).then_some(to);
        to.saturating_sub(from) as usize
    }

    /// Gives the places of removed servers back that nothing has referred to for two minutes (IPVS's trash: looked
    /// over every 60 s; noted as idle by one look, freed by one at least 120 s later).
    fn empty_trash(&mut self, servers: &mut [Server], now: Tick) {
        self.next_trash = now.plus_secs(TRASH_PERIOD_SECS);
        for server in servers {
            let Life::Removed { idle_since } = server.life else { continue };
            match idle_since {
                _ if server.total > 0 || server.holds > 0 => {}
                None => server.life = Life::Removed { idle_since: Some(now) },
                Some(since) if now >= since.plus_secs(TRASH_IDLE_SECS) => {
                    server.vacate();
                    self.trash -= 1;
                }
                Some(_) => {}
            }
        }
    }
}

/// How many slots a full table looks at for one to give up.
const RECLAIM_LOOK: u32 = 64;
/// How often removed servers are looked over.
pub(super) const TRASH_PERIOD_SECS: u64 = 60;
const TRASH_IDLE_SECS: u64 = 120;
