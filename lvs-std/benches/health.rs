//! What 10,000 TCP checks a second cost: processor time of the engine's thread, on loopback.
//!
//! Not a time per iteration but a share of a core, so this bench has a main function of its own. On loopback the
//! engine's thread also pays for what the other side's kernel does with each connection, so a real network costs it
//! less.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use lvs_std::health::{Engine, Probe, Schedule, State, Tcp};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::time::{ClockId, clock_gettime};

/// Probes, each once a second.
const PROBES: usize = 10_000;
/// Addresses 127.0.0.1 and up that they are spread over: one listener for all of them.
const ADDRESSES: usize = 250;

fn main() {
    // `cargo bench -- --test` only wants to see that it runs.
    let quick = std::env::args().any(|argument| argument == "--test");
    let (probes, seconds) = if quick { (100, 2) } else { (PROBES, 10) };
    let listeners: Vec<TcpListener> = (0..ADDRESSES)
        .map(|number| TcpListener::bind((Ipv4Addr::new(127, 0, 0, 1 + number as u8), 0)).expect("a listener"))
        .collect();
    let targets: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().expect("its address")).collect();
    for listener in listeners {
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    let (mut engine, handle, _events) = Engine::new().expect("an engine");
    let mut schedule = Schedule::every(Duration::from_secs(1));
    schedule.warmup = Duration::from_secs(1);
    schedule.jitter = Duration::from_millis(1);
    for number in 0..probes {
        // Equal probes would be one.
        schedule.timeout = Duration::from_secs(1) + Duration::from_nanos(number as u64);
        handle.watch(Probe::new(targets[number % ADDRESSES], Tcp::new().into(), schedule));
    }
    let began = Instant::now();
    while !handle.is_ready() {
        engine.turn(Some(Duration::from_millis(10)));
        assert!(began.elapsed() < Duration::from_secs(60), "all have answered");
    }
    let (began, busy) = (Instant::now(), processor_time());
    let (mut turns, end) = (0_u64, began + Duration::from_secs(seconds));
    while Instant::now() < end {
        engine.turn(Some(Duration::from_millis(10)));
        turns += 1;
    }
    let (elapsed, busy) = (began.elapsed(), processor_time() - busy);
    let up = handle.reports().iter().filter(|report| report.state == State::Up).count();
    let checks = probes as f64 * elapsed.as_secs_f64();
    println!(
        "health: {probes} TCP checks a second, {up} up: {:.1} % of a core, {:.2} µs a check, \
         {turns} turns in {elapsed:.1?}",
        100.0 * busy.as_secs_f64() / elapsed.as_secs_f64(),
        busy.as_secs_f64() * 1e6 / checks,
    );
    let bare = bare(&targets, probes);
    println!(
        "health: {:.2} µs of them for a bare socket, connect and close, measured after it",
        bare.as_secs_f64() * 1e6
    );
    assert_eq!(up, probes, "all are up");
}

/// What the kernel alone takes for a connection that is reset, this machine being as busy as it is.
fn bare(targets: &[SocketAddr], count: usize) -> Duration {
    let busy = processor_time();
    for target in targets.iter().cycle().take(count) {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None)
            .expect("a socket");
        set_socket_linger(&socket, Some(Duration::ZERO)).expect("an option");
        // In progress.
        let _ = connect(&socket, target);
    }
    (processor_time() - busy) / count as u32
}

/// What this thread has used of a processor, in its own and the kernel's code.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
