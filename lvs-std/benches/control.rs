//! What control costs packets: how long a director is held while its connection table is listed.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

use core::cell::Cell;
use core::hint::black_box;
use core::net::SocketAddr;
use core::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use lvs_core::{
    Config, Content, Director, Flow, Heap, Inspected, Packet, Protocol, Scheduler, Seed, TcpFlags, Tick,
};
use lvs_forward::host::Host;
use lvs_forward::{Forwarder, Options};
use lvs_std::control::{
    Backend, CommandHandler as _, Controller, Local, NoDaemons, ServerSpec, ServiceName, ServiceSpec,
    TableCommand, method,
};
use lvs_std::worker::WorkerGone;
use rustix::time::{ClockId, clock_gettime};

/// A way to a director that takes the processor's time of the longest hold: as long a packet waits at most, while
/// nobody else wants the processor.
struct Timed {
    local: Local<Heap>,
    longest: Cell<Duration>,
}

impl Backend<Heap> for Timed {
    fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<Heap>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        let begun = spent();
        let done = self.local.with(work);
        self.longest.set(self.longest.get().max(spent() - begun));
        done
    }
}

/// The time that the calling thread has had on a processor.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn listing(criterion: &mut Criterion) {
    let connections: u32 =
        std::env::var("LVS_BENCH_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let seed = Seed::from_bytes([7; 16]);
    let director = Director::new(Config::new(seed), Heap::<Scheduler>::with_capacity(connections as usize));
    let host: Host = Host::new(seed);
    let local = Local::new(director, Box::new(Forwarder::new(host, Options::new())));
    let mut controller = Controller::new(Timed { local, longest: Cell::default() }, Box::new(NoDaemons));
    let vip: SocketAddr = "10.99.0.1:80".parse().unwrap();
    let web = ServiceName::tcp(vip);
    controller.submit(TableCommand::NewService(web, ServiceSpec::new(web.family(), "rr"))).unwrap();
    for number in 1..=10 {
        let server = SocketAddr::from(([10, 0, 1, number], 80));
        controller
            .submit(TableCommand::NewServer(web, server, ServerSpec::new(method::MASQUERADING, 1)))
            .unwrap();
    }
    let filled = controller.backend().with(move |director, _, now| {
        for number in 0..connections {
            let [_, a, b, c] = number.to_be_bytes();
            let client = SocketAddr::from(([11, a, b, c], 1_024));
            let flow = Flow::new(Protocol::Tcp, client, vip).unwrap();
            // What matters is that it is in the table then.
            let _ =
                director.decide(now, &Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60), Inspected::Nothing);
        }
        director.counters().live
    });
    assert_eq!(filled, Ok(connections));
    controller.backend().longest.set(Duration::ZERO);
    let mut holds = Vec::new();
    criterion.bench_function(&format!("list {connections} connections"), |bencher| {
        bencher.iter(|| {
            controller.backend().longest.set(Duration::ZERO);
            black_box(controller.read_file("/proc/net/ip_vs_conn").unwrap().len());
            holds.push(controller.backend().longest.get());
        });
    });
    holds.sort_unstable();
    let median = holds.get(holds.len() / 2).copied().unwrap_or_default();
    println!("longest hold of a listing, median of {}: {median:?}", holds.len());
}

criterion_group!(benches, listing);
criterion_main!(benches);
