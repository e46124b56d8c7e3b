//! What a backup does with what it is told.

use core::net::{IpAddr, SocketAddr};

use crate::conntrack::expiry::Lease;
use crate::conntrack::key::Key;
use crate::conntrack::slot::Slot;
use crate::conntrack::table::Table;
use crate::director::Director;
use crate::director::brain::FTP_PORT;
use crate::director::engine::Engine;
use crate::model::error::ApplyError;
use crate::model::flow::{Flow, Protocol};
use crate::model::id::ServerId;
use crate::model::key::TemplateTarget;
use crate::model::method::{Method, MethodKind, Tunnel};
use crate::model::news::ServerFact;
use crate::model::packet::{Content, Packet};
use crate::model::state::State;
use crate::model::sync_entry::SyncEntry;
use crate::model::tick::{MAX_TIMEOUT_SECS, Tick};
use crate::store::Store;

impl<S: Store> Director<S> {
    /// Takes over an entry that another director has sent: makes it or brings it up to date. `call` is the Call-ID of a
    /// template that has one ([`Received::engine`](crate::sync::Received)).
    ///
    /// If its real server is none of this director's, the entry keeps the method and address that the message has, and
    /// is bound to the server by a later message once there is one. Sequence numbers in it are not used: helpers here
    /// keep their own.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn apply_sync(
        &mut self,
        now: Tick,
        entry: &SyncEntry,
        call: Option<&[u8]>,
    ) -> Result<(), ApplyError> {
        let mut engine = self.engine_at(now);
        if entry.is_template() { engine.apply_template(entry, call) } else { engine.apply_connection(entry) }
    }
}

