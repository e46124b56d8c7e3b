//! Picks: by the scheduler's choice alone, or with an entry in the table.

use core::hint::black_box;
use core::net::SocketAddr;

use super::client::{call_of, flow_of};
use super::{Client, NotPicked, Opened, Pick, Picker};
use crate::conntrack::expiry::Lease;
use crate::conntrack::key::Key;
use crate::director::engine::Engine;
use crate::director::slow::persist::{Picked, Wanted};
use crate::model::event::Cause;
use crate::model::flow::{Flow, Protocol};
use crate::model::id::{ConnId, ServerId};
use crate::model::key::ServiceKey;
use crate::model::listing::Connection;
use crate::model::news::ServerFact;
use crate::model::packet::{Chunk, Content, Packet, TcpFlags};
use crate::model::reason::Reason;
use crate::model::state::{SctpState, State, TcpState};
use crate::model::tick::Tick;
use crate::model::verdict::{Inspected, Verdict};
use crate::store::{Services as _, Store};

impl<S: Store> Picker<S> {
    /// Picks a real server of a service for a client. It counts a connection, an active one unless the service is one
    /// of UDP, until the pick is [released](Self::release). There is no entry for it in the table; a template under
    /// persistence is one, and lives for its time from the last pick on.
    ///
    /// A service for all ports leaves the port to the client, so the address of a server with port 0 has port 0. A
    /// service by mark has no virtual address, so `dh`, `lblc` and `lblcr` have one server for all of it.
    ///
    /// # Errors
    ///
    /// [`NotPicked`] with the reason, which was counted.
    pub fn pick(&mut self, now: Tick, service: &ServiceKey, client: Client<'_>) -> Result<Pick, NotPicked> {
        let mut engine = self.director.engine_at(now);
        engine.bring_back();
        let index = engine.service_index(service)?;
        let seed = engine.brain.scheduling;
        let packet = first_packet(flow_of(service, client, seed), service);
        let inspected = Inspected::CallId(call_of(client));
        // Nothing is looked up by this key, so its hash is nobody's.
        let key = Key::of_request(&packet.flow);
        let picked = Picked { by: &packet, held: true, wanted: engine.wanted(index, &packet, client) };
        match engine.schedule_as(&packet, (&key, 0), Some(index), &inspected, Some(picked)) {
            Verdict::Forward(forward) => {
                let active = packet.flow.protocol != Protocol::Udp;
                Ok(Pick { server: forward.server, address: forward.target, active })
            }
            Verdict::Drop(reason) | Verdict::Pass(reason) | Verdict::Reject(reason) => {
                Err(NotPicked { reason })
            }
            // It was told the call, or that there is none.
            Verdict::Inspect => Err(engine.refuse(Reason::NoCallId)),
        }
    }

    /// Ends what a [`pick`](Self::pick) has begun.
    pub fn release(&mut self, now: Tick, pick: Pick) {
        let mut engine = self.director.engine_at(now);
        engine.unhold(pick.server, pick.active);
    }

    /// The connection of a flow: the one that there is, whose time begins anew, or a new one of `service`, to the real
    /// server that is picked for it. It is found by its flow until it is [closed](Self::close), or was not asked for by
    /// this for as long as [`Timeouts`](crate::config::Timeouts) says: TCP 15 minutes, UDP 5. While it is open a
    /// connection of TCP or SCTP is never given up for others in a full table.
    ///
    /// The flow is that of the client's connection, whatever the address of the service is, and of either family. The
    /// choice is the one that [`pick`](Self::pick) has for [`Client::Endpoint`] of its source: where the flow goes to
    /// counts for services for all ports and those by mark alone, which send it to its own port as directors do.
    ///
    /// # Errors
    ///
    /// [`NotPicked`] with the reason, which was counted. A flow from port 0 is [`Reason::NotStarting`], and one of a
    /// service whose persistence goes by call is [`Reason::NoCallId`]: see [`open_for`](Self::open_for).
    pub fn open(&mut self, now: Tick, service: &ServiceKey, flow: &Flow) -> Result<Opened, NotPicked> {
        self.open_for(now, service, flow, Client::Endpoint(flow.source()))
    }

