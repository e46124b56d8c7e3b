//! Packets that something faster forwards in the director's place, such as a program in the kernel, once the director has shown how.
//!
//! Only those for which [`decide`](Director::decide) would do nothing but count and move the deadline: segments with ACK alone on
//! an established TCP connection. Everything that opens or closes one still has to come here.

use core::net::SocketAddr;

use super::{Brain, Director};
use crate::conn::{ConnId, Key};
use crate::counters::Traffic;
use crate::packet::{Content, Packet, Path};
use crate::proto::{State, TcpState};
use crate::sched::Schedule;
use crate::server::ServerId;
use crate::store::{Queue, Services, Store, Tables};
use crate::tick::{Stamp, Tick};
use crate::verdict::{Direction, Forward};

/// What was forwarded in the director's place since that was last said, in one direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "whoever forwards builds it")]
pub struct Passed {
    /// Packets; one that was merged from several counts once, as it does when it is decided.
    pub packets: u64,
    /// Bytes of these IP packets, headers included.
    pub bytes: u64,
}

impl<S: Store> Director<S> {
    /// Counts what went past the director, as if it had been decided now, and says where further packets like this one go. `packet`
    /// shows the flow, its path, and that it is a TCP segment with ACK alone; its length does not count.
    ///
    /// `None` means that from now on packets have to be decided one by one: the connection is gone or on its way to be, its real
    /// server is, or the director wants to see each packet (a helper, a master of sync daemons). What had passed by then is counted where
    /// the connection is still known.
    ///
    /// Deadlines move at the moment of this call, so it should come many times in the shortest time-out of an established
    /// connection.
    ///
    /// ```
    /// use lvs_core::*;
    /// let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Fixed::<16, 1, 1, 4>::new());
    /// let web = ServiceKey::tcp("10.99.0.1".parse()?, 80);
    /// director.add_service(web, ServiceConfig::new(Scheduler::from_name("rr").unwrap()))?;
    /// director.add_server(web, ServerConfig::new("10.0.1.11:80".parse()?, Method::Direct))?;
    /// let flow = Flow::new(Protocol::Tcp, "192.0.2.7:40000".parse()?, "10.99.0.1:80".parse()?).unwrap();
    /// let segment = |flags| Packet::new(flow, Content::Tcp(flags), 60);
    ///
    /// let (now, ack) = (Tick::ZERO, segment(TcpFlags::ACK));
    /// assert_eq!(director.pass_by(now, &ack, Passed::default()), None, "nobody knows it");
    /// let _ = director.decide(now, &segment(TcpFlags::SYN));
    /// let _ = director.decide(now, &ack);
    /// let forward = director.pass_by(now, &ack, Passed { packets: 3, bytes: 4_500 });
    /// assert_eq!(forward.map(|forward| forward.target), Some("10.0.1.11:80".parse()?));
    /// assert_eq!(director.counters().traffic.in_packets, 5);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn pass_by(&mut self, now: Tick, packet: &Packet, passed: Passed) -> Option<Forward> {
        let now = self.brain.clock(now).stamp();
        self.brain.pass_by(&mut self.store.parts(), now, packet, passed)
    }

    /// The same for packets that went where `known` says, which an earlier call of [`pass_by`](Self::pass_by) has said. Whether further ones may:
    /// not if the director says anything else of them by now, such as another real server because the client has used its port
    /// again. What has passed then counts for the real server that got it, and for no connection.
    pub fn pass_by_as(&mut self, now: Tick, packet: &Packet, known: &Forward, passed: Passed) -> bool {
        let now = self.brain.clock(now).stamp();
        let mut tables = self.store.parts();
        let found = self.brain.pass_by(&mut tables, now, packet, Passed::default());
        let same = self.brain.is_same(&mut tables, now, packet, known);
        if passed.packets > 0 {
            if same {
                self.brain.pass_by(&mut tables, now, packet, passed);
            } else if tables.servers.get(known.server.0 as usize).is_some() {
                self.brain
                    .count_at(&mut tables, known.server, |traffic| passed.add_to(traffic, known.direction));
            }
        }
        same && found == Some(*known)
    }
}

impl Passed {
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

impl Brain {
    /// The connection of a packet, and which way that goes.
    fn find_passing<P: Schedule, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
    ) -> Option<(u32, Direction)> {
        Some(match packet.path {
            Path::Local | Path::Captured => {
                let key = Key::of_request(&packet.flow);
                let hash = key.hash(self.config.seed);
                (self.find_request(tables, now, &key, hash)?, Direction::Request)
            }
            Path::Through => (self.find_reply(tables, now, packet, None)?, Direction::Reply),
        })
    }

    /// Whether a packet's connection is in the same place and has the same real server.
    fn is_same<P: Schedule, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        known: &Forward,
    ) -> bool {
        let found = self.find_passing(tables, now, packet);
        found == Some((known.connection.0, known.direction))
            && tables.slots.get(known.connection.0 as usize).is_some_and(|slot| slot.server == known.server.0)
    }

    fn pass_by<P: Schedule, M: Services, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        now: Stamp,
        packet: &Packet,
        passed: Passed,
    ) -> Option<Forward> {
        let Content::Tcp(flags) = packet.content else { return None };
        let (id, direction) = self.find_passing(tables, now, packet)?;
        let slot = tables.slots.get_mut(id as usize)?;
        let server = tables.servers.get(slot.server as usize)?;
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
        let is_there = server.is_available();
        let is_known = slot.state() == State::Tcp(TcpState::Established) && !slot.is_unusual();
        if passed.packets > 0 {
            match direction {
                // The counter of listings and sync messages has 32 bits.
                Direction::Request => slot.in_packets = slot.in_packets.wrapping_add(passed.packets as u32),
                Direction::Reply => slot.saw_output(),
            }
            if is_known {
                slot.deadline = now.plus_secs(self.timeouts.of(State::Tcp(TcpState::Established)));
            }
            self.count(tables, id, |traffic| passed.add_to(traffic, direction));
        }
        let by_one = self.watches_local || self.master;
        (flags.is_plain_ack() && is_known && is_there && !by_one).then_some(forward)
    }
}
