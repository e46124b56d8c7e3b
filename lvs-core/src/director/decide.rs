//! One packet: found, or scheduled, or not ours.
//!
//! The order of tests is IPVS's (`ip_vs_in`, `ip_vs_out`, `ip_vs_schedule`), with one difference that no packet
//! from the wire can tell: a packet to the director is looked up among requests first, then among replies.

use core::net::SocketAddr;

use super::{Brain, Director};
use crate::conn::{ConnId, Key, Slot};
use crate::counters::Traffic;
use crate::event::Event;
use crate::method::Method;
use crate::packet::{Chunk, Content, Packet, Path, TcpFlags};
use crate::proto::{SctpState, State, TcpState, View};
use crate::sched::{Pool, Schedule};
use crate::server::ServerId;
use crate::service::ServiceKey;
use crate::store::{Queue, Services, Store, Tables};
use crate::tick::{Stamp, Tick};
use crate::verdict::{Direction, Forward, Reason, Verdict};

impl<S: Store> Director<S> {
    /// Decides one packet: finds or makes its connection, counts it, and moves the connection's state on.
    ///
    /// The work is bounded; only a new connection costs more than two look-ups (its scheduler's choice, and under
    /// [`WhenFull::Reclaim`](crate::WhenFull::Reclaim) a look at 64 slots).
    #[inline]
    pub fn decide(&mut self, now: Tick, packet: &Packet) -> Verdict {
        let now = self.brain.clock(now).stamp();
        self.brain.decide(&mut self.store.parts(), now, packet, None)
    }
}

/// What is known of a packet's keys before it is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hint {
    /// Hash of the key that is looked up first.
    pub(super) hash: u32,
    /// The slot that was found for it.
    pub(super) slot: Option<u32>,
}

