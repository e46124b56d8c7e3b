//! Connections begin: by a scheduler's choice, or because a helper expects them.

use core::net::{IpAddr, SocketAddr};

use crate::conntrack::expiry::Lease;
use crate::conntrack::key::Key;
use crate::conntrack::slot::{Note, Slot};
use crate::conntrack::table::Table;
use crate::director::Director;
use crate::director::brain::FTP_PORT;
use crate::director::engine::Engine;
use crate::model::error::ExpectError;
use crate::model::event::Event;
use crate::model::flow::{Flow, Protocol};
use crate::model::id::{ConnId, ServerId};
use crate::model::key::ServiceKey;
use crate::model::method::Method;
use crate::model::news::ServerFact;
use crate::model::packet::{Content, Packet};
use crate::model::reason::Reason;
use crate::model::server::{Life, Server};
use crate::model::standing::Standing;
use crate::model::state::{State, TcpState};
use crate::model::tick::Tick;
use crate::model::traffic::Traffic;
use crate::model::verdict::{Direction, Forward, Verdict};
use crate::proto::view::View;
use crate::store::Store;

/// A connection to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening<'k> {
    pub(crate) key: &'k Key,
    pub(crate) hash: u32,
    pub(crate) entry: Entry,
    pub(crate) controller: Option<u32>,
}

/// Whether a connection gets an entry in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An entry is made.
    Kept,
    /// No entry is made, since the connection ends with its first packet.
    OnePacket,
    /// No entry is made, and the connection counts at its server until it is released.
    Held,
}

/// A connection that a helper has read about in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "FTP's two modes")]
pub enum Expectation {
    /// The real server will connect to the client's address and port (FTP's `PORT`, `EPRT`), from the port before its
    /// own one; the client sees the port before the virtual one.
    FromServer {
        /// Where the client listens.
        client: SocketAddr,
    },
    /// The client will connect, from a port that is not known yet, to the same port of the virtual address as the real
    /// server listens on (FTP's `PASV`, `EPSV`).
    FromClient {
        /// Where the real server listens.
        server_port: u16,
    },
}

impl<S: Store> Director<S> {
    /// Makes the connection that `control` has announced: to the same real server, in state LISTEN for 120 s, and as
    /// long as it lives `control` lives too. If there is such a connection already, it is that one. IPVS does this for
    /// FTP data.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn expect(
        &mut self,
        now: Tick,
        control: ConnId,
        expectation: Expectation,
    ) -> Result<ConnId, ExpectError> {
        self.engine_at(now).expect(control.0, expectation).map(ConnId)
    }

    /// A helper has made a reply of this connection longer by so many bytes, or shorter: it is counted as it leaves, as
    /// by IPVS. Does nothing when there is no such connection.
    pub fn resized(&mut self, connection: ConnId, by: i32) {
        let mut engine = self.engine();
        if engine.tables.slots.get(connection.0 as usize).is_some_and(|slot| !slot.is_free()) {
            engine.count(connection.0, |traffic| {
                traffic.out_bytes = traffic.out_bytes.saturating_add_signed(by.into());
            });
        }
    }
}

