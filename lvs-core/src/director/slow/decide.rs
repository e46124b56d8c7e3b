//! One packet: found, or scheduled, or not ours.
//!
//! The order of tests is IPVS's (`ip_vs_in`, `ip_vs_out`, `ip_vs_schedule`), with one difference that no packet
//! from the wire can tell: a packet to the director is looked up among requests first, then among replies.

use core::net::SocketAddr;

use crate::conntrack::expiry::Lease;
use crate::conntrack::key::Key;
use crate::conntrack::slot::Slot;
use crate::conntrack::table::Table;
use crate::director::Director;
use crate::director::brain::Brain;
use crate::director::engine::Engine;
use crate::model::flow::Protocol;
use crate::model::id::{ConnId, ServerId};
use crate::model::packet::{Chunk, Content, Packet, Path, TcpFlags};
use crate::model::reason::Reason;
use crate::model::server::Server;
use crate::model::state::{SctpState, State, TcpState};
use crate::model::tick::Tick;
use crate::model::traffic::Traffic;
use crate::model::verdict::{Direction, Forward, Helper, Inspected, Verdict};
use crate::proto::view::View;
use crate::store::Store;

impl<S: Store> Director<S> {
    /// Decides one packet: finds or makes its connection, counts it, and moves the connection's state on.
    ///
    /// The work is bounded; only a new connection costs more than two look-ups (its scheduler's choice, and under
    /// [`WhenFull::Reclaim`](crate::config::WhenFull::Reclaim) a look at 64 slots). The first one after a change to a
    /// service under `mh` makes that one's table, unless it was made ahead ([`adopt_table`](Self::adopt_table)).
    ///
    /// `inspected` is what was read of the packet's content, [`Inspected::Nothing`] at first. Where a service goes by
    /// the content, the answer is then [`Verdict::Inspect`], nothing has changed, and the caller asks again with what
    /// it has read; that second answer is never `Inspect`.
    #[inline]
    pub fn decide(&mut self, now: Tick, packet: &Packet, inspected: Inspected<'_>) -> Verdict {
        self.engine_at(now).decide_inspected(packet, None, &inspected)
    }
}

/// What is known of a packet's keys before it is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    /// Hash of the key that is looked up first.
    pub(crate) hash: u32,
    /// Whether no entry has that hash.
    pub(crate) absent: bool,
}

