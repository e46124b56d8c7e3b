//! The shortest way: whole IPv4 packets with TCP or UDP over untagged Ethernet, under NAT and direct routing.
//!
//! What [`short`](super::short) does, by constant offsets: a header is read and written as an array whose length the compiler
//! knows, both changes of the IPv4 checksum are one, and the link header is one copy. It may always decline.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::{
    Addresses, Content, Direction, Family, Flow, Forward, Method, Packet, Path, Protocol, TcpFlags, Tick,
    Tunnel,
};

use super::apply::least_mtu;
use super::short::Link;
use super::{Forwarder, Outcome};
use crate::checksum::{Delta, Sum, never_zero};
use crate::edit::Ipv4;
use crate::frame::{Checksum, Frame};
use crate::host::Port;
use crate::method::tun::tos;
use crate::wire::{ethernet, ipv4, protocol, tcp, udp};

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// The part of [`glance`](Self::glance) for IPv4: `head` is the frame's beginning.
    #[inline(always)]
    pub(super) fn glance_v4(&mut self, frame: &Frame<'_>, head: &[u8; SHORTEST]) -> Option<Packet> {
        let bytes = frame.bytes();
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let total = usize::from(word(NETWORK + ipv4::TOTAL_LEN));
        let pieces = word(NETWORK + ipv4::FRAGMENT) & (ipv4::OFFSET_MASK | ipv4::MORE_FRAGMENTS) != 0;
        if head[NETWORK] != 0x45 || pieces || NETWORK + total > bytes.len() {
            return None;
        }
        let (protocol, content) = match head[NETWORK + ipv4::PROTOCOL] {
            protocol::TCP if total >= ipv4::LEN + tcp::LEN => {
                (Protocol::Tcp, Content::Tcp(TcpFlags::from_byte(*bytes.get(TRANSPORT + tcp::FLAGS)?)))
            }
            protocol::UDP if total >= ipv4::LEN + udp::LEN => (Protocol::Udp, Content::Udp),
            _ => return None,
        };
        let (_, header) = head.split_first_chunk::<NETWORK>()?;
        if Sum::ZERO.header::<{ ipv4::LEN }>(header.first_chunk()?).fold() != 0xffff {
            return None;
        }
        let (source, destination) = (long(NETWORK + ipv4::SOURCE), long(NETWORK + ipv4::DESTINATION));
        // Whatever may be no host's address is for the long way to look at.
        let first = source >> 24;
        if first == 0 || first == 127 || first >= 224 || matches!(destination >> 24, 0 | 127) {
            return None;
        }
        let path = if self.last_own.is_v4(destination, self.host.changes()) {
            Path::Local
        } else {
            self.path_of_v4(frame, head[NETWORK + ipv4::TTL], total, destination)?
        };
        let (source, destination) = (Ipv4Addr::from_bits(source), Ipv4Addr::from_bits(destination));
        let flow = Flow {
            protocol,
            addresses: Addresses::V4 { source, destination },
            source_port: word(TRANSPORT),
            destination_port: word(TRANSPORT + 2),
        };
        Some(Packet { flow, content, length: total as u32, path, mark: frame.mark })
    }

    /// Where a packet is going that is not for the address that the last one was for; `None` when it has to go the long way.
    #[inline]
    fn path_of_v4(&mut self, frame: &Frame<'_>, ttl: u8, total: usize, destination: u32) -> Option<Path> {
        let destination = Ipv4Addr::from_bits(destination);
        if self.host.addresses.contains(destination.into()) {
            self.last_own.set_v4(destination, self.host.changes());
            return Some(Path::Local);
        }
        let odd = total > usize::from(self.host.least_mtu()) || ttl <= 1 || self.captures(frame);
        (!odd).then_some(Path::Through)
    }

    /// The part of [`stride`](Self::stride) for IPv4 under NAT and direct routing. `None`, and nothing has changed, when it has to go a
    /// longer way.
    #[inline(always)]
    pub(super) fn stride_v4(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        packet: &Packet,
        forward: &Forward,
    ) -> Option<Outcome> {
        let Addresses::V4 { destination: client, .. } = packet.flow.addresses else { return None };
        let len = packet.length as usize;
        if frame.offload.checksum != Checksum::Complete {
            return None;
        }
        if let (Method::Tunnel(Tunnel::IpIp), Direction::Request) = (forward.method, forward.direction) {
            return self.wrap_v4(now, frame, len, forward);
        }
        let (link, port, mtu) = match forward.direction {
            Direction::Request => {
                let way = self.known_way(now, forward)?;
                (way.link, way.port, way.mtu)
            }
            Direction::Reply if packet.path == Path::Through => {
                let way = self.way_to_client(now, client.into())?;
                (way.link, way.port, way.mtu)
            }
            Direction::Reply => return None,
        };
        if len > usize::from(mtu) {
            return None;
        }
        let bytes = frame.bytes_mut();
        match (forward.method, forward.target) {
            (Method::Direct, SocketAddr::V4(_)) => {
                let head: &mut [u8; TRANSPORT] = bytes.first_chunk_mut()?;
                hop(head, &link, 0)?;
            }
            (Method::Nat, SocketAddr::V4(target)) => {
                let to = (target.ip().to_bits(), target.port());
                match (packet.flow.protocol, forward.direction) {
                    (Protocol::Tcp, Direction::Request) => {
                        let head = bytes.first_chunk_mut()?;
                        translate::<TCP_HEAD, TCP_FIELD, TO_ADDRESS, TO_PORT>(head, &link, to)?;
                    }
                    (Protocol::Tcp, Direction::Reply) => {
                        let head = bytes.first_chunk_mut()?;
                        translate::<TCP_HEAD, TCP_FIELD, FROM_ADDRESS, FROM_PORT>(head, &link, to)?;
                    }
                    (Protocol::Udp, Direction::Request) => {
                        let head = bytes.first_chunk_mut()?;
                        translate::<SHORTEST, UDP_FIELD, TO_ADDRESS, TO_PORT>(head, &link, to)?;
                    }
                    (Protocol::Udp, Direction::Reply) => {
                        let head = bytes.first_chunk_mut()?;
                        translate::<SHORTEST, UDP_FIELD, FROM_ADDRESS, FROM_PORT>(head, &link, to)?;
                    }
                    (Protocol::Sctp, _) => return None,
                }
            }
            (Method::Nat | Method::Direct | Method::Tunnel(_) | Method::Bypass | Method::Local, _) => {
                return None;
            }
        }
        // Padding ends where the packet does; it was measured against the frame.
        frame.set_len(NETWORK + len)?;
        frame.port = port;
        match forward.direction {
            Direction::Request => self.counters.requests += 1,
            Direction::Reply => self.counters.replies += 1,
        }
        Some(Outcome::Send)
    }

    /// Wraps a packet into another IPv4 packet to its real server (RFC 2003), as [`tun::wrap`](crate::method::tun::wrap) does.
    #[inline]
    fn wrap_v4(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        len: usize,
        forward: &Forward,
    ) -> Option<Outcome> {
        let way = self.known_way(now, forward)?;
        let (IpAddr::V4(server), Some(IpAddr::V4(source))) = (way.server, way.source) else { return None };
        let (link, port) = (way.link, way.port);
        let mtu = self.path_mtus.limit(now, way.server, way.mtu);
        let room = usize::from(mtu).checked_sub(ipv4::LEN).filter(|&room| room >= least_mtu(Family::V4))?;
        if len > room || frame.headroom() < ipv4::LEN {
            return None;
        }
        let head: &mut [u8; TRANSPORT] = frame.bytes_mut().first_chunk_mut()?;
        hop(head, &link, 0)?;
        let dont_fragment =
            self.options.pmtu_disc && read16(head, NETWORK + ipv4::FRAGMENT) & ipv4::DONT_FRAGMENT != 0;
        let (tos, ttl) = (tos(head[NETWORK + ipv4::TOS]), head[NETWORK + ipv4::TTL]);
        let identification = self.next_identification() as u16;
        let fields = Ipv4 {
            tos,
            // The way's MTU bounds it.
            total_len: (len + ipv4::LEN) as u16,
            identification: if dont_fragment { 0 } else { identification },
            dont_fragment,
            ttl,
            protocol: protocol::IPIP,
            source,
            destination: server,
        };
        frame.set_len(NETWORK + len)?;
        // The old link header's place becomes the end of the new IP header.
        frame.grow_front(ipv4::LEN)?;
        let head: &mut [u8; TRANSPORT] = frame.bytes_mut().first_chunk_mut()?;
        let (new_link, new_ip) = head.split_at_mut(NETWORK);
        let [high, low] = ethernet::TYPE_IPV4.to_be_bytes();
        let [a, b, c, d, e, f, g, h, i, j, k, l] = link;
        *new_link.first_chunk_mut()? = [a, b, c, d, e, f, g, h, i, j, k, l, high, low];
        *new_ip.first_chunk_mut()? = fields.to_bytes();
        frame.port = port;
        self.counters.requests += 1;
        Some(Outcome::Send)
    }
}

