//! The short way: for the packets that nearly all are.
//!
//! A whole TCP or UDP packet without IP options or extension headers, over untagged Ethernet, of a known connection, to a
//! next hop that is known, small enough and with hops to go: everything that can be said of it follows from a few
//! fixed offsets, and its link header can be overwritten where it stands. Whatever is out of the ordinary,
//! errors included, takes the long way (`classify`, `carry_out`), which for these packets comes to the same
//! result; tests hold both against each other.

use core::net::{IpAddr, Ipv6Addr};

use lvs_core::packet::Addresses;
use lvs_core::{
    Content, Direction, Family, Flow, Forward, Method, Packet, Path, Protocol, ServerId, TcpFlags, Tick,
    Tunnel,
};

use super::Forwarder;
use super::plain::Errand;
use crate::frame::{Checksum, Frame, PortId};
use crate::header::address::is_martian;
use crate::header::edit::{Tags, decrement_ttl, ether_type, write_ethernet};
use crate::header::layout::{Fragment, Layout};
use crate::header::{ethernet, ipv4, ipv6, protocol, tcp, udp};
use crate::host::Resolution;
use crate::method::{encap, nat};
use crate::offload::checksum_offset;
use crate::outcome::Outcome;
use crate::output::least_mtu;
use crate::parse;
use crate::reason::DropReason;

/// The way to a real server, as it was found lately.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) server: IpAddr,
    /// What the host calls itself on the port, to a server of this family.
    pub(super) source: Option<IpAddr>,
    /// Good until then, if the host has not changed since.
    pub(super) until: Tick,
    pub(super) changes: u32,
    pub(super) link: LinkHeader,
    pub(super) port: PortId,
    pub(super) mtu: u16,
}

/// Both addresses of a link header, to whom and from whom, in two words, for which registers have room.
#[derive(Clone, Copy)]
pub(super) struct LinkHeader {
    front: u64,
    back: u32,
}

impl LinkHeader {
    const fn new([a, b, c, d, e, f]: [u8; 6], [g, h, i, j, k, l]: [u8; 6]) -> Self {
        Self { front: u64::from_ne_bytes([a, b, c, d, e, f, g, h]), back: u32::from_ne_bytes([i, j, k, l]) }
    }

    const fn macs(self) -> ([u8; 6], [u8; 6]) {
        let [a, b, c, d, e, f, g, h] = self.front.to_ne_bytes();
        let [i, j, k, l] = self.back.to_ne_bytes();
        ([a, b, c, d, e, f], [g, h, i, j, k, l])
    }

    /// Puts them where a frame has them.
    #[inline(always)]
    pub(super) fn write(self, place: &mut [u8; ethernet::TYPE]) {
        let (front, back) = place.split_at_mut(size_of::<u64>());
        front.copy_from_slice(&self.front.to_ne_bytes());
        back.copy_from_slice(&self.back.to_ne_bytes());
    }
}

/// Own addresses that packets were for lately.
pub(super) struct LastOwn {
    v4: [u32; OWN],
    /// The host's changes when they were found.
    changes: u32,
    v6: Option<(u128, u32)>,
}

/// IPv4 addresses that are remembered; those that share a place displace each other.
const OWN: usize = 16;

impl LastOwn {
    /// None yet: in every place an address that would be in another one.
    pub(super) const NONE: Self = {
        let mut v4 = [0; OWN];
        v4[0] = 1;
        Self { v4, changes: 0, v6: None }
    };

    /// Forgets what was found before the host's last change.
    #[inline(always)]
    pub(super) const fn keep(&mut self, changes: u32) {
        if self.changes != changes {
            *self = Self { changes, v6: self.v6, ..Self::NONE };
        }
    }

    /// Whether an IPv4 address is one of them, if all have been [kept](Self::keep).
    #[inline(always)]
    pub(super) const fn is_v4(&self, destination: u32) -> bool {
        self.v4[Self::place(destination)] == destination
    }

    pub(super) const fn set_v4(&mut self, destination: u32) {
        self.v4[Self::place(destination)] = destination;
    }

