//! Listings: what is there now.

use core::net::SocketAddr;

use crate::conntrack::key::Key;
use crate::conntrack::slot::Slot;
use crate::director::Director;
use crate::model::flow::Flow;
use crate::model::id::{ConnId, ServerId};
use crate::model::key::ServiceKey;
use crate::model::listing::{Connection, Template};
use crate::model::server::Server;
use crate::model::tick::{Stamp, Tick};
use crate::store::service::Service;
use crate::store::{SchedulerOf, Services as _, Store, View};

impl<S: Store> Director<S> {
    /// How many connections the table can hold.
    pub fn capacity(&self) -> usize {
        self.store.view().slots.len()
    }

    /// How many entries of the table were ever used. The connections and templates are among the entries with lower
    /// numbers, so a listing need not look at the others.
    pub fn used(&self) -> u32 {
        self.brain.table.used()
    }

    /// The connection that a request of this flow belongs to, if one is alive at `now`: one look-up, however many
    /// connections there are.
    pub fn find_connection(&mut self, flow: &Flow, now: Tick) -> Option<Connection> {
        let key = Key::of_request(flow);
        let hash = key.hash(self.brain.config.seed);
        let id = self.engine().find_request(&key, hash)?;
        self.connection(ConnId(id), now)
    }

    /// The virtual services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Service<SchedulerOf<S>>> {
        self.store.view().services.iter().flatten()
    }

    /// A virtual service.
    pub fn service(&self, key: ServiceKey) -> Option<&Service<SchedulerOf<S>>> {
        let view = self.store.view();
        view.services.get(view.by_key.find(&key)? as usize)?.as_ref()
    }

    /// The real servers of a service, the one added last first; none if there is no such service.
    pub fn servers(&self, key: ServiceKey) -> impl Iterator<Item = (ServerId, &Server)> {
        let first = self.service(key).and_then(|service| service.first);
        crate::sched::order::walk(self.store.view().servers, first)
    }

    /// A real server, also a removed one that is still referred to.
    pub fn server(&self, id: ServerId) -> Option<&Server> {
        let server = self.store.view().servers.get(id.0 as usize)?;
        (server.life != crate::model::server::Life::Vacant).then_some(server)
    }

    /// The real servers in `count` places of the store from `from` on, of whatever services, and where to go on: from 0
    /// again once all have been. For whoever goes over all of them a few at a time.
    pub fn servers_from(&self, from: usize, count: usize) -> (impl Iterator<Item = &Server>, usize) {
        let all = self.store.view().servers;
        let from = if from < all.len() { from } else { 0 };
        let end = from.saturating_add(count).min(all.len());
        let servers = all.get(from..end).unwrap_or_default().iter();
        let next = if end < all.len() { end } else { 0 };
        (servers.filter(|server| server.life == crate::model::server::Life::Available), next)
    }

    /// The connections that are alive at `now`, in the order of their entries.
    pub fn connections(&self, now: Tick) -> impl Iterator<Item = Connection> {
        let stamp = now.stamp();
        self.entries(now).filter_map(move |(id, slot)| {
            show(id, slot, &self.store.view(), stamp).filter(|_| !slot.is_template())
        })
    }

    /// A connection, if it is alive at `now`.
    pub fn connection(&self, id: ConnId, now: Tick) -> Option<Connection> {
        let view = self.store.view();
        let slot = view.slots.get(id.0 as usize).filter(|slot| is_there(slot, now))?;
        show(id.0, slot, &view, now.stamp()).filter(|_| !slot.is_template())
    }

    /// The templates that are alive at `now`, in the order of their entries.
    pub fn templates(&self, now: Tick) -> impl Iterator<Item = Template<'_>> {
        self.entries(now).filter_map(move |(id, _)| self.template(ConnId(id), now))
    }

    /// A template, if it is alive at `now`.
    pub fn template(&self, id: ConnId, now: Tick) -> Option<Template<'_>> {
        let view = self.store.view();
        let slot = view.slots.get(id.0 as usize).filter(|slot| is_there(slot, now) && slot.is_template())?;
        let server = view.servers.get(slot.server as usize)?;
        let (client, target) = slot.key().template();
        Some(Template {
            id,
            client,
            target,
            server: ServerId(slot.server),
            destination: SocketAddr::new(server.address.ip(), slot.server_port),
            method: slot.method(server.method),
            assured: slot.is_assured(),
            connections: slot.children(),
            expires_in: time_left(slot, now.stamp()),
            call: if slot.is_call() { view.by_key.call(id.0) } else { None },
        })
    }

    /// The Call-ID of a template that has one.
    pub fn call(&self, template: ConnId) -> Option<&[u8]> {
        self.store.view().by_key.call(template.0)
    }

    fn entries(&self, now: Tick) -> impl Iterator<Item = (u32, &Slot)> {
        // Slots that were never used need no look, and of a large table they may be most.
        let used = self.store.view().slots.get(..self.brain.table.used() as usize).unwrap_or_default();
        let all = used.iter().enumerate().map(|(id, slot)| (id as u32, slot));
        all.filter(move |(_, slot)| is_there(slot, now))
    }
}

fn is_there(slot: &Slot, now: Tick) -> bool {
    !slot.is_free() && slot.is_alive(now.stamp())
}

fn time_left(slot: &Slot, now: Stamp) -> u64 {
    // On a copy: a listing changes nothing. What lives by its children is shown with the time that IPVS would have
    // given it.
    let mut slot = *slot;
    if slot.deadline().reached(now) {
        slot.postpone(now);
    }
    slot.deadline().millis_after(now)
}

fn show<P, M>(id: u32, slot: &Slot, view: &View<'_, P, M>, now: Stamp) -> Option<Connection> {
    let server = view.servers.get(slot.server as usize)?;
    let note = view.notes.get(id as usize)?;
    Some(Connection {
        id: ConnId(id),
        flow: slot.flow(),
        server: ServerId(slot.server),
        destination: SocketAddr::new(server.address.ip(), slot.server_port),
        method: slot.method(server.method),
        state: slot.state(),
        expires_in: time_left(slot, now),
        in_packets: slot.in_packets,
        mark: note.mark,
        controller: slot.controller().map(ConnId),
        lacks_client_port: slot.lacks_client_port(),
        synced: slot.is_synced(),
    })
}
