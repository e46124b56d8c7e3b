//! The short way for packets of connections that are known: nothing changes but counts and the deadline.
//!
//! What [`decide`](super::decide) comes to for them, without its questions: a segment with ACK alone on an established TCP
//! connection, or a UDP datagram, whose real server is in its service. It may always decline; a test holds both
//! against each other.

use core::net::SocketAddr;

use crate::conntrack::slot::Slot;
use crate::director::brain::Brain;
use crate::director::engine::Engine;
use crate::model::id::{ConnId, ServerId};
use crate::model::packet::{Content, Packet, Path};
use crate::model::server::Server;
use crate::model::state::{State, TcpState};
use crate::model::tick::Stamp;
use crate::model::verdict::{Direction, Forward};
use crate::store::Store;

/// What is the same for all packets of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    now: Stamp,
    /// The deadlines that packets give their connections now.
    established: Stamp,
    udp: Stamp,
    /// Whether requests go the short way at all.
    requests: bool,
}

impl<S: Store> Engine<'_, S> {
    /// Decides a packet of the connection in slot `id`, whose key it has. `None`, and nothing has changed, when there is more to
    /// it.
    #[inline(always)]
    pub(super) fn follow(&mut self, pace: &Pace, packet: &Packet, id: u32) -> Option<Forward> {
        let slot = self.tables.slots.get_mut(id as usize)?;
        let server = self.tables.servers.get_mut(slot.server as usize)?;
        let (is_tcp, is_plain) = match packet.content {
            Content::Tcp(flags) => (true, flags.is_plain_ack()),
            Content::Udp => (false, true),
            Content::Sctp(_) | Content::Fragment | Content::Error | Content::TunnelError | Content::Ipsec => {
                return None;
            }
        };
        let direction = match packet.path {
            Path::Local | Path::Captured => Direction::Request,
            Path::Through => Direction::Reply,
        };
        if !is_plain || !slot.is_settled() {
            return None;
        }
        let service = self.tables.services.get_mut(server.service.0 as usize)?.as_mut()?;
        let step = Step { is_tcp, direction, length: packet.length };
        advance(slot, server, pace, &step)?;
        let target = match direction {
            Direction::Request => {
                service.meter.live_mut().count_in(packet.length);
                self.brain.meter.live_mut().count_in(packet.length);
                SocketAddr::new(server.address.ip(), slot.server_port)
            }
            Direction::Reply => {
                service.meter.live_mut().count_out(packet.length);
                self.brain.meter.live_mut().count_out(packet.length);
                slot.flow().destination()
            }
        };
        Some(Forward {
            direction,
            method: slot.method(server.method),
            target,
            connection: ConnId(id),
            server: ServerId(slot.server),
            helper: None,
        })
    }
}

impl Brain {
    /// The pace of this moment.
    pub(super) fn pace(&self, now: Stamp) -> Pace {
        Pace {
            now,
            established: now.plus_secs(self.timeouts.of(State::Tcp(TcpState::Established))),
            udp: now.plus_secs(self.timeouts.of(State::Udp)),
            requests: !(self.watches_local | self.master),
        }
    }
}

/// What a packet is to its connection.
pub(super) struct Step {
    pub(super) is_tcp: bool,
    pub(super) direction: Direction,
    /// Of the IP packet, in bytes.
    pub(super) length: u32,
}

/// Counts a packet that says nothing new at its connection, which is settled, and its real server, and moves the deadline. `None`, and
/// nothing has changed, when there is more to it. What service and director count is left to the caller.
#[inline(always)]
pub(super) fn advance(slot: &mut Slot, server: &mut Server, pace: &Pace, step: &Step) -> Option<()> {
    if !slot.is_alive(pace.now) || !server.is_available() {
        return None;
    }
    match step.direction {
        Direction::Request => {
            if !pace.requests {
                return None;
            }
            slot.in_packets = slot.in_packets.wrapping_add(1);
            server.meter.live_mut().count_in(step.length);
        }
        Direction::Reply => {
            if !step.is_tcp && slot.controller().is_some() {
                return None;
            }
            slot.saw_output();
            server.meter.live_mut().count_out(step.length);
        }
    }
    slot.deadline = if step.is_tcp { pace.established } else { pace.udp };
    Some(())
}
