//! A director with a service, its real servers and their connections.

use core::error::Error;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_core::batch::BATCH;
use lvs_core::config::Capacity;
use lvs_core::{
    Config, Director, Family, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick,
};
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::{DropReason, Forwarder, Frame, Options, Outcome};

use super::frames::{
    self, ACK, Buffer, GATEWAY_MAC, OWN_MAC, SYN, answer, destination, frame, request, server,
};

pub(super) const SERVERS: u32 = 16;

/// A director, its forwarder, and the clients that it knows.
pub(super) struct World {
    pub(super) director: Director<Heap>,
    pub(super) forwarder: Box<Forwarder>,
    family: Family,
    flows: u32,
    /// To which real servers the first clients went; further ones go round in the same order.
    order: Vec<IpAddr>,
    random: Random,
}

impl World {
    /// A director with a service of 16 real servers, all of IPv4, and room for `capacity` connections.
    pub(super) fn new(capacity: u32, method: Method) -> Self {
        Self::of(Family::V4, capacity, method)
    }

    /// A director with a service of 16 real servers, all of one family, and room for `capacity` connections.
    pub(super) fn of(family: Family, capacity: u32, method: Method) -> Self {
        match Self::set_up(family, capacity, method) {
            Ok(world) => world,
            // Every address and size here is a constant.
            Err(error) => panic!("the bench's director cannot be set up: {error}"),
        }
    }

    fn set_up(family: Family, capacity: u32, method: Method) -> Result<Self, Box<dyn Error>> {
        let seed = Seed::from_bytes([7; 16]);
        let store = Heap::new(Capacity::new(capacity as usize));
        // As `director run` does; without them the figures show it.
        let _ = lvs_std::cpu::use_large_pages(&store);
        let mut director = Director::new(Config::new(seed), store);
        director.set_read_ahead(lvs_std::cpu::read_ahead());
        director.set_hash_together(lvs_std::cpu::hash_together());
        let mut host = Host::new(seed);
        let port = host.add_port(Port::ethernet(MacAddress(OWN_MAC), 1_500))?;
        let (own, length, gateway, any): (IpAddr, _, IpAddr, IpAddr) = match family {
            Family::V4 => {
                (OWN_V4.into(), 24, Ipv4Addr::new(10, 0, 1, 1).into(), Ipv4Addr::UNSPECIFIED.into())
            }
            Family::V6 => (OWN_V6.into(), 64, GATEWAY_V6.into(), Ipv6Addr::UNSPECIFIED.into()),
        };
        let virt = frames::service(family);
        host.add_address(port, own, length)?;
        host.add_virtual_address(virt.ip())?;
        host.add_route(Prefix::new(any, 0).ok_or("no default route")?, Some(gateway), port)?;
        host.add_neighbour(port, gateway, MacAddress(GATEWAY_MAC))?;
        let service = ServiceKey::tcp(virt.ip(), virt.port());
        let scheduler = Scheduler::from_name("rr").ok_or("no round robin")?;
        director.add_service(service, ServiceConfig::new(scheduler))?;
        for number in 0..SERVERS {
            let address = server(family, number);
            director.add_server(service, ServerConfig::new((address, virt.port()).into(), method))?;
            host.add_neighbour(port, address, MacAddress([2, 0, 0, 0, 1, number as u8]))?;
        }
        let forwarder = Box::new(Forwarder::new(host, Options::new()));
        Ok(Self { director, forwarder, family, flows: 0, order: Vec::new(), random: Random::new() })
    }

    /// Adds connections of further clients, up to `flows`.
    pub(super) fn fill(&mut self, flows: u32, now: Tick) {
        while self.flows < flows {
            let first = self.flows;
            let count = (flows - first).min(BATCH as u32);
            for flags in [SYN, ACK] {
                let mut buffers: Vec<Buffer> =
                    (first..first + count).map(|number| request(self.family, number, flags)).collect();
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
            if reply { self.answer(number) } else { request(self.family, number, ACK) }
        })
    }

    /// What the real server of client number `number` answers.
    fn answer(&self, number: u32) -> Buffer {
        let order = &self.order;
        let server = order.get(number as usize % order.len().max(1));
        answer(server.copied().unwrap_or_else(|| frames::service(self.family).ip()), number)
    }
}

const OWN_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 254);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

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