/// Takes one from the TTL, brings the IPv4 checksum in line with that and with `change`, and writes the link header. `None`, and
/// nothing has changed, when the TTL is used up.
#[inline(always)]
fn hop<const LEN: usize>(head: &mut [u8; LEN], link: &Link, change: u64) -> Option<()> {
    let ttl = head[NETWORK + ipv4::TTL];
    if ttl <= 1 {
        return None;
    }
    head[NETWORK + ipv4::TTL] = ttl - 1;
    let old = read16(head, NETWORK + ipv4::CHECKSUM);
    write16(head, NETWORK + ipv4::CHECKSUM, Delta::TTL.and(change).update(old));
    *head.first_chunk_mut()? = *link;
    Some(())
}

/// Gives a packet another address and port besides, and its transport checksum, at `FIELD`, the difference. `None`, and nothing has
/// changed, when the TTL is used up or UDP has no checksum.
#[inline(always)]
fn translate<const LEN: usize, const FIELD: usize, const ADDRESS: usize, const PORT: usize>(
    head: &mut [u8; LEN],
    link: &Link,
    (address, port): (u32, u16),
) -> Option<()> {
    let sum = read16(head, FIELD);
    if FIELD == UDP_FIELD && sum == 0 {
        return None;
    }
    let old = u32::from_be_bytes([head[ADDRESS], head[ADDRESS + 1], head[ADDRESS + 2], head[ADDRESS + 3]]);
    let old_port = read16(head, PORT);
    let change = u64::from(!old) + u64::from(address);
    hop(head, link, change)?;
    [head[ADDRESS], head[ADDRESS + 1], head[ADDRESS + 2], head[ADDRESS + 3]] = address.to_be_bytes();
    write16(head, PORT, port);
    let new = Delta::ZERO.word(old_port, port).and(change).update(sum);
    write16(head, FIELD, if FIELD == UDP_FIELD { never_zero(new) } else { new });
    Some(())
}

