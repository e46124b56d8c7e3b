//! No packet allocates: neither an old connection's nor a new one's, nor the sweep; and a store takes what it said.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(unsafe_code, reason = "an allocator that counts can only be written with it")]

mod support;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

use lvs_core::config::Capacity;
use lvs_core::service::{Persistence, PersistenceEngine};
use lvs_core::*;
use support::*;

struct Counting;

thread_local! {
    /// Of this thread alone: the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn packets_do_not_allocate() {
    let mut director = Director::new(config(), Heap::<Scheduler>::with_capacity(1_000));
    for (at, name) in Scheduler::NAMES.iter().enumerate() {
        let key = ServiceKey::tcp(VIP, 80 + at as u16);
        director.add_service(key, scheduler(name)).unwrap();
        for number in 1..5 {
            director.add_server(key, server(number, Method::Nat, u16::from(number))).unwrap();
        }
    }
    let packets: Vec<Packet> = (0..2_000_u16)
        .map(|at| {
            let key = ServiceKey::tcp(VIP, 80 + at % Scheduler::NAMES.len() as u16);
            let content = [SYN, ACK, FIN][usize::from(at / 7) % 3];
            request(key, [192, 0, 2, (at % 5) as u8], 1_000 + at, content)
        })
        .collect();
    let mut verdicts = vec![Verdict::Drop(Reason::TableFull); packets.len()];
    let before = ALLOCATIONS.get();
    for round in 0..20 {
        let now = Tick::ZERO.plus_secs(round * 30);
        let _ = director.decide_batch(now, &packets, &mut verdicts);
        for packet in &packets {
            let _ = director.decide(now, packet, Inspected::Nothing);
        }
        director.sweep(now, 200);
        while director.poll_event().is_some() {}
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(director.counters().traffic.connections > 600, "there were new connections");
}

#[test]
fn a_store_takes_the_memory_that_its_capacity_told() {
    for (connections, services, calls) in [
        (1_000, 1_024, 896),
        (0, 0, 0),
        (10, 1, 1),
        (10, 7, 896),
        (10, 8, 1_000),
        (10, 1_792, 3),
        (10, 1_793, 896),
    ] {
        let mut capacity = Capacity::new(connections);
        (capacity.services, capacity.calls) = (services, calls);
        let before = BYTES.get();
        let director = Director::new(config(), Heap::<Scheduler>::new(capacity));
        let taken = BYTES.get().wrapping_sub(before);
        let told = capacity.required_bytes();
        // What the map adds for its own use is no more than this.
        assert!(taken.abs_diff(told) < 64, "{services} services, {calls} calls: told {told}, taken {taken}");
        drop(director);
    }
}

/// Calls come and go at the limit for as long as one likes.
#[test]
fn calls_that_come_and_go_do_not_allocate() {
    let mut capacity = Capacity::new(2_000);
    capacity.calls = 112;
    let mut config = config();
    config.timeouts.udp = 1;
    let mut director = Director::new(config, Heap::<Scheduler>::new(capacity));
    let sip = Persistence::new(1).with_engine(PersistenceEngine::Sip);
    director.add_service(DNS, scheduler("rr").with_persistence(sip)).unwrap();
    director.add_server(DNS, server(1, Method::Nat, 1)).unwrap();
    let before = ALLOCATIONS.get();
    let mut begun = 0_u32;
    for round in 0..20_000_u32 {
        let now = Tick::from_millis(u64::from(round) * 5);
        let mut call = *b"call 0000@example";
        call[5..9].copy_from_slice(&round.to_le_bytes());
        let packet = request(DNS, [192, 0, 2, 7], 1_000 + (round % 50_000) as u16, Content::Udp);
        let verdict = director.decide(now, &packet, Inspected::CallId(Some(&call)));
        begun += u32::from(matches!(verdict, Verdict::Forward(_)));
        director.sweep(now, 500);
        while director.poll_event().is_some() {}
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(begun > 112 && director.counters().of(Reason::CallsFull) > 0, "{begun} calls, at the limit");
}
