//! Persistence: templates remember which server a client had.

use core::net::SocketAddr;

use super::open::Opening;
use crate::conntrack::expiry::Lease;
use crate::conntrack::key::Key;
use crate::conntrack::slot::Slot;
use crate::director::brain::{Brain, FTP_PORT};
use crate::director::engine::Engine;
use crate::model::flow::Addresses;
use crate::model::id::ServerId;
use crate::model::key::{ServiceKey, TemplateTarget};
use crate::model::packet::Packet;
use crate::model::persistence::Persistence;
use crate::model::reason::Reason;
use crate::model::tick::MAX_TIMEOUT_SECS;
use crate::model::verdict::Verdict;
use crate::store::{Services as _, Store};

/// What a template is looked up by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'c> {
    pub(crate) key: Key,
    pub(crate) call: Option<&'c [u8]>,
    /// [`Brain::template_hash`] of both.
    pub(crate) hash: u32,
    /// Whether it is for one port, so that it also remembers the server's.
    pub(crate) one_port: bool,
}

/// How a connection is scheduled that no packet asks for. Its service is known and need not be guessed from a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked<'a> {
    /// What the choice goes by in place of the connection's own flow.
    pub(crate) by: &'a Packet,
    /// The connection gets no entry, and counts at its server until it is released.
    pub(crate) held: bool,
    /// The template that it would have; `None` where its client has not what the service's persistence goes by.
    pub(crate) wanted: Option<Wanted<'a>>,
}

impl<S: Store> Engine<'_, S> {
    /// As `schedule_as`, for a service with persistence: what is picked goes by `picked`.
    pub(crate) fn schedule_persistent(
        &mut self,
        packet: &Packet,
        opening: &Opening<'_>,
        index: u32,
        (persistence, call): (&Persistence, Option<&[u8]>),
        picked: Option<Picked<'_>>,
    ) -> Verdict {
        let Some(Some(service)) = self.tables.services.get(index as usize) else {
            return self.brain.pass(Reason::NoService);
        };
        let service_key = service.key;
        let (by, wanted) = match picked {
            None => (packet, self.brain.wanted(packet, &service_key, persistence, call)),
            Some(Picked { by, wanted: Some(wanted), .. }) => (by, wanted),
            // `schedule_as` has dropped it already.
            Some(Picked { wanted: None, .. }) => return self.brain.drop(Reason::NoCallId),
        };
        let template = match self.living_template(&wanted, None) {
            Some(id) => id,
            None => {
                let Some(server) = self.pick(by, index) else {
                    return self.leave(by, opening, index);
                };
                match self.open_template(&wanted, server, persistence.timeout, packet.mark) {
                    Ok(id) => id,
                    Err(reason) => return self.brain.drop(reason),
                }
            }
        };
        let server = ServerId(self.tables.slots[template as usize].server);
        let own = self.tables.servers[server.0 as usize].address.port();
        let port = by.flow.destination_port;
        // A service for all ports sends each connection to the port that the client asked for.
        let port = if wanted_port(&service_key) == port && own != 0 { own } else { port };
        // It must not make room for its own connection.
        self.tables.slots[template as usize].gain_child();
        let opening = Opening { controller: Some(template), ..*opening };
        let verdict = self.open_and_send(packet, &opening, server, port);
        self.tables.slots[template as usize].lose_child();
        self.refresh_template(template);
        verdict
    }

    /// The template that answers, if it may still be used (for `server`, if one is given). One that may not is put
    /// aside, also one whose server failures hold back: who comes for the first time would not be sent there either.
    pub(crate) fn living_template(&mut self, wanted: &Wanted<'_>, server: Option<ServerId>) -> Option<u32> {
        let id = self.find_template(wanted)?;
        let chosen = self.tables.slots[id as usize].server;
        let quiescent = self.brain.config.tuning.expire_quiescent_template;
        let usable = self.tables.servers.get(chosen as usize).is_some_and(|of| {
            of.is_available()
                && !((quiescent || of.draining) && of.standing.configured() == 0)
                && match server {
                    Some(wanted) => wanted.0 == chosen,
                    None => !of.is_held_back(),
                }
        });
        if usable {
            return Some(id);
        }
        // Put aside rather than removed: connections that came from the template still name it as what controls them.
        self.invalidate(id);
        None
    }

    /// The template that answers.
    pub(crate) fn find_template(&mut self, wanted: &Wanted<'_>) -> Option<u32> {
        // All templates for calls are in every extract.
        if wanted.call.is_none() {
            self.brain.table.looks_up(wanted.hash);
        }
        // A template for a call has an ordinary key besides, which others may share: the Call-ID decides.
        let by_key = &*self.tables.by_key;
        let table = crate::conntrack::table::Table::new(
            self.tables.slots,
            self.tables.cells,
            self.tables.wakes,
            &mut self.brain.table,
        );
        table.find(wanted.hash, self.now, |id, slot| {
            slot.answers(&wanted.key)
                && match wanted.call {
                    None => !slot.is_call(),
                    Some(call) => slot.is_call() && by_key.call(id) == Some(call),
                }
        })
    }

    /// Makes a template that nothing finds any more; it ages as it is.
    fn invalidate(&mut self, id: u32) {
        let slot = self.tables.slots[id as usize];
        let call = if slot.is_call() { self.tables.by_key.call(id) } else { None };
        let old = self.brain.template_hash(&slot.key(), call);
        // Port 65535 is what IPVS gives such a template, and what ipvsadm shows of it.
        let key = slot.key().invalidated();
        let new = self.brain.template_hash(&key, None);
        self.tables.by_key.forget_call(id);
        self.connections().rekey(id, &key, (old, None), (new, None));
        let slot = &mut self.tables.slots[id as usize];
        slot.set_call(false);
        slot.server_port = 0xffff;
    }

    /// Makes a template.
    pub(crate) fn open_template(
        &mut self,
        wanted: &Wanted<'_>,
        server: ServerId,
        timeout: u32,
        mark: u32,
    ) -> Result<u32, Reason> {
        let id = self.claim().ok_or(Reason::TableFull)?;
        let own = &self.tables.servers[server.0 as usize];
        let port = if wanted.one_port { own.address.port() } else { 0 };
        let mut slot = Slot::new(&wanted.key, server.0, port, own.method);
        slot.set_call(wanted.call.is_some());
        // The template has a time-out of its own, since an edit of the service counts for new templates only.
        slot.set_template_timeout(timeout.clamp(1, MAX_TIMEOUT_SECS));
        let lease = Lease::of_state(self.now, slot.template_timeout());
        self.connections().fill(id, slot, lease, wanted.hash, None);
        self.tables.notes[id as usize].mark = mark;
        self.tables.servers[server.0 as usize].persistent += 1;
        // The Call-ID is kept under the number of the slot, so there must be a slot first; it is given back where there
        // is no room for the other.
        if let Some(call) = wanted.call
            && !self.tables.by_key.keep_call(id, call)
        {
            self.connections().remove(id, wanted.hash, None);
            self.tables.servers[server.0 as usize].persistent -= 1;
            return Err(Reason::CallsFull);
        }
        Ok(id)
    }

    /// Starts a template's time again.
    pub(crate) fn refresh_template(&mut self, id: u32) {
        let slot = &mut self.tables.slots[id as usize];
        // Its children alone have kept it alive. IPVS has given it 60 s more at each end of its time since then, and
        // cut its time-out to that; this is made up for first.
        if slot.deadline().reached(self.now) {
            slot.postpone(self.now);
        }
        let lease = Lease::of_state(self.now, slot.template_timeout());
        self.connections().lease(id, lease);
    }
}

