//! Packets that something faster forwards in the director's place, such as a program in the kernel, once the director
//! has shown how.
//!
//! Only those for which [`decide`](Director::decide) would do nothing but count and move the deadline: segments with
//! ACK alone on an established TCP connection. Everything that opens or closes one still has to come here.

use core::net::SocketAddr;

use crate::conntrack::key::Key;
use crate::director::Director;
use crate::director::engine::Engine;
use crate::model::id::{ConnId, ServerId};
use crate::model::packet::{Content, Packet, Path};
use crate::model::state::{State, TcpState};
use crate::model::tick::Tick;
use crate::model::traffic::Traffic;
use crate::model::verdict::{Direction, Forward};
use crate::store::Store;

/// What was forwarded in the director's place since that was last said, in one direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "whoever forwards builds it")]
pub struct Offloaded {
    /// Packets; one that was merged from several counts once, as it does when it is decided.
    pub packets: u64,
    /// Bytes of these IP packets, headers included.
    pub bytes: u64,
}

impl<S: Store> Director<S> {
    /// Counts what went past the director, as if it had been decided now, and says where further packets like this one
    /// go. `packet` shows the flow, its path, and that it is a TCP segment with ACK alone; its length does not count.
    /// `known` is what an earlier call has said of these packets, and so where they went; `None` for a first call.
    ///
    /// `None` means that from now on packets have to be decided one by one: the connection is gone or on its way to be,
    /// its real server is, or the director wants to see each packet (a helper, a master of sync daemons). What had
    /// passed by then is counted where the connection is still known. With `known`, it also means that the director
    /// says anything else of the packets by now, such as another real server because the client has used its port
    /// again: what has passed then counts for the real server that got it, and for no connection.
    ///
    /// Deadlines move at the moment of this call, so it should come many times in the shortest time-out of an
    /// established connection.
    ///
    /// ```
    /// use lvs_core::*;
    /// use lvs_core::conn::Offloaded;
    /// let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Fixed::<16, 1, 1, 4>::new());
    /// let web = ServiceKey::tcp("10.99.0.1".parse()?, 80);
    /// director.add_service(web, ServiceConfig::new(Scheduler::from_name("rr").unwrap()))?;
    /// director.add_server(web, ServerConfig::new("10.0.1.11:80".parse()?, Method::Direct))?;
    /// let flow = Flow::new(Protocol::Tcp, "192.0.2.7:40000".parse()?, "10.99.0.1:80".parse()?).unwrap();
    /// let segment = |flags| Packet::new(flow, Content::Tcp(flags), 60);
    ///
    /// let (now, ack) = (Tick::ZERO, segment(TcpFlags::ACK));
    /// assert_eq!(director.account_offloaded(now, &ack, None, Offloaded::default()), None, "nobody knows it");
    /// let _ = director.decide(now, &segment(TcpFlags::SYN), Inspected::Nothing);
    /// let _ = director.decide(now, &ack, Inspected::Nothing);
    /// let forward = director.account_offloaded(now, &ack, None, Offloaded { packets: 3, bytes: 4_500 });
    /// assert_eq!(forward.map(|forward| forward.target), Some("10.0.1.11:80".parse()?));
    /// assert_eq!(director.counters().traffic.in_packets, 5);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn account_offloaded(
        &mut self,
        now: Tick,
        packet: &Packet,
        known: Option<&Forward>,
        passed: Offloaded,
    ) -> Option<Forward> {
        let mut engine = self.engine_at(now);
        let passing = engine.passing(packet);
        let Some(known) = known else {
            let passing = passing?;
            engine.count_passed(&passing.forward, passed);
            return passing.goes_on.then_some(passing.forward);
        };
        let is_same = |forward: &Forward| {
            let of = |forward: &Forward| (forward.connection, forward.direction, forward.server);
            of(forward) == of(known)
        };
        if passing.is_some_and(|passing| is_same(&passing.forward)) {
            engine.count_passed(known, passed);
        } else if passed != Offloaded::default()
            && engine.tables.servers.get(known.server.0 as usize).is_some()
        {
            // The packets went to that server whatever the connection is now, and its counters must say so.
            engine.count_at(known.server, |traffic| passed.add_to(traffic, known.direction));
        }
        passing.filter(|passing| passing.goes_on && passing.forward == *known).map(|passing| passing.forward)
    }
}

impl Offloaded {
    fn add_to(self, traffic: &mut Traffic, direction: Direction) {
        match direction {
            Direction::Request => {
                traffic.in_packets += self.packets;
                traffic.in_bytes += self.bytes;
            }
            Direction::Reply => {
                traffic.out_packets += self.packets;
                traffic.out_bytes += self.bytes;
            }
        }
    }
}

/// What the director knows of a packet that may pass.
#[derive(Clone, Copy)]
struct Passing {
    forward: Forward,
    /// Whether further ones need not be decided.
    goes_on: bool,
}

impl<S: Store> Engine<'_, S> {
    fn passing(&mut self, packet: &Packet) -> Option<Passing> {
        let Content::Tcp(flags) = packet.content else { return None };
        let (id, direction) = match packet.path {
            Path::Local | Path::Captured => {
                let key = Key::of_request(&packet.flow);
                let hash = key.hash(self.brain.config.seed);
                (self.find_request(&key, hash)?, Direction::Request)
            }
            Path::Through => (self.find_reply(packet, None)?, Direction::Reply),
        };
        let slot = self.tables.slots.get(id as usize)?;
        let server = self.tables.servers.get(slot.server as usize)?;
        // Replies of other methods leave as they came. There is nothing to be learnt from the director about them.
        if direction == Direction::Reply && !slot.is_nat() {
            return None;
        }
        let target = match direction {
            Direction::Request => SocketAddr::new(server.address.ip(), slot.server_port),
            Direction::Reply => slot.flow().destination(),
        };
        let forward = Forward {
            direction,
            method: slot.method(server.method),
            target,
            connection: ConnId(id),
            server: ServerId(slot.server),
            helper: None,
        };
        let is_known = slot.state() == State::Tcp(TcpState::Established) && !slot.is_unusual();
        // A master counts packets to know when to tell its backups, and may not hear of them in lots.
        let by_one = self.brain.watches_local || self.brain.master;
        let goes_on = flags.is_plain_ack() && is_known && server.is_available() && !by_one;
        Some(Passing { forward, goes_on })
    }

    /// Counts packets of a connection, and moves its deadline if it is established.
    fn count_passed(&mut self, forward: &Forward, passed: Offloaded) {
        let id = forward.connection.0;
        let Some(slot) = self.tables.slots.get_mut(id as usize) else { return };
        if passed == Offloaded::default() {
            return;
        }
        match forward.direction {
            // The counter of listings and sync messages has 32 bits.
            Direction::Request => slot.in_packets = slot.in_packets.wrapping_add(passed.packets as u32),
            // Such packets have ACK alone, on an established connection.
            Direction::Reply => slot.saw_answer(),
        }
        let established = State::Tcp(TcpState::Established);
        if slot.state() == established && !slot.is_unusual() {
            // As of now, though the packets went by since the last call: at most a call's distance too late.
            slot.renew(self.now, &self.brain.timeouts);
        }
        self.count(id, |traffic| passed.add_to(traffic, forward.direction));
    }
}
