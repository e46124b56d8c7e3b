//! The shortest way: whole IPv4 packets with TCP or UDP over untagged Ethernet, under NAT and direct routing.
//!
//! What [`short`](super::short) does, by constant offsets: a header is read and written as an array whose length the compiler
//! knows, both changes of the IPv4 checksum are one, and the link header is one copy. It may always decline.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::batch::{Brief, Found};
use lvs_core::packet::Addresses;
use lvs_core::{
    Direction, Family, Forward, Method, Packet, Path, Protocol, ServerId, TcpFlags, Tick, Tunnel,
};

use super::Forwarder;
use super::short::LinkHeader;
use crate::checksum::{self, Change, Sum};
use crate::frame::{Checksum, Frame, PortId};
use crate::header::{ethernet, ipv4, protocol, tcp, udp};
use crate::method::encap::tos;
use crate::output::least_mtu;
use crate::parse::Link;

/// What all frames of a batch that take this way have in common.
#[derive(Clone, Copy)]
pub(super) struct Gate {
    port: PortId,
    /// The port's address as the first word of a frame has it.
    mac: u64,
    least_mtu: u16,
}

/// What is to be done with a packet, in the parts that its editing asks for.
#[derive(Clone, Copy)]
pub(super) struct Errand {
    len: usize,
    is_tcp: bool,
    is_passing: bool,
    client: u32,
    direction: Direction,
    server: ServerId,
    target: Option<(u32, u16)>,
}

/// The same of a packet that is wrapped: few enough parts for registers.
#[derive(Clone, Copy)]
pub(super) struct Wrapping {
    pub(super) len: usize,
    pub(super) server: ServerId,
    /// The real server's.
    pub(super) address: u32,
}

impl Errand {
    /// The part of it that wrapping asks for. `None` for replies, which are not wrapped.
    #[inline(always)]
    pub(super) const fn into_tunnel(self) -> Option<Wrapping> {
        match (self.direction, self.target) {
            (Direction::Request, Some((address, _))) => {
                Some(Wrapping { len: self.len, server: self.server, address })
            }
            (Direction::Request, None) | (Direction::Reply, _) => None,
        }
    }

    /// That of a packet of a known connection.
    #[inline(always)]
    pub(super) const fn found(brief: &Brief, found: &Found<'_>) -> Self {
        Self {
            len: brief.length() as usize,
            is_tcp: brief.is_tcp(),
            is_passing: brief.is_passing(),
            client: brief.client(),
            direction: found.direction(),
            server: found.server(),
            target: found.target_v4(),
        }
    }

