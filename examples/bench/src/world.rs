//! A director with services and connections, and frames for it: 64-byte frames on the wire, 60 in memory.

use core::error::Error;
use core::net::Ipv4Addr;

use lvs_core::{
    BATCH, Capacity, Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig,
    ServiceKey, Tick,
};
use lvs_forward::checksum::Sum;
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::{DropReason, Forwarder, Frame, HEADROOM, Options, Outcome, PortId};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Ethernet's shortest frame without its checksum.
const LENGTH: usize = 60;
pub(super) const SERVERS: u32 = 16;
pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

/// A frame in its buffer.
pub(super) type Buffer = [u8; HEADROOM + LENGTH];

/// A director, its forwarder, and the clients that it knows.
pub(super) struct World {
    pub(super) director: Director<Heap>,
    pub(super) forwarder: Box<Forwarder>,
    flows: u32,
    /// To which real servers the first clients went; further ones go round in the same order.
    order: Vec<Ipv4Addr>,
    random: Random,
}

impl World {
    /// A director with a service of 16 real servers and room for `capacity` connections.
    pub(super) fn new(capacity: u32, method: Method) -> Self {
        match Self::set_up(capacity, method) {
            Ok(world) => world,
            // Every address and size here is a constant.
            Err(error) => panic!("the bench's director cannot be set up: {error}"),
        }
    }

    fn set_up(capacity: u32, method: Method) -> Result<Self, Box<dyn Error>> {
        let seed = Seed::from_bytes([7; 16]);
        let store = Heap::new(Capacity::new(capacity as usize));
        // As `director run` does; without them the figures show it.
        let _ = lvs_std::cpu::use_large_pages(&store);
        let mut director = Director::new(Config::new(seed), store);
        director.set_read_ahead(lvs_std::cpu::read_ahead());
        director.set_hash_together(lvs_std::cpu::hash_together());
        let mut host = Host::new(seed);
        let port = host.add_port(Port::ethernet(MacAddress(OWN_MAC), 1_500))?;
        host.add_address(port, Ipv4Addr::new(10, 0, 1, 254).into(), 24)?;
        host.add_virtual_address(VIP.into())?;
        let any = Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0).ok_or("no default route")?;
        host.add_route(any, Some(GATEWAY.into()), port)?;
        host.add_neighbour(port, GATEWAY.into(), MacAddress([2, 0, 0, 0, 0, 0xaa]))?;
        let service = ServiceKey::tcp(VIP.into(), 80);
        let scheduler = Scheduler::from_name("rr").ok_or("no round robin")?;
        director.add_service(service, ServiceConfig::new(scheduler))?;
        for number in 0..SERVERS {
            director.add_server(service, ServerConfig::new((server(number), 80).into(), method))?;
            let mac = MacAddress([2, 0, 0, 0, 1, number as u8]);
            host.add_neighbour(port, server(number).into(), mac)?;
        }
        let forwarder = Box::new(Forwarder::new(host, Options::new()));
        Ok(Self { director, forwarder, flows: 0, order: Vec::new(), random: Random::new() })
    }

    /// Adds connections of further clients, up to `flows`.
    pub(super) fn fill(&mut self, flows: u32, now: Tick) {
        while self.flows < flows {
            let first = self.flows;
            let count = (flows - first).min(BATCH as u32);
            for flags in [SYN, ACK] {
                let mut buffers: Vec<Buffer> =
                    (first..first + count).map(|number| request(number, flags)).collect();
                self.process(now, &mut buffers);
                if self.order.is_empty() {
                    self.order = buffers.iter().take(SERVERS as usize).map(destination).collect();
                }
            }
            self.flows += count;
            while self.director.poll_event().is_some() {}
        }
    }

    /// Processes frames as a worker does, and insists that all leave.
    pub(super) fn process(&mut self, now: Tick, buffers: &mut [Buffer]) {
        let mut frames: Vec<Frame<'_>> = buffers.iter_mut().filter_map(frame).collect();
        let mut outcomes = [Outcome::Drop(DropReason::Malformed); BATCH];
        self.forwarder.process_batch(&mut self.director, now, &mut frames, &mut outcomes);
        let sent = outcomes.iter().filter(|outcome| **outcome == Outcome::Send).count();
        assert_eq!(sent, frames.len(), "every frame of the bench belongs to a connection");
    }

    /// Acknowledgements of connections drawn at random, from clients or from their servers.
    pub(super) fn frames(&mut self, reply: bool) -> [Buffer; BATCH] {
        core::array::from_fn(|_| {
            let number = self.random.below(self.flows);
            if reply { self.answer(number) } else { request(number, ACK) }
        })
    }

    /// What the real server of client number `number` answers.
    fn answer(&self, number: u32) -> Buffer {
        let server = self.order.get(number as usize % self.order.len()).copied().unwrap_or(VIP);
        build((server, 80), client(number), ACK)
    }
}

/// To whom a frame goes.
fn destination(buffer: &Buffer) -> Ipv4Addr {
    let mut address = [0; 4];
    address.copy_from_slice(&buffer[HEADROOM + 30..HEADROOM + 34]);
    address.into()
}

/// The frame in a buffer.
pub(super) fn frame(buffer: &mut Buffer) -> Option<Frame<'_>> {
    Frame::new(buffer, HEADROOM, HEADROOM + LENGTH, PortId(0))
}

/// A segment of client number `number`.
pub(super) fn request(number: u32, flags: u8) -> Buffer {
    build(client(number), (VIP, 80), flags)
}

/// Address and port of client number `number`; 16 ports for each address.
pub(super) const fn client(number: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from_bits(0x0b00_0000 + number / 16), 1_024 + (number % 16) as u16)
}

const fn server(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0110 + number)
}

fn build(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: u8) -> Buffer {
    let mut buffer = [0; HEADROOM + LENGTH];
    let frame = &mut buffer[HEADROOM..];
    frame[..6].copy_from_slice(&OWN_MAC);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xaa]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let ip = &mut frame[14..];
    ip[..12].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    ip[12..16].copy_from_slice(&source.0.octets());
    ip[16..20].copy_from_slice(&destination.0.octets());
    let checksum = Sum::default().bytes(&ip[..20]).checksum();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip[20..22].copy_from_slice(&source.1.to_be_bytes());
    ip[22..24].copy_from_slice(&destination.1.to_be_bytes());
    (ip[32], ip[33]) = (0x50, flags);
    let checksum = Sum::pseudo_v4(source.0, destination.0, 6, 26).bytes(&ip[20..46]).checksum();
    ip[36..38].copy_from_slice(&checksum.to_be_bytes());
    buffer
}

/// Numbers that no cache foresees, the same on every run (xorshift64*, Vigna 2016).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `bound`.
    pub(super) const fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * bound as u64) >> 32) as u32
    }
}
