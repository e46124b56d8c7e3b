//! How long does it take to decide a packet of a connection that is there? By number of connections, one by one and
//! in batches of 32; and of a connection that is not.
//!
//! `LVS_BENCH_MAX` bounds the number of connections (default 8,388,608, for which 1.2 GiB of memory are needed).

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use core::hint::black_box;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lvs_core::packet::Addresses;
use lvs_core::{
    Config, Content, Director, Flow, Heap, Inspected, Method, Packet, Protocol, Reason, Scheduler, Seed,
    ServerConfig, ServiceConfig, ServiceKey, TcpFlags, Tick, Verdict,
};

const BATCH: usize = lvs_core::batch::BATCH;
const SYN: Content = Content::Tcp(TcpFlags::SYN);
const ACK: Content = Content::Tcp(TcpFlags::ACK);

/// The flow of client number `number`.
fn flow(number: u32, v6: bool) -> Flow {
    let addresses = if v6 {
        Addresses::V6 {
            source: Ipv6Addr::from_bits(0x2001_0db8_000c << 80 | u128::from(number / 16)),
            destination: Ipv6Addr::from_bits(0x2001_0db8_0099 << 80 | 1),
        }
    } else {
        Addresses::V4 {
            source: Ipv4Addr::from_bits(0x0b00_0000 + number / 16),
            destination: Ipv4Addr::new(10, 99, 0, 1),
        }
    };
    Flow {
        protocol: Protocol::Tcp,
        addresses,
        source_port: 1_024 + (number % 16) as u16,
        destination_port: 80,
    }
}

fn director(capacity: u32, v6: bool) -> Director<Heap> {
    let mut director =
        Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(capacity as usize));
    let service = ServiceKey::tcp(flow(0, v6).addresses.destination(), 80);
    director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
    for number in 1..=16_u16 {
        let address = if v6 {
            (Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number), 80).into()
        } else {
            (Ipv4Addr::new(10, 0, 1, number as u8), 80).into()
        };
        director.add_server(service, ServerConfig::new(address, Method::Nat)).unwrap();
    }
    director
}

fn filled(connections: u32, v6: bool) -> Director<Heap> {
    let mut director = director(connections, v6);
    for number in 0..connections {
        for content in [SYN, ACK] {
            let verdict =
                director.decide(Tick::ZERO, &Packet::new(flow(number, v6), content, 60), Inspected::Nothing);
            assert!(matches!(verdict, Verdict::Forward(_)));
        }
        while director.poll_event().is_some() {}
    }
    director
}

/// Packets of clients in an order that no cache foresees.
struct Traffic {
    next: u32,
    connections: u32,
    v6: bool,
}

impl Traffic {
    fn packet(&mut self) -> Packet {
        // A full-period step through all connections (they are a power of two in number).
        self.next = self.next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let number = (self.next >> 4) % self.connections;
        Packet::new(flow(number, self.v6), ACK, 60)
    }

    /// The time that `rounds` batches take, without the time to make them. Reading the clock adds less than 1 ns per
    /// packet.
    fn time(&mut self, rounds: u64, mut work: impl FnMut(&[Packet; BATCH])) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..rounds {
            let packets = core::array::from_fn(|_| self.packet());
            let start = Instant::now();
            work(&packets);
            total += start.elapsed();
        }
        total
    }
}

fn sizes() -> impl Iterator<Item = u32> {
    let max = std::env::var("LVS_BENCH_MAX").ok().and_then(|max| max.parse().ok()).unwrap_or(1 << 23);
    [1 << 10, 1 << 20, 1 << 23].into_iter().filter(move |&size| size <= max)
}

fn lookup(criterion: &mut Criterion) {
    for v6 in [false, true] {
        let mut group = criterion.benchmark_group(if v6 { "lookup-v6" } else { "lookup-v4" });
        group.throughput(Throughput::Elements(BATCH as u64));
        for connections in sizes().filter(|&size| !v6 || size <= 1 << 20) {
            let mut director = filled(connections, v6);
            let mut traffic = Traffic { next: 1, connections, v6 };
            group.bench_function(BenchmarkId::new("batch-32", connections), |bencher| {
                let mut verdicts = [Verdict::Drop(Reason::TableFull); BATCH];
                bencher.iter_custom(|rounds| {
                    traffic.time(rounds, |packets| {
                        let _ = director.decide_batch(Tick::ZERO, packets, &mut verdicts);
                        black_box(&verdicts);
                    })
                });
            });
            group.bench_function(BenchmarkId::new("one-by-one", connections), |bencher| {
                bencher.iter_custom(|rounds| {
                    traffic.time(rounds, |packets| {
                        for packet in packets {
                            let _ = black_box(director.decide(Tick::ZERO, packet, Inspected::Nothing));
                        }
                    })
                });
            });
        }
        group.finish();
    }
}

/// New connections, and their end, in a table of which three quarters are in use.
fn new_connection(criterion: &mut Criterion) {
    for name in ["open", "expire"] {
        let mut group = criterion.benchmark_group(format!("new-connection/{name}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        for capacity in sizes().filter(|&size| size <= 1 << 20) {
            let mut director = director(capacity, false);
            let mut next = 0_u32;
            let mut now = Tick::ZERO;
            group.bench_function(BenchmarkId::new("batch-32", capacity), |bencher| {
                let mut verdicts = [Verdict::Drop(Reason::TableFull); BATCH];
                let mut spent = |rounds| {
                    let (mut opening, mut expiring) = (Duration::ZERO, Duration::ZERO);
                    for _ in 0..rounds {
                        let packets = core::array::from_fn::<_, BATCH, _>(|_| {
                            next = next.wrapping_add(1) & 0x0fff_ffff;
                            Packet::new(flow(next, false), SYN, 60)
                        });
                        // Half-open connections live 60 s; at this pace as many expire as are opened.
                        now = now.plus_millis(60_000 * BATCH as u64 * 4 / (u64::from(capacity) * 3) + 1);
                        let start = Instant::now();
                        let _ = director.decide_batch(now, &packets, &mut verdicts);
                        let middle = Instant::now();
                        director.sweep(now, BATCH * 4);
                        expiring += middle.elapsed();
                        opening += middle - start;
                        while director.poll_event().is_some() {}
                        black_box(&verdicts);
                    }
                    if name == "open" { opening } else { expiring }
                };
                // Filled to the level at which it stays.
                spent(u64::from(capacity) / BATCH as u64 * 2);
                bencher.iter_custom(&mut spent);
            });
            assert_eq!(director.counters().of(Reason::TableFull), 0, "the table was never full");
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = lookup, new_connection
}
criterion_main!(benches);