    /// That of any plain packet; `None` for those that are not IPv4's.
    #[inline(always)]
    pub(super) fn of(packet: &Packet, forward: &Forward) -> Option<Self> {
        let Addresses::V4 { source, destination } = packet.flow.addresses else { return None };
        let is_passing = packet.path == Path::Through;
        let target = match forward.target {
            SocketAddr::V4(target) => Some((target.ip().to_bits(), target.port())),
            SocketAddr::V6(_) => None,
        };
        Some(Self {
            len: packet.length as usize,
            is_tcp: match packet.flow.protocol {
                Protocol::Tcp => true,
                Protocol::Udp => false,
                Protocol::Sctp => return None,
            },
            is_passing,
            client: if is_passing { destination } else { source }.to_bits(),
            direction: forward.direction,
            server: forward.server,
            target,
        })
    }
}

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// What frames of this port have in common; `None` when they are no Ethernet frames.
    #[inline]
    pub(super) fn gate(&mut self, port: PortId) -> Option<Gate> {
        let known = self.host.port(port)?;
        if known.link() != Link::Ethernet {
            return None;
        }
        let [a, b, c, d, e, f] = known.mac().0;
        let mac = u64::from_le_bytes([0, 0, a, b, c, d, e, f]);
        self.last_own.keep(self.host.changes());
        self.beyond.keep(self.host.changes());
        Some(Gate { port, mac, least_mtu: self.host.least_mtu() })
    }

    /// What there is to say of a plain IPv4 packet but its mark; `None` for any other.
    #[inline(always)]
    pub(super) fn brief(&mut self, gate: &Gate, frame: &Frame<'_>) -> Option<Brief> {
        let head: &[u8; SIGHT] = frame.front()?.first_chunk()?;
        // The destination, then type, version and header length; what follows each is shifted out.
        if u64::from_le_bytes(bytes(head, 0)) << 16 != gate.mac
            || u32::from_le_bytes(bytes(head, ethernet::TYPE)) << 8 != PLAIN_IPV4
            || frame.port != gate.port
            || frame.offload.merged.is_some()
        {
            return None;
        }
        let total = read16(head, NETWORK + ipv4::TOTAL_LEN);
        let pieces = u16::from_ne_bytes(bytes(head, NETWORK + ipv4::FRAGMENT)) & PIECE.to_be() != 0;
        let sound = checksum::is_sound::<{ ipv4::LEN }>(&bytes(head, NETWORK));
        // What is in the packet is in the frame.
        if pieces || NETWORK + usize::from(total) > frame.len() || !sound {
            return None;
        }
        let source = u32::from_be_bytes(bytes(head, NETWORK + ipv4::SOURCE));
        let destination = u32::from_be_bytes(bytes(head, NETWORK + ipv4::DESTINATION));
        // Whatever may be no host's address is for the long way to look at.
        if (source >> 24).wrapping_sub(1) >= 223 || source >> 24 == 127 {
            return None;
        }
        let addresses = u64::from(source) << 32 | u64::from(destination);
        let ports = u32::from_be_bytes(bytes(head, TRANSPORT));
        let brief = if head[NETWORK + ipv4::PROTOCOL] == protocol::TCP {
            if usize::from(total) < ipv4::LEN + tcp::LEN {
                return None;
            }
            Brief::tcp(addresses, ports, TcpFlags::from_byte(head[TRANSPORT + tcp::FLAGS]), total)
        } else {
            if head[NETWORK + ipv4::PROTOCOL] != protocol::UDP || usize::from(total) < ipv4::LEN + udp::LEN {
                return None;
            }
            Brief::udp(addresses, ports, total)
        };
        if self.last_own.is_v4(destination)
            || !self.beyond.holds(destination) && self.is_own_v4(destination)?
        {
            return Some(brief);
        }
        // What goes through is for the long way to refuse.
        let goes = total <= gate.least_mtu && head[NETWORK + ipv4::TTL] > 1;
        goes.then_some(brief.passing())
    }

    /// Whether an address that the last packets were not for is the host's. Remembers it, or some of its neighbourhood. `None` for
    /// what may be no host's address.
    #[inline(never)]
    fn is_own_v4(&mut self, destination: u32) -> Option<bool> {
        if matches!(destination >> 24, 0 | 127) {
            return None;
        }
        let own = self.host.addresses.contains(Ipv4Addr::from_bits(destination).into());
        if own {
            self.last_own.set_v4(destination);
        } else {
            self.beyond.look_around(&self.host, destination);
        }
        Some(own)
    }

    /// The part of [`stride`](Self::stride) for IPv4 under NAT, direct routing and IPv4 in IPv4: edits the frame for its way. `None`,
    /// and nothing has changed, when it has to go a longer way.
    #[inline(always)]
    pub(super) fn stride_v4(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        method: Method,
        errand: Errand,
    ) -> Option<()> {
        match method {
            Method::Nat => self.translate_v4(now, frame, errand),
            Method::Direct => self.redirect_v4(now, frame, errand),
            Method::Tunnel(Tunnel::IpIp) => self.wrap_v4(now, frame, errand.into_tunnel()?),
            Method::Tunnel(_) | Method::Bypass | Method::Local => None,
        }
    }

    /// Rewrites a packet's address and port (RFC 3022).
    #[inline(always)]
    pub(super) fn translate_v4(&mut self, now: Tick, frame: &mut Frame<'_>, errand: Errand) -> Option<()> {
        let target = errand.target?;
        // Asked once: each way is compiled for itself.
        match errand.direction {
            Direction::Request => {
                let (link, port) = self.link_v4(now, frame, errand)?;
                let front = frame.front_mut()?;
                if errand.is_tcp {
                    let head = front.first_chunk_mut()?;
                    translate::<TCP_HEAD, TCP_FIELD, TO_ADDRESS, TO_PORT>(head, link, target)?;
                } else {
                    let head = front.first_chunk_mut()?;
                    translate::<SHORTEST, UDP_FIELD, TO_ADDRESS, TO_PORT>(head, link, target)?;
                }
                self.send_v4(frame, errand, port)
            }
            Direction::Reply => {
                let (link, port) = self.link_v4(now, frame, errand)?;
                let front = frame.front_mut()?;
                if errand.is_tcp {
                    let head = front.first_chunk_mut()?;
                    translate::<TCP_HEAD, TCP_FIELD, FROM_ADDRESS, FROM_PORT>(head, link, target)?;
                } else {
                    let head = front.first_chunk_mut()?;
                    translate::<SHORTEST, UDP_FIELD, FROM_ADDRESS, FROM_PORT>(head, link, target)?;
                }
                self.send_v4(frame, errand, port)
            }
        }
    }

    /// Addresses a packet's frame to its real server, and nothing else.
    #[inline(always)]
    pub(super) fn redirect_v4(&mut self, now: Tick, frame: &mut Frame<'_>, errand: Errand) -> Option<()> {
        let (link, port) = self.link_v4(now, frame, errand)?;
        let head: &mut [u8; TRANSPORT] = frame.front_mut()?.first_chunk_mut()?;
        hop(head, link, Change::NONE)?;
        self.send_v4(frame, errand, port)
    }

    /// The link header with which a packet leaves, and where, if it fits there as it is.
    #[inline(always)]
    fn link_v4(&mut self, now: Tick, frame: &Frame<'_>, errand: Errand) -> Option<(LinkHeader, PortId)> {
        if frame.offload.checksum != Checksum::Complete {
            return None;
        }
        let (link, port, mtu) = match errand.direction {
            Direction::Request => {
                let way = self.known_way_v4(now, errand.server, errand.target?.0)?;
                (way.link, way.port, way.mtu)
            }
            Direction::Reply if errand.is_passing => match self.beyond.way(errand.client, &self.host, now) {
                Some(way) => (way.link, way.port, way.mtu),
                None => {
                    let way = self.way_to_client(now, Ipv4Addr::from_bits(errand.client).into())?;
                    (way.link, way.port, way.mtu)
                }
            },
            Direction::Reply => return None,
        };
        (errand.len <= usize::from(mtu)).then_some((link, port))
    }

    /// Counts a packet that has been edited in place, and gives it its port.
    #[inline(always)]
    fn send_v4(&mut self, frame: &mut Frame<'_>, errand: Errand, port: PortId) -> Option<()> {
        // Padding ends where the packet does; it was measured against the frame.
        if frame.len() != NETWORK + errand.len {
            frame.set_len(NETWORK + errand.len)?;
        }
        frame.port = port;
        match errand.direction {
            Direction::Request => self.counters.requests += 1,
            Direction::Reply => self.counters.replies += 1,
        }
        Some(())
    }

    /// Wraps a packet into another IPv4 packet to its real server (RFC 2003), as [`encap::wrap`](crate::method::encap::wrap) does.
    #[inline(always)]
    pub(super) fn wrap_v4(&mut self, now: Tick, frame: &mut Frame<'_>, errand: Wrapping) -> Option<()> {
        if frame.offload.checksum != Checksum::Complete {
            return None;
        }
        let (len, server) = (errand.len, errand.address);
        let way = self.known_way_v4(now, errand.server, server)?;
        let Some(IpAddr::V4(source)) = way.source else { return None };
        let (link, port) = (way.link, way.port);
        let mtu = self.path_mtus.limit(now, way.server, way.mtu);
        if usize::from(mtu) < ipv4::LEN + least_mtu(Family::V4).max(len) {
            return None;
        }
        let head: &[u8; TRANSPORT] = frame.front()?.first_chunk()?;
        let (class, ttl) = (head[NETWORK + ipv4::TOS], head[NETWORK + ipv4::TTL]);
        let fragment = read16(head, NETWORK + ipv4::FRAGMENT) & ipv4::DONT_FRAGMENT;
        if frame.headroom() < ipv4::LEN || ttl <= 1 {
            return None;
        }
        let identification = self.next_identification() as u16;
        let (identification, fragment) =
            if self.options.pmtu_disc && fragment != 0 { (0, fragment) } else { (identification, 0) };
        frame.set_len(NETWORK + len)?;
        // The old link header's place becomes the end of the new IP header.
        frame.grow_front(ipv4::LEN)?;
        let head: &mut [u8; WRAPPED] = frame.front_mut()?.first_chunk_mut()?;
        head[TRANSPORT + ipv4::TTL] = ttl - 1;
        let old = bytes(head, TRANSPORT + ipv4::CHECKSUM);
        write(head, TRANSPORT + ipv4::CHECKSUM, Change::TTL.update(old));
        // The way's MTU bounds the length.
        let total = (len + ipv4::LEN) as u16;
        let mut words = [
            0x4500_0000 | u32::from(tos(class)) << 16 | u32::from(total),
            u32::from(identification) << 16 | u32::from(fragment),
            u32::from(ttl - 1) << 24 | u32::from(protocol::IPIP) << 16,
            source.to_bits(),
            server,
        ];
        words[2] |= u32::from(words.iter().fold(Sum::ZERO, |sum, &word| sum.long(word)).checksum());
        link.write(head.first_chunk_mut()?);
        write(head, ethernet::TYPE, ethernet::TYPE_IPV4.to_be_bytes());
        for (at, word) in words.into_iter().enumerate() {
            write(head, NETWORK + 4 * at, word.to_be_bytes());
        }
        frame.port = port;
        self.counters.requests += 1;
        Some(())
    }
}

