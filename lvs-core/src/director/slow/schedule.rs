//! A packet without a connection: its service, its real server, and what if there is none.

use core::net::IpAddr;

use super::open::{Entry, Opening};
use super::persist::Picked;
use crate::conntrack::key::Key;
use crate::director::brain::{Brain, FTP_DATA_PORT, FTP_PORT, Sought};
use crate::director::engine::Engine;
use crate::director::prebuilt::build_table;
use crate::model::flow::{Family, Protocol};
use crate::model::id::ServerId;
use crate::model::key::ServiceKey;
use crate::model::method::Method;
use crate::model::packet::{Content, Packet, Path};
use crate::model::persistence::PersistenceEngine;
use crate::model::reason::Reason;
use crate::model::verdict::{Inspected, Verdict};
use crate::sched::pool::Pool;
use crate::sched::schedule::Schedule;
use crate::store::{Services, Store};

impl<S: Store> Engine<'_, S> {
    /// Gives a packet without a connection to a real server of its service, if it may start one.
    #[inline(never)]
    pub(crate) fn schedule(
        &mut self,
        packet: &Packet,
        key: (&Key, u32),
        service: Option<u32>,
        inspected: &Inspected<'_>,
    ) -> Verdict {
        self.schedule_as(packet, key, service, inspected, None)
    }

    /// As [`schedule`](Self::schedule), and for what is picked without a packet: which of both is known where this is
    /// called.
    #[inline(always)]
    pub(crate) fn schedule_as(
        &mut self,
        packet: &Packet,
        key: (&Key, u32),
        service: Option<u32>,
        inspected: &Inspected<'_>,
        picked: Option<Picked<'_>>,
    ) -> Verdict {
        let Some(index) = service else {
            let starts = self.brain.may_start(packet.content);
            return self.brain.pass(if starts { Reason::NoService } else { Reason::NotStarting });
        };
        let Some(Some(service)) = self.tables.services.get(index as usize) else {
            return self.brain.pass(Reason::NoService);
        };
        let service_port = service.port();
        let entry = match service.one_packet && packet.flow.protocol == Protocol::Udp {
            _ if picked.is_some_and(|picked| picked.held) => Entry::Held,
            true => Entry::OnePacket,
            false => Entry::Kept,
        };
        // Nothing may have changed yet when the answer is that the payload must be looked into.
        let engine = service.persistence.as_ref().and_then(|persistence| persistence.engine);
        let call = match (engine, inspected) {
            (None, _) => None,
            (Some(PersistenceEngine::Sip), Inspected::Nothing) if packet.content == Content::Udp => {
                return Verdict::Inspect;
            }
            (Some(PersistenceEngine::Sip), Inspected::Nothing) => Some(None),
            (Some(PersistenceEngine::Sip), Inspected::CallId(call)) => Some(*call),
        };
        // Before the template or the scheduler is asked: what a flood costs is what is done up to here.
        if self.brain.refuses_new() {
            return self.brain.drop(Reason::Defence);
        }
        // Active FTP data comes from a server's port 20. IPVS leaves that to its FTP helper, which has announced the
        // connection, and schedules nothing from there.
        if packet.flow.source_port == FTP_DATA_PORT && picked.is_none() {
            return self.brain.pass(Reason::FtpDataPort);
        }
        let opening = Opening { key: key.0, hash: key.1, entry, controller: None };
        if let Some(persistence) = service.persistence {
            let call = match call {
                None => None,
                Some(Some(call)) => Some(call),
                Some(None) => return self.brain.drop(Reason::NoCallId),
            };
            return self.schedule_persistent(packet, &opening, index, (&persistence, call), picked);
        }
        // The service for all ports, or that of FTP, was found for another port. Only a template could tell which
        // server the client belongs to, and the service has no persistence.
        if picked.is_none() && service_port.is_some_and(|port| port != packet.flow.destination_port) {
            return self.leave(packet, &opening, index);
        }
        let by = picked.map_or(packet, |picked| picked.by);
        match self.pick(by, index) {
            Some(server) => {
                let own = self.tables.servers[server.0 as usize].address.port();
                let port = if own == 0 { by.flow.destination_port } else { own };
                self.open_and_send(packet, &opening, server, port)
            }
            None => self.leave(by, &opening, index),
        }
    }

    /// The scheduler's choice.
    #[inline(always)]
    pub(crate) fn pick(&mut self, packet: &Packet, index: u32) -> Option<ServerId> {
        let Some(Some(service)) = self.tables.services.get_mut(index as usize) else { return None };
        let lookup = self.tables.by_key.table(index);
        // Built by the first connection after a change, so that ten changes in a row cost one table.
        if service.stale {
            build_table(service, self.tables.servers, lookup);
        }
        let (mut context, rng) = self.brain.pick_context(&service.key);
        // The error quotes a packet of the connection, so its addresses are the other way round; IPVS hashes them as
        // they stand.
        if packet.content == Content::Error {
            context.destination = Some(packet.flow.addresses.source());
        }
        let mut pool =
            Pool::new(self.tables.servers, service.first, service.servers, lookup, service.flags, context);
        let picked = service.scheduler.pick(&mut pool, &packet.flow, rng)?;
        // A scheduler of the embedder's may name a server that is not there, or another service's.
        self.tables
            .servers
            .get(picked.0 as usize)
            .is_some_and(|server| server.serves(index))
            .then_some(picked)
    }

    /// What becomes of a packet that no real server of the service at `index` takes.
    #[inline(never)]
    pub(crate) fn leave(&mut self, packet: &Packet, opening: &Opening<'_>, index: u32) -> Verdict {
        let Some(Some(service)) = self.tables.services.get(index as usize) else {
            return self.brain.pass(Reason::NoService);
        };
        let is_error = packet.content == Content::Error;
        match service.key {
            ServiceKey::Mark { .. }
                if self.brain.config.tuning.cache_bypass
                    && !is_error
                    && packet.path == Path::Captured
                    && is_unicast(packet.flow.addresses.destination()) =>
            {
                self.bypass(packet, opening)
            }
            ServiceKey::Address { port: FTP_PORT, .. } if packet.flow.destination_port != FTP_PORT => {
                self.brain.pass(Reason::NoServer)
            }
            ServiceKey::Mark { .. } | ServiceKey::Address { .. } if is_error => {
                self.brain.drop(Reason::NoServer)
            }
            ServiceKey::Mark { .. } | ServiceKey::Address { .. } => self.brain.reject(Reason::NoServer),
        }
    }

    /// Lets a connection go to where its packets are addressed.
    fn bypass(&mut self, packet: &Packet, opening: &Opening<'_>) -> Verdict {
        let nowhere = match packet.flow.addresses.family() {
            Family::V4 => IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
        };
        // A bypassed connection belongs to a stand-in, a place among the servers that only lends a method. So no other
        // code has to ask whether a connection has a server.
        let Some(server) = self.standin(nowhere, Method::Bypass) else {
            return self.brain.drop(Reason::TableFull);
        };
        self.open_and_send(packet, opening, server, 0)
    }

    /// The service of a packet with this request key. New connections are mostly for the service that the last one was
    /// for, so the last answer is kept.
    #[inline(always)]
    pub(crate) fn find_service(&mut self, packet: &Packet, key: &Key) -> Option<u32> {
        let sought = Sought { target: key.target(), mark: packet.mark };
        // A flood is for one service: comparing three words is cheaper than hashing a key for it again.
        match self.brain.last_service {
            Some((last, found)) if last == sought => found,
            Some(_) | None => self.find_another_service(packet, sought),
        }
    }

    #[inline(never)]
    fn find_another_service(&mut self, packet: &Packet, sought: Sought) -> Option<u32> {
        let found = look_for_service(self.brain, self.tables.by_key, packet);
        self.brain.last_service = Some((sought, found));
        found
    }
}

