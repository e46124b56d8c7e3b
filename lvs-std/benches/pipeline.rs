//! What does a packet cost on its whole way through a worker: lent by a device, parsed, decided, rewritten, sent? By
//! forwarding method, in batches of 32 over devices in memory. `devices` is the share of the devices alone.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use core::hint::black_box;
use core::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lvs_core::{
    Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tunnel,
};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Frame, Options, PortId};
use lvs_std::device::{BATCH, Device, pair};
use lvs_std::worker::{Worker, WorkerOptions};

const CONNECTIONS: u16 = 1_024;
const LENGTHS: [usize; 2] = [64, 1_400];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

/// A TCP segment of `port` to the service; SYN or ACK.
fn segment(port: u16, syn: bool, length: usize) -> Vec<u8> {
    let flags = if syn { 0x02 } else { 0x10 };
    let mut frame = vec![0; length];
    frame[..6].copy_from_slice(&MAC);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
    frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
    frame[16..18].copy_from_slice(&(length as u16 - 14).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..30].copy_from_slice(&CLIENT.octets());
    frame[30..34].copy_from_slice(&VIP.octets());
    let sum: u32 =
        frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[36..38].copy_from_slice(&80_u16.to_be_bytes());
    frame[46..48].copy_from_slice(&[0x50, flags]);
    frame
}

/// A worker with one link and one server, and the other end of the link.
fn world(method: Method) -> (Worker, Device) {
    let mut director =
        Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(usize::from(CONNECTIONS)));
    let service = ServiceKey::tcp(VIP.into(), 80);
    director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
    director.add_server(service, ServerConfig::new((SERVER, 80).into(), method)).unwrap();
    let mut host: Host = Host::new(Seed::from_bytes([8; 16]));
    let port = host.add_port(Port::ethernet(MacAddress(MAC), 1_500)).unwrap();
    host.add_address(port, [192, 0, 2, 254].into(), 24).unwrap();
    host.add_virtual_address(VIP.into()).unwrap();
    host.add_neighbour(port, SERVER.into(), MacAddress([2, 0, 0, 0, 0, 11])).unwrap();
    let forwarder = Box::new(Forwarder::new(host, Options::new()));
    let (device, other) = pair(&Default::default()).unwrap();
    let (worker, ..) = Worker::new(director, forwarder, vec![device], WorkerOptions::default()).unwrap();
    (worker, other)
}

/// Takes everything that came back; says how many frames.
fn take(end: &mut Device) -> usize {
    let mut count = 0;
    while end.receive.receive(PortId(0), &mut |frames| count += black_box(frames).len()).unwrap() > 0 {}
    count
}

fn worker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("worker");
    group.throughput(Throughput::Elements(BATCH as u64));
    let gue = Tunnel::Gue { port: 6_080, checksum: false };
    let methods = [
        ("nat", Method::Nat),
        ("direct", Method::Direct),
        ("ipip", Method::Tunnel(Tunnel::IpIp)),
        ("gue", Method::Tunnel(gue)),
    ];
    for (name, method) in methods {
        for length in LENGTHS {
            let (mut worker, mut end) = world(method);
            for port in 0..CONNECTIONS {
                end.send(&segment(10_000 + port, true, 64)).unwrap();
                worker.turn();
                assert_eq!(take(&mut end), 1, "every connection is opened");
            }
            let mut segments: Vec<Vec<u8>> =
                (0..CONNECTIONS).map(|port| segment(10_000 + port, false, length)).collect();
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, length), |bencher| {
                bencher.iter(|| {
                    for _ in 0..BATCH {
                        let bytes = &mut segments[next % usize::from(CONNECTIONS)];
                        end.transmit.transmit(&Frame::new(bytes, 0, length, PortId(0)).unwrap()).unwrap();
                        next += 1;
                    }
                    while worker.turn() > 0 {}
                    assert_eq!(take(&mut end), BATCH);
                });
            });
        }
    }
    group.finish();
}

fn devices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("devices");
    group.throughput(Throughput::Elements(BATCH as u64));
    for length in LENGTHS {
        let (mut here, mut there) = pair(&Default::default()).unwrap();
        let mut bytes = segment(1, false, length);
        group.bench_function(BenchmarkId::new("there and back", length), |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    here.transmit.transmit(&Frame::new(&mut bytes, 0, length, PortId(0)).unwrap()).unwrap();
                }
                let Device { receive, transmit } = &mut there;
                let mut back = |frames: &mut [Frame<'_>]| {
                    for frame in frames {
                        transmit.transmit(frame).unwrap();
                    }
                };
                while receive.receive(PortId(0), &mut back).unwrap() > 0 {}
                assert_eq!(take(&mut here), BATCH);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, devices, worker);
criterion_main!(benches);