impl<S: Store> Engine<'_, S> {
    #[inline]
    pub(crate) fn decide(&mut self, packet: &Packet, hint: Option<Hint>) -> Verdict {
        self.decide_inspected(packet, hint, &Inspected::Nothing)
    }

    #[inline]
    fn decide_inspected(
        &mut self,
        packet: &Packet,
        hint: Option<Hint>,
        inspected: &Inspected<'_>,
    ) -> Verdict {
        // IPVS hooks into a family with its first service. Without one even packets of old connections go by untouched,
        // so this comes before the look-up.
        if !self.brain.serves(packet.flow.addresses.family()) {
            return self.brain.pass(Reason::NoService);
        }
        // Linux hands IPVS whole datagrams. A caller that does not put fragments together first has nothing here that
        // could tell the connection.
        if packet.content == Content::Fragment {
            return self.brain.pass(Reason::Fragment);
        }
        match packet.path {
            Path::Local | Path::Captured => self.decide_local(packet, hint, inspected),
            Path::Through => self.decide_through(packet, hint, inspected),
        }
    }

    #[inline]
    fn decide_local(&mut self, packet: &Packet, hint: Option<Hint>, inspected: &Inspected<'_>) -> Verdict {
        // The switches behind this are mostly off, so they are summed up in one flag that changes with them.
        if self.brain.watches_local
            && let Some(verdict) = self.before_requests(packet)
        {
            return verdict;
        }
        let key = Key::of_request(&packet.flow);
        let hash = hint.map_or_else(|| key.hash(self.brain.config.seed), |hint| hint.hash);
        // Connections that wait for their client's port are found by another key.
        let absent = hint.is_some_and(|hint| hint.absent) && self.brain.without_client_port == 0;
        self.brain.table.looks_up(hash);
        if !absent && let Some(id) = self.find_request(&key, hash) {
            match self.meet(packet, id) {
                Disposition::Goes => return self.request(packet, id),
                Disposition::Dropped => return self.brain.drop(Reason::ServerRemoved),
                // A client has used its port again while the old connection was still closing. The old entry ends by
                // time-out rather than at once, so that the sweep does the work.
                Disposition::StartsAnew => {
                    let (slot, servers) = (&self.tables.slots[id as usize], &self.tables.servers);
                    // Who controls others stays, shadowed by the new one, unless its server is gone.
                    if slot.children() == 0 || servers[slot.server as usize].is_removed() {
                        self.tables.connections(&mut self.brain.table).lease(id, Lease::over(self.now));
                    }
                    let service = self.service_of_new(packet, &key);
                    return self.schedule(packet, (&key, hash), service, inspected);
                }
            }
        }
        let service = self.service_of_new(packet, &key);
        if service.is_none() {
            // IPVS looks for replies first. The order can only matter for a packet from a real server to a virtual
            // address while a connection from that virtual address to that server exists, which nobody but the director
            // could have made. Requests first saves a look-up for every packet of a client.
            // Not a client's: what starts a connection with a service is no real server's answer to a client.
            if packet.content != Content::TunnelError
                && let Some(id) = self.find_reply(packet, None)
            {
                return self.reply(packet, id);
            }
            if matches!(packet.content, Content::Error | Content::TunnelError | Content::Ipsec) {
                return self.brain.pass(Reason::NoConnection);
            }
        }
        self.schedule(packet, (&key, hash), service, inspected)
    }

    /// What is tried before requests under switches that are mostly off: replies, so that what is none can be told from
    /// a client's packet.
    #[cold]
    fn before_requests(&mut self, packet: &Packet) -> Option<Verdict> {
        if let Some(id) = self.find_reply(packet, None) {
            return Some(self.reply(packet, id));
        }
        if let Some(verdict) = self.stray_reply(packet) {
            return Some(verdict);
        }
        self.brain.leaves_clients_alone().then(|| self.brain.pass(Reason::BackupOnly))
    }

    fn decide_through(&mut self, packet: &Packet, hint: Option<Hint>, inspected: &Inspected<'_>) -> Verdict {
        if packet.content == Content::Error && !self.brain.leaves_clients_alone() {
            // An error on its way from a client to a virtual address that is not the director's own.
            let key = Key::of_request(&packet.flow);
            let hash = key.hash(self.brain.config.seed);
            self.brain.table.looks_up(hash);
            if let Some(id) = self.find_request(&key, hash) {
                return self.request(packet, id);
            }
            if self.brain.config.tuning.schedule_icmp
                && let service @ Some(_) = self.service_of_new(packet, &key)
            {
                return self.schedule(packet, (&key, hash), service, inspected);
            }
        }
        if let Some(id) = self.find_reply(packet, hint) {
            return self.reply(packet, id);
        }
        if self.brain.call_services > 0
            && let Some(verdict) = self.call_from_server(packet, inspected)
        {
            return verdict;
        }
        match self.stray_reply(packet) {
            Some(verdict) => verdict,
            None => self.brain.pass(Reason::NoConnection),
        }
    }

    /// The connection that requests with this key belong to: IPVS's look-up, in which port 0 stands for a client port
    /// that is not known yet, and never for one that is.
    #[inline]
    pub(crate) fn find_request(&mut self, key: &Key, hash: u32) -> Option<u32> {
        let unknown = self.brain.without_client_port;
        let table =
            Table::new(self.tables.slots, self.tables.cells, self.tables.wakes, &mut self.brain.table);
        // Port 0 stands for a port that is still to be learnt (FTP data in passive mode): a packet from port 0 must not
        // find a connection by an exact match.
        if key.client_port() != 0 {
            if let Some(id) = table.find_request(hash, key, self.now) {
                return Some(id);
            }
            if unknown == 0 {
                return None;
            }
        }
        let key = key.without_client_port();
        table.find(key.hash(self.brain.config.seed), self.now, |_, slot| {
            slot.answers(&key) && slot.lacks_client_port()
        })
    }

    /// The connection that a real server's packet belongs to: by the server's own address under NAT, else by the
    /// virtual one. Of both kinds at once, the NAT connection.
    pub(crate) fn find_reply(&mut self, packet: &Packet, hint: Option<Hint>) -> Option<u32> {
        let key = Key::of_reply(&packet.flow);
        let hash = hint.map_or_else(|| key.hash(self.brain.config.seed), |hint| hint.hash);
        self.brain.table.looks_up(hash);
        let servers = &*self.tables.servers;
        let mut table =
            Table::new(self.tables.slots, self.tables.cells, self.tables.wakes, &mut self.brain.table);
        let nat = if hint.is_some_and(|hint| hint.absent) {
            None
        } else {
            table.find_reply(hash, &key, self.now, |server| {
                servers.get(server as usize).is_some_and(|server| key.other_is(server.address.ip()))
            })
        };
        // DR and TUN have no second entry in the index: their replies still show the virtual address, so the key of the
        // request finds them.
        nat.or_else(|| {
            let key = Key::of_direct_reply(&packet.flow);
            let hash = key.hash(self.brain.config.seed);
            table.state.looks_up(hash);
            let found = table.find_request(hash, &key, self.now)?;
            // A NAT connection's replies come from the server's address; the virtual one is somebody else's.
            (!table.slots[found as usize].is_nat()).then_some(found)
        })
    }

    /// What a client's packet means for the connection that it was found to belong to.
    #[inline]
    fn meet(&self, packet: &Packet, id: u32) -> Disposition {
        let slot = &self.tables.slots[id as usize];
        let Some(server) = self.tables.servers.get(slot.server as usize) else { return Disposition::Dropped };
        let starts = match packet.content {
            Content::Tcp(flags) => flags.contains(TcpFlags::SYN),
            Content::Sctp(chunk) => chunk == Chunk::Init,
            Content::Error | Content::TunnelError => return Disposition::Goes,
            Content::Udp | Content::Fragment | Content::Ipsec => false,
        };
        // Nearly every packet ends here. What is rarer is out of line, so that this much is inlined into the look-up.
        if !starts && server.is_available() {
            Disposition::Goes
        } else {
            self.brain.meet_anew(slot, server, starts)
        }
    }

    /// Counts a client's packet, moves its connection on, and sends it to the real server.
    #[inline]
    pub(crate) fn request(&mut self, packet: &Packet, id: u32) -> Verdict {
        let slot = &mut self.tables.slots[id as usize];
        if slot.is_unusual() || self.brain.master || packet.content.is_error() {
            return self.unusual_request(packet, id);
        }
        slot.in_packets = slot.in_packets.wrapping_add(1);
        let view = if slot.is_one_way() { View::InputOnly } else { View::Input };
        let server = &self.tables.servers[slot.server as usize];
        let forward = Forward {
            direction: Direction::Request,
            method: slot.method(server.method),
            target: SocketAddr::new(server.address.ip(), slot.server_port),
            connection: ConnId(id),
            server: ServerId(slot.server),
            helper: None,
        };
        self.count(id, |traffic| traffic.count_in(packet.length));
        self.advance(packet.content, view, id);
        Verdict::Forward(forward)
    }

    /// Does what [`request`](Self::request) does for ICMP errors, for connections that have something about them, and
    /// for masters.
    #[inline(never)]
    fn unusual_request(&mut self, packet: &Packet, id: u32) -> Verdict {
        if packet.content == Content::TunnelError {
            // It is on its way to the client.
            self.count(id, |traffic| traffic.count_out(packet.length));
        } else {
            self.count(id, |traffic| traffic.count_in(packet.length));
        }
        let slot = &mut self.tables.slots[id as usize];
        let server = &self.tables.servers[slot.server as usize];
        let forward = Forward {
            direction: Direction::Request,
            method: slot.method(server.method),
            target: if slot.is_bypass() {
                packet.flow.destination()
            } else {
                SocketAddr::new(server.address.ip(), slot.server_port)
            },
            connection: ConnId(id),
            server: ServerId(slot.server),
            helper: slot.is_helped().then_some(Helper::Ftp),
        };
        // IPVS counts errors here too, except under NAT.
        let counts = match packet.content {
            Content::TunnelError => false,
            Content::Error => !slot.is_nat(),
            Content::Tcp(_) | Content::Udp | Content::Sctp(_) | Content::Fragment | Content::Ipsec => true,
        };
        if counts {
            slot.in_packets = slot.in_packets.wrapping_add(1);
        }
        if packet.content.is_error() {
            return Verdict::Forward(forward);
        }
        // Asked before the state moves on, acted on after it: learning the port gives the slot another key.
        let learns = slot.lacks_client_port();
        let view = if slot.is_one_way() { View::InputOnly } else { View::Input };
        self.advance(packet.content, view, id);
        if learns {
            self.learn_client_port(id, packet.flow.source_port);
        }
        if self.brain.master {
            let packets = self.tables.slots[id as usize].in_packets;
            self.synchronise(id, packets);
        }
        Verdict::Forward(forward)
    }

    /// Counts a real server's packet, moves its connection on, and sends it to the client.
    #[inline]
    pub(crate) fn reply(&mut self, packet: &Packet, id: u32) -> Verdict {
        self.count(id, |traffic| traffic.count_out(packet.length));
        let slot = &mut self.tables.slots[id as usize];
        let server = &self.tables.servers[slot.server as usize];
        let forward = Forward {
            direction: Direction::Reply,
            method: slot.method(server.method),
            target: slot.flow().destination(),
            connection: ConnId(id),
            server: ServerId(slot.server),
            helper: slot.is_helped().then_some(Helper::Ftp),
        };
        if packet.content != Content::Error {
            slot.saw_output();
            let before = slot.state().phase();
            if let Some(controller) = slot.controller()
                && slot.protocol() == Protocol::Udp
            {
                self.assure(controller);
            }
            self.advance(packet.content, View::Output, id);
            self.tables.slots[id as usize].weigh_answer(before, packet.content);
        }
        Verdict::Forward(forward)
    }

    /// Counts something of a connection for its server, for that one's service and in total. A removed server counts
    /// nothing.
    #[inline]
    pub(crate) fn count(&mut self, id: u32, what: impl Fn(&mut Traffic)) {
        let server = self.tables.slots[id as usize].server;
        self.count_at(ServerId(server), what);
    }

    #[inline(always)]
    pub(crate) fn count_at(&mut self, server: ServerId, what: impl Fn(&mut Traffic)) {
        let server = &mut self.tables.servers[server.0 as usize];
        // In IPVS a removed server has left the list by now, and nobody could show what it counts.
        if !server.is_available() {
            return;
        }
        what(server.meter.live_mut());
        if let Some(Some(service)) = self.tables.services.get_mut(server.service.0 as usize) {
            what(service.meter.live_mut());
        }
        what(self.brain.meter.live_mut());
    }

    /// Moves a connection's state on and its deadline with it.
    #[inline]
    fn advance(&mut self, content: Content, view: View, id: u32) {
        let slot = &mut self.tables.slots[id as usize];
        let before = slot.state();
        if let (State::Tcp(TcpState::Established), Content::Tcp(flags)) = (before, content)
            && flags.is_plain_ack()
        {
            // What nearly all segments are: by every part of the table they change nothing (a test says so).
            slot.renew(self.now, &self.brain.timeouts);
            return;
        }
        let after = before.after(view, content, self.brain.secures_tcp).unwrap_or(before);
        // The deadline is written into the slot that is in hand anyway. The sweep has an array of its own to look at,
        // which is told only when a deadline comes nearer.
        if after == before {
            slot.renew(self.now, &self.brain.timeouts);
            return;
        }
        slot.set_state(after);
        // Least-connection schedulers weigh active connections 256 times, so the server's count follows every change of
        // state.
        if slot.is_active() != after.is_active() {
            slot.set_active(after.is_active());
            if let Some(server) = self.tables.servers.get_mut(slot.server as usize) {
                if after.is_active() {
                    server.active += 1;
                } else {
                    server.active = server.active.saturating_sub(1);
                }
            }
        }
        if after.is_established()
            && let Some(controller) = slot.controller()
        {
            self.assure(controller);
        }
        let lease = Lease::of_state(self.now, self.brain.timeouts.of(after));
        self.connections().lease(id, lease);
    }

    /// Notes that a template's connection came about.
    pub(crate) fn assure(&mut self, controller: u32) {
        if let Some(slot) = self.tables.slots.get_mut(controller as usize)
            && slot.is_template()
        {
            slot.assure(true);
        }
    }

    /// The service of a packet, if it may be the first of a connection.
    #[inline]
    fn service_of_new(&mut self, packet: &Packet, key: &Key) -> Option<u32> {
        if self.brain.may_start(packet.content) { self.find_service(packet, key) } else { None }
    }
}

