//! What a worker finds out about a packet, between two batches.

use core::net::{IpAddr, SocketAddr};

use lvs_core::conn::Connection;
use lvs_core::sched::Schedule as _;
use lvs_core::service::{Persistence, ServerId};
use lvs_core::{ConnId, Director, Event, Heap, Method, Packet, Path, ServiceKey, Tick, Verdict};
use lvs_forward::engine::OWN_BUFFER;
use lvs_forward::host::Host;
use lvs_forward::parse::Link;
use lvs_forward::{DropReason, Forwarder, Frame, HEADROOM, Outcome, PortId};

use super::arrival::Arrival;
use crate::runtime::ExplainError;

/// What would become of a packet, and what that follows from.
#[derive(Debug)]
pub(super) struct Facts {
    /// How a packet was made up that was asked for by its flow.
    pub(super) made_up: Option<&'static str>,
    /// Where it comes in, how frames begin there, and its bytes.
    pub(super) port: PortId,
    pub(super) link: Link,
    pub(super) bytes: Vec<u8>,
    pub(super) packet: Option<Packet>,
    pub(super) verdict: Option<Verdict>,
    pub(super) outcome: Option<Outcome>,
    /// The connection that it belongs to, as it is now.
    pub(super) connection: Option<Connection>,
    /// The template that its new connection comes from, and whether that is new as well.
    pub(super) template: Option<(TemplateFact, bool)>,
    /// The service that a first packet is for.
    pub(super) service: Option<ServiceFact>,
    /// The real server of the verdict.
    pub(super) server: Option<(SocketAddr, Method)>,
    /// Where the frame leaves, how frames begin there, and its bytes then.
    pub(super) left: (PortId, Link, Vec<u8>),
    /// The MTU of that port.
    pub(super) mtu: u16,
    /// What the director would send by itself because of it: questions for neighbours, errors.
    pub(super) own: Vec<(PortId, Link, Vec<u8>)>,
    /// Why it would be dropped; with some reasons the frame leaves as an error for its sender.
    pub(super) dropped: Option<DropReason>,
}

/// A template as it would be.
#[derive(Clone, Copy, Debug)]
pub(super) struct TemplateFact {
    pub(super) client: IpAddr,
    pub(super) server: SocketAddr,
    pub(super) expires_in: u64,
}

/// A service, as its director has it now.
#[derive(Debug)]
pub(super) struct ServiceFact {
    pub(super) key: ServiceKey,
    pub(super) scheduler: &'static str,
    pub(super) persistence: Option<Persistence>,
    pub(super) servers: Vec<ServerFact>,
}

/// A real server, as its director has it now.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerFact {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) active: u32,
    pub(super) inactive: u32,
    /// The number of connections at which it is overloaded, if it is.
    pub(super) overloaded: Option<u32>,
    /// Whether it is this machine itself.
    pub(super) is_local: bool,
    /// Milliseconds until it may be used again after failures.
    pub(super) held_back: Option<u64>,
}

impl Facts {
    /// Tries the packet on a copy, and looks at what it meets.
    pub(super) fn find(
        director: &Director<Heap>,
        forwarder: &Forwarder,
        now: Tick,
        arrival: &Arrival,
    ) -> Result<Self, ExplainError> {
        let (port, bytes) = arrival.frame(forwarder.host());
        let link = link(forwarder, port);
        let mut buffer = vec![0; HEADROOM + bytes.len() + TAILROOM];
        let end = HEADROOM + bytes.len();
        if let Some(place) = buffer.get_mut(HEADROOM..end) {
            place.copy_from_slice(&bytes);
        }
        let mut frame = Frame::new(&mut buffer, HEADROOM, end, port).ok_or(ExplainError::Memory)?;
        frame.mark = arrival.mark;
        let rehearsed = forwarder.rehearse(director, now, &mut frame).map_err(|_| ExplainError::Memory)?;
        let mut forwarder_then = rehearsed.forwarder;
        let left = (frame.port, self::link(forwarder, frame.port), frame.bytes().to_vec());
        let mtu = forwarder.host().port(frame.port).map_or(0, |port| port.mtu());
        let mut facts = Self {
            made_up: arrival.made_up(),
            port,
            link,
            bytes,
            packet: None,
            verdict: None,
            outcome: rehearsed.outcome,
            connection: None,
            template: None,
            service: None,
            server: None,
            left,
            mtu,
            own: Vec::new(),
            dropped: forwarder_then.counters().dropped_since(forwarder.counters()),
        };
        if let Some((packet, verdict, rehearsal)) = rehearsed.decision {
            facts.decided((director, forwarder.host()), now, packet, verdict, rehearsal);
        }
        let mut spare = vec![0; OWN_BUFFER];
        while let Some(frame) = forwarder_then.poll_transmit(now, &mut spare)
            && facts.own.len() < MOST_OWN
        {
            facts.own.push((frame.port, self::link(forwarder, frame.port), frame.bytes().to_vec()));
        }
        Ok(facts)
    }

