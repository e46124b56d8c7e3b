//! Packets that real servers send of their own accord.

use core::net::SocketAddr;

use super::open::{Entry, Opening};
use crate::conntrack::key::Key;
use crate::director::Director;
use crate::director::engine::Engine;
use crate::director::places::{Chain, servers_at};
use crate::model::flow::Protocol;
use crate::model::id::ServerId;
use crate::model::key::ServiceKey;
use crate::model::packet::{Chunk, Content, Packet, Path, TcpFlags};
use crate::model::reason::Reason;
use crate::model::seed::Seed;
use crate::model::server::Server;
use crate::model::verdict::{Inspected, Verdict};
use crate::store::Store;

impl<S: Store> Director<S> {
    /// The services of this protocol, or by mark, that have a real server of NAT with this address and port: what it
    /// sends from there that belongs to no connection is the rest of one that is not known any more. Of thousands of
    /// services that have a server in common these are 256 of each kind, those that got it last. Servers of other
    /// addresses that are kept in the same place count among the 256.
    pub fn nat_services_of(
        &self,
        protocol: Protocol,
        server: SocketAddr,
    ) -> impl Iterator<Item = ServiceKey> {
        let servers = nat_servers(self.store.view().servers, self.brain.config.seed, protocol, server);
        servers.map(|(_, of)| of.key)
    }
}

/// The NAT servers at this address, by IPVS's index of real services: those of the protocol, and any in services by
/// mark.
fn nat_servers(
    servers: &[Server],
    seed: Seed,
    protocol: Protocol,
    at: SocketAddr,
) -> impl Iterator<Item = (ServerId, &Server)> {
    let of_protocol = servers_at(servers, seed, Chain::Protocol(protocol), at);
    of_protocol.chain(servers_at(servers, seed, Chain::Marked, at))
}

impl<S: Store> Engine<'_, S> {
    /// The NAT servers that have this address and port.
    fn nat_servers(&self, protocol: Protocol, at: SocketAddr) -> impl Iterator<Item = ServerId> {
        nat_servers(self.tables.servers, self.brain.config.seed, protocol, at).map(|(id, _)| id)
    }

    /// Tells a real server that its reply belongs to no connection, if that is wanted.
    pub(crate) fn stray_reply(&mut self, packet: &Packet) -> Option<Verdict> {
        if !self.brain.config.tuning.nat_icmp_send {
            return None;
        }
        let ends = match packet.content {
            Content::Tcp(flags) => flags.contains(TcpFlags::RST),
            Content::Sctp(chunk) => chunk == Chunk::Abort,
            Content::Udp => false,
            Content::Error | Content::TunnelError | Content::Fragment | Content::Ipsec => return None,
        };
        // Who has just given up needs no word that nobody is there.
        if ends {
            return None;
        }
        self.nat_servers(packet.flow.protocol, packet.flow.source()).next()?;
        Some(self.brain.reject(Reason::StrayReply))
    }

    /// A call that a real server begins: under a service whose persistence goes by call it becomes a connection, seen
    /// from the client's side.
    pub(crate) fn call_from_server(&mut self, packet: &Packet, inspected: &Inspected<'_>) -> Option<Verdict> {
        if packet.content != Content::Udp || packet.path != Path::Through || packet.flow.source_port == 0 {
            return None;
        }
        // Of several services, of which so many are looked at, the one whose server has the first place.
        let server = self.nat_servers(Protocol::Udp, packet.flow.source()).min()?;
        let index = self.tables.servers[server.0 as usize].service.0;
        let service = self.tables.services.get(index as usize)?.as_ref()?;
        let persistence = service.persistence.filter(|persistence| persistence.engine.is_some())?;
        let (key, one_packet) = (service.key, service.one_packet);
        let ServiceKey::Address { address, port, .. } = key else { return None };
        // A service for all ports does not tell from which one the client is to see the call.
        if port == 0 {
            return None;
        }
        let call = match inspected {
            Inspected::Nothing => return Some(Verdict::Inspect),
            Inspected::CallId(call) => (*call)?,
        };
        let client = packet.flow.destination();
        let flow = crate::model::flow::Flow::new(Protocol::Udp, client, SocketAddr::new(address, port))?;
        // The client's first packet, as it would have been.
        let request = Packet { flow, mark: 0, path: Path::Local, ..*packet };
        let wanted = self.brain.wanted(&request, &key, &persistence, Some(call));
        let template = match self.living_template(&wanted, Some(server)) {
            Some(id) => id,
            None => match self.open_template(&wanted, server, persistence.timeout, 0) {
                Ok(id) => id,
                Err(reason) => return Some(self.brain.drop(reason)),
            },
        };
        self.tables.slots[template as usize].gain_child();
        let request_key = Key::of_request(&flow);
        let opening = Opening {
            key: &request_key,
            hash: request_key.hash(self.brain.config.seed),
            entry: if one_packet { Entry::OnePacket } else { Entry::Kept },
            controller: Some(template),
        };
        // The entry is made as the client's packet would have made it, and this packet is then its first reply.
        let verdict = if one_packet {
            self.answer_once(packet, server, flow.destination())
        } else {
            match self.open(&request, &opening, server, packet.flow.source_port) {
                Some(id) => self.reply(packet, id),
                None => self.brain.drop(Reason::TableFull),
            }
        };
        self.tables.slots[template as usize].lose_child();
        self.refresh_template(template);
        Some(verdict)
    }
}
