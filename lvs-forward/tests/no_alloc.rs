//! No frame allocates: whatever its method, its answer, or its error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(unsafe_code, reason = "an allocator that counts can only be written with it")]

#[expect(dead_code, reason = "frames are processed here without copies")]
mod lab;
#[expect(dead_code, reason = "a few packets are enough")]
mod sample;

use core::alloc::{GlobalAlloc, Layout};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::System;

use lab::*;
use lvs_core::{Family, Protocol, Tick};
use lvs_forward::{Frame, HEADROOM, Options, Outcome};
use sample::{Bed, Sample, SumState};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Packets of new and old connections, of every method and protocol, and packets that are answered with errors.
fn samples() -> Vec<(Sample, u8)> {
    let mut samples = Vec::new();
    for family in [Family::V4, Family::V6] {
        let client: SocketAddr =
            if family == Family::V4 { "192.0.2.7:40000" } else { "[2001:db8:c::7]:40000" }.parse().unwrap();
        for method in 0..METHODS.len() {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for (ttl, length) in [(64, 100), (64, 1_390), (1, 100)] {
                    let sample = Sample {
                        protocol,
                        source: client,
                        destination: client,
                        ttl,
                        class: 0,
                        dont_fragment: true,
                        identification: 1,
                        options: false,
                        tcp_flags: 0x02,
                        sequence: 1,
                        payload: vec![7; length],
                        sum: if length == 100 { SumState::Partial } else { SumState::Right },
                    };
                    let request = request(&sample, method);
                    samples.push((answer(&request, method), INSIDE));
                    samples.push((request, OUTSIDE));
                }
            }
        }
    }
    samples
}

// The only test of its file: another one's allocations would be counted too.
#[test]
fn no_frame_allocates() {
    let mut lab = Lab::new(Options::new());
    let samples = samples();
    let mut beds: Vec<Bed> =
        samples.iter().map(|(sample, port)| Bed::new(&ethernet(*port, 0, &sample.packet()))).collect();
    let mut spare = vec![0; HEADROOM + 2_048];
    let mut outcomes = vec![Outcome::Consumed; samples.len()];
    let mut sent = 0;
    for round in 0..4 {
        let mut frames: Vec<Frame<'_>> = Vec::new();
        for ((sample, port), bed) in samples.iter().zip(&mut beds) {
            *bed = Bed::new(&ethernet(*port, 0, &sample.packet()));
            let offload = lvs_forward::Offload { checksum: sample.checksum(14), merged: None };
            frames.push(bed.frame(*port).with_offload(offload));
        }
        let now = Tick::from_millis(round * 40_000);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        if round % 2 == 0 {
            lab.forwarder.process_batch(&mut lab.director, now, &mut frames, &mut outcomes);
        } else {
            for (frame, outcome) in frames.iter_mut().zip(&mut outcomes) {
                *outcome = lab.forwarder.process(&mut lab.director, now, frame);
            }
        }
        while lab.forwarder.poll_transmit(now, &mut spare).is_some() {}
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "round {round}");
        sent += outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Send)).count();
    }
    assert!(sent > samples.len(), "most frames must have gone somewhere: {sent}");
}
