//! The frame in question.

use core::net::{IpAddr, SocketAddr};

use lvs_core::{Flow, Protocol};
use lvs_forward::PortId;
use lvs_forward::checksum;
use lvs_forward::host::Host;
use lvs_forward::parse::Link;

use crate::ip_packet;

/// What is asked about.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) shape: Shape,
    /// The packet's firewall mark, 0 for none.
    pub(super) mark: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A frame as it was captured, or the IP packet alone, by this port.
    Frame { bytes: Vec<u8>, ip: bool, port: Option<PortId> },
    /// A packet of this flow, the first of its client or a later one, by this port.
    Flow { flow: Flow, first: bool, port: Option<PortId> },
}

impl Arrival {
    /// The port that it comes by, and its bytes.
    pub(super) fn frame(&self, host: &Host) -> (PortId, Vec<u8>) {
        match &self.shape {
            Shape::Frame { bytes, ip: true, port } => {
                let port = port.or_else(|| host.port_towards(source(bytes)?)).unwrap_or_default();
                (port, behind_link_header(host, port, bytes))
            }
            Shape::Frame { bytes, ip: false, port } => {
                let port = port.or_else(|| port_of_mac(host, bytes)).unwrap_or_default();
                (port, bytes.clone())
            }
            Shape::Flow { flow, first, port } => {
                // By the port where answers would leave: that is where a client's packets come from.
                let port = port.or_else(|| host.port_towards(flow.addresses.source())).unwrap_or_default();
                (port, behind_link_header(host, port, &packet(flow, *first)))
            }
        }
    }

    /// How a packet was made up that was asked for by its flow.
    pub(super) const fn made_up(&self) -> Option<&'static str> {
        match &self.shape {
            Shape::Frame { .. } => None,
            Shape::Flow { flow, first, .. } => Some(match (flow.protocol, first) {
                (Protocol::Tcp, true) => "a SYN, the first packet of a connection",
                (Protocol::Tcp, false) => "an ACK, a later packet of a connection",
                (Protocol::Udp, _) => "an empty datagram",
                (Protocol::Sctp, true) => "an INIT, the first packet of an association",
                (Protocol::Sctp, false) => "a SACK, a later packet of an association",
            }),
        }
    }
}

/// The port whose link-layer address a frame is for.
fn port_of_mac(host: &Host, frame: &[u8]) -> Option<PortId> {
    (0..=u8::MAX).map(PortId).map_while(|id| Some((id, host.port(id)?))).find_map(|(id, port)| {
        (port.link() == Link::Ethernet && frame.get(..6) == Some(&port.mac().0[..])).then_some(id)
    })
}

/// The source of an IP packet.
fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?.into()),
        6 => Some(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?.into()),
        _ => None,
    }
}

/// A packet behind the link header that it comes with at this port.
fn behind_link_header(host: &Host, port: PortId, packet: &[u8]) -> Vec<u8> {
    const SOMEBODY: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let Some(port) = host.port(port).filter(|port| port.link() == Link::Ethernet) else {
        return packet.to_vec();
    };
    let mut frame = [port.mac().0, SOMEBODY].concat();
    if let Some(vlan) = port.vlan() {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    frame.extend(if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    frame.extend(packet);
    frame
}

/// A packet of a flow: a header and no payload.
fn packet(flow: &Flow, first: bool) -> Vec<u8> {
    let (from, to, protocol) = (flow.source(), flow.destination(), flow.protocol);
    let transport = transport(protocol, from, to, first);
    // A flow's ends are of one family.
    ip_packet::packet(from.ip(), to.ip(), protocol.number(), &transport).unwrap_or_default()
}

/// The transport's header, with its checksum.
fn transport(protocol: Protocol, source: SocketAddr, destination: SocketAddr, first: bool) -> Vec<u8> {
    let mut bytes = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    match protocol {
        Protocol::Tcp => {
            let flags = if first { 0x02 } else { 0x10 };
            bytes.extend([0, 0, 0, 1, 0, 0, 0, u8::from(!first), 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Protocol::Udp => bytes.extend([0, 8, 0, 0]),
        Protocol::Sctp => {
            // A tag of the association, which an INIT does not know yet, and the checksum.
            bytes.extend([0, 0, 0, u8::from(!first), 0, 0, 0, 0]);
            if first {
                bytes.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
            } else {
                bytes.extend([3, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
            }
            let sum = checksum::sctp(&bytes);
            bytes.splice(8..12, sum);
            return bytes;
        }
    }
    let pseudo = ip_packet::pseudo(source.ip(), destination.ip(), protocol.number(), bytes.len());
    let sum = pseudo.unwrap_or_default().bytes(&bytes);
    let (sum, at) = if protocol == Protocol::Tcp { (sum.checksum(), 16) } else { (sum.udp_checksum(), 6) };
    bytes.splice(at..at + 2, sum.to_be_bytes());
    bytes
}
