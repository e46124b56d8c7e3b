//! Listings: what is there now.

use core::net::SocketAddr;

use super::Director;
use crate::conn::{ConnId, Connection, Slot};
use crate::server::{Server, ServerId};
use crate::service::{Service, ServiceKey};
use crate::store::{SchedulerOf, Services as _, Store};
use crate::tick::Tick;

impl<S: Store> Director<S> {
    /// How many connections the table can hold.
    pub fn capacity(&self) -> usize {
        self.store.view().slots.len()
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
        crate::sched::walk(self.store.view().servers, first)
    }

    /// A real server, also a removed one that is still referred to.
    pub fn server(&self, id: ServerId) -> Option<&Server> {
        let server = self.store.view().servers.get(id.0 as usize)?;
        (server.life != crate::server::Life::Vacant).then_some(server)
    }

    /// The connections that are alive at `now`, in the order of their entries.
    pub fn connections(&self, now: Tick) -> impl Iterator<Item = Connection> {
        let view = self.store.view();
        let used = view.slots.get(..self.brain.table.used() as usize).unwrap_or_default();
        used.iter().enumerate().filter_map(move |(id, slot)| show(id as u32, slot, view.servers, now))
    }

    /// A connection, if it is alive at `now`.
    pub fn connection(&self, id: ConnId, now: Tick) -> Option<Connection> {
        let view = self.store.view();
        show(id.0, view.slots.get(id.0 as usize)?, view.servers, now)
    }
}

fn show(id: u32, slot: &Slot, servers: &[Server], now: Tick) -> Option<Connection> {
    if slot.is_free() || slot.deadline.reached(now.stamp()) {
        return None;
    }
    let server = servers.get(slot.server as usize)?;
    Some(Connection {
        id: ConnId(id),
        flow: slot.flow(),
        server: ServerId(slot.server),
        destination: SocketAddr::new(server.address.ip(), slot.server_port),
        method: slot.method(server.method),
        state: slot.state(),
        expires_in: slot.deadline.millis_after(now.stamp()),
        in_packets: slot.in_packets,
    })
}
