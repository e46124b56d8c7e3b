//! A forwarder in memory that a program lends: of any size, it forwards the same frames.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lvs_core::{
    Config, Director, Fixed, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick, Tunnel,
};
use lvs_forward::checksum::Sum;
use lvs_forward::host::{Host, HostArrays, HostMemory, HostSizes, MacAddress, Port, Prefix};
use lvs_forward::{
    Forwarder, ForwarderArrays, ForwarderMemory, ForwarderSizes, Frame, HEADROOM, Options, Outcome, PortId,
};

type Store = Fixed<64, 2, 4, 16>;
type Memories = fn() -> (HostMemory, ForwarderMemory);

fn lent<const ROUTES: usize, const MTUS: usize, const RESETS: usize>() -> (HostMemory, ForwarderMemory) {
    let host: &'static mut HostArrays<4, 8, 2, ROUTES> = Box::leak(Box::default());
    let forwarder: &'static mut ForwarderArrays<MTUS, RESETS> = Box::leak(Box::default());
    (HostMemory::lent(host), ForwarderMemory::lent(forwarder))
}

fn owned() -> (HostMemory, ForwarderMemory) {
    (HostMemory::owned(HostSizes::new()), ForwarderMemory::owned(ForwarderSizes::new()))
}

/// What leaves for two services, one by NAT and one by a tunnel, each twice: the fast tier knows the way by then.
fn traffic((host_memory, memory): (HostMemory, ForwarderMemory)) -> Vec<(Outcome, Vec<u8>)> {
    let seed = Seed::from_bytes([7; 16]);
    let store: &'static mut Store = Box::leak(Box::default());
    let mut director = Director::new(Config::new(seed), store);
    let mut host = Host::with_memory(seed, host_memory);
    let port = host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, 1]), 1_500)).unwrap();
    host.add_address(port, [10, 0, 0, 254].into(), 24).unwrap();
    host.add_virtual_address([10, 99, 0, 1].into()).unwrap();
    let everywhere = Prefix::new([0, 0, 0, 0].into(), 0).unwrap();
    host.add_route(everywhere, Some([10, 0, 0, 1].into()), port).unwrap();
    host.add_neighbour(port, [10, 0, 0, 1].into(), MacAddress([2, 0, 0, 0, 0, 0xaa])).unwrap();
    for (number, method) in [(1, Method::Nat), (2, Method::Tunnel(Tunnel::IpIp))] {
        let key = ServiceKey::udp([10, 99, 0, 1].into(), number);
        director.add_service(key, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
        let server = [10, 0, 0, 10 + number as u8];
        host.add_neighbour(port, server.into(), MacAddress([2, 0, 0, 0, 1, number as u8])).unwrap();
        director.add_server(key, ServerConfig::new((server, number).into(), method)).unwrap();
    }
    let mut forwarder = Forwarder::with_memory(host, memory, Options::new());
    let mut left = Vec::new();
    for service in [1_u8, 2, 1, 2] {
        let mut packet = vec![0x45, 0, 0, 28, 0, 7, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 10, 99, 0, 1];
        let sum = Sum::ZERO.bytes(&packet).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        // No checksum of its own.
        packet.extend([0x9c, 0x40, 0, service, 0, 8, 0, 0]);
        let link = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xaa, 8, 0];
        let mut buffer = [[0; HEADROOM].as_slice(), &link, &packet].concat();
        let end = buffer.len();
        let mut frame = Frame::new(&mut buffer, HEADROOM, end, PortId(0)).unwrap();
        let mut outcomes = [Outcome::Consumed];
        let frames = core::slice::from_mut(&mut frame);
        forwarder.process_batch(&mut director, Tick::ZERO, frames, &mut outcomes);
        left.push((outcomes[0], frame.bytes().to_vec()));
    }
    left
}

#[test]
fn memory_of_any_size_lent_or_owned_forwards_the_same_frames() {
    let expected = traffic(owned());
    assert!(expected.iter().all(|(outcome, _)| *outcome == Outcome::Send), "{expected:?}");
    let memories: [Memories; 5] =
        [lent::<2, 0, 0>, lent::<2, 1, 1>, lent::<3, 5, 7>, lent::<9, 64, 32>, owned];
    for (at, memory) in memories.into_iter().enumerate() {
        assert_eq!(traffic(memory()), expected, "memory {at}");
    }
}

#[test]
fn a_host_without_room_for_a_route_says_so() {
    let (memory, _) = lent::<1, 0, 0>();
    let mut host = Host::with_memory(Seed::from_bytes([7; 16]), memory);
    let port = host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, 1]), 1_500)).unwrap();
    host.add_address(port, [10, 0, 0, 254].into(), 24).unwrap();
    let everywhere = Prefix::new([0, 0, 0, 0].into(), 0).unwrap();
    assert!(host.add_route(everywhere, Some([10, 0, 0, 1].into()), port).is_err());
}
