//! How packets of a connection are rewritten, learnt from one that the director has rewritten.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::{Content, Direction, Flow, Packet, Protocol, TcpFlags};
use lvs_forward::host::MacAddress;

pub(super) use super::maps::Key;
use super::maps::{direction, key, rewrite, route};

/// The beginning of a frame: Ethernet, IPv6 and TCP without options, of IPv4 some more.
pub(super) type Head = [u8; 74];

/// Where the parts of a TCP segment are, whose headers have no options before TCP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    is_v6: bool,
    /// Where the TCP header begins.
    transport: usize,
}

impl Shape {
    /// The shape of a segment that may take the offload. The programs ask the same, and for the sum of an IPv4 header.
    pub(super) fn of(head: &Head) -> Option<Self> {
        let shape = match [head[12], head[13]] {
            [0x08, 0x00] => {
                let fragment = u16::from_be_bytes([head[20], head[21]]) & 0x3fff;
                if head[14] != 0x45 || fragment != 0 || head[23] != TCP || head[22] <= 1 {
                    return None;
                }
                Self { is_v6: false, transport: 34 }
            }
            [0x86, 0xdd] => {
                if head[14] >> 4 != 6 || head[20] != TCP || head[21] <= 1 {
                    return None;
                }
                Self { is_v6: true, transport: 54 }
            }
            _ => return None,
        };
        (head[shape.transport + 13] & 0x37 == 0x10).then_some(shape)
    }

    /// Where source and destination are, and how long each is.
    const fn addresses(self) -> (usize, usize, usize) {
        if self.is_v6 { (22, 38, 16) } else { (26, 30, 4) }
    }

    /// What it is found by where it comes in.
    pub(super) fn key(self, head: &Head, interface: u32) -> Key {
        let mut bytes = [0; key::LEN];
        let (source, destination, len) = self.addresses();
        put(&mut bytes, key::SOURCE, &head[source..source + len]);
        put(&mut bytes, key::DESTINATION, &head[destination..destination + len]);
        put(&mut bytes, key::PORTS, &head[self.transport..self.transport + 4]);
        put(&mut bytes, key::INTERFACE, &interface.to_ne_bytes());
        bytes
    }

    /// What the core has to know of it: a segment with ACK alone.
    pub(super) fn packet(self, head: &Head) -> Option<Packet> {
        let (source, destination, _) = self.addresses();
        let port = |at: usize| u16::from_be_bytes([head[self.transport + at], head[self.transport + at + 1]]);
        let endpoint = |at, port| SocketAddr::new(self.address(head, at), port);
        let flow = Flow::new(Protocol::Tcp, endpoint(source, port(0)), endpoint(destination, port(2)))?;
        Some(Packet::new(flow, Content::Tcp(TcpFlags::ACK), 0))
    }

    fn address(self, head: &Head, at: usize) -> IpAddr {
        if self.is_v6 {
            let mut octets = [0; 16];
            octets.copy_from_slice(&head[at..at + 16]);
            Ipv6Addr::from(octets).into()
        } else {
            Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]).into()
        }
    }
}

/// What the segments that answer to these are found by, where they come in.
pub(super) fn key_of_answers(after: &Head, shape: Shape, interface: u32) -> Key {
    let mut turned = *after;
    let (source, destination, len) = shape.addresses();
    turned.copy_within(source..source + len, destination);
    turned[source..source + len].copy_from_slice(&after[destination..destination + len]);
    let ports = shape.transport;
    turned[ports..ports + 4].rotate_left(2);
    shape.key(&turned, interface)
}

/// What is done to each segment, as the map has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    bytes: [u8; route::LEN],
}

impl Route {
    /// What made `after` of `before`, both the beginning of one frame. `None` unless a route can say all of it:
    /// anything else that differs, such as a sequence number, would be lost. `partial`: its checksum is left to be
    /// finished.
    pub(super) fn learn(before: &Head, after: &Head, partial: bool) -> Option<Self> {
        let shape = Shape::of(before)?;
        let (source, destination, len) = shape.addresses();
        let (source, destination) = (source..source + len, destination..destination + len);
        let ports = shape.transport..shape.transport + 4;
        let what = match (
            before[source.clone()] == after[source.clone()],
            before[destination.clone()] == after[destination.clone()],
        ) {
            (true, true) => rewrite::NOTHING,
            (true, false) => rewrite::DESTINATION,
            (false, true) => rewrite::SOURCE,
            (false, false) => return None,
        };
        let changed = if what == rewrite::SOURCE { source } else { destination };
        let mut bytes = [0; route::LEN];
        put(&mut bytes, route::MACS, &after[..12]);
        put(&mut bytes, route::REWRITE, &what.to_ne_bytes());
        put(&mut bytes, route::ADDRESS, &after[changed.clone()]);
        put(&mut bytes, route::PORTS, &after[ports.clone()]);
        let addresses = delta(&before[changed.clone()], &after[changed]);
        // A hop less: the same for all numbers of hops, since nothing is borrowed from the other byte.
        let network = fold(addresses + delta(&[2, TCP], &[1, TCP]));
        put(&mut bytes, route::NETWORK_DELTA, &network.to_ne_bytes());
        put(&mut bytes, route::PSEUDO_DELTA, &addresses.to_ne_bytes());
        put(&mut bytes, route::PORTS_DELTA, &delta(&before[ports.clone()], &after[ports]).to_ne_bytes());
        let route = Self { bytes };
        // Tried on the frame that it was learnt from: what the route does not explain shows as a difference.
        let mut again = *before;
        route.apply(&mut again, shape, partial);
        (again == *after).then_some(route)
    }