impl<S: Store> Engine<'_, S> {
    fn apply_connection(&mut self, entry: &SyncEntry) -> Result<(), ApplyError> {
        let protocol = Protocol::from_number(entry.protocol).ok_or(ApplyError::Protocol)?;
        let state = u8::try_from(entry.state).ok().and_then(|number| State::checked(protocol, number));
        let state = state.ok_or(ApplyError::State)?;
        let flow = Flow::new(protocol, entry.client(), entry.virtual_address()).ok_or(ApplyError::State)?;
        let key = Key::of_request(&flow);
        let hash = key.hash(self.brain.config.seed);
        let inactive = entry.flags & SyncEntry::INACTIVE != 0;
        let mut found = self.find_request(&key, hash);
        if let Some(id) = found {
            let slot = &self.tables.slots[id as usize];
            let address = self.tables.servers[slot.server as usize].address.ip();
            if SocketAddr::new(address, slot.server_port) != entry.server() {
                // A closing connection of the sender is no reason to give up one that is alive here.
                if inactive {
                    return Err(ApplyError::AnotherServer);
                }
                self.tables.connections(&mut self.brain.table).lease(id, Lease::over(self.now));
                found = None;
            }
        }
        let id = match found {
            Some(id) => {
                self.rebind(entry, &flow, id);
                self.set_active(id, !inactive);
                id
            }
            None => self.receive(entry, &flow, &key, hash)?,
        };
        let secs = if entry.timeout == 0 { self.brain.timeouts.of(state) } else { entry.timeout };
        let slot = &mut self.tables.slots[id as usize];
        slot.set_state(state);
        self.put(id, secs);
        Ok(())
    }

    fn apply_template(&mut self, entry: &SyncEntry, call: Option<&[u8]>) -> Result<(), ApplyError> {
        if entry.state > 1 {
            return Err(ApplyError::State);
        }
        let virt = entry.virtual_address();
        let target = match Protocol::from_number(entry.protocol) {
            Some(protocol) => TemplateTarget::Address { protocol, address: virt },
            None if entry.protocol == 0 => TemplateTarget::Mark(match virt.ip() {
                IpAddr::V4(address) => address.to_bits(),
                IpAddr::V6(address) => (address.to_bits() >> 96) as u32,
            }),
            None => return Err(ApplyError::Protocol),
        };
        let key = Key::of_template(entry.client().ip(), &target);
        let wanted = self.brain.wanted_by(key, call, true);
        let id = match self.find_template(&wanted) {
            Some(id) => id,
            None => {
                let flow = key.flow();
                let server = self.server_of_entry(entry, &flow).ok_or(ApplyError::Full)?;
                let made = self.open_template(&wanted, server, 1, entry.mark);
                let Ok(id) = made else {
                    self.leave_standin(server);
                    return Err(ApplyError::Full);
                };
                self.tables.slots[id as usize].server_port = entry.server_port;
                self.tables.slots[id as usize].set_synced();
                id
            }
        };
        let secs = if entry.timeout == 0 { TEMPLATE_SECS } else { entry.timeout };
        let slot = &mut self.tables.slots[id as usize];
        slot.set_template_timeout(secs.min(MAX_TIMEOUT_SECS));
        slot.assure(entry.state == 1);
        self.put(id, secs);
        Ok(())
    }

    /// Starts an entry's time, as of its newest message.
    fn put(&mut self, id: u32, secs: u32) {
        let slot = &mut self.tables.slots[id as usize];
        // As in IPVS: should this director become master, the connection counts as just sent.
        slot.in_packets = self.brain.config.tuning.sync_threshold;
        if !slot.is_template() {
            slot.sent_state = slot.state().number();
        }
        let own = slot.timeout(&self.brain.timeouts);
        let lease = Lease::of_its_own(self.now, secs.clamp(1, MAX_TIMEOUT_SECS), own);
        self.connections().lease(id, lease);
    }

    /// Makes the connection of an entry.
    fn receive(&mut self, entry: &SyncEntry, flow: &Flow, key: &Key, hash: u32) -> Result<u32, ApplyError> {
        let server = self.server_of_entry(entry, flow).ok_or(ApplyError::Full)?;
        let method = self.tables.servers[server.0 as usize].method;
        let mut slot = Slot::new(key, server.0, entry.server_port, method);
        slot.set_synced();
        slot.set_lacks_client_port(entry.flags & SyncEntry::NO_CLIENT_PORT != 0);
        if key.protocol() == Protocol::Tcp && slot.is_nat() && key.other_port() == FTP_PORT {
            slot.set_helped();
        }
        // A second, only until `put` starts its real time: an entry without any is expired for whoever looks.
        let Some(id) = self.enter(slot, 1, hash, None) else {
            self.leave_standin(server);
            return Err(ApplyError::Full);
        };
        self.tables.notes[id as usize].mark = entry.mark;
        self.set_active(id, entry.flags & SyncEntry::INACTIVE == 0);
        Ok(id)
    }

    /// Counts a connection among its server's active ones, or not.
    fn set_active(&mut self, id: u32, active: bool) {
        let slot = &mut self.tables.slots[id as usize];
        if slot.is_active() == active {
            return;
        }
        slot.set_active(active);
        let server = &mut self.tables.servers[slot.server as usize];
        server.active = if active { server.active + 1 } else { server.active.saturating_sub(1) };
    }

    /// Binds a connection that has no server to the one that is there now.
    fn rebind(&mut self, entry: &SyncEntry, flow: &Flow, id: u32) {
        let slot = self.tables.slots[id as usize];
        let old = ServerId(slot.server);
        if !self.tables.servers[old.0 as usize].is_standin() {
            return;
        }
        let Some(server) = self.known_server(entry, flow) else { return };
        let active = slot.is_active();
        self.set_active(id, false);
        let address = self.tables.servers[server.0 as usize].address.ip();
        // The stand-in may have had another method. With NAT the entry for replies comes, without it goes.
        let before = Table::hashes(&slot, &slot.key(), address, self.brain.config.seed);
        self.tables.slots[id as usize].set_server(server.0, self.tables.servers[server.0 as usize].method);
        let changed = self.tables.slots[id as usize];
        let after = Table::hashes(&changed, &changed.key(), address, self.brain.config.seed);
        self.connections().rekey(id, &changed.key(), before, after);
        self.tables.servers[old.0 as usize].unbind(false);
        self.leave_standin(old);
        if self.tables.servers[server.0 as usize].bind() {
            self.note_server(server, ServerFact::Overloaded);
        }
        self.set_active(id, active);
    }

    /// An entry's real server, or what stands in for it.
    fn server_of_entry(&mut self, entry: &SyncEntry, flow: &Flow) -> Option<ServerId> {
        if let Some(server) = self.known_server(entry, flow) {
            return Some(server);
        }
        // A number that stands for no method is treated as the kernel's transmitters do: by NAT.
        let method = match MethodKind::from_number(entry.flags & SyncEntry::METHOD) {
            Some(MethodKind::Nat) | None => Method::Nat,
            Some(MethodKind::Local) => Method::Local,
            Some(MethodKind::Tunnel) => Method::Tunnel(Tunnel::IpIp),
            Some(MethodKind::Direct) => Method::Direct,
            Some(MethodKind::Bypass) => Method::Bypass,
        };
        self.standin(entry.server().ip(), method)
    }

    /// An entry's real server among this director's own.
    fn known_server(&mut self, entry: &SyncEntry, flow: &Flow) -> Option<ServerId> {
        let packet = Packet::new(*flow, Content::Udp, 0).marked(entry.mark);
        let service = self.find_service(&packet, &Key::of_request(flow))?;
        let to = entry.server();
        // A marked service by DR or TUN lists its servers with port 0; the message has the port of the packet.
        let by_mark =
            entry.mark != 0 && entry.flags & SyncEntry::METHOD != u32::from(MethodKind::Nat.number());
        let port = if by_mark { 0 } else { to.port() };
        let find = |port| self.find_server(service, SocketAddr::new(to.ip(), port));
        let found = find(port).or_else(|| find(port ^ to.port()));
        found.map(|found| found.server)
    }
}

/// How long a template without a time-out of its own stays.
const TEMPLATE_SECS: u32 = 180;