    /// Neighbouring addresses have places of their own.
    #[inline(always)]
    const fn place(address: u32) -> usize {
        (address ^ address >> 8) as usize % OWN
    }
}

/// The ways to the real servers that were used last.
pub(super) struct Ways([Option<Way>; WAYS]);

impl Ways {
    pub(super) const fn new() -> Self {
        Self([None; WAYS])
    }
}

impl<const A: usize, const N: usize> Forwarder<A, N> {
    /// What [`classify`](Self::classify) would find in a plain packet; `None` for any other.
    #[inline(always)]
    pub(super) fn glance(&mut self, frame: &Frame<'_>) -> Option<Packet> {
        let gate = self.gate(frame.port)?;
        if let Some(brief) = self.brief(&gate, frame) {
            let captured = brief.is_passing() && self.captures(frame);
            return (!captured).then(|| Packet { mark: frame.mark, ..brief.packet() });
        }
        let head: &[u8; ethernet::LEN] = frame.bytes().first_chunk()?;
        let [a, b, c, d, e, f, .., high, low] = *head;
        let to_us = self.host.port(frame.port)?.mac().0 == [a, b, c, d, e, f];
        let plain = to_us && frame.offload.merged.is_none();
        if plain && u16::from_be_bytes([high, low]) == ethernet::TYPE_IPV6 {
            self.glance_v6(frame)
        } else {
            None
        }
    }

    #[inline(never)]
    fn glance_v6(&mut self, frame: &Frame<'_>) -> Option<Packet> {
        let bytes = frame.bytes();
        let (layout, addresses) = plain_v6(bytes.get(ethernet::LEN..)?)?;
        let segment = bytes.get(layout.transport()..layout.end())?;
        let (protocol, content) = match layout.protocol {
            protocol::TCP => {
                let header: &[u8; tcp::LEN] = segment.first_chunk()?;
                (Protocol::Tcp, Content::Tcp(TcpFlags::from_byte(header[tcp::FLAGS])))
            }
            protocol::UDP if segment.len() >= udp::LEN => (Protocol::Udp, Content::Udp),
            _ => return None,
        };
        let ports: &[u8; 4] = segment.first_chunk()?;
        let addresses_pair = Addresses::V6 { source: addresses.0, destination: addresses.1 };
        if is_martian(&addresses_pair) {
            return None;
        }
        let flow = Flow {
            protocol,
            addresses: addresses_pair,
            source_port: u16::from_be_bytes([ports[0], ports[1]]),
            destination_port: u16::from_be_bytes([ports[2], ports[3]]),
        };
        let length = layout.end - layout.network;
        let own = Some((addresses.1.to_bits(), self.host.changes()));
        let path = if self.last_own.v6 == own { Path::Local } else { self.path(&addresses_pair) };
        match path {
            Path::Local => self.last_own.v6 = own,
            Path::Captured | Path::Through => {
                if length > u32::from(self.host.least_mtu())
                    || layout.ttl(bytes).is_none_or(|ttl| ttl <= 1)
                    || self.captures(frame)
                {
                    return None;
                }
            }
        }
        Some(Packet { flow, content, length, path, mark: frame.mark })
    }

    /// Does what [`carry_out`](Self::carry_out) would do with a packet that `glance` found and the director forwards. `None`,
    /// and nothing has changed, when it has to go the long way.
    #[inline(always)]
    pub(super) fn stride(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        packet: &Packet,
        forward: &Forward,
    ) -> Option<Outcome> {
        if let Some(errand) = Errand::of(packet, forward)
            && self.stride_v4(now, frame, forward.method, errand).is_some()
        {
            return Some(Outcome::Send);
        }
        self.stride_any(now, frame, packet, forward)
    }

