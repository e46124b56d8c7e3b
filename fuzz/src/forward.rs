//! Frames of any bytes through everything that handles frames.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::{
    Config, Director, Event, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick,
    Tunnel,
};
use lvs_forward::checksum::Sum;
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::output::{Cut, pieces};
use lvs_forward::parse::{Link, Parsed, parse as parse_frame};
use lvs_forward::{
    Checksum, Decapsulator, Forwarder, Frame, GUE_PORT, HEADROOM, Layout, Merged, MergedKind, Offload,
    Options, Outcome, PortId,
};

const SEED: Seed = Seed::from_bytes([9; 16]);
pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const ETHERNET: PortId = PortId(0);
const BARE: PortId = PortId(1);
/// Bytes on both sides of what a frame may use: they must not change.
const FENCE: usize = 16;
const TAILROOM: usize = 64;

/// Parses `data` as a frame of each kind.
///
/// # Panics
///
/// When the offsets that come out do not lie inside the frame, in order.
pub fn parse(data: &[u8]) {
    let mut bytes = data.to_vec();
    let end = bytes.len();
    for link in [Link::Ethernet, Link::Bare] {
        let Some(frame) = Frame::new(&mut bytes, 0, end, ETHERNET) else { return };
        if let Ok(Parsed::Ip(layout, _)) = parse_frame(&frame, link) {
            assert!(layout.network() < layout.transport());
            assert!(layout.transport() <= layout.end() && layout.end() <= data.len());
        }
    }
}

/// Sends a frame through a director. The first bytes of `data` choose the forwarding method, the port and what the
/// device says about the frame; the rest is the frame.
///
/// # Panics
///
/// When what leaves does not parse, a right checksum became wrong, or a byte outside the frame's room changed.
pub fn transform(data: &[u8]) {
    let Some((&[method, choices, segment], bytes)) = data.split_first_chunk() else { return };
    let method = METHODS[usize::from(method) % METHODS.len()];
    let mut site = site(method, true);
    let port = if choices & 1 == 0 { ETHERNET } else { BARE };
    let mut buffer = Buffer::new(bytes);
    let mut frame = buffer.frame(port).with_offload(offload(bytes, port, choices, segment));
    // In a tunnel the outer packet is another one; GUE may have no checksum at all.
    let before = transport_is_right(&frame, port) && !matches!(method, Method::Tunnel(_));
    let now = Tick::from_millis(1_000);
    match site.forwarder.process(&mut site.director, now, &mut frame) {
        Outcome::Send => check(&mut frame, before),
        Outcome::SendPieces(cut) => cut_up(&mut frame, cut),
        Outcome::Assembled(_) | Outcome::Consumed | Outcome::Drop(_) | Outcome::Pass(_) => {}
    }
    buffer.check_fences();
}

/// Sends a frame through a real server's decapsulator.
///
/// # Panics
///
/// When what was inside does not parse, or a byte outside the frame's room changed.
pub fn decap(data: &[u8]) {
    let mut decapsulator = Decapsulator::new(host(true), GUE_PORT);
    let mut buffer = Buffer::new(data);
    let mut frame = buffer.frame(ETHERNET);
    match decapsulator.process(Tick::from_millis(1_000), &mut frame) {
        lvs_forward::Unwrapped::Inner => {
            assert!(matches!(parse_frame(&frame, Link::Bare), Ok(Parsed::Ip(..))), "the inner packet parses");
        }
        lvs_forward::Unwrapped::Assembled
        | lvs_forward::Unwrapped::Consumed
        | lvs_forward::Unwrapped::Drop(_)
        | lvs_forward::Unwrapped::Pass
        | lvs_forward::Unwrapped::Send => {}
    }
    buffer.check_fences();
}

/// Sends a sequence of frames (each behind two bytes: its length, and the time since the last in units of 100 ms) to a
/// director that knows no neighbours, and fetches what it sends of its own.
///
/// # Panics
///
/// When a frame of its own does not parse, or it never stops sending.
pub fn host_on_the_wire(data: &[u8]) {
    let mut site = site(Method::Direct, false);
    site.forwarder.host_mut().announce_all(Tick::ZERO);
    let mut now = Tick::ZERO;
    let mut rest = data;
    let mut own = vec![0; HEADROOM + 2_048];
    while let Some((&[length, wait], bytes)) = rest.split_first_chunk() {
        let (frame, behind) = bytes.split_at(bytes.len().min(usize::from(length)));
        rest = behind;
        now = now.plus_millis(u64::from(wait) * 100);
        let mut buffer = Buffer::new(frame);
        let outcome = site.forwarder.process(&mut site.director, now, &mut buffer.frame(ETHERNET));
        let _ = outcome;
        buffer.check_fences();
        let mut sent = 0;
        while let Some(frame) = site.forwarder.poll_transmit(now, &mut own) {
            assert!(parse_frame(&frame, link(frame.port)).is_ok(), "an own frame parses");
            sent += 1;
            assert!(sent < 10_000, "the host stops sending");
        }
    }
}

