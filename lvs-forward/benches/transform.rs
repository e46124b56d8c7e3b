//! What does a packet cost outside the director's tables? Parsing alone, each rewriting alone, and the whole way of a
//! frame through a director with a thousand connections, one by one and in batches of 32.
//!
//! Each iteration first puts the packet's first 128 bytes back as they were; the line `restore` says what that costs.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use core::hint::black_box;
use core::net::{IpAddr, SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lvs_core::batch::BATCH;
use lvs_core::packet::Addresses;
use lvs_core::{
    Config, Direction, Director, Family, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig,
    ServiceKey, Tick, Tunnel,
};
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::method::{encap, nat};
use lvs_forward::parse::{Link, Parsed, parse};
use lvs_forward::{Forwarder, Frame, HEADROOM, Layout, Options, Outcome, PortId, decrement_ttl};

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 1, 1]];
/// What an iteration changes at most: link, network and transport header.
const RESTORED: usize = 128;

const METHODS: [(&str, Method); 5] = [
    ("nat", Method::Nat),
    ("dr", Method::Direct),
    ("ipip", Method::Tunnel(Tunnel::IpIp)),
    ("gre", Method::Tunnel(Tunnel::Gre { checksum: false })),
    ("gue", Method::Tunnel(Tunnel::Gue { port: 6_080, checksum: false })),
];

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}

fn address(family: Family, v4: &str, v6: &str) -> IpAddr {
    if family == Family::V4 { v4.parse().unwrap() } else { v6.parse().unwrap() }
}

/// An Ethernet frame of a TCP client, with 100 bytes of payload.
fn packet(family: Family, client: u16, flags: u8) -> Vec<u8> {
    let source = SocketAddr::new(address(family, "192.0.2.7", "2001:db8:c::7"), 1_024 + client);
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0xaa], MACS[0]);
    let vip = address(family, "10.99.0.1", "2001:db8:99::1");
    let builder = match (source.ip(), vip) {
        (IpAddr::V4(source), IpAddr::V4(vip)) => builder.ipv4(source.octets(), vip.octets(), 64),
        (IpAddr::V6(source), IpAddr::V6(vip)) => builder.ipv6(source.octets(), vip.octets(), 64),
        _ => panic!("mixed families"),
    };
    let builder = builder.tcp(source.port(), 80, 1_000, 60_000);
    let builder = if flags & 2 != 0 { builder.syn() } else { builder.ack(9) };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[7; 100]).unwrap();
    bytes
}

/// A buffer with headroom that can be put back as it was.
struct Slot {
    buffer: Vec<u8>,
    first: [u8; RESTORED],
}

impl Slot {
    fn new(bytes: &[u8]) -> Self {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend(bytes);
        buffer.extend([0; RESTORED]);
        let first = buffer[HEADROOM..HEADROOM + RESTORED].try_into().unwrap();
        Self { buffer, first }
    }

    #[inline]
    fn frame(&mut self) -> Frame<'_> {
        self.buffer[HEADROOM..HEADROOM + RESTORED].copy_from_slice(&self.first);
        let end = self.buffer.len() - RESTORED;
        Frame::new(&mut self.buffer, HEADROOM, end, PortId(0)).unwrap()
    }
}

fn layout(frame: &Frame<'_>, link: Link) -> Layout {
    match parse(frame, link) {
        Ok(Parsed::Ip(layout, _)) => layout,
        other => panic!("{other:?}"),
    }
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for family in [Family::V4, Family::V6] {
        let mut slot = Slot::new(&packet(family, 0, 0));
        let frame = slot.frame();
        group.bench_function(name(family), |b| b.iter(|| parse(black_box(&frame), Link::Ethernet)));
    }
    group.finish();
}

