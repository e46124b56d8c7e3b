//! A director between two TUN interfaces: it balances what this machine's own programs send.

use core::error::Error;
use core::net::{IpAddr, SocketAddr};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use lvs_core::{
    Config, Director, Family, Heap, Method, Protocol, Scheduler, Seed, ServerConfig, ServiceConfig,
    ServiceKey,
};
use lvs_forward::host::{Host, Port};
use lvs_forward::{Forwarder, Options};
use lvs_std::device::tun::{self, Layer};
use lvs_std::lab::Lab;
use lvs_std::lab::harness::{Trial, trial};
use lvs_std::worker::{End, Snapshot, Worker, WorkerOptions};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (over, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
        trials.push(trial(
            format!("merged TCP over {over} is balanced between two TUN interfaces"),
            move || {
                let numbers = balanced(lab, family)?;
                for port in &numbers.ports {
                    let (came, left) = (port.received, port.transmitted);
                    assert!(came.merged > 100 && left.merged > 100, "merged both ways: {numbers:?}");
                    assert!(came.bytes > came.frames * MTU, "most are longer than the MTU: {numbers:?}");
                    assert_eq!(came.cut + came.invalid + left.lost(), 0, "{numbers:?}");
                }
                assert_eq!(
                    (numbers.worker.cut, numbers.worker.unsendable),
                    (0, 0),
                    "nothing had to be segmented"
                );
                Ok(())
            },
        ));
    }
    trials
}

/// Sends and fetches by TCP through a NAT service.
fn balanced(lab: Lab, family: Family) -> Result<Snapshot, Box<dyn Error>> {
    let plan = plan(family);
    let (client, server) = (lab.node("client")?, lab.node("server")?);
    let outside = client.run(|| tun::open("outside", Layer::Ip))??;
    let inside = server.run(|| tun::open("inside", Layer::Ip))??;
    client.add_address("outside", plan.client, plan.prefix)?;
    server.add_address("inside", plan.server.ip(), plan.prefix)?;
    server.add_route(plan.any, 0, plan.to_servers)?;

    let mut host: Host = Host::new(Seed::from_bytes([8; 16]));
    for address in [plan.to_clients, plan.to_servers] {
        let port = host.add_port(Port::bare(MTU as u16))?;
        host.add_address(port, address, plan.prefix)?;
    }
    host.add_virtual_address(plan.service.ip())?;
    let mut director =
        Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::<Scheduler>::with_capacity(100));
    let key = ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: plan.service.ip(),
        port: plan.service.port(),
    };
    director.add_service(key, ServiceConfig::new(Scheduler::from_name("rr").ok_or("no such scheduler")?))?;
    director.add_server(key, ServerConfig::new(plan.server, Method::Nat))?;
    let (mut worker, handle, _) = Worker::new(
        director,
        Box::new(Forwarder::new(host, Options::new())),
        vec![outside.device, inside.device],
        WorkerOptions::default(),
    )?;
    let worker = client.spawn("worker", move || worker.run())?;

    let listener = server.run(|| TcpListener::bind(plan.server))??;
    let echo = server.spawn("echo", move || {
        let (mut stream, _) = listener.accept()?;
        let mut data = vec![0; LENGTH];
        stream.read_exact(&mut data)?;
        stream.write_all(&data)
    })?;
    let data: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
    let mut stream = client.run(|| TcpStream::connect(plan.service))??;
    stream.write_all(&data)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    echo.join().expect("the echo does not panic")?;
    assert!(back == data, "what comes back is what was sent");
    handle.stop();
    assert_eq!(worker.join().expect("the worker does not panic"), End::Stopped);
    Ok(handle.snapshot())
}

struct Plan {
    client: IpAddr,
    service: SocketAddr,
    server: SocketAddr,
    to_clients: IpAddr,
    to_servers: IpAddr,
    prefix: u8,
    any: IpAddr,
}

fn plan(family: Family) -> Plan {
    let address = |v4: [u8; 4], v6: [u16; 8]| match family {
        Family::V4 => IpAddr::from(v4),
        Family::V6 => IpAddr::from(v6),
    };
    let outside = |host: u8| address([192, 0, 2, host], [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host.into()]);
    let inside = |host: u8| address([10, 0, 1, host], [0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()]);
    Plan {
        client: outside(7),
        service: (outside(100), 80).into(),
        server: (inside(11), 8_080).into(),
        to_clients: outside(254),
        to_servers: inside(254),
        prefix: if family == Family::V4 { 24 } else { 64 },
        any: address([0; 4], [0; 8]),
    }
}

const MTU: u64 = 1_500;
/// Bytes each way.
const LENGTH: usize = 16 << 20;
