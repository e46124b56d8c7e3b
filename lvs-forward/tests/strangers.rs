//! What strangers on a link cannot do to a host, by frames: the law of the neighbour table from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::net::{IpAddr, SocketAddr};

use lvs_core::config::Capacity;
use lvs_core::{
    Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick,
};
use lvs_forward::checksum::Sum;
use lvs_forward::host::{Host, HostMemory, HostSizes, MacAddress, Port};
use lvs_forward::{DropReason, Forwarder, Frame, HEADROOM, Options, Outcome, PortId};

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 1, 11];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 11];
const VIRTUAL: [u8; 4] = [10, 0, 0, 100];

/// A director on a large link, with a NAT service of UDP 53 and one of TCP 80, that knows few neighbours.
struct World {
    director: Director<Heap>,
    forwarder: Forwarder,
    /// Another worker's host, which hears what this one hears of neighbours.
    other: Host,
    now: Tick,
}

fn ip(address: [u8; 4]) -> IpAddr {
    address.into()
}

fn host(neighbours: usize) -> Host {
    let sizes = HostSizes { addresses: 8, neighbours, waiting: 16 };
    let mut host = Host::with_memory(Seed::from_bytes([3; 16]), HostMemory::owned(sizes));
    let port = host.add_port(Port::ethernet(MacAddress(OWN), 1_500)).unwrap();
    host.add_address(port, ip([10, 0, 255, 254]), 16).unwrap();
    host.add_address(port, "2001:db8::fffe".parse().unwrap(), 64).unwrap();
    host.add_virtual_address(ip(VIRTUAL)).unwrap();
    host
}

impl World {
    fn new(neighbours: usize) -> Self {
        let mut capacity = Capacity::new(1 << 15);
        (capacity.services, capacity.servers) = (4, 8);
        let mut director = Director::new(Config::new(Seed::from_bytes([3; 16])), Heap::new(capacity));
        for key in [ServiceKey::udp(ip(VIRTUAL), 53), ServiceKey::tcp(ip(VIRTUAL), 80)] {
            director.add_service(key, ServiceConfig::new(Scheduler::default())).unwrap();
            let server = SocketAddr::new(ip(SERVER), key_port(&key));
            director.add_server(key, ServerConfig::new(server, Method::Nat)).unwrap();
        }
        let mut options = Options::new();
        options.ip_forward = true;
        let forwarder = Forwarder::new(host(neighbours), options);
        let mut world = Self { director, forwarder, other: host(neighbours), now: Tick::from_millis(1_000) };
        assert!(!world.forwarder.host_mut().look_for(world.now, ip(SERVER)));
        assert!(!world.other.look_for(world.now, ip(SERVER)));
        let _ = world.take(&arp(SERVER, SERVER_MAC));
        world
    }

    fn take(&mut self, bytes: &[u8]) -> Outcome {
        let buffer = || {
            let mut buffer = vec![0; HEADROOM];
            buffer.extend(bytes);
            buffer.resize(buffer.len() + 64, 0);
            buffer
        };
        let (mut one, mut two) = (buffer(), buffer());
        let end = HEADROOM + bytes.len();
        self.other.overhear(self.now, &mut Frame::new(&mut two, HEADROOM, end, PortId(0)).unwrap());
        let mut frame = Frame::new(&mut one, HEADROOM, end, PortId(0)).unwrap();
        self.forwarder.process(&mut self.director, self.now, &mut frame)
    }

    /// What it sends by itself; the real server answers what it is asked. Returns how many IP packets left.
    fn turn(&mut self) -> u64 {
        let mut room = vec![0; HEADROOM + 2_048];
        let (mut asked, mut left) = (false, 0);
        while let Some(frame) = self.forwarder.poll_transmit(self.now, &mut room) {
            let bytes = frame.bytes();
            asked |= bytes[12..14] == [8, 6] && bytes[38..42] == SERVER;
            left += u64::from(bytes[12..14] == [8, 0]);
        }
        while let Some(frame) = self.other.poll_transmit(self.now, &mut room) {
            asked |= frame.bytes()[12..14] == [8, 6] && frame.bytes()[38..42] == SERVER;
        }
        if asked {
            let _ = self.take(&arp(SERVER, SERVER_MAC));
        }
        left
    }

