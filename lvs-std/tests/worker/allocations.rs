//! No allocation per packet.

#![expect(unsafe_code, reason = "an allocator that counts can only be written with it")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

use lvs_core::Method;
use lvs_std::device::{Device, PairOptions};

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
    let mut world = World::new(Method::Nat, &PairOptions::default());
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
            world.client.send(&Segment::syn(port).bytes()).unwrap();
            world.server.send(&Segment::reply(port).bytes()).unwrap();
        }
        let before = ALLOCATIONS.get();
        while world.worker.turn() > 0 {}
        assert_eq!(ALLOCATIONS.get() - before, 0, "round {round}");
        requests += count(&mut world.server);
        replies += count(&mut world.client);
    }
    assert_eq!((requests, replies), (1_000, 1_000));
}
