//! Persistence: templates remember which server a client had.

use super::open::Opening;
use crate::conntrack::key::Key;
use crate::conntrack::slot::Slot;
use crate::director::Brain;
use crate::model::id::ServerId;
use crate::model::key::ServiceKey;
use crate::model::key::TemplateTarget;
use crate::model::packet::Packet;
use crate::model::persistence::Persistence;
use crate::model::reason::Reason;
use crate::model::tick::{MAX_TIMEOUT_SECS, Stamp};
use crate::model::verdict::Verdict;
use crate::sched::schedule::Schedule;
use crate::store::{Queue, Services, Tables};
use core::net::SocketAddr;

/// What a template is looked up by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'c> {
    pub(crate) key: Key,
    pub(crate) call: Option<&'c [u8]>,
    /// Whether it is for one port, so that it also remembers the server's.
    pub(crate) one_port: bool,
}

impl Brain {
    /// As `schedule`, for a service with persistence.
    pub(crate) fn schedule_persistent<P: Schedule, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        opening: &Opening<'_>,
        index: u32,
        (persistence, call): (&Persistence, Option<&[u8]>),
    ) -> Verdict {
        let Some(Some(service)) = tables.services.get(index as usize) else {
            return self.pass(Reason::NoService);
        };
        let service_key = service.key;
        let wanted = wanted(packet, &service_key, persistence, call);
        let template = match self.living_template(tables, now, &wanted, None) {
            Some(id) => id,
            None => {
                let Some(server) = self.pick(tables, packet, index) else {
                    return self.leave(tables, now, packet, opening, index);
                };
                match self.open_template(tables, now, &wanted, server, persistence.timeout, packet.mark) {
                    Ok(id) => id,
                    Err(reason) => return self.drop(reason),
                }
            }
        };
        let server = ServerId(tables.slots[template as usize].server);
        let own = tables.servers[server.0 as usize].address.port();
        let port = packet.flow.destination_port;
        let port = if wanted_port(&service_key) == port && own != 0 { own } else { port };
        // It must not make room for its own connection.
        tables.slots[template as usize].gain_child();
        let opening = Opening { controller: Some(template), ..*opening };
        let verdict = self.open_and_send(tables, now, packet, &opening, server, port);
        tables.slots[template as usize].lose_child();
        self.refresh_template(tables, now, template);
        verdict
    }

    /// The template that answers, if it may still be used (for `server`, if one is given). One that may not is put aside.
    pub(crate) fn living_template<P, M: Services, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        wanted: &Wanted<'_>,
        server: Option<ServerId>,
    ) -> Option<u32> {
        let id = self.find_template(tables, now, wanted)?;
        let chosen = tables.slots[id as usize].server;
        let quiescent = self.config.tuning.expire_quiescent_template;
        let usable = tables.servers.get(chosen as usize).is_some_and(|of| {
            of.is_available()
                && !((quiescent || of.draining) && of.weight == 0)
                && server.is_none_or(|wanted| wanted.0 == chosen)
        });
        if usable {
            return Some(id);
        }
        self.invalidate(tables, id);
        None
    }

    /// The template that answers.
    pub(crate) fn find_template<P, M: Services, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        wanted: &Wanted<'_>,
    ) -> Option<u32> {
        let hash = self.template_hash(&wanted.key, wanted.call);
        let by_key = &*tables.by_key;
        let table =
            crate::conntrack::table::Table::new(tables.slots, tables.cells, tables.wakes, &mut self.table);
        table.find(hash, now, |id, slot| {
            slot.answers(&wanted.key)
                && match wanted.call {
                    None => !slot.is_call(),
                    Some(call) => slot.is_call() && by_key.call(id) == Some(call),
                }
        })
    }

    /// Makes a template that nothing finds any more; it ages as it is.
    fn invalidate<P, M: Services, Q>(&mut self, tables: &mut Tables<'_, P, M, Q>, id: u32) {
        let slot = tables.slots[id as usize];
        let call = if slot.is_call() { tables.by_key.call(id) } else { None };
        let old = self.template_hash(&slot.key(), call);
        let key = slot.key().invalidated();
        let new = self.template_hash(&key, None);
        tables.by_key.forget_call(id);
        tables.connections(&mut self.table).rekey(id, &key, (old, None), (new, None));
        let slot = &mut tables.slots[id as usize];
        slot.set_call(false);
        slot.server_port = 0xffff;
    }

    /// Makes a template.
    pub(crate) fn open_template<P, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        wanted: &Wanted<'_>,
        server: ServerId,
        timeout: u32,
        mark: u32,
    ) -> Result<u32, Reason> {
        if !tables.connections(&mut self.table).has_room() && !self.reclaim(tables, now) {
            return Err(Reason::TableFull);
        }
        let own = &tables.servers[server.0 as usize];
        let port = if wanted.one_port { own.address.port() } else { 0 };
        let mut slot = Slot::new(&wanted.key, server.0, port, own.method);
        slot.set_call(wanted.call.is_some());
        slot.set_template_timeout(timeout.clamp(1, MAX_TIMEOUT_SECS));
        slot.deadline = now.plus_secs(slot.template_timeout());
        let hash = self.template_hash(&wanted.key, wanted.call);
        let id = tables.connections(&mut self.table).insert(slot, hash, None).ok_or(Reason::TableFull)?;
        tables.notes[id as usize].mark = mark;
        tables.servers[server.0 as usize].persistent += 1;
        if let Some(call) = wanted.call
            && !tables.by_key.keep_call(id, call)
        {
            tables.connections(&mut self.table).remove(id, hash, None);
            tables.servers[server.0 as usize].persistent -= 1;
            return Err(Reason::CallsFull);
        }
        Ok(id)
    }

    /// Starts a template's time again.
    pub(crate) fn refresh_template<P, M, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        id: u32,
    ) {
        let slot = &mut tables.slots[id as usize];
        if slot.deadline.reached(now) {
            slot.postpone(now);
        }
        let deadline = now.plus_secs(slot.template_timeout());
        tables.connections(&mut self.table).bring_forward(id, deadline);
    }

    /// What a template is found by: its key, or if it is a call's, the Call-ID alone, which strangers choose as freely.
    pub(crate) fn template_hash(&self, key: &Key, call: Option<&[u8]>) -> u32 {
        match call {
            None => key.hash(self.config.seed),
            Some(call) => (self.config.seed.hash_bytes(call) >> 32) as u32,
        }
    }
}

/// The port of a service, 0 for all.
const fn wanted_port(service: &ServiceKey) -> u16 {
    match *service {
        ServiceKey::Address { port, .. } => port,
        ServiceKey::Mark { .. } => 0,
    }
}

/// The template for a packet.
pub(crate) fn wanted<'c>(
    packet: &Packet,
    service: &ServiceKey,
    persistence: &Persistence,
    call: Option<&'c [u8]>,
) -> Wanted<'c> {
    let flow = &packet.flow;
    let port = flow.destination_port;
    let one_port = port == wanted_port(service) && port != crate::director::FTP_PORT;
    let by_address = |port| TemplateTarget::Address {
        protocol: flow.protocol,
        address: SocketAddr::new(flow.addresses.destination(), port),
    };
    let target = match *service {
        ServiceKey::Mark { mark, .. } if !one_port => TemplateTarget::Mark(mark),
        ServiceKey::Mark { .. } | ServiceKey::Address { .. } => by_address(if one_port { port } else { 0 }),
    };
    let network = persistence.network(flow.addresses.source());
    Wanted { key: Key::of_template(network, &target), call, one_port }
}
