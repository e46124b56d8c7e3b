//! Packets that real servers send of their own accord.

use core::net::SocketAddr;

use super::open::{Entry, Opening};
use super::persist::wanted;
use crate::conntrack::key::Key;
use crate::director::Director;
use crate::director::engine::Engine;
use crate::director::places::servers_at;
use crate::model::flow::Protocol;
use crate::model::id::ServerId;
use crate::model::key::ServiceKey;
use crate::model::method::Method;
use crate::model::packet::{Chunk, Content, Packet, Path, TcpFlags};
use crate::model::reason::Reason;
use crate::model::server::Server;
use crate::model::verdict::{Inspected, Verdict};
use crate::store::Store;

impl<S: Store> Director<S> {
    /// The services of this protocol, or by mark, that have a real server of NAT with this address and port: what it
    /// sends from there that belongs to no connection is the rest of one that is not known any more.
    pub fn nat_services_of(
        &self,
        protocol: Protocol,
        server: SocketAddr,
    ) -> impl Iterator<Item = ServiceKey> {
        let servers = servers_at(self.store.view().servers, self.brain.config.seed, server);
        servers.filter(move |(_, of)| is_nat_server(of, protocol, server)).map(|(_, of)| of.key)
    }
}

/// Whether `server` is one of NAT at this address and port, in a service of the protocol or by mark.
fn is_nat_server(server: &Server, protocol: Protocol, at: SocketAddr) -> bool {
    server.is_available()
        && server.address == at
        && server.method == Method::Nat
        && match server.key {
            ServiceKey::Address { protocol: of, .. } => of == protocol,
            ServiceKey::Mark { .. } => true,
        }
}

impl<S: Store> Engine<'_, S> {
    /// The NAT server that a packet's source is, by IPVS's index of real services: that of the packet's protocol, or
    /// any in a marked service.
    fn server_at(&self, protocol: Protocol, source: SocketAddr) -> Option<ServerId> {
        let servers = servers_at(self.tables.servers, self.brain.config.seed, source);
        // Of several services, the one whose server has the first place, whatever was added last.
        servers.filter(|(_, server)| is_nat_server(server, protocol, source)).map(|(id, _)| id).min()
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
        self.server_at(packet.flow.protocol, packet.flow.source())?;
        Some(self.brain.reject(Reason::StrayReply))
    }

    /// A call that a real server begins: under a service whose persistence goes by call it becomes a connection, seen
    /// from the client's side.
    pub(crate) fn call_from_server(&mut self, packet: &Packet, inspected: &Inspected<'_>) -> Option<Verdict> {
        if packet.content != Content::Udp || packet.path != Path::Through || packet.flow.source_port == 0 {
            return None;
        }
        let server = self.server_at(Protocol::Udp, packet.flow.source())?;
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
        let wanted = wanted(&request, &key, &persistence, Some(call));
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
