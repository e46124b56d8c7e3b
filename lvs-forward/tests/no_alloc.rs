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
use lvs_forward::output::{Cut, pieces};
use lvs_forward::parse::Link;
use lvs_forward::{Frame, HEADROOM, Offload, Options, Outcome};
use sample::{Bed, Sample, SumState, sum};

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
                    let sum = if length == 100 { SumState::Partial } else { SumState::Right };
                    let sample = Sample::tcp(client, client, 0x02);
                    let sample = Sample { protocol, ttl, payload: vec![7; length], sum, ..sample };
                    let request = request(&sample, method);
                    samples.push((answer(&request, method), INSIDE));
                    samples.push((request, OUTSIDE));
                }
            }
        }
    }
    samples
}

/// TCP requests of every method and family, with the payload of five segments of 1,000 bytes.
fn merged(samples: &[(Sample, u8)]) -> Vec<Sample> {
    let is_it = |(sample, port): &&(Sample, u8)| {
        *port == OUTSIDE && sample.protocol == Protocol::Tcp && sample.sum == SumState::Right
    };
    let of_five =
        |sample: &Sample| Sample { payload: vec![7; 5_000], sum: SumState::Partial, ..sample.clone() };
    samples.iter().filter(is_it).map(|(sample, _)| of_five(sample)).collect()
}

/// The first IPv4 UDP request in two fragments.
fn halves(samples: &[(Sample, u8)]) -> [Vec<u8>; 2] {
    let is_it = |(sample, port): &&(Sample, u8)| {
        *port == OUTSIDE
            && sample.protocol == Protocol::Udp
            && sample.ttl > 1
            && sample.sum == SumState::Right
    };
    let (sample, port) = samples.iter().find(is_it).unwrap();
    let sample = Sample { dont_fragment: false, ..sample.clone() };
    let packet = sample.packet();
    let (head, payload) = packet.split_at(sample.header_len());
    let (one, two) = payload.split_at(800);
    [(one, 0x2000_u16), (two, 100)].map(|(part, word)| {
        let mut bytes = [head, part].concat();
        bytes[2..4].copy_from_slice(&((head.len() + part.len()) as u16).to_be_bytes());
        bytes[6..8].copy_from_slice(&word.to_be_bytes());
        bytes[10..12].fill(0);
        let checksum = !sum(&bytes[..head.len()]);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        ethernet(*port, 0, &bytes)
    })
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
    let merged = merged(&samples);
    let (mut sent, mut assembled, mut segments) = (0, 0, 0);
    for round in 0..4 {
        let mut frames: Vec<Frame<'_>> = Vec::new();
        for ((sample, port), bed) in samples.iter().zip(&mut beds) {
            *bed = Bed::new(&ethernet(*port, 0, &sample.packet()));
            let offload = Offload { checksum: sample.checksum(14), merged: None };
            frames.push(bed.frame(*port).with_offload(offload));
        }
        let now = Tick::from_millis(round * 40_000);
        let mut large: Vec<Bed> =
            merged.iter().map(|sample| Bed::new(&ethernet(OUTSIDE, 0, &sample.packet()))).collect();
        let mut fragments = halves(&samples).map(|half| Bed::new(&half));
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        if round % 2 == 0 {
            lab.forwarder.process_batch(&mut lab.director, now, &mut frames, &mut outcomes);
        } else {
            for (frame, outcome) in frames.iter_mut().zip(&mut outcomes) {
                *outcome = lab.forwarder.process(&mut lab.director, now, frame);
            }
        }
        while lab.forwarder.poll_transmit(now, &mut spare).is_some() {}
        for frame in &mut fragments {
            let mut frame = frame.frame(OUTSIDE);
            let outcome = lab.forwarder.process(&mut lab.director, now, &mut frame);
            if let Outcome::Assembled(datagram) = outcome
                && let Some(mut taken) = lab.forwarder.take(datagram)
            {
                let cut = taken.outcome.cut();
                let count = pieces(&mut taken.frame, Link::Ethernet, cut, &mut |_| ());
                assembled += count.unwrap();
            }
        }
        for (bed, sample) in large.iter_mut().zip(&merged) {
            let offload = Offload { checksum: sample.checksum(14), merged: Some(sample.merged(1_000)) };
            let mut frame = bed.frame(OUTSIDE).with_offload(offload);
            if lab.forwarder.process(&mut lab.director, now, &mut frame) == Outcome::Send {
                segments += pieces(&mut frame, Link::Ethernet, Cut::SEGMENTS, &mut |_| ()).unwrap();
            }
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "round {round}");
        sent += outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Send)).count();
    }
    assert_eq!(segments, 5 * 4 * merged.len(), "five segments of each method and family in each round");
    assert_eq!(assembled, 2 * 4, "both fragments in each round");
    assert!(sent > samples.len(), "most frames must have gone somewhere: {sent}");
}