#[inline(always)]
const fn read16<const LEN: usize>(head: &[u8; LEN], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

#[inline(always)]
const fn write16<const LEN: usize>(head: &mut [u8; LEN], at: usize, value: u16) {
    [head[at], head[at + 1]] = value.to_be_bytes();
}

/// Whether a port's frames are Ethernet, and these bytes begin with its address.
#[inline]
pub(super) fn is_to(port: &Port, head: &[u8; SHORTEST]) -> bool {
    let [a, b, c, d, e, f, ..] = *head;
    port.link() == crate::parse::Link::Ethernet && [a, b, c, d, e, f] == port.mac().0
}

const NETWORK: usize = ethernet::LEN;
const TRANSPORT: usize = NETWORK + ipv4::LEN;
/// The headers of the shortest packet: UDP's.
pub(super) const SHORTEST: usize = TRANSPORT + udp::LEN;
const TCP_HEAD: usize = TRANSPORT + tcp::LEN;
const TCP_FIELD: usize = TRANSPORT + tcp::CHECKSUM;
const UDP_FIELD: usize = TRANSPORT + udp::CHECKSUM;
const TO_ADDRESS: usize = NETWORK + ipv4::DESTINATION;
const FROM_ADDRESS: usize = NETWORK + ipv4::SOURCE;
const TO_PORT: usize = TRANSPORT + 2;
const FROM_PORT: usize = TRANSPORT;