impl Brain {
    /// What becomes of a packet that starts a connection, or whose server is not in its service.
    #[inline(never)]
    fn meet_anew(&self, slot: &Slot, server: &Server, starts: bool) -> Disposition {
        let tuning = &self.config.tuning;
        let reused = starts
            && ((tuning.expire_nodest_conn && server.weight() == 0 && !server.is_standin())
                || (tuning.conn_reuse_mode != 0
                    && slot.controller().is_none()
                    && is_over(slot, tuning.conn_reuse_mode)));
        let orphaned = server.is_removed();
        if reused || (orphaned && tuning.expire_nodest_conn) {
            return Disposition::StartsAnew;
        }
        if orphaned { Disposition::Dropped } else { Disposition::Goes }
    }

    /// Whether a packet of this content may be the first of a connection.
    pub(crate) const fn may_start(&self, content: Content) -> bool {
        let tuning = &self.config.tuning;
        match content {
            Content::Tcp(flags) => {
                !flags.contains(TcpFlags::RST) && (flags.contains(TcpFlags::SYN) || tuning.sloppy_tcp)
            }
            Content::Sctp(Chunk::Init) | Content::Udp => true,
            Content::Sctp(Chunk::Abort) | Content::Fragment | Content::Ipsec | Content::TunnelError => false,
            Content::Sctp(_) => tuning.sloppy_sctp,
            Content::Error => tuning.schedule_icmp,
        }
    }

    pub(crate) fn pass(&mut self, reason: Reason) -> Verdict {
        self.counters.note(reason);
        Verdict::Pass(reason)
    }

    pub(crate) fn drop(&mut self, reason: Reason) -> Verdict {
        self.counters.note(reason);
        Verdict::Drop(reason)
    }

    pub(crate) fn reject(&mut self, reason: Reason) -> Verdict {
        self.counters.note(reason);
        Verdict::Reject(reason)
    }
}

/// What becomes of a packet that was found to belong to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    /// The packet goes to the connection's server.
    Goes,
    /// The server was removed.
    Dropped,
    /// The packet is the first of a new connection on the same tuple.
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
