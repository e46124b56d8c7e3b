//! How long does a scheduler take to choose? By scheduler and number of real servers.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use core::hint::black_box;
use core::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lvs_core::Inspected;
use lvs_core::config::Capacity;
use lvs_core::packet::Addresses;
use lvs_core::sched::Maglev;
use lvs_core::tables::Member;
use lvs_core::{
    Config, Content, Director, Flow, Heap, Method, Packet, Protocol, Scheduler, Seed, ServerConfig,
    ServiceConfig, ServiceKey, TcpFlags, Tick, Weight,
};

fn schedule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new-connection-by-scheduler");
    for name in Scheduler::NAMES {
        for servers in [3_u16, 100] {
            let mut director =
                Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(1 << 16));
            let service = ServiceKey::tcp(Ipv4Addr::new(10, 99, 0, 1).into(), 80);
            director.add_service(service, ServiceConfig::new(Scheduler::from_name(name).unwrap())).unwrap();
            for number in 0..servers {
                let address = (Ipv4Addr::from_bits(0x0a00_0100 + u32::from(number)), 80).into();
                let config =
                    ServerConfig::new(address, Method::Direct).with_weight(Weight::from(1 + number % 5));
                director.add_server(service, config).unwrap();
            }
            let mut next = 0_u32;
            let mut now = Tick::ZERO;
            group.bench_function(BenchmarkId::new(*name, servers), |bencher| {
                bencher.iter(|| {
                    next = next.wrapping_add(1);
                    now = now.plus_millis(4);
                    let addresses = Addresses::V4 {
                        source: Ipv4Addr::from_bits(next.wrapping_mul(2_654_435_761)),
                        destination: Ipv4Addr::new(10, 99, 0, 1),
                    };
                    let flow =
                        Flow { protocol: Protocol::Tcp, addresses, source_port: 4_000, destination_port: 80 };
                    let verdict = director.decide(
                        now,
                        &Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60),
                        Inspected::Nothing,
                    );
                    director.sweep(now, 8);
                    black_box(verdict)
                });
            });
        }
    }
    group.finish();
}

/// A change to a service with a large table and many servers: the whole table is made anew, and taken over by the
/// director.
fn maglev(criterion: &mut Criterion) {
    type Large = Maglev<65_521, 8>;
    let servers = std::env::var("LVS_BENCH_MAX")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_u16)
        .min(1_000);
    let mut capacity = Capacity::new(16);
    capacity.servers = 1_024;
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::<Large>::new(capacity));
    let service = ServiceKey::tcp(Ipv4Addr::new(10, 99, 0, 1).into(), 80);
    director.add_service(service, ServiceConfig::new(Large::default())).unwrap();
    let config = |number: u16| {
        let address = (Ipv4Addr::from_bits(0x0a00_0100 + u32::from(number)), 80).into();
        ServerConfig::new(address, Method::Direct)
    };
    for number in 0..servers {
        director.add_server(service, config(number)).unwrap();
    }
    let members: Vec<Member> = director.members(service).collect();
    let builder = director.table_builder(service).unwrap();
    let mut room = vec![0; builder.room(members.len())];
    criterion.bench_function(&format!("maglev-65521-table/{servers}"), |bencher| {
        bencher.iter(|| builder.build(members.clone(), &mut room[..]).is_some());
    });
    let mut prepared = builder.build(members, room).unwrap();
    criterion.bench_function(&format!("maglev-65521-take-over/{servers}"), |bencher| {
        bencher.iter(|| {
            director.edit_server(service, config(0)).unwrap();
            assert!(director.adopt_table(service, &mut prepared));
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .measurement_time(core::time::Duration::from_secs(1))
        .warm_up_time(core::time::Duration::from_millis(300));
    targets = schedule, maglev
}
criterion_main!(benches);