/// Takes one from the TTL, brings the IPv4 checksum in line with that and with `change`, and writes the link header. `None`, and
/// nothing has changed, when the TTL is used up.
#[inline(always)]
fn hop<const LEN: usize>(head: &mut [u8; LEN], link: LinkHeader, change: Change) -> Option<()> {
    let ttl = head[NETWORK + ipv4::TTL];
    if ttl <= 1 {
        return None;
    }
    head[NETWORK + ipv4::TTL] = ttl - 1;
    let old = bytes(head, NETWORK + ipv4::CHECKSUM);
    write(head, NETWORK + ipv4::CHECKSUM, Change::TTL.update(change.update(old)));
    link.write(head.first_chunk_mut()?);
    Some(())
}

/// Gives a packet another address and port besides, and its transport checksum, at `FIELD`, the difference. `None`, and nothing has
/// changed, when the TTL is used up or UDP has no checksum.
#[inline(always)]
fn translate<const LEN: usize, const FIELD: usize, const ADDRESS: usize, const PORT: usize>(
    head: &mut [u8; LEN],
    link: LinkHeader,
    (address, port): (u32, u16),
) -> Option<()> {
    let sum = bytes(head, FIELD);
    if FIELD == UDP_FIELD && sum == [0; 2] {
        return None;
    }
    let (address, port) = (address.to_be_bytes(), port.to_be_bytes());
    let change = Change::address(bytes(head, ADDRESS), address);
    let old_port = bytes(head, PORT);
    hop(head, link, change)?;
    write(head, ADDRESS, address);
    write(head, PORT, port);
    let new = change.and_word(old_port, port).update(sum);
    write(head, FIELD, if FIELD == UDP_FIELD && new == [0; 2] { [0xff; 2] } else { new });
    Some(())
}