impl Brain {
    #[inline]
    pub(super) fn decide<P: Schedule, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        hint: Option<Hint>,
    ) -> Verdict {
        if !self.serves(packet.flow.addresses.family()) {
            return self.pass(Reason::NoService);
        }
        if packet.content == Content::Fragment {
            return self.pass(Reason::Fragment);
        }
        match packet.path {
            Path::Local => self.decide_local(tables, now, packet, hint),
            Path::Through => self.decide_through(tables, now, packet, hint),
        }
    }

    fn decide_local<P: Schedule, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        hint: Option<Hint>,
    ) -> Verdict {
        if let Some(id) = hint.and_then(|hint| hint.slot)
            && self.meet(tables, packet, id) == Meeting::Goes
        {
            return self.request(tables, now, packet, id);
        }
        let key = Key::of_request(&packet.flow);
        let hash = hint.map_or_else(|| key.hash(self.config.seed), |hint| hint.hash);
        if let Some(id) = tables.connections(&mut self.table).find_request(hash, &key, now) {
            return match self.meet(tables, packet, id) {
                Meeting::Goes => self.request(tables, now, packet, id),
                Meeting::Dropped => self.drop(Reason::ServerRemoved),
                Meeting::StartsAnew => {
                    tables.connections(&mut self.table).bring_forward(id, now);
                    let service = self.find_service(tables, packet);
                    self.schedule(tables, now, packet, &key, hash, service)
                }
            };
        }
        let service = self.may_start(packet.content).then(|| self.find_service(tables, packet)).flatten();
        if service.is_none() {
            // Not a client's: what starts a connection with a service is no real server's answer to a client.
            if let Some(id) = self.find_reply(tables, now, packet, None) {
                return self.reply(tables, now, packet, id);
            }
            if packet.content == Content::Error {
                return self.pass(Reason::NoConnection);
            }
        }
        self.schedule(tables, now, packet, &key, hash, service)
    }

    fn decide_through<P: Schedule, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        hint: Option<Hint>,
    ) -> Verdict {
        if packet.content == Content::Error {
            // An error on its way from a client to a virtual address that is not the director's own.
            let key = Key::of_request(&packet.flow);
            let found =
                tables.connections(&mut self.table).find_request(key.hash(self.config.seed), &key, now);
            if let Some(id) = found {
                return self.request(tables, now, packet, id);
            }
        }
        match self.find_reply(tables, now, packet, hint) {
            Some(id) => self.reply(tables, now, packet, id),
            None => self.pass(Reason::NoConnection),
        }
    }

    /// The connection that a real server's packet belongs to: by the server's own address under NAT, else by the
    /// virtual one. Of both kinds at once, the NAT connection.
    fn find_reply<P, M, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        hint: Option<Hint>,
    ) -> Option<u32> {
        if let Some(id) = hint.and_then(|hint| hint.slot) {
            return Some(id);
        }
        let key = Key::of_reply(&packet.flow);
        let hash = hint.map_or_else(|| key.hash(self.config.seed), |hint| hint.hash);
        let servers = &*tables.servers;
        let table = crate::conn::Table::new(tables.slots, tables.cells, tables.wakes, &mut self.table);
        let nat = table.find_reply(hash, &key, now, |server| {
            servers.get(server as usize).is_some_and(|server| key.other_is(server.address.ip()))
        });
        nat.or_else(|| {
            let key = Key::of_direct_reply(&packet.flow);
            let found = table.find_request(key.hash(self.config.seed), &key, now)?;
            // A NAT connection's replies come from the server's address; the virtual one is somebody else's.
            (!table.slots[found as usize].is_nat()).then_some(found)
        })
    }

    /// What a client's packet means for the connection that it was found to belong to.
    #[inline]
    fn meet<P, M, Q>(&self, tables: &Tables<'_, P, M, Q>, packet: &Packet, id: u32) -> Meeting {
        let slot = &tables.slots[id as usize];
        let Some(server) = tables.servers.get(slot.server as usize) else { return Meeting::Dropped };
        let tuning = &self.config.tuning;
        let starts = match packet.content {
            Content::Tcp(flags) => flags.contains(TcpFlags::SYN),
            Content::Sctp(chunk) => chunk == Chunk::Init,
            Content::Error => return Meeting::Goes,
            Content::Udp | Content::Fragment => false,
        };
        let reused = starts
            && ((tuning.expire_nodest_conn && server.weight == 0)
                || (tuning.conn_reuse_mode != 0 && is_over(slot, tuning.conn_reuse_mode)));
        let orphaned = !server.is_available();
        if reused || (orphaned && tuning.expire_nodest_conn) {
            return Meeting::StartsAnew;
        }
        if orphaned { Meeting::Dropped } else { Meeting::Goes }
    }

    /// Counts a client's packet, moves its connection on, and sends it to the real server.
    #[inline]
    fn request<P, M, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        id: u32,
    ) -> Verdict {
        self.count(tables, id, |traffic| traffic.count_in(packet.length));
        let slot = &mut tables.slots[id as usize];
        let server = &tables.servers[slot.server as usize];
        let forward = Forward {
            direction: Direction::Request,
            method: slot.method(server.method),
            target: SocketAddr::new(server.address.ip(), slot.server_port),
            connection: ConnId(id),
            server: ServerId(slot.server),
        };
        // IPVS counts errors here too, except under NAT.
        if packet.content != Content::Error || !slot.is_nat() {
            slot.in_packets = slot.in_packets.wrapping_add(1);
        }
        if packet.content != Content::Error {
            let view = if slot.is_one_way() { View::InputOnly } else { View::Input };
            self.advance(tables, now, packet.content, view, id);
        }
        Verdict::Forward(forward)
    }

    /// Counts a real server's packet, moves its connection on, and sends it to the client.
    #[inline]
    fn reply<P, M, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        id: u32,
    ) -> Verdict {
        self.count(tables, id, |traffic| traffic.count_out(packet.length));
        let slot = &mut tables.slots[id as usize];
        let server = &tables.servers[slot.server as usize];
        let forward = Forward {
            direction: Direction::Reply,
            method: slot.method(server.method),
            target: slot.flow().destination(),
            connection: ConnId(id),
            server: ServerId(slot.server),
        };
        if packet.content != Content::Error {
            slot.saw_output();
            self.advance(tables, now, packet.content, View::Output, id);
        }
        Verdict::Forward(forward)
    }

    /// Counts something of a connection for its server, for that one's service and in total. A removed server counts nothing.
    #[inline]
    fn count<P, M, Q>(&mut self, tables: &mut Tables<'_, P, M, Q>, id: u32, what: impl Fn(&mut Traffic)) {
        let server = &mut tables.servers[tables.slots[id as usize].server as usize];
        if !server.is_available() {
            return;
        }
        what(&mut server.traffic);
        if let Some(Some(service)) = tables.services.get_mut(server.service.0 as usize) {
            what(&mut service.traffic);
        }
        what(&mut self.counters.traffic);
    }

    /// Moves a connection's state on and its deadline with it.
    #[inline]
    fn advance<P, M, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        content: Content,
        view: View,
        id: u32,
    ) {
        let slot = &mut tables.slots[id as usize];
        let before = slot.state();
        if let (State::Tcp(TcpState::Established), Content::Tcp(flags)) = (before, content)
            && flags.is_plain_ack()
        {
            // What nearly all segments are: by every part of the table they change nothing (a test says so).
            slot.deadline = now.plus_secs(self.timeouts.of(before));
            return;
        }
        let after = before.after(view, content).unwrap_or(before);
        let deadline = now.plus_secs(self.timeouts.of(after));
        if after == before {
            slot.deadline = deadline;
            return;
        }
        slot.set_state(after);
        if before.is_active() != after.is_active()
            && let Some(server) = tables.servers.get_mut(slot.server as usize)
        {
            if after.is_active() {
                server.active += 1;
            } else {
                server.active = server.active.saturating_sub(1);
            }
        }
        tables.connections(&mut self.table).bring_forward(id, deadline);
    }

    /// Gives a packet without a connection to a real server of its service, if it may start one.
    fn schedule<P: Schedule, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        key: &Key,
        hash: u32,
        service: Option<u32>,
    ) -> Verdict {
        if !self.may_start(packet.content) {
            return self.pass(Reason::NotStarting);
        }
        let Some(index) = service else { return self.pass(Reason::NoService) };
        if packet.flow.source_port == FTP_DATA_PORT {
            return self.pass(Reason::FtpDataPort);
        }
        let Some(Some(service)) = tables.services.get_mut(index as usize) else {
            return self.pass(Reason::NoService);
        };
        if let ServiceKey::Address { port, .. } = service.key
            && port != packet.flow.destination_port
        {
            return self.reject(Reason::NoServer);
        }
        let lookup = tables.by_key.table(index);
        let occasion = self.occasion(service.key.family());
        let mut pool =
            Pool::new(tables.servers, service.first, service.servers, lookup, service.flags, occasion);
        let picked = service.scheduler.pick(&mut pool, &packet.flow, &mut self.rng);
        match picked {
            Some(server) if tables.servers.get(server.0 as usize).is_some_and(|s| s.serves(index)) => {
                self.open(tables, now, packet, key, hash, server)
            }
            // A scheduler of the embedder's may name a server that is not there, or another service's.
            Some(_) | None => self.reject(Reason::NoServer),
        }
    }

    /// Makes a connection to `server` and sends its first packet there.
    fn open<P, M, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        key: &Key,
        hash: u32,
        server: ServerId,
    ) -> Verdict {
        if !tables.connections(&mut self.table).has_room() && !self.reclaim(tables, now) {
            return self.drop(Reason::TableFull);
        }
        let index = server.0 as usize;
        let (address, method) = (tables.servers[index].address, tables.servers[index].method);
        let port = if address.port() == 0 { packet.flow.destination_port } else { address.port() };
        let reply =
            matches!(method, Method::Nat).then(|| key.at_server(address.ip(), port).hash(self.config.seed));
        let mut slot = Slot::new(key, server.0, port, method);
        slot.deadline = now.plus_secs(self.timeouts.of(slot.state()));
        let Some(id) = tables.connections(&mut self.table).insert(slot, hash, reply) else {
            return self.drop(Reason::TableFull);
        };
        if tables.servers[index].bind() {
            self.note(tables, Event::Overloaded { server });
        }
        self.count(tables, id, |traffic| traffic.connections += 1);
        self.note(tables, Event::Opened { connection: ConnId(id), flow: packet.flow, server });
        self.request(tables, now, packet, id)
    }

    /// Whether a packet of this content may be the first of a connection.
    const fn may_start(&self, content: Content) -> bool {
        let tuning = &self.config.tuning;
        match content {
            Content::Tcp(flags) => {
                !flags.contains(TcpFlags::RST) && (flags.contains(TcpFlags::SYN) || tuning.sloppy_tcp)
            }
            Content::Sctp(Chunk::Init) | Content::Udp => true,
            Content::Sctp(Chunk::Abort) | Content::Fragment | Content::Error => false,
            Content::Sctp(_) => tuning.sloppy_sctp,
        }
    }

    /// The service of a packet: by its mark, else by its address and port, else the one for all ports.
    fn find_service<P, M: Services, Q>(&self, tables: &Tables<'_, P, M, Q>, packet: &Packet) -> Option<u32> {
        let flow = &packet.flow;
        let marked = match packet.mark {
            0 => None,
            mark => tables.by_key.find(&ServiceKey::Mark { family: flow.addresses.family(), mark }),
        };
        let address = flow.addresses.destination();
        let by_port =
            |port| tables.by_key.find(&ServiceKey::Address { protocol: flow.protocol, address, port });
        marked
            .or_else(|| by_port(flow.destination_port))
            .or_else(|| if self.wildcards > 0 { by_port(0) } else { None })
    }

    pub(super) fn note<P, M, Q: Queue>(&mut self, tables: &mut Tables<'_, P, M, Q>, event: Event) {
        if !tables.events.push(event) {
            self.counters.events_lost += 1;
        }
    }

    fn pass(&mut self, reason: Reason) -> Verdict {
        self.counters.note(reason);
        Verdict::Pass(reason)
    }

    fn drop(&mut self, reason: Reason) -> Verdict {
        self.counters.note(reason);
        Verdict::Drop(reason)
    }

    fn reject(&mut self, reason: Reason) -> Verdict {
        self.counters.note(reason);
        Verdict::Reject(reason)
    }
}

/// What becomes of a packet that was found to belong to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// It goes to the connection's server.
    Goes,
    /// The server was removed.
    Dropped,
    /// It is the first of a new connection on the same tuple.
    StartsAnew,
}

/// Whether a connection's life is so far over that its tuple may be used again (IPVS's `conn_reuse_mode`).
fn is_over(slot: &Slot, mode: u32) -> bool {
    match slot.state() {
        State::Tcp(TcpState::TimeWait | TcpState::Close) => true,
        State::Tcp(TcpState::FinWait) => mode & 2 != 0 && slot.is_one_way(),
        State::Sctp(state) => state == SctpState::Closed,
        State::Tcp(_) | State::Udp => false,
    }
}

/// IPVS takes new flows from this port for active FTP data.
const FTP_DATA_PORT: u16 = 20;