pub(crate) const METHODS: [Method; 7] = [
    Method::Nat,
    Method::Direct,
    Method::Tunnel(Tunnel::IpIp),
    Method::Tunnel(Tunnel::Gre { checksum: false }),
    Method::Tunnel(Tunnel::Gre { checksum: true }),
    Method::Tunnel(Tunnel::Gue { port: 6_080, checksum: false }),
    Method::Tunnel(Tunnel::Gue { port: 6_080, checksum: true }),
];

pub(crate) struct Site {
    pub(crate) director: Director<Heap>,
    pub(crate) forwarder: Box<Forwarder>,
}

impl Site {
    /// The events that wait to be read.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.director.poll_event()).collect()
    }

    /// Panics where another director has other counters, connections, services or servers.
    pub(crate) fn assert_counts_as(&self, expected: &Self, now: Tick) {
        assert_eq!(self.director.counters(), expected.director.counters());
        let (seen, wanted) = (self.director.connections(now), expected.director.connections(now));
        assert_eq!(seen.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        for service in expected.director.services() {
            let key = service.key();
            let own = self.director.service(key).map(|service| service.meter().live());
            assert_eq!(own, Some(service.meter().live()), "{key:?}");
            let traffic = |site: &Self| -> Vec<_> {
                site.director.servers(key).map(|(_, server)| server.meter().live()).collect()
            };
            assert_eq!(traffic(self), traffic(expected), "{key:?}");
        }
    }
}

/// What the director's world is made of, once per family: as in the recorded scenarios, whose frames are good seeds.
pub(crate) struct Addresses {
    own: IpAddr,
    servers: IpAddr,
    len: u8,
    pub(crate) vip: IpAddr,
    pub(crate) server: IpAddr,
    gateway: IpAddr,
    any: IpAddr,
}

impl Addresses {
    pub(crate) const fn own(&self) -> IpAddr {
        self.own
    }
}

const fn v6(subnet: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, subnet, 0, 0, 0, 0, last))
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

pub(crate) const WORLD: [Addresses; 2] = [
    Addresses {
        own: v4(10, 0, 0, 254),
        servers: v4(10, 0, 1, 254),
        len: 24,
        vip: v4(10, 99, 0, 1),
        server: v4(10, 0, 1, 11),
        gateway: v4(10, 0, 0, 1),
        any: v4(0, 0, 0, 0),
    },
    Addresses {
        own: v6(0, 0xfe),
        servers: v6(1, 0xfe),
        len: 64,
        vip: v6(0x99, 1),
        server: v6(1, 0x11),
        gateway: v6(0, 1),
        any: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    },
];

/// A director with services for TCP and UDP at port 80 of both families.
pub(crate) fn site(method: Method, neighbours: bool) -> Site {
    let mut director = Director::new(Config::new(SEED), crate::small_store(16));
    for Addresses { vip, server, .. } in WORLD {
        for key in [ServiceKey::tcp(vip, 80), ServiceKey::udp(vip, 80)] {
            let added = director.add_service(key, ServiceConfig::new(Scheduler::default()));
            assert!(added.is_ok(), "{added:?}");
            let added = director.add_server(key, ServerConfig::new(SocketAddr::new(server, 8_080), method));
            assert!(added.is_ok(), "{added:?}");
        }
    }
    let mut options = Options::new();
    options.ip_forward = true;
    Site { director, forwarder: Box::new(Forwarder::new(host(neighbours), options)) }
}

fn host(neighbours: bool) -> Host {
    let mut host = Host::new(SEED);
    let mut set_up = || -> Result<(), Box<dyn core::error::Error>> {
        let port = host.add_port(Port::ethernet(MacAddress(OWN_MAC), 1_500))?;
        host.add_port(Port::bare(1_400))?;
        for Addresses { own, servers, len, vip, server, gateway, any } in WORLD {
            host.add_address(port, own, len)?;
            host.add_address(port, servers, len)?;
            host.add_virtual_address(vip)?;
            host.add_route(Prefix::new(any, 0).ok_or("a prefix")?, Some(gateway), port)?;
            if neighbours {
                host.add_neighbour(port, server, MacAddress([2, 0, 0, 0, 1, 0x11]))?;
                host.add_neighbour(port, gateway, MacAddress([2, 0, 0, 0, 0, 0xaa]))?;
            }
        }
        Ok(())
    };
    let done = set_up();
    assert!(done.is_ok(), "{done:?}");
    host
}

