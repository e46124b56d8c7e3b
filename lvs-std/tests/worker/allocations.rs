//! No allocation per packet.

#![expect(unsafe_code, reason = "an allocator that counts can only be written with it")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

use lvs_core::Method;
use lvs_std::device::{Device, PairOptions};
use lvs_std::worker::Worker;

use crate::crew::Pair;
use crate::world::{Segment, World};

struct Counting;

thread_local! {
    /// Of this thread alone: the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn turns_of_a_worker_do_not_allocate() {
    let World { mut worker, mut client, mut server, .. } = World::new(Method::Nat, &PairOptions::default());
    allocates_nothing(&mut worker, &mut client, &mut server);
}

#[test]
fn turns_of_one_of_two_workers_do_not_allocate() {
    let mut pair = Pair::new();
    allocates_nothing(&mut pair.workers[0], &mut pair.clients[0], &mut pair.servers[0]);
}

fn allocates_nothing(worker: &mut Worker, client: &mut Device, server: &mut Device) {
    let count = |device: &mut Device| {
        let mut count = 0;
        let mut judge = |frames: &mut [lvs_forward::Frame<'_>]| count += frames.len();
        while device.receive.receive(lvs_forward::PortId(0), &mut judge).unwrap() > 0 {}
        count
    };
    let (mut requests, mut replies) = (0, 0);
    for round in 0..50u16 {
        for port in 0..20 {
            // New connections in each round, and an old one.
            let port = if port == 0 { 30_000 } else { 40_000 + round * 20 + port };
            client.send(&Segment::syn(port).bytes()).unwrap();
            server.send(&Segment::reply(port).bytes()).unwrap();
        }
        let before = ALLOCATIONS.get();
        while worker.turn() > 0 {}
        assert_eq!(ALLOCATIONS.get() - before, 0, "round {round}");
        requests += count(server);
        replies += count(client);
    }
    assert_eq!((requests, replies), (1_000, 1_000));
}
