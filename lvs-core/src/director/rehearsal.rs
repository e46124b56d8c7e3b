//! A decision tried on a copy, so that it can be told without being made.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::Director;
use super::slow::schedule::candidates;
use super::time::reclaim::RECLAIM_LOOK;
use crate::conntrack::extract::Extract;
use crate::conntrack::fast_key::FastBatch;
use crate::conntrack::key::Key;
use crate::conntrack::table::Table;
#[cfg(doc)]
use crate::model::event::Event;
use crate::model::id::ConnId;
use crate::model::key::ServiceKey;
use crate::model::packet::Packet;
use crate::sched::schedule::Schedule;
use crate::store::private::Parts as _;
use crate::store::{Heap, NoMemory, Services as _};

/// A director as far as one packet can see it, and which of its entries are which of the director's.
#[derive(Debug)]
pub struct Rehearsal<P: Schedule> {
    /// Decides the packet as the director would. It is for that packet only: of others it may not know the connections.
    pub director: Director<Heap<P>>,
    ids: Vec<u32>,
}

impl<P: Schedule> Rehearsal<P> {
    /// The entry of the director that the rehearsal's entry is a copy of. `None` for one that the packet has made here,
    /// unless the table has so little room that it took the copy of another's place: [`Event::Opened`] says in either
    /// case that a connection is new.
    #[must_use]
    pub fn original(&self, entry: ConnId) -> Option<ConnId> {
        self.ids.get(entry.0 as usize).copied().map(ConnId)
    }
}

impl<P: Schedule + Clone> Director<Heap<P>> {
    /// A copy to decide this packet on. [`decide`](Self::decide) says there what it would say here at the same moment,
    /// by the same code, with the state of schedulers, thresholds and chance as they are; only entries have other
    /// numbers. Nothing changes here, which `&self` makes sure of.
    ///
    /// The copy has all services and servers, and of the connection table what the packet can come upon: its size goes
    /// by the [capacity](crate::config::Capacity) for services and servers, not by the connections. With room
    /// for 4,096 servers it took 0.1 ms, and in a full table of a million connections 0.3 ms. A rehearsal allocates, so
    /// it is nothing for every packet.
    ///
    /// One thing is left out: an FTP control connection may announce a data connection that there is already (its
    /// command was sent twice); here it is announced anew, which is the same unless the table is full.
    ///
    /// # Errors
    ///
    /// [`NoMemory`].
    pub fn rehearsal(&self, packet: &Packet) -> Result<Rehearsal<P>, NoMemory> {
        let view = self.store.view();
        let (brain, seed) = (&self.brain, self.brain.config.seed);
        let found = self.hashes_of(packet);
        let mut extract = Extract::begin(view.slots, &brain.table, RECLAIM_LOOK as usize);
        for &hash in &found {
            extract.add_found(self.store.cells(), hash);
        }
        if brain.call_services > 0 {
            self.store.slots_of_calls().for_each(|slot| extract.add(slot));
        }
        if extract.is_short {
            brain.nominees.ids().for_each(|id| extract.add(id));
        }
        extract.add_controllers(view.slots);
        let mut hashes: BTreeSet<u32> = found.iter().copied().collect();
        for &id in extract.ids() {
            let Some(slot) = view.slots.get(id as usize).filter(|slot| !slot.is_free()) else { continue };
            if slot.is_template() {
                let call = if slot.is_call() { view.by_key.call(id) } else { None };
                hashes.insert(brain.template_hash(&slot.key(), call));
            } else if let Some(server) = view.servers.get(slot.server as usize) {
                let (request, reply) = Table::hashes(slot, &slot.key(), server.address.ip(), seed);
                hashes.extend([request].into_iter().chain(reply));
            }
        }
        let services: Vec<u32> = candidates(brain, packet)
            .filter_map(|key| view.by_key.find(&key))
            .chain(self.of_server(packet))
            .collect();
        let mut store = self.store.without_connections(extract.len(), &services)?;
        let tables = store.parts();
        let into = (tables.slots, tables.notes, tables.cells);
        extract.fill((view.slots, view.notes, self.store.cells()), into, &hashes);
        for (&id, number) in extract.ids().iter().zip(0..) {
            if view.slots.get(id as usize).is_some_and(|slot| !slot.is_free() && slot.is_call())
                && let Some(call) = view.by_key.call(id)
            {
                tables.by_key.keep_call(number, call);
            }
        }
        let mut brain = brain.clone();
        brain.table = extract.state(&self.brain.table, &found);
        brain.nominees.renumber(|id| extract.number(id));
        // Of the last answer only the words are the same; the copy finds its own.
        brain.services_changed();
        Ok(Rehearsal {
            director: Self { store, brain, batch: FastBatch::new() },
            ids: extract.ids().to_vec(),
        })
    }

    /// The service that a packet would begin a connection with, by mark, address, port or for all ports.
    pub fn service_of(&self, packet: &Packet) -> Option<ServiceKey> {
        candidates(&self.brain, packet).find(|key| self.store.view().by_key.find(key).is_some())
    }

    /// The hashes that the decision about a packet looks up, but those of calls.
    fn hashes_of(&self, packet: &Packet) -> Vec<u32> {
        let (flow, seed) = (&packet.flow, self.brain.config.seed);
        let request = Key::of_request(flow);
        let keys = [request, request.without_client_port(), Key::of_reply(flow), Key::of_direct_reply(flow)];
        let view = self.store.view();
        let services = candidates(&self.brain, packet).filter_map(|key| {
            let service = view.services.get(view.by_key.find(&key)? as usize)?.as_ref()?;
            Some((key, service.persistence?))
        });
        let templates =
            services.map(|(key, persistence)| self.brain.wanted(packet, &key, &persistence, None).hash);
        keys.iter().map(|key| key.hash(seed)).chain(templates).collect()
    }

    /// The service that a real server may begin a call of.
    fn of_server(&self, packet: &Packet) -> Option<u32> {
        let mut keys = self.nat_services_of(packet.flow.protocol, packet.flow.source());
        self.store.view().by_key.find(&keys.next()?)
    }
}
