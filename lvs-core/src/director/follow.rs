//! The short way for packets of connections that are known: nothing changes but counts and the deadline.
//!
//! What [`decide`](super::decide) comes to for them, without its questions: a segment with ACK alone on an established TCP
//! connection, or a UDP datagram, whose real server is in its service. It may always decline; a test holds both
//! against each other.

use core::net::SocketAddr;

use super::Brain;
use crate::conn::ConnId;
use crate::flow::Protocol;
use crate::packet::{Content, Packet, Path};
use crate::proto::{State, TcpState};
use crate::server::ServerId;
use crate::store::Tables;
use crate::tick::Stamp;
use crate::verdict::{Direction, Forward};

/// What is the same for all packets of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) now: Stamp,
    /// The deadlines that packets give their connections now.
    pub(super) established: Stamp,
    pub(super) udp: Stamp,
    /// Whether requests go the short way at all.
    pub(super) requests: bool,
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

    /// Decides a packet of the connection in slot `id`, whose key it has. `None`, and nothing has changed, when there is more to
    /// it.
    #[inline(always)]
    pub(super) fn follow<P, M, Q>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        pace: &Pace,
        packet: &Packet,
        id: u32,
    ) -> Option<Forward> {
        let slot = tables.slots.get_mut(id as usize)?;
        let server = tables.servers.get_mut(slot.server as usize)?;
        let deadline = match packet.content {
            Content::Tcp(flags) if flags.is_plain_ack() && slot.state_is(TcpState::Established as u8) => {
                pace.established
            }
            Content::Udp => pace.udp,
            Content::Tcp(_)
            | Content::Sctp(_)
            | Content::Fragment
            | Content::Error
            | Content::TunnelError
            | Content::Ipsec => return None,
        };
        if slot.is_unusual() || !slot.is_alive(pace.now) || !server.is_available() {
            return None;
        }
        let service = tables.services.get_mut(server.service.0 as usize)?.as_mut()?;
        let (direction, target) = match packet.path {
            Path::Local | Path::Captured => {
                if !pace.requests {
                    return None;
                }
                slot.in_packets = slot.in_packets.wrapping_add(1);
                server.meter.live_mut().count_in(packet.length);
                service.meter.live_mut().count_in(packet.length);
                self.meter.live_mut().count_in(packet.length);
                (Direction::Request, SocketAddr::new(server.address.ip(), slot.server_port))
            }
            Path::Through => {
                if slot.controller().is_some() && slot.protocol() == Protocol::Udp {
                    return None;
                }
                slot.saw_output();
                server.meter.live_mut().count_out(packet.length);
                service.meter.live_mut().count_out(packet.length);
                self.meter.live_mut().count_out(packet.length);
                (Direction::Reply, slot.flow().destination())
            }
        };
        slot.deadline = deadline;
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
