//! How long does a decision without a packet take, from the pick to its release? Without an entry by scheduler, and
//! with an entry and persistence by number of connections. How long one read of memory takes that nobody has touched
//! lately, in as much memory as a table of a million connections has, says what the machine does.
//!
//! `LVS_BENCH_MAX` bounds the number of connections (default 1,048,576). With
//! `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` the memory is in large pages, which a program asks for by
//! [`Heap::addresses`].

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use core::hint::black_box;
use core::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lvs_core::packet::Addresses;
use lvs_core::pick::{Client, Picker};
use lvs_core::service::Persistence;
use lvs_core::{
    Config, Flow, Heap, Method, Protocol, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick,
};

const WEB: ServiceKey = ServiceKey::tcp(core::net::IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)), 80);

/// A picker with 16 servers.
fn picker(capacity: u32, scheduler: &str, persistence: Option<Persistence>) -> Picker<Heap> {
    let config = Config::new(Seed::from_bytes([7; 16]));
    let mut picker = Picker::new(config, Heap::with_capacity(capacity as usize));
    let mut service = ServiceConfig::new(scheduler.parse::<Scheduler>().unwrap());
    service.persistence = persistence;
    picker.add_service(WEB, service).unwrap();
    for number in 1..=16 {
        let address = (Ipv4Addr::new(10, 0, 1, number), 80).into();
        picker.add_server(WEB, ServerConfig::new(address, Method::Direct)).unwrap();
    }
    picker
}

/// A pick and its release, with no more than a count at the server between them.
fn without_entry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick-and-release");
    for name in ["rr", "wlc", "sh", "mh", "p2c"] {
        let mut picker = picker(1_024, name, None);
        let mut next = 0_u32;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                next = next.wrapping_add(2_654_435_761);
                let pick = picker.pick(Tick::ZERO, &WEB, Client::Address(Ipv4Addr::from_bits(next).into()));
                picker.release(Tick::ZERO, black_box(pick.unwrap()));
            });
        });
    }
    group.finish();
}

/// The flow of connection number `number`; some of each client.
fn flow(number: u32) -> Flow {
    // An odd factor gives every number a place of its own, far from that of its neighbours.
    let number = number.wrapping_mul(0x9e37_79b1);
    let source = Ipv4Addr::from_bits(0x0b00_0000 | (number & 1) << 16 | number >> 16);
    let addresses = Addresses::V4 { source, destination: Ipv4Addr::new(10, 99, 0, 1) };
    Flow { protocol: Protocol::Tcp, addresses, source_port: 1 | number as u16, destination_port: 80 }
}

/// A connection opened and closed among so many that stay open, with a template for each client: the same one at once,
/// and the oldest one, whose memory nobody has touched lately.
fn with_entry(criterion: &mut Criterion) {
    let most = std::env::var("LVS_BENCH_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(1 << 20);
    let mut group = criterion.benchmark_group("open-and-close");
    for connections in [1_u32 << 10, 1 << 20] {
        if connections > most {
            continue;
        }
        // Room for the templates of all clients that there are.
        let mut picker = picker(connections + (1 << 18), "rr", Some(Persistence::new(3_600)));
        (0..connections).for_each(|number| _ = picker.open(Tick::ZERO, &WEB, &flow(number)).unwrap());
        let (mut next, mut oldest) = (connections, 0);
        for same in [false, true] {
            let name = if same { "same" } else { "oldest" };
            group.bench_function(BenchmarkId::new(name, connections), |bencher| {
                bencher.iter(|| {
                    black_box(picker.open(Tick::ZERO, &WEB, &flow(next))).unwrap();
                    let closed = if same { next } else { oldest };
                    assert!(picker.close(Tick::ZERO, &flow(closed)));
                    next = next.wrapping_add(1);
                    oldest += u32::from(!same);
                    // As a program does now and then.
                    while picker.poll_event().is_some() {}
                });
            });
        }
    }
    group.finish();
}

/// Reads that each need what the one before has read, from one cache line to another at random.
fn random_access(criterion: &mut Criterion) {
    let mut lines = vec![[0_u64; 8]; LINES];
    // A generator of full period is a circle through all lines.
    for (at, line) in lines.iter_mut().enumerate() {
        line[0] = (at as u64).wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f)
            % LINES as u64;
    }
    let mut at = 0;
    criterion.bench_function("random-access", |bencher| {
        bencher.iter(|| at = lines[at][0] as usize);
    });
    black_box(at);
}

/// Of 64 bytes: 128 MB.
const LINES: usize = 1 << 21;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .measurement_time(core::time::Duration::from_secs(1))
        .warm_up_time(core::time::Duration::from_millis(300));
    targets = without_entry, with_entry, random_access
}
criterion_main!(benches);
