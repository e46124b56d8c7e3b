//! A director in memory with connections, and frames for it: what each [`Row`] describes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::batch::BATCH;
use lvs_core::config::Capacity;
use lvs_core::{
    Config, Director, Family, Heap, Method, Protocol, Scheduler, Seed, ServerConfig, ServiceConfig,
    ServiceKey, Tick, Tunnel,
};
use lvs_forward::checksum::Sum;
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::{Forwarder, Frame, HEADROOM, Options, Outcome, PortId};

/// Packets that are measured together: all of one kind, by one forwarding method.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    method: Method,
    /// The packets of a batch take these in turn.
    families: &'static [Family],
    transport: Transport,
    /// Whether they are the real servers' answers, and not requests.
    reply: bool,
}

/// What stands behind the IP header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    /// A TCP header without options.
    Tcp,
    /// A TCP header with the timestamp option (RFC 7323 §3.2), as nearly every segment of the Internet has it.
    TcpTimestamps,
    Udp,
}

const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];
const BOTH: &[Family] = &[Family::V4, Family::V6];

/// The NAT requests of IPv4 that other measurements start from.
pub(crate) const NAT_REQUEST: Row =
    Row { name: "nat-request", method: Method::Nat, families: V4, transport: Transport::Tcp, reply: false };
const NAT_REPLY: Row = Row { name: "nat-reply", reply: true, ..NAT_REQUEST };
const DR: Row = Row { name: "dr", method: Method::Direct, ..NAT_REQUEST };
const IPIP: Row = Row { name: "tun-ipip", method: Method::Tunnel(Tunnel::IpIp), ..NAT_REQUEST };
const GRE: Tunnel = Tunnel::Gre { checksum: false };
const GUE: Tunnel = Tunnel::Gue { port: 6_080, checksum: false };

/// The packets of known connections that are measured.
pub(crate) const ROWS: [Row; 13] = [
    NAT_REQUEST,
    NAT_REPLY,
    DR,
    IPIP,
    Row { name: "tun-gue", method: Method::Tunnel(GUE), ..NAT_REQUEST },
    Row { name: "tun-gre", method: Method::Tunnel(GRE), ..NAT_REQUEST },
    Row { name: "udp", transport: Transport::Udp, ..NAT_REQUEST },
    Row { name: "nat-timestamps", transport: Transport::TcpTimestamps, ..NAT_REQUEST },
    Row { name: "nat6-request", families: V6, ..NAT_REQUEST },
    Row { name: "nat6-reply", families: V6, ..NAT_REPLY },
    Row { name: "dr6", families: V6, ..DR },
    Row { name: "tun-6in6", families: V6, ..IPIP },
    Row { name: "mixed", families: BOTH, ..NAT_REQUEST },
];

/// The servers of each service that only stands beside the one that is measured.
const SERVERS_EACH: u32 = 10;
/// The first addresses of such services, and of their servers: 10.100.0.0 and 10.128.0.0.
const OTHER_SERVICES: u32 = 0x0a64_0000;
const OTHER_SERVERS: u32 = 0x0a80_0000;

const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GATEWAY_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xaa]);
const SERVER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 1, 0x11]);
/// The port of the service and of the real server.
const PORT: u16 = 80;
const LINK: usize = 14;
/// Without a frame check sequence, no Ethernet frame is shorter.
const SHORTEST: usize = 60;
/// IPv6 with timestamps.
const LONGEST: usize = LINK + 40 + 32;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Who is where in one family.
struct Addresses {
    vip: IpAddr,
    server: IpAddr,
    own: IpAddr,
    own_prefix: u8,
    gateway: IpAddr,
    anywhere: IpAddr,
}

const ADDRESSES_V4: Addresses = Addresses {
    vip: IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)),
    server: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 11)),
    own: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 254)),
    own_prefix: 24,
    gateway: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)),
    anywhere: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
};