/// The service of a packet: by its mark, else by its address and port, else that of FTP for what may be its data, else
/// the one for all ports.
pub(crate) fn look_for_service(brain: &Brain, services: &impl Services, packet: &Packet) -> Option<u32> {
    candidates(brain, packet).find_map(|key| services.find(&key))
}

/// The keys of services that a packet may be for, in the order in which they are looked up.
pub(crate) fn candidates(brain: &Brain, packet: &Packet) -> impl Iterator<Item = ServiceKey> {
    let flow = &packet.flow;
    let (protocol, address, port) = (flow.protocol, flow.addresses.destination(), flow.destination_port);
    let marked =
        (packet.mark != 0).then(|| ServiceKey::Mark { family: flow.addresses.family(), mark: packet.mark });
    let by_port = move |port| ServiceKey::Address { protocol, address, port };
    // Passive FTP data goes to an unprivileged port of the virtual address. Where no service has port 21 the look-up
    // would find nothing, so it is spared.
    let may_be_ftp_data = brain.ftp_services > 0
        && protocol == Protocol::Tcp
        && (port == FTP_DATA_PORT || port >= FIRST_UNPRIVILEGED_PORT);
    let ftp = may_be_ftp_data.then(|| by_port(FTP_PORT));
    let every = (brain.wildcards > 0).then(|| by_port(0));
    marked.into_iter().chain([by_port(port)]).chain(ftp).chain(every)
}

/// Whether packets to this address are for one host.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
        }
        IpAddr::V6(address) => !address.is_multicast() && !address.is_unspecified(),
    }
}

/// Linux's default of `ip_unprivileged_port_start`.
const FIRST_UNPRIVILEGED_PORT: u16 = 1_024;
