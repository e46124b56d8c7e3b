//! The worker's part.

use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::Ordering;

use lvs_core::config::Capacity;
use lvs_core::{
    Config, Content, Heap, Inspected, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey,
    TcpFlags,
};
use lvs_forward::Options;
use lvs_forward::host::{MacAddress, Port};

use super::flows::tests::{MTU, NEXT, PORT, rule};
use super::maps::cell;
use super::*;
use crate::device::{PairOptions, pair};
use crate::worker::{Worker, WorkerOptions};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));

#[test]
fn who_asks_a_worker_for_its_director_sees_what_has_passed_and_ends_it_by_the_next_turn() {
    let mut offload = FlowOffload::over(Maps::simulated(1), 1);
    let mut rule = rule(7, None);
    let flow = rule.packet.flow;
    let service = ServiceKey::tcp(flow.addresses.destination(), 80);
    let seed = Seed::from_bytes([7; 16]);
    let mut director = Director::new(Config::new(seed), Heap::new(Capacity::new(16)));
    director.add_service(service, ServiceConfig::new(Scheduler::default())).expect("it is new");
    let server = ServerConfig::new((SERVER, 80).into(), Method::Direct);
    director.add_server(service, server).expect("it is new");
    for flags in [TcpFlags::SYN, TcpFlags::ACK] {
        let _ = director.decide(Tick::ZERO, &Packet::new(flow, Content::Tcp(flags), 60), Inspected::Nothing);
    }
    let counted = director.counters().traffic.in_bytes;
    rule.forward = director
        .account_offloaded(Tick::ZERO, &rule.packet, None, Offloaded::default())
        .expect("it is established");
    rule.hop = SERVER;
    offload.flows.install(Tick::ZERO, &offload.maps, rule).expect("there is room");

    let mut host: Host = Host::new(seed);
    let port = host.add_port(Port::ethernet(MacAddress([2; 6]), MTU)).expect("there is room");
    assert_eq!(port, PORT);
    host.add_address(port, Ipv4Addr::new(192, 0, 2, 254).into(), 24).expect("there is room");
    host.add_virtual_address(flow.addresses.destination()).expect("there is room");
    host.add_neighbour(port, SERVER, NEXT).expect("there is room");
    let (device, _cable) = pair(&PairOptions::default()).expect("two devices");
    let forwarder = Box::new(Forwarder::new(host, Options::new()));
    let (mut worker, _handle, _events) =
        Worker::new(director, forwarder, vec![device], WorkerOptions::default())
            .expect("one port, one device");
    worker.set_offload(offload);

    let maps = |worker: &Worker| {
        let maps = &worker.offload().expect("it has one").maps;
        (maps.is_in_use(), maps.cells()[0][cell::REQUESTS as usize / 8 + 1].load(Ordering::Relaxed))
    };
    let values = &worker.offload().expect("it has one").maps.cells()[0];
    values[cell::REQUESTS as usize / 8].store(3, Ordering::Relaxed);
    values[cell::REQUESTS as usize / 8 + 1].store(4_500, Ordering::Relaxed);
    assert_eq!(worker.director().counters().traffic.in_bytes, counted + 4_500);
    worker.turn();
    assert_eq!(maps(&worker), (true, 4_500), "it goes on");
    worker.director().remove_server(service, (SERVER, 80).into()).expect("it is there");
    worker.turn();
    assert!(!maps(&worker).0, "the next packet is the director's");
}