const ADDRESSES_V6: Addresses = Addresses {
    vip: v6(0x99, 1),
    server: v6(1, 0x11),
    own: v6(1, 0xfe),
    own_prefix: 64,
    gateway: v6(1, 1),
    anywhere: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
};

const fn v6(subnet: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, subnet, 0, 0, 0, 0, last))
}

const fn addresses(family: Family) -> &'static Addresses {
    match family {
        Family::V4 => &ADDRESSES_V4,
        Family::V6 => &ADDRESSES_V6,
    }
}

/// Client number `number`: sixteen of them share an address.
fn client(family: Family, number: u32) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + number / 16)),
        Family::V6 => {
            let subnet = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0).to_bits();
            IpAddr::V6(Ipv6Addr::from_bits(subnet + u128::from(number / 16)))
        }
    };
    SocketAddr::new(address, 1_024 + (number % 16) as u16)
}

impl Row {
    /// The family of client number `number`.
    const fn family(&self, number: u32) -> Family {
        self.families[number as usize % self.families.len()]
    }

    const fn protocol(&self) -> Protocol {
        match self.transport {
            Transport::Tcp | Transport::TcpTimestamps => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        }
    }

    /// The frame of client number `number`, or the real server's answer to it.
    fn build(&self, number: u32, flags: u8, reply: bool) -> Buffer {
        let family = self.family(number);
        let Addresses { vip, server, .. } = *addresses(family);
        let client = client(family, number);
        let (source, destination) = if reply {
            (SocketAddr::new(server, PORT), client)
        } else {
            (client, SocketAddr::new(vip, PORT))
        };
        let mut buffer = Buffer { bytes: [0; HEADROOM + LONGEST], len: 0 };
        let (link, packet) = buffer.bytes[HEADROOM..].split_at_mut(LINK);
        link[..6].copy_from_slice(&OWN_MAC);
        link[6..12].copy_from_slice(&GATEWAY_MAC.0);
        let header_len = match family {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        let (header, segment) = packet.split_at_mut(header_len);
        let segment = &mut segment[..self.segment_len(header_len)];
        let len = segment.len();
        let protocol = self.protocol().number();
        let pseudo = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                link[12..].copy_from_slice(&[8, 0]);
                let total = (header_len + len) as u8;
                header[..12].copy_from_slice(&[0x45, 0, 0, total, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
                header[12..16].copy_from_slice(&source.octets());
                header[16..20].copy_from_slice(&destination.octets());
                let checksum = Sum::default().bytes(header).checksum();
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                Sum::pseudo_v4(source, destination, protocol, len)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                link[12..].copy_from_slice(&[0x86, 0xdd]);
                header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, len as u8, protocol, 64]);
                header[8..24].copy_from_slice(&source.octets());
                header[24..40].copy_from_slice(&destination.octets());
                Sum::pseudo_v6(source, destination, protocol, len)
            }
            _ => panic!("mixed families"),
        };
        segment[..2].copy_from_slice(&source.port().to_be_bytes());
        segment[2..4].copy_from_slice(&destination.port().to_be_bytes());
        let checksum_at = match self.transport {
            Transport::Tcp => {
                (segment[12], segment[13]) = (0x50, flags);
                16
            }
            Transport::TcpTimestamps => {
                (segment[12], segment[13]) = (0x80, flags);
                segment[20..32].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 3]);
                16
            }
            Transport::Udp => {
                segment[5] = len as u8;
                6
            }
        };
        let checksum = pseudo.bytes(segment).checksum();
        segment[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
        buffer.len = LINK + header_len + len;
        buffer
    }

    /// Bytes behind the IP header: the transport header, and as much payload as the shortest frame needs.
    fn segment_len(&self, header_len: usize) -> usize {
        let least = match self.transport {
            Transport::Tcp => 20,
            Transport::TcpTimestamps => 32,
            Transport::Udp => 8,
        };
        least.max(SHORTEST - LINK - header_len)
    }
}