impl<S: Store> Engine<'_, S> {
    /// Makes a connection to `server` and sends its first packet there.
    pub(crate) fn open_and_send(
        &mut self,
        packet: &Packet,
        opening: &Opening<'_>,
        server: ServerId,
        port: u16,
    ) -> Verdict {
        if opening.entry != Entry::Kept {
            return self.send_once(packet, opening, server, port);
        }
        let method = self.tables.servers[server.0 as usize].method;
        let unusual = self.brain.master || packet.content.is_error() || matches!(method, Method::Bypass);
        // Two ways to one result: what is rare goes step by step, and nearly all connections take the one that touches
        // everything once.
        if unusual || is_helped(opening.key, method) {
            return match self.open(packet, opening, server, port) {
                Some(id) => self.request(packet, id),
                None => self.brain.drop(Reason::TableFull),
            };
        }
        self.open_moved_on(packet, opening, server, port)
    }

    /// Makes a connection and lets its first packet go its way in one step, where nothing about them is unusual: it
    /// enters the table as that packet leaves it, and both are counted at one time.
    #[inline(always)]
    fn open_moved_on(
        &mut self,
        packet: &Packet,
        opening: &Opening<'_>,
        server: ServerId,
        port: u16,
    ) -> Verdict {
        let Some(id) = self.claim() else { return self.brain.drop(Reason::TableFull) };
        let own = &mut self.tables.servers[server.0 as usize];
        let (method, address) = (own.method, own.address.ip());
        let first = State::first(opening.key.protocol());
        let view = if method.sees_replies() { View::Input } else { View::InputOnly };
        let state = first.after(view, packet.content, self.brain.secures_tcp).unwrap_or(first);
        let active = state != first && state.is_active();
        // State and deadline after the first packet are known before the entry exists, so the slot is written once.
        let lease = Lease::of_state(self.now, self.brain.timeouts.of(state));
        let overloaded = own.bind();
        own.active += u32::from(active);
        // Only NAT changes what a reply shows, so only NAT needs a second entry in the index.
        let reply = matches!(method, Method::Nat)
            .then(|| opening.key.hash_at_server(address, port, self.brain.config.seed));
        let slot = Slot::new(opening.key, server.0, port, method)
            .moved_on(state, active)
            .controlled_by(opening.controller);
        self.connections().fill(id, slot, lease, opening.hash, reply);
        // The whole note: the slot may have been another connection's before.
        self.tables.notes[id as usize] = Note { mark: packet.mark, ..Note::EMPTY };
        if let Some(controller) = opening.controller {
            self.tables.slots[controller as usize].gain_child();
            if state != first && state.is_established() {
                self.assure(controller);
            }
        }
        if overloaded {
            self.note_server(server, ServerFact::Overloaded);
        }
        self.count_at(server, |traffic| {
            traffic.connections += 1;
            traffic.count_in(packet.length);
        });
        let connection = ConnId(id);
        self.note(Event::Opened { connection, flow: packet.flow, server });
        let (direction, target) = (Direction::Request, SocketAddr::new(address, port));
        Verdict::Forward(Forward { direction, method, target, connection, server, helper: None })
    }

    /// Makes a connection to `server`.
    pub(crate) fn open(
        &mut self,
        packet: &Packet,
        opening: &Opening<'_>,
        server: ServerId,
        port: u16,
    ) -> Option<u32> {
        let method = self.tables.servers[server.0 as usize].method;
        let mut slot = Slot::new(opening.key, server.0, port, method);
        if is_helped(opening.key, method) {
            slot.set_helped();
        }
        // An ICMP error moves no state on: its connection has what IPVS gives every new one.
        let secs =
            if packet.content == Content::Error { NEW_SECS } else { self.brain.timeouts.of(slot.state()) };
        let id = self.enter(slot, secs, opening.hash, opening.controller)?;
        self.tables.notes[id as usize].mark = packet.mark;
        self.count(id, |traffic| traffic.connections += 1);
        self.note(Event::Opened { connection: ConnId(id), flow: packet.flow, server });
        Some(id)
    }

    /// Puts a connection into the table and onto its server, for `secs` seconds at first.
    pub(crate) fn enter(
        &mut self,
        mut slot: Slot,
        secs: u32,
        hash: u32,
        controller: Option<u32>,
    ) -> Option<u32> {
        let id = self.claim()?;
        slot.set_controller(controller);
        let server = ServerId(slot.server);
        let address = self.tables.servers[server.0 as usize].address.ip();
        let reply = Table::reply_hash(&slot, &slot.key(), address, self.brain.config.seed);
        let lease = Lease::of_its_own(self.now, secs, slot.timeout(&self.brain.timeouts));
        self.connections().fill(id, slot, lease, hash, reply);
        self.tables.notes[id as usize] = Note::EMPTY;
        self.brain.without_client_port += u32::from(slot.lacks_client_port());
        if let Some(controller) = controller {
            self.tables.slots[controller as usize].gain_child();
        }
        if self.tables.servers[server.0 as usize].bind() {
            self.note_server(server, ServerFact::Overloaded);
        }
        Some(id)
    }

    /// Sends a packet whose connection gets no entry; what counts, counts.
    #[inline(never)]
    fn send_once(&mut self, packet: &Packet, opening: &Opening<'_>, server: ServerId, port: u16) -> Verdict {
        let held = opening.entry == Entry::Held;
        if held {
            self.hold(server, packet.flow.protocol);
        } else {
            self.count_once(server, |traffic| traffic.count_in(packet.length));
        }
        if let Some(controller) = opening.controller {
            // As if the client's and the server's packets had shown it.
            if held {
                self.assure(controller);
                self.tables.slots[controller as usize].vouch_for_template();
            }
            let packets = self.packets_of_controller(controller);
            if self.brain.master {
                self.synchronise(controller, packets);
            }
        }
        let own = &self.tables.servers[server.0 as usize];
        let method = own.method;
        let target = match method {
            Method::Bypass => packet.flow.destination(),
            Method::Direct | Method::Local | Method::Nat | Method::Tunnel(_) => {
                SocketAddr::new(own.address.ip(), port)
            }
        };
        // No entry refers to the stand-in of a packet that goes alone, so nothing else would give its place back.
        self.leave_standin(server);
        let connection = ConnId::NONE;
        let direction = Direction::Request;
        Verdict::Forward(Forward { direction, method, target, connection, server, helper: None })
    }

    /// Sends a packet that a NAT server begins to its client, as one from `virt`, without a connection.
    pub(crate) fn answer_once(&mut self, packet: &Packet, server: ServerId, virt: SocketAddr) -> Verdict {
        self.count_once(server, |traffic| traffic.count_out(packet.length));
        let (direction, method, connection) = (Direction::Reply, Method::Nat, ConnId::NONE);
        Verdict::Forward(Forward { direction, method, target: virt, connection, server, helper: None })
    }

    /// Counts a connection until it is released.
    #[inline(never)]
    fn hold(&mut self, server: ServerId, protocol: Protocol) {
        let own = &mut self.tables.servers[server.0 as usize];
        let overloaded = own.bind();
        own.active += u32::from(protocol != Protocol::Udp);
        if overloaded {
            self.note_server(server, ServerFact::Overloaded);
        }
        self.count_at(server, |traffic| traffic.connections += 1);
    }

    /// Counts a connection that is over again: its server was overloaded by it, if at all, for just that long.
    fn count_once(&mut self, server: ServerId, packet: impl Fn(&mut Traffic)) {
        let at = server.0 as usize;
        // IPVS makes the connection, counts it and ends it at once, so one packet can reach a threshold and leave it
        // again.
        if self.tables.servers[at].bind() {
            self.note_server(server, ServerFact::Overloaded);
        }
        self.count_at(server, |traffic| {
            traffic.connections += 1;
            packet(traffic);
        });
        if self.tables.servers[at].unbind(false) {
            self.note_server(server, ServerFact::Relieved);
        }
    }

    /// Gives a connection the client port of its first packet.
    #[cold]
    pub(crate) fn learn_client_port(&mut self, id: u32, port: u16) {
        let slot = self.tables.slots[id as usize];
        // IPVS fills it in while it translates addresses, so under NAT only.
        if !slot.is_nat() || port == 0 {
            return;
        }
        let server = self.tables.servers[slot.server as usize].address.ip();
        let key = slot.key().with_client_port(port);
        let old = Table::hashes(&slot, &slot.key(), server, self.brain.config.seed);
        let new = Table::hashes(&slot, &key, server, self.brain.config.seed);
        self.connections().rekey(id, &key, old, new);
        self.tables.slots[id as usize].set_lacks_client_port(false);
        self.brain.without_client_port -= 1;
    }

    fn expect(&mut self, control: u32, expectation: Expectation) -> Result<u32, ExpectError> {
        let slot = *self.tables.slots.get(control as usize).ok_or(ExpectError::NotFound)?;
        if slot.is_free() || slot.is_template() || !slot.is_alive(self.now) {
            return Err(ExpectError::NotFound);
        }
        if !slot.is_nat() || slot.protocol() != Protocol::Tcp {
            return Err(ExpectError::NotNat);
        }
        let flow = slot.flow();
        let (key, server_port) = match expectation {
            Expectation::FromServer { client } => {
                // Active data comes from the port below that of the control connection: 20 below 21 (RFC 959 section
                // 3.2).
                let port = flow.destination_port.wrapping_sub(1);
                let virt = SocketAddr::new(flow.addresses.destination(), port);
                let flow = Flow::new(Protocol::Tcp, client, virt).ok_or(ExpectError::FamilyMismatch)?;
                (Key::of_request(&flow), slot.server_port.wrapping_sub(1))
            }
            Expectation::FromClient { server_port } => {
                let flow = Flow { source_port: 0, destination_port: server_port, ..flow };
                (Key::of_request(&flow), server_port)
            }
        };
        let hash = key.hash(self.brain.config.seed);
        let unknown_port = matches!(expectation, Expectation::FromClient { .. });
        let found = self.find_request(&key, hash);
        // An entry without a client port answers for every client port, also that of another server behind the same
        // virtual address.
        let found = found.filter(|&id| {
            let of = &self.tables.slots[id as usize];
            !unknown_port || of.server == slot.server
        });
        let id = match found {
            Some(id) => id,
            None => {
                let mut data = Slot::new(&key, slot.server, server_port, Method::Nat);
                // In passive mode the client says nothing of the port that it will come from.
                data.set_lacks_client_port(unknown_port);
                // The control connection must not make room for its own data.
                self.tables.slots[control as usize].gain_child();
                let entered = self.enter(data, NEW_SECS, hash, Some(control));
                self.tables.slots[control as usize].lose_child();
                let id = entered.ok_or(ExpectError::TableFull)?;
                let server = ServerId(slot.server);
                self.note(Event::Opened { connection: ConnId(id), flow: key.flow(), server });
                id
            }
        };
        let listen = State::Tcp(TcpState::Listen);
        // As IPVS does it: whether the connection counts as active is left to its next packet.
        self.tables.slots[id as usize].set_state(listen);
        let lease = Lease::of_state(self.now, self.brain.timeouts.of(listen));
        self.connections().lease(id, lease);
        Ok(id)
    }

    /// The place of what stands in for a server at `address`.
    pub(crate) fn standin(&mut self, address: IpAddr, method: Method) -> Option<ServerId> {
        let same = |server: &Server| {
            server.is_standin() && server.address.ip() == address && server.method == method
        };
        // One stand-in for each address and method: it is a place that real servers could use.
        let key = ServiceKey::udp(address, 0);
        if let Some(id) = self.find_listed(&key, same) {
            return Some(id);
        }
        let id = self.take_vacant()?;
        let server = &mut self.tables.servers[id.0 as usize];
        server.life = Life::Standin;
        server.address = SocketAddr::new(address, 0);
        server.method = method;
        server.standing = Standing::new(1);
        // No service has it: it is only found by it.
        server.key = key;
        self.list(id);
        Some(id)
    }
}

/// Whether a helper reads what is said on a connection with this key.
#[inline]
fn is_helped(key: &Key, method: Method) -> bool {
    key.other_port() == FTP_PORT && key.protocol() == Protocol::Tcp && method.sees_replies()
}

/// Seconds that IPVS gives an entry until its first packet sets a state's time-out.
const NEW_SECS: u32 = 3;