fn rewriting(c: &mut Criterion) {
    let mut group = c.benchmark_group("rewrite");
    group.throughput(Throughput::Elements(1));
    for family in [Family::V4, Family::V6] {
        let packet = packet(family, 0, 0);
        let mut slot = Slot::new(&packet[14..]);
        let layout = layout(&slot.frame(), Link::Bare);
        group.bench_function(BenchmarkId::new("restore", name(family)), |b| {
            b.iter(|| black_box(slot.frame().len()));
        });
        group.bench_function(BenchmarkId::new("ttl", name(family)), |b| {
            b.iter(|| decrement_ttl(&mut slot.frame(), black_box(&layout)));
        });
        let server = SocketAddr::new(address(family, "10.0.1.11", "2001:db8:1::11"), 8_080);
        group.bench_function(BenchmarkId::new("nat", name(family)), |b| {
            b.iter(|| {
                nat::rewrite(&mut slot.frame(), black_box(&layout), Direction::Request, black_box(server))
            });
        });
        for checksum in [false, true] {
            let own = address(family, "10.0.1.254", "2001:db8:1::fe");
            let outer = encap::Outer {
                tunnel: Tunnel::Gue { port: 6_080, checksum },
                addresses: Addresses::new(own, server.ip()).unwrap(),
                pmtu_disc: true,
                identification: 1,
                source_port: 40_000,
            };
            let label = if checksum { "gue-checksum" } else { "gue" };
            group.bench_function(BenchmarkId::new(label, name(family)), |b| {
                b.iter(|| encap::wrap(&mut slot.frame(), black_box(&layout), black_box(&outer)));
            });
        }
    }
    group.finish();
}

fn lab(family: Family, method: Method) -> (Director<Heap>, Box<Forwarder>) {
    let mut host: Host = Host::new(Seed::from_bytes([7; 16]));
    let len = if family == Family::V4 { 24 } else { 64 };
    for (mac, own) in MACS
        .into_iter()
        .zip([address(family, "10.0.0.254", "2001:db8::fe"), address(family, "10.0.1.254", "2001:db8:1::fe")])
    {
        let port = host.add_port(Port::ethernet(MacAddress(mac), 1_500)).unwrap();
        host.add_address(port, own, len).unwrap();
    }
    let any = Prefix::new(address(family, "0.0.0.0", "::"), 0).unwrap();
    host.add_route(any, Some(address(family, "10.0.0.1", "2001:db8::1")), PortId(0)).unwrap();
    let vip = address(family, "10.99.0.1", "2001:db8:99::1");
    host.add_virtual_address(vip).unwrap();
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(4_096));
    let key = ServiceKey::tcp(vip, 80);
    director.add_service(key, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
    for number in 11..=26_u8 {
        let server = address(family, &format!("10.0.1.{number}"), &format!("2001:db8:1::{number}"));
        host.add_neighbour(PortId(1), server, MacAddress([2, 0, 0, 0, 1, number])).unwrap();
        director.add_server(key, ServerConfig::new(SocketAddr::new(server, 80), method)).unwrap();
    }
    (director, Box::new(Forwarder::new(host, Options::new())))
}

fn whole_way(c: &mut Criterion) {
    const CLIENTS: u16 = 1_024;
    let mut group = c.benchmark_group("way");
    for family in [Family::V4, Family::V6] {
        for (label, method) in METHODS {
            let (mut director, mut forwarder) = lab(family, method);
            for client in 0..CLIENTS {
                for flags in [2, 16] {
                    let mut slot = Slot::new(&packet(family, client, flags));
                    let outcome = forwarder.process(&mut director, Tick::ZERO, &mut slot.frame());
                    assert_eq!(outcome, Outcome::Send);
                }
            }
            let mut slots: Vec<Slot> = (0..CLIENTS)
                .map(|client| Slot::new(&packet(family, client.wrapping_mul(77) % CLIENTS, 16)))
                .collect();
            let id = |how: &str| BenchmarkId::new(format!("{label}-{}", name(family)), how);
            let mut next = 0;
            group.throughput(Throughput::Elements(1));
            group.bench_function(id("one"), |b| {
                b.iter(|| {
                    next = (next + 1) % slots.len();
                    forwarder.process(&mut director, Tick::ZERO, &mut slots[next].frame())
                });
            });
            let mut chunk = 0;
            group.throughput(Throughput::Elements(BATCH as u64));
            group.bench_function(id(&format!("batch-{BATCH}")), |b| {
                b.iter(|| {
                    chunk = (chunk + 1) % (usize::from(CLIENTS) / BATCH);
                    let slots: &mut [Slot; BATCH] =
                        (&mut slots[chunk * BATCH..][..BATCH]).try_into().unwrap();
                    let mut frames = slots.each_mut().map(Slot::frame);
                    let mut outcomes = [Outcome::Consumed; BATCH];
                    forwarder.process_batch(&mut director, Tick::ZERO, &mut frames, &mut outcomes);
                    outcomes
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, parsing, rewriting, whole_way);
criterion_main!(benches);