/// So many bytes from a place on, which is in the array.
#[inline(always)]
fn bytes<const LEN: usize, const COUNT: usize>(head: &[u8; LEN], at: usize) -> [u8; COUNT] {
    head.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; COUNT])
}

/// Puts bytes there.
#[inline(always)]
fn write<const LEN: usize, const COUNT: usize>(head: &mut [u8; LEN], at: usize, value: [u8; COUNT]) {
    if let Some(place) = head.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value;
    }
}

#[inline(always)]
const fn read16<const LEN: usize>(head: &[u8; LEN], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

/// Ethernet's type for IPv4, then version 4 with a header of five words, as they are loaded.
const PLAIN_IPV4: u32 = ((ethernet::TYPE_IPV4 as u32) << 8 | 0x45).swap_bytes();
/// What a whole packet has none of.
const PIECE: u16 = ipv4::OFFSET_MASK | ipv4::MORE_FRAGMENTS;
const NETWORK: usize = ethernet::LEN;
const TRANSPORT: usize = NETWORK + ipv4::LEN;
/// Where the transport header is behind two IP headers.
const WRAPPED: usize = TRANSPORT + ipv4::LEN;
/// The headers of the shortest packet: UDP's.
const SHORTEST: usize = TRANSPORT + udp::LEN;
/// As much as is looked at, up to TCP's flags. A buffer that ends before that has no plain packet.
const SIGHT: usize = TRANSPORT + tcp::FLAGS + 1;
const TCP_HEAD: usize = TRANSPORT + tcp::LEN;
const TCP_FIELD: usize = TRANSPORT + tcp::CHECKSUM;
const UDP_FIELD: usize = TRANSPORT + udp::CHECKSUM;
const TO_ADDRESS: usize = NETWORK + ipv4::DESTINATION;
const FROM_ADDRESS: usize = NETWORK + ipv4::SOURCE;
const TO_PORT: usize = TRANSPORT + 2;
const FROM_PORT: usize = TRANSPORT;