    /// As [`open`](Self::open), for a client that is told by something else than where its flow comes from, such as a
    /// cookie or a Call-ID.
    ///
    /// # Errors
    ///
    /// As of `open`.
    pub fn open_for(
        &mut self,
        now: Tick,
        service: &ServiceKey,
        flow: &Flow,
        client: Client<'_>,
    ) -> Result<Opened, NotPicked> {
        let mut engine = self.director.engine_at(now);
        engine.bring_back();
        let index = engine.service_index(service)?;
        // Port 0 stands for a port that is still to be learnt.
        if flow.source_port == 0 {
            return Err(engine.refuse(Reason::NotStarting));
        }
        // A listener's address need not be the service's, and may be several services'. So the entry has the flow of
        // the client, and the choice goes by the service and the client, as that of `pick`.
        let mut chosen_by = flow_of(service, client, engine.brain.scheduling);
        chosen_by.protocol = flow.protocol;
        if chosen_by.destination_port == 0 {
            chosen_by.destination_port = flow.destination_port;
        }
        let by = first_packet(chosen_by, service);
        let wanted = engine.wanted(index, &by, client);
        let key = Key::of_request(flow);
        let hash = key.hash(engine.brain.config.seed);
        // Memory that nobody has touched lately, which is waited for once and not twice.
        if let Some(wanted) = &wanted {
            let table = engine.connections();
            black_box(table.touch_home(wanted.hash) ^ table.touch_home(hash));
        }
        if let Some(id) = engine.find_request(&key, hash) {
            let slot = &mut engine.tables.slots[id as usize];
            let server = &engine.tables.servers[slot.server as usize];
            if server.serves(index) {
                slot.renew(engine.now, &engine.brain.timeouts);
                slot.in_packets = slot.in_packets.wrapping_add(1);
                let address = SocketAddr::new(server.address.ip(), slot.server_port);
                let (server, connection) = (ServerId(slot.server), ConnId(id));
                return Ok(Opened { server, address, connection, known: true });
            }
            // Its server is gone, or it was another service's.
            engine.close(id, engine.now, Cause::Dropped);
        }
        let packet = Packet { flow: *flow, ..by };
        let picked = Picked { by: &by, held: false, wanted };
        match engine.schedule_as(
            &packet,
            (&key, hash),
            Some(index),
            &Inspected::CallId(call_of(client)),
            Some(picked),
        ) {
            Verdict::Forward(forward) => {
                engine.establish(forward.connection.0);
                let (server, address) = (forward.server, forward.target);
                Ok(Opened { server, address, connection: forward.connection, known: false })
            }
            Verdict::Drop(reason) | Verdict::Pass(reason) | Verdict::Reject(reason) => {
                Err(NotPicked { reason })
            }
            Verdict::Inspect => Err(engine.refuse(Reason::NoCallId)),
        }
    }

    /// The open connection of a flow. Its time goes on as it does.
    pub fn find(&mut self, now: Tick, flow: &Flow) -> Option<Connection> {
        self.director.find_connection(flow, now)
    }

    /// Ends the connection of a flow. Says whether there was one.
    pub fn close(&mut self, now: Tick, flow: &Flow) -> bool {
        let mut engine = self.director.engine_at(now);
        let key = Key::of_request(flow);
        let hash = key.hash(engine.brain.config.seed);
        let found = engine.find_request(&key, hash);
        if let Some(id) = found {
            engine.close_by(id, engine.now, Cause::Released, hash);
        }
        found.is_some()
    }
}

impl<S: Store> Engine<'_, S> {
    fn service_index(&mut self, service: &ServiceKey) -> Result<u32, NotPicked> {
        // Most programs pick from one service: to compare its key is cheaper than to hash it.
        if let Some((last, index)) = self.brain.last_picked
            && last == *service
        {
            return Ok(index);
        }
        let Some(index) = self.tables.by_key.find(service) else {
            return Err(self.refuse(Reason::NoService));
        };
        self.brain.last_picked = Some((*service, index));
        Ok(index)
    }

    /// The template that a client of a service would have, if the service has persistence and the client what that goes
    /// by.
    #[inline]
    fn wanted<'c>(&self, index: u32, by: &Packet, client: Client<'c>) -> Option<Wanted<'c>> {
        let service = self.tables.services.get(index as usize)?.as_ref()?;
        let mut persistence = service.persistence?;
        let call = match persistence.engine {
            None => None,
            Some(_) => Some(call_of(client)?),
        };
        // The mask is one for addresses of the service's own family.
        if client.family() != Some(service.key.family()) {
            persistence.mask = None;
        }
        Some(self.brain.wanted_of_service(by.flow.addresses, &service.key, &persistence, call))
    }

    fn refuse(&mut self, reason: Reason) -> NotPicked {
        self.brain.counters.note(reason);
        NotPicked { reason }
    }

    /// A connection counts as one that both ends speak for: what stands behind a proxy's connection was accepted.
    fn establish(&mut self, id: u32) {
        let Some(slot) = self.tables.slots.get_mut(id as usize) else { return };
        let state = match slot.protocol() {
            Protocol::Tcp => State::Tcp(TcpState::Established),
            Protocol::Udp => State::Udp,
            Protocol::Sctp => State::Sctp(SctpState::Established),
        };
        slot.set_state(state);
        slot.saw_answer();
        if state.is_active() && !slot.is_active() {
            slot.set_active(true);
            self.tables.servers[slot.server as usize].active += 1;
        }
        let controller = slot.controller();
        let lease = Lease::of_state(self.now, self.brain.timeouts.of(state));
        self.connections().lease(id, lease);
        if let Some(controller) = controller {
            self.assure(controller);
            self.tables.slots[controller as usize].vouch_for_template();
        }
    }

    /// Takes a connection off a server that has no entry.
    fn unhold(&mut self, id: ServerId, active: bool) {
        let Some(server) = self.tables.servers.get_mut(id.0 as usize) else { return };
        let relieved = server.unbind(active);
        let drained = server.is_drained();
        if relieved {
            self.note_server(id, ServerFact::Relieved);
        }
        if drained {
            self.note_server(id, ServerFact::Drained);
        }
    }
}

/// The packet that would begin a connection of this flow.
fn first_packet(flow: Flow, service: &ServiceKey) -> Packet {
    let content = match flow.protocol {
        Protocol::Tcp => Content::Tcp(TcpFlags::SYN),
        Protocol::Udp => Content::Udp,
        Protocol::Sctp => Content::Sctp(Chunk::Init),
    };
    let mark = match *service {
        ServiceKey::Mark { mark, .. } => mark,
        ServiceKey::Address { .. } => 0,
    };
    Packet::new(flow, content, 0).marked(mark)
}