/// A frame in its buffer.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    bytes: [u8; HEADROOM + LONGEST],
    len: usize,
}

pub(crate) fn frame(buffer: &mut Buffer) -> Frame<'_> {
    Frame::new(&mut buffer.bytes, HEADROOM, HEADROOM + buffer.len, PortId(0)).unwrap()
}

/// A director with connections, and the frames of their clients or servers.
pub(crate) struct World {
    pub(crate) director: Director<Heap>,
    pub(crate) forwarder: Box<Forwarder>,
    row: Row,
    connections: u32,
    next: u32,
}

impl World {
    /// A world with `connections`, and room for `room` further ones; their service is one among `others` of other
    /// addresses, with [`SERVERS_EACH`] servers each.
    pub(crate) fn among(others: u32, row: Row, connections: u32, room: u32) -> Self {
        let seed = Seed::from_bytes([7; 16]);
        let mut capacity = Capacity::new((connections + room) as usize);
        capacity.services += others as usize;
        capacity.servers += (others * SERVERS_EACH) as usize;
        let mut director = Director::new(Config::new(seed), Heap::new(capacity));
        director.set_read_ahead(lvs_std::cpu::read_ahead());
        director.set_hash_together(lvs_std::cpu::hash_together());
        let mut host = Host::new(seed);
        let port = host.add_port(Port::ethernet(MacAddress(OWN_MAC), 1_500)).unwrap();
        for other in 0..others {
            let at = |base: u32, number| IpAddr::V4(Ipv4Addr::from_bits(base + number));
            let vip = at(OTHER_SERVICES, other);
            let service = ServiceKey::Address { protocol: row.protocol(), address: vip, port: PORT };
            director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
            for number in 0..SERVERS_EACH {
                let server = SocketAddr::new(at(OTHER_SERVERS, other * SERVERS_EACH + number), PORT);
                director.add_server(service, ServerConfig::new(server, row.method)).unwrap();
            }
            host.add_virtual_address(vip).unwrap();
        }
        for &family in row.families {
            let Addresses { vip, server, own, own_prefix, gateway, anywhere } = *addresses(family);
            let service = ServiceKey::Address { protocol: row.protocol(), address: vip, port: PORT };
            director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
            let config = ServerConfig::new(SocketAddr::new(server, PORT), row.method);
            director.add_server(service, config).unwrap();
            host.add_address(port, own, own_prefix).unwrap();
            host.add_virtual_address(vip).unwrap();
            host.add_neighbour(port, server, SERVER_MAC).unwrap();
            host.add_route(Prefix::new(anywhere, 0).unwrap(), Some(gateway), port).unwrap();
            host.add_neighbour(port, gateway, GATEWAY_MAC).unwrap();
        }
        let forwarder = Box::new(Forwarder::new(host, Options::new()));
        let mut world = Self { director, forwarder, row, connections, next: 1 };
        for number in 0..connections {
            for flags in [SYN, ACK] {
                let mut buffer = row.build(number, flags, false);
                let outcome =
                    world.forwarder.process(&mut world.director, Tick::ZERO, &mut frame(&mut buffer));
                assert_eq!(outcome, Outcome::Send);
            }
            while world.director.poll_event().is_some() {}
        }
        world
    }

    /// Frames of clients in an order that no cache foresees: a full-period step through all of them.
    pub(crate) fn frames(&mut self) -> [Buffer; BATCH] {
        let families = self.row.families.len() as u32;
        core::array::from_fn(|at| {
            self.next = self.next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (self.next >> 4) % self.connections;
            // The neighbour whose family has its turn. The number of connections is a multiple of that of families.
            let number = number - number % families + at as u32 % families;
            self.row.build(number, ACK, self.row.reply)
        })
    }

    /// First packets of clients that are new every time.
    pub(crate) fn new_clients(&mut self) -> [Buffer; BATCH] {
        core::array::from_fn(|_| {
            self.connections += 1;
            self.row.build(self.connections, SYN, false)
        })
    }
}
