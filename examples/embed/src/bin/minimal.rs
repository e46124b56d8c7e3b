//! A whole director in a program: packets go in by one end of an in-memory pair, and come back for a real server.
//!
//! A real program opens `lvs_std::device::packet` or a device of its own instead of the pair, and calls `worker.run()`.

use core::error::Error;

use etherparse::{Ipv4HeaderSlice, PacketBuilder};
use lvs_core::{Config, Director, Heap, Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey};
use lvs_forward::host::{Host, Port, Prefix};
use lvs_forward::{Forwarder, Options};
use lvs_std::device::pair;
use lvs_std::worker::{Worker, WorkerOptions};

fn main() -> Result<(), Box<dyn Error>> {
    // What it balances: one web service over two real servers.
    let seed = lvs_std::random_seed()?;
    let mut director = Director::new(Config::new(seed), Heap::with_capacity(1_000));
    let web = ServiceKey::tcp("192.0.2.100".parse()?, 80);
    director.add_service(web, ServiceConfig::new(Scheduler::from_name("rr").ok_or("no such scheduler")?))?;
    director.add_server(web, ServerConfig::new("10.0.1.11:8080".parse()?, Method::Nat))?;
    director.add_server(web, ServerConfig::new("10.0.1.12:8080".parse()?, Method::Nat))?;

    // What it is on the network: a host with one port, by which everybody is reached.
    let mut host: Host = Host::new(seed);
    let port = host.add_port(Port::bare(1_500))?;
    host.add_address(port, "10.0.1.254".parse()?, 24)?;
    host.add_virtual_address("192.0.2.100".parse()?)?;
    host.add_route(Prefix::new("0.0.0.0".parse()?, 0).ok_or("no prefix")?, None, port)?;

    // At work between the two.
    let (device, mut network) = pair(&Default::default())?;
    let forwarder = Box::new(Forwarder::new(host, Options::new()));
    let (mut worker, _, _) = Worker::new(director, forwarder, vec![device], WorkerOptions::default())?;
    for client in [7, 8, 9] {
        let mut syn = Vec::new();
        let packet =
            PacketBuilder::ipv4([198, 51, 100, client], [192, 0, 2, 100], 64).tcp(40_000, 80, 1, 65_535);
        packet.syn().write(&mut syn, &[])?;
        network.send(&syn)?;
        worker.turn();
        for answer in network.drain()? {
            let header = Ipv4HeaderSlice::from_slice(&answer)?;
            println!("a packet from {} goes to {}", header.source_addr(), header.destination_addr());
        }
    }
    Ok(())
}