/// What a device might say about the frame.
fn offload(bytes: &[u8], port: PortId, choices: u8, segment: u8) -> Offload {
    let start = if port == ETHERNET { 14 } else { 0 };
    let header = if bytes.get(start).is_some_and(|first| first >> 4 == 6) { 40 } else { 20 };
    let (kind, offset) = match (choices >> 1 & 1, header) {
        (0, 20) => (MergedKind::TcpV4, 16),
        (0, _) => (MergedKind::TcpV6, 16),
        _ => (MergedKind::Udp, 6),
    };
    let partial = Checksum::Partial { start: start as u16 + header, offset };
    let merged = Merged { kind, segment: u16::from(segment) + 1, ecn: choices & 8 != 0 };
    Offload {
        checksum: if choices & 4 != 0 { partial } else { Checksum::Complete },
        merged: (choices & 0x30 == 0x30).then_some(merged),
    }
}

fn link(port: PortId) -> Link {
    if port == ETHERNET { Link::Ethernet } else { Link::Bare }
}

pub(crate) fn check(frame: &mut Frame<'_>, was_right: bool) {
    let port = frame.port;
    if frame.offload.merged.is_some() {
        return cut_up(frame, Cut::SEGMENTS);
    }
    assert!(!matches!(parse_frame(frame, link(port)), Err(_) | Ok(Parsed::Foreign)), "what leaves parses");
    if was_right && is_tcp_or_udp(frame, port) {
        assert!(transport_is_right(frame, port), "a right checksum stays right");
    }
}

fn cut_up(frame: &mut Frame<'_>, cut: Cut) {
    let link = link(frame.port);
    let _ = pieces(frame, link, cut, &mut |piece| {
        assert!(parse_frame(&piece, link).is_ok(), "a piece parses");
    });
}

fn layout(frame: &Frame<'_>, port: PortId) -> Option<Layout> {
    match parse_frame(frame, link(port)) {
        Ok(Parsed::Ip(layout, _)) => Some(layout),
        Ok(Parsed::Arp(_) | Parsed::Foreign) | Err(_) => None,
    }
}

fn is_tcp_or_udp(frame: &Frame<'_>, port: PortId) -> bool {
    layout(frame, port).is_some_and(|layout| matches!(layout.protocol(), 6 | 17))
}

/// Whether a whole TCP or UDP packet has a complete and right checksum. UDP without one is neither.
pub(crate) fn transport_is_right(frame: &Frame<'_>, port: PortId) -> bool {
    let Some(layout) = layout(frame, port) else { return false };
    let whole = layout.fragment() == lvs_forward::Fragment::Whole;
    if !whole || !matches!(layout.protocol(), 6 | 17) || frame.offload != Offload::default() {
        return false;
    }
    let Some(segment) = frame.bytes().get(layout.transport()..layout.end()) else { return false };
    if layout.protocol() == 17 && segment.get(6..8) == Some(&[0, 0]) {
        return false;
    }
    let pseudo = match layout.addresses(frame.bytes()) {
        Some(lvs_core::packet::Addresses::V4 { source, destination }) => {
            Sum::pseudo_v4(source, destination, layout.protocol(), segment.len())
        }
        Some(lvs_core::packet::Addresses::V6 { source, destination }) => {
            Sum::pseudo_v6(source, destination, layout.protocol(), segment.len())
        }
        None => return false,
    };
    pseudo.bytes(segment).fold() == 0xffff
}

/// A frame with room around it, and fences around that.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(crate) fn new(frame: &[u8]) -> Self {
        let mut bytes = vec![0xee; FENCE + HEADROOM];
        bytes.extend(frame);
        bytes.resize(bytes.len() + TAILROOM + FENCE, 0xee);
        Self { bytes, len: frame.len() }
    }

    pub(crate) fn frame(&mut self, port: PortId) -> Frame<'_> {
        let room = FENCE..FENCE + HEADROOM + self.len + TAILROOM;
        let frame = Frame::new(&mut self.bytes[room], HEADROOM, HEADROOM + self.len, port);
        frame.unwrap_or_else(|| unreachable!("the range is inside the buffer"))
    }

    pub(crate) fn check_fences(&self) {
        let (front, back) = (&self.bytes[..FENCE], &self.bytes[self.bytes.len() - FENCE..]);
        assert!(front.iter().chain(back).all(|&byte| byte == 0xee), "nothing is written outside");
    }
}