    fn drops(&self) -> u64 {
        DropReason::ALL.iter().map(|&reason| self.forwarder.counters().drops(reason)).sum()
    }
}

fn key_port(key: &ServiceKey) -> u16 {
    match key {
        ServiceKey::Address { port, .. } => *port,
        ServiceKey::Mark { .. } => 0,
    }
}

fn packet(from: [u8; 4], to: [u8; 4], protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = OWN.to_vec();
    bytes.extend([2, 0, 0, 0, 9, 9, 8, 0, 0x45, 0]);
    bytes.extend(((20 + body.len()) as u16).to_be_bytes());
    bytes.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    bytes.extend(from);
    bytes.extend(to);
    let sum = Sum::ZERO.bytes(&bytes[14..34]).checksum();
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn arp(sender: [u8; 4], mac: [u8; 6]) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend(mac);
    bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.extend(mac);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend([10, 0, 255, 254]);
    bytes
}

fn solicitation(number: u16) -> Vec<u8> {
    let own = "2001:db8::fffe".parse::<core::net::Ipv6Addr>().unwrap();
    let source = core::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 9, number);
    let mut bytes = OWN.to_vec();
    bytes.extend([2, 0, 0, 0, 9, 9, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    bytes.extend(source.octets());
    bytes.extend(own.octets());
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(own.octets());
    message.extend([1, 1, 2, 0, 0, 0, 9, 9]);
    let pseudo = Sum::ZERO.bytes(&bytes[22..54]).bytes(&[0, 0, 0, 32, 0, 0, 0, 58]);
    let sum = pseudo.bytes(&message).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(message);
    bytes
}

fn ping() -> Vec<u8> {
    let mut echo = vec![8, 0, 0, 0, 0, 1, 0, 1];
    let sum = Sum::ZERO.bytes(&echo).checksum();
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    echo
}

fn syn(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut body = from.to_be_bytes().to_vec();
    body.extend(to.to_be_bytes());
    body.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 255, 255, 0, 0, 0, 0]);
    body
}

fn datagram(to: u16) -> Vec<u8> {
    let mut body = 1_024_u16.to_be_bytes().to_vec();
    body.extend(to.to_be_bytes());
    body.extend([0, 9, 0, 0, 1]);
    body
}

/// A source on the link that nobody has.
fn stranger(number: u32) -> [u8; 4] {
    let number = number.wrapping_mul(2_654_435_761) >> 16;
    [10, 0, (number >> 8) as u8 & 0x7f, number as u8 | 2]
}

/// Floods of 5,000 frames a second for four seconds: after each the real server must still be known, though it is
/// spoken to once a second only.
fn flood(world: &mut World, frames: impl Fn(u32) -> Vec<Vec<u8>>) {
    let mut lost = 0;
    for number in 0..20_000 {
        for frame in frames(number) {
            let _ = world.take(&frame);
        }
        if number % 5 == 0 {
            world.now = world.now.plus_millis(1);
            world.turn();
        }
        if number % 5_000 == 0 {
            lost += u32::from(!world.forwarder.host_mut().look_for(world.now, ip(SERVER)));
            lost += u32::from(!world.other.look_for(world.now, ip(SERVER)));
        } else {
            let way = world.forwarder.host_mut().way_to(world.now, ip(SERVER));
            lost += u32::from(way.is_none());
        }
    }
    assert_eq!(lost, 0, "times that the server's link-layer address was not known");
}

#[test]
fn pings_displace_no_neighbour_and_make_none() {
    let mut world = World::new(64);
    flood(&mut world, |number| vec![packet(stranger(number), VIRTUAL, 1, &ping())]);
    let counters = world.forwarder.counters();
    assert!(counters.answers > 20_000, "each by the way it came, and the server by ARP");
    assert_eq!(world.drops(), 0);
}