    /// The same by offsets that are found out for each packet.
    #[inline(never)]
    pub(super) fn stride_any(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        packet: &Packet,
        forward: &Forward,
    ) -> Option<Outcome> {
        let layout = &layout_of(packet);
        let way = match forward.direction {
            Direction::Request => self.way_to_server(now, forward)?,
            // The client is not this host, or the packet would not be on its way through.
            Direction::Reply if packet.path == Path::Through => {
                self.way_to_client(now, packet.flow.addresses.destination())?
            }
            Direction::Reply => return None,
        };
        let settled = match frame.offload.checksum {
            Checksum::Complete => true,
            Checksum::Partial { start, offset } => {
                usize::from(start) == layout.transport()
                    && checksum_offset(layout.protocol) == Some(usize::from(offset))
            }
        };
        if !settled {
            return None;
        }
        match (forward.method, forward.direction) {
            (Method::Tunnel(tunnel), Direction::Request) => {
                if let Err(reason) = self.stride_into_tunnel(now, frame, layout, packet, tunnel, &way)? {
                    return Some(self.drop(reason));
                }
            }
            (Method::Bypass | Method::Local, _) => return None,
            (method @ (Method::Nat | Method::Direct | Method::Tunnel(_)), direction) => {
                let outer = if matches!(direction, Direction::Request) {
                    Family::of(way.server)
                } else {
                    layout.family
                };
                if layout.packet_len() > usize::from(way.mtu) || outer != layout.family {
                    return None;
                }
                decrement_ttl(frame, layout)?;
                if matches!(method, Method::Nat)
                    && let Err(reason) = nat::rewrite(frame, layout, direction, forward.target)
                {
                    return Some(self.drop(reason));
                }
                frame.set_len(layout.end())?;
                write_macs(frame, &way)?;
            }
        }
        match forward.direction {
            Direction::Request => self.counters.requests += 1,
            Direction::Reply => self.counters.replies += 1,
        }
        frame.port = way.port;
        Some(Outcome::Send)
    }

    fn stride_into_tunnel(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
        packet: &Packet,
        tunnel: Tunnel,
        way: &Way,
    ) -> Option<Result<(), DropReason>> {
        let outer = Family::of(way.server);
        let mtu = self.path_mtus.limit(now, way.server, way.mtu);
        let overhead = encap::overhead(tunnel, outer);
        let room = usize::from(mtu).checked_sub(overhead).filter(|&room| room >= least_mtu(outer))?;
        // What does not fit before the frame is for the long way to say.
        if layout.packet_len() > room || frame.headroom() < overhead {
            return None;
        }
        let addresses = Addresses::new(way.source?, way.server)?;
        let inner = layout.without_front(ethernet::LEN)?;
        decrement_ttl(frame, layout)?;
        let outer = encap::Outer {
            tunnel,
            addresses,
            pmtu_disc: self.options.pmtu_disc,
            identification: self.next_identification() as u16,
            source_port: match tunnel {
                Tunnel::Gue { .. } => self.source_port(&packet.flow),
                Tunnel::Gre { .. } | Tunnel::IpIp => 0,
            },
        };
        frame.set_len(layout.end())?;
        frame.shrink_front(ethernet::LEN)?;
        let wrapped = encap::wrap(frame, &inner, &outer).and_then(|()| {
            let kind = ether_type(Family::of(way.server));
            let (to, from) = way.link.macs();
            write_ethernet(frame, to, from, &Tags::NONE, kind).ok_or(DropReason::NoHeadroom)
        });
        Some(wrapped)
    }

    /// The way to a server with this IPv4 address, if it is remembered.
    #[inline(always)]
    pub(super) fn known_way_v4(&self, now: Tick, server: ServerId, address: u32) -> Option<&Way> {
        let way = self.ways.0.get(slot(server))?.as_ref()?;
        let IpAddr::V4(known) = way.server else { return None };
        let good = way.changes == self.host.changes() && now < way.until && known.to_bits() == address;
        good.then_some(way)
    }

    /// The way to a request's server, if it is remembered.
    #[inline]
    fn known_way(&self, now: Tick, forward: &Forward) -> Option<&Way> {
        let way = self.ways.0.get(slot(forward.server))?.as_ref()?;
        let good = way.changes == self.host.changes() && now < way.until && way.server == forward.address();
        good.then_some(way)
    }