    fn decided(
        &mut self,
        (director, host): (&Director<Heap>, &Host),
        now: Tick,
        packet: Packet,
        verdict: Verdict,
        mut rehearsal: lvs_core::conn::Rehearsal<lvs_core::Scheduler>,
    ) {
        (self.packet, self.verdict) = (Some(packet), Some(verdict));
        let mut opened = Vec::new();
        while let Some(event) = rehearsal.director.poll_event() {
            if let Event::Opened { connection, .. } = event {
                opened.push(connection);
            }
        }
        if let Verdict::Forward(forward) = verdict {
            let server = |id: ServerId| director.server(id).or_else(|| rehearsal.director.server(id));
            self.server = server(forward.server).map(|server| (server.address(), forward.method));
            let entry = forward.connection;
            if !opened.contains(&entry) {
                let original = rehearsal.original(entry).filter(|_| entry != ConnId::NONE);
                self.connection = original.and_then(|entry| director.connection(entry, now));
            }
            let after = rehearsal.director.connection(entry, now).filter(|_| entry != ConnId::NONE);
            if let Some(id) = after.and_then(|of| of.controller)
                && let Some(template) = rehearsal.director.template(id, now)
            {
                let before = rehearsal.original(id).and_then(|id| director.template(id, now));
                let known = before.is_some_and(|of| {
                    (of.client, of.target, of.server) == (template.client, template.target, template.server)
                });
                let fact = TemplateFact {
                    client: template.client,
                    server: template.destination,
                    expires_in: before.map_or(template.expires_in, |of| of.expires_in),
                };
                self.template = Some((fact, !known));
            }
        }
        if self.connection.is_none()
            && let Some(service) = director.service_of(&packet).and_then(|key| director.service(key))
        {
            let fact = |(_, server): (ServerId, &lvs_core::service::Server)| ServerFact {
                address: server.address(),
                weight: server.weight(),
                active: server.active(),
                inactive: server.inactive(),
                overloaded: server.is_overloaded().then_some(server.upper()),
                is_local: host.is_local_server(server.address().ip()),
                held_back: server.held_back_until().map(|until| until.millis_since(now)),
            };
            self.service = Some(ServiceFact {
                key: service.key(),
                scheduler: service.scheduler().name(),
                persistence: service.persistence(),
                servers: director.servers(service.key()).map(fact).collect(),
            });
        }
    }

    /// Whether it belongs to a connection that there is.
    pub(super) const fn belongs_to_connection(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether it goes to an address of the director's, or is taken as if it did.
    pub(super) fn is_request(&self) -> bool {
        self.packet.is_some_and(|packet| packet.path != Path::Through)
    }
}

fn link(forwarder: &Forwarder, port: PortId) -> Link {
    forwarder.host().port(port).map_or(Link::Ethernet, |port| port.link())
}

/// Bytes behind a frame, for helpers that make it longer.
const TAILROOM: usize = 512;
/// Frames of its own that an answer tells of: a question for a neighbour, an error.
const MOST_OWN: usize = 4;