#[test]
fn arp_requests_displace_no_neighbour_that_is_in_use() {
    let mut world = World::new(64);
    flood(&mut world, |number| vec![arp(stranger(number), [2, 0, 0, 0, 9, 9])]);
}

#[test]
fn solicitations_displace_no_neighbour_that_is_in_use() {
    let mut world = World::new(64);
    flood(&mut world, |number| vec![solicitation(number as u16)]);
}

#[test]
fn replies_to_forged_clients_displace_no_neighbour_that_is_in_use() {
    let mut world = World::new(64);
    flood(&mut world, |number| {
        let (client, port) = (stranger(number), 1_024 + (number % 60_000) as u16);
        let mut reply = packet(SERVER, client, 6, &syn(80, port, 0x12));
        reply[6..12].copy_from_slice(&SERVER_MAC);
        vec![packet(client, VIRTUAL, 6, &syn(port, 80, 0x02)), reply]
    });
    assert!(world.forwarder.counters().requests > 10_000);
}

#[test]
fn routed_packets_to_nobody_displace_no_neighbour_that_is_in_use() {
    let mut world = World::new(64);
    flood(&mut world, |number| vec![packet([10, 0, 255, 1], stranger(number), 17, &datagram(9))]);
    assert!(world.drops() > 10_000, "what cannot be asked for soon is a counted drop");
}

#[test]
fn requests_to_a_silent_server_are_counted_drops_each_once() {
    let mut world = World::new(64);
    world.forwarder.host_mut().remove_neighbour(PortId(0), ip(SERVER));
    let _ = world.take(&arp([10, 0, 0, 7], [2, 0, 0, 0, 0, 7]));
    let (mut left, mut frames) = (0, 0);
    for _ in 0..5 {
        frames += 1;
        let outcome = world.take(&packet([10, 0, 0, 7], VIRTUAL, 17, &datagram(53)));
        left += u64::from(outcome == Outcome::Send);
    }
    let mut room = vec![0; HEADROOM + 2_048];
    for _ in 0..100 {
        world.now = world.now.plus_millis(100);
        while let Some(frame) = world.forwarder.poll_transmit(world.now, &mut room) {
            left += u64::from(frame.bytes()[12..14] == [8, 0]);
        }
    }
    let counters = world.forwarder.counters();
    assert_eq!((counters.requests, left, world.drops()), (frames, 0, frames), "requests = left + drops");
    assert_eq!(counters.drops(DropReason::HopFailed), 2, "they waited, until it was given up");
    assert_eq!(counters.drops(DropReason::HopPending), 3, "and there was no place for these");
}

#[test]
fn a_ping_that_cannot_be_answered_is_one_drop() {
    let mut world = World::new(64);
    let mut bad = ping();
    bad[2] ^= 1;
    for _ in 0..3 {
        assert!(matches!(world.take(&packet([10, 0, 0, 9], VIRTUAL, 1, &bad)), Outcome::Drop(_)));
    }
    assert_eq!(world.drops(), 3);
}

#[test]
fn an_error_goes_back_to_the_neighbour_that_sent_the_packet_and_leaves_nothing_behind() {
    let mut world = World::new(64);
    let mut request = packet([10, 0, 0, 9], VIRTUAL, 17, &datagram(53));
    // Its last hop: time exceeded.
    request[22] = 1;
    request[24..26].fill(0);
    let sum = Sum::ZERO.bytes(&request[14..34]).checksum();
    request[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(world.take(&request), Outcome::Send);
    assert_eq!(world.forwarder.host_mut().way_to(world.now, ip([10, 0, 0, 9])), None, "it was not asked for");
    let counters = world.forwarder.counters();
    assert_eq!((counters.icmp_errors, counters.icmp_suppressed, counters.waited), (1, 0, 0));
    assert_eq!(world.drops(), 1);
}