    /// The way to a reply's client. Most clients are behind the one router that the last was behind.
    #[inline]
    pub(super) fn way_to_client(&mut self, now: Tick, client: IpAddr) -> Option<Way> {
        let hop = self.host.route(client)?;
        if let Some((next, way)) = &self.last_hop
            && *next == hop.next
            && way.port == hop.port
            && way.changes == self.host.changes()
            && now < way.until
        {
            let way = *way;
            self.beyond.remember(client, &way);
            return Some(way);
        }
        let way = self.find_way(now, client)?;
        self.last_hop = Some((hop.next, way));
        self.beyond.remember(client, &way);
        Some(way)
    }

    /// The way to a request's server, remembered or found.
    #[inline]
    fn way_to_server(&mut self, now: Tick, forward: &Forward) -> Option<Way> {
        if let Some(way) = self.known_way(now, forward) {
            return Some(*way);
        }
        let server = forward.address();
        if self.host.owns(server) {
            return None;
        }
        let way = self.find_way(now, server)?;
        *self.ways.0.get_mut(slot(forward.server))? = Some(way);
        Some(way)
    }

    fn find_way(&mut self, now: Tick, destination: IpAddr) -> Option<Way> {
        let hop = self.host.route(destination)?;
        let port = *self.host.port(hop.port)?;
        if port.link() != parse::Link::Ethernet {
            return None;
        }
        match self.host.resolve(now, &hop) {
            Resolution::Known(mac) => Some(Way {
                server: destination,
                source: self.host.source(hop.port, Family::of(destination)),
                until: now.plus_millis(WAY_MS),
                changes: self.host.changes(),
                link: LinkHeader::new(mac.0, port.mac().0),
                port: hop.port,
                mtu: hop.mtu,
            }),
            Resolution::Pending | Resolution::Failed | Resolution::Full => None,
        }
    }
}

/// An IPv6 header with the transport's header directly behind it.
#[inline]
fn plain_v6(packet: &[u8]) -> Option<(Layout, (Ipv6Addr, Ipv6Addr))> {
    let header: &[u8; ipv6::LEN] = packet.first_chunk()?;
    let payload = u16::from_be_bytes([header[ipv6::PAYLOAD_LEN], header[ipv6::PAYLOAD_LEN + 1]]);
    let total = ipv6::LEN + usize::from(payload);
    if header[0] >> 4 != 6 || total > packet.len() {
        return None;
    }
    let (_, addresses) = header.split_first_chunk::<{ ipv6::SOURCE }>()?;
    let (source, destination) = addresses.split_first_chunk::<16>()?;
    let layout = Layout {
        network: ethernet::LEN as u32,
        transport: (ethernet::LEN + ipv6::LEN) as u32,
        end: (ethernet::LEN + total) as u32,
        family: Family::V6,
        protocol: header[ipv6::NEXT_HEADER],
        fragment: Fragment::Whole,
    };
    Some((layout, (Ipv6Addr::from(*source), Ipv6Addr::from(*destination.first_chunk::<16>()?))))
}

/// Where the parts of a packet are that `glance` found.
#[inline]
pub(super) const fn layout_of(packet: &Packet) -> Layout {
    let family = packet.flow.addresses.family();
    let header = match family {
        Family::V4 => ipv4::LEN,
        Family::V6 => ipv6::LEN,
    };
    Layout {
        network: ethernet::LEN as u32,
        transport: (ethernet::LEN + header) as u32,
        end: ethernet::LEN as u32 + packet.length,
        family,
        protocol: packet.flow.protocol.number(),
        fragment: Fragment::Whole,
    }
}

/// Addresses an Ethernet frame anew; its type stays.
#[inline]
fn write_macs(frame: &mut Frame<'_>, way: &Way) -> Option<()> {
    way.link.write(frame.bytes_mut().first_chunk_mut()?);
    Some(())
}

/// Where the way to a server is remembered.
const fn slot(server: ServerId) -> usize {
    server.index() as usize % WAYS
}

/// Ways that are remembered; servers that share a place displace each other.
const WAYS: usize = 256;
/// How long a way is used before neighbours and routes are asked again, in milliseconds. A change to them counts at once.
const WAY_MS: u64 = 1_000;

#[cfg(test)]
mod tests;