impl Brain {
    /// What a template is found by: its key, or if it is a call's, the Call-ID alone, which strangers choose as freely.
    pub(crate) fn template_hash(&self, key: &Key, call: Option<&[u8]>) -> u32 {
        match call {
            None => key.hash(self.config.seed),
            Some(call) => (self.config.seed.hash_bytes(call) >> 32) as u32,
        }
    }

    /// What a template with this key, or for this call, is looked up by.
    #[inline]
    pub(crate) fn wanted_by<'c>(&self, key: Key, call: Option<&'c [u8]>, one_port: bool) -> Wanted<'c> {
        Wanted { key, call, hash: self.template_hash(&key, call), one_port }
    }

    /// The template for a packet.
    pub(crate) fn wanted<'c>(
        &self,
        packet: &Packet,
        service: &ServiceKey,
        persistence: &Persistence,
        call: Option<&'c [u8]>,
    ) -> Wanted<'c> {
        let flow = &packet.flow;
        let port = flow.destination_port;
        let one_port = port == wanted_port(service) && port != FTP_PORT;
        let by_address = |port| TemplateTarget::Address {
            protocol: flow.protocol,
            address: SocketAddr::new(flow.addresses.destination(), port),
        };
        let target = match *service {
            ServiceKey::Mark { mark, .. } if !one_port => TemplateTarget::Mark(mark),
            ServiceKey::Mark { .. } | ServiceKey::Address { .. } => {
                by_address(if one_port { port } else { 0 })
            }
        };
        let network = persistence.network(flow.addresses.source());
        self.wanted_by(Key::of_template(network, &target), call, one_port)
    }

    /// The template for a client that a real server is picked for without a packet. It is for the service itself,
    /// whatever the client's flow is addressed to, so that services share none.
    pub(crate) fn wanted_of_service<'c>(
        &self,
        addresses: Addresses,
        service: &ServiceKey,
        persistence: &Persistence,
        call: Option<&'c [u8]>,
    ) -> Wanted<'c> {
        let (target, one_port) = match *service {
            ServiceKey::Address { protocol, port, .. } => {
                let address = SocketAddr::new(addresses.destination(), port);
                (TemplateTarget::Address { protocol, address }, port != 0)
            }
            ServiceKey::Mark { mark, .. } => (TemplateTarget::Mark(mark), false),
        };
        let mut key = Key::of_template(persistence.network(addresses.source()), &target);
        // Clients of an IPv4 service may be of IPv6: there may be an IPv6 service of the same mark, or at the mapped
        // address.
        if addresses.family() != service.family() {
            key = key.with_client_port(OTHER_FAMILY);
        }
        self.wanted_by(key, call, one_port)
    }
}

/// The port of a service, 0 for all.
const fn wanted_port(service: &ServiceKey) -> u16 {
    match *service {
        ServiceKey::Address { port, .. } => port,
        ServiceKey::Mark { .. } => 0,
    }
}

/// What stands in place of a client's port in the key of a template for clients of another family than the service's.
/// Other templates' keys have 0 there.
const OTHER_FAMILY: u16 = 1;