    /// The route, to leave by an interface whose packets may be so long, counted in a cell.
    pub(super) fn by(mut self, interface: u32, mtu: u16, cell: u32, direction: Direction) -> Self {
        let direction = match direction {
            Direction::Request => direction::REQUEST,
            Direction::Reply => direction::REPLY,
        };
        put(&mut self.bytes, route::DIRECTION, &direction.to_ne_bytes());
        put(&mut self.bytes, route::MTU, &u32::from(mtu).to_ne_bytes());
        put(&mut self.bytes, route::INTERFACE, &interface.to_ne_bytes());
        put(&mut self.bytes, route::CELL, &cell.to_ne_bytes());
        self
    }

    pub(super) const fn bytes(&self) -> &[u8; route::LEN] {
        &self.bytes
    }

    /// To whom frames go.
    pub(super) const fn next(&self) -> MacAddress {
        let [a, b, c, d, e, f, ..] = self.bytes;
        MacAddress([a, b, c, d, e, f])
    }

    /// Whether addresses change, so that answers come back this way.
    pub(super) fn is_nat(&self) -> bool {
        self.word(route::REWRITE) != rewrite::NOTHING
    }

    /// Does to the beginning of a frame what the program does.
    pub(super) fn apply(&self, head: &mut Head, shape: Shape, partial: bool) {
        head[..12].copy_from_slice(&self.bytes[..12]);
        if shape.is_v6 {
            head[21] = head[21].wrapping_sub(1);
        } else {
            head[22] = head[22].wrapping_sub(1);
            let sum = u16::from_ne_bytes([head[24], head[25]]);
            head[24..26].copy_from_slice(&renew(sum, self.word(route::NETWORK_DELTA)).to_ne_bytes());
        }
        let what = self.word(route::REWRITE);
        if what == rewrite::NOTHING {
            return;
        }
        let (source, destination, len) = shape.addresses();
        let at = if what == rewrite::SOURCE { source } else { destination };
        let (address, ports) = (route::ADDRESS as usize, route::PORTS as usize);
        head[at..at + len].copy_from_slice(&self.bytes[address..address + len]);
        head[shape.transport..shape.transport + 4].copy_from_slice(&self.bytes[ports..ports + 4]);
        let place = shape.transport + 16;
        let sum = u16::from_ne_bytes([head[place], head[place + 1]]);
        let pseudo = self.word(route::PSEUDO_DELTA);
        let sum = if partial {
            // The sum of the pseudo-header itself, not its complement.
            fold(pseudo + u32::from(sum)) as u16
        } else {
            renew(renew(sum, pseudo), self.word(route::PORTS_DELTA))
        };
        head[place..place + 2].copy_from_slice(&sum.to_ne_bytes());
    }

    fn word(&self, at: i16) -> u32 {
        let at = at as usize;
        let bytes = self.bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
        u32::from_ne_bytes(bytes.copied().unwrap_or_default())
    }
}

/// What has to be added to a sum of 16-bit words where these became those (RFC 1624 §3), in this machine's byte order.
fn delta(old: &[u8], new: &[u8]) -> u32 {
    let words = |bytes: &[u8], flip: u16| -> u32 {
        let (pairs, _) = bytes.as_chunks();
        pairs.iter().map(|&pair: &[u8; 2]| u32::from(u16::from_ne_bytes(pair) ^ flip)).sum()
    };
    fold(words(old, u16::MAX) + words(new, 0))
}

/// A sum of 16-bit words in 16 bits.
const fn fold(sum: u32) -> u32 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// A checksum after its words' sum has changed by that much.
const fn renew(checksum: u16, delta: u32) -> u16 {
    !fold(!checksum as u32 + delta) as u16
}

/// All places are those of this file's formats.
fn put(into: &mut [u8], at: i16, bytes: &[u8]) {
    let at = at as usize;
    if let Some(place) = into.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// TCP's number (RFC 9293).
const TCP: u8 = 6;

#[cfg(test)]
mod tests;
