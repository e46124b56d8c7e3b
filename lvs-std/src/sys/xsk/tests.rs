use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::net::xdp::XdpRingOffset;

use super::*;

const PRODUCER: usize = 0;
const CONSUMER: usize = 64;
const FLAGS: usize = 128;
const ENTRIES: usize = 192;

const CHUNK: usize = 2_048;
const CHUNKS: u32 = 16;
/// Bytes of a frame, and where in its chunk it lies.
const LENGTH: usize = 64;
const START: usize = 256;
/// Frames that go round. An interpreter takes its time.
const FRAMES: u32 = if cfg!(miri) { 100 } else { 20_000 };

/// The kernel's side of a ring: a program of its own, over the same memory.
struct Far {
    start: NonNull<u8>,
    mask: u32,
    here: u32,
}

// SAFETY: what both sides write at a time is atomic; the test shows whether the rest is.
unsafe impl Send for Far {}

impl Far {
    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the ring is longer, and lives until the thread has ended.
        unsafe { self.start.add(at).cast().as_ref() }
    }

    fn entry<T>(&self) -> NonNull<T> {
        // SAFETY: as in `word`.
        unsafe { self.start.add(ENTRIES + (self.here & self.mask) as usize * size_of::<T>()).cast() }
    }

    fn take<T: Copy>(&mut self) -> Option<T> {
        if self.word(PRODUCER).load(Ordering::Acquire) == self.here {
            return None;
        }
        // SAFETY: the producer says that the entry is there.
        let value = unsafe { self.entry::<T>().read() };
        self.here = self.here.wrapping_add(1);
        self.word(CONSUMER).store(self.here, Ordering::Release);
        Some(value)
    }

    fn put<T>(&mut self, value: T) {
        while self.here.wrapping_sub(self.word(CONSUMER).load(Ordering::Acquire)) > self.mask {
            thread::yield_now();
        }
        // SAFETY: the consumer says that the entry is free.
        unsafe { self.entry::<T>().write(value) };
        self.here = self.here.wrapping_add(1);
        self.word(PRODUCER).store(self.here, Ordering::Release);
    }
}

/// A ring without a kernel, and its other side. The counters begin shortly before they wrap around.
fn ring(entry: usize, count: u32) -> (Ring, Far) {
    let at = |offset: usize| offset as u64;
    let offsets = XdpRingOffset {
        producer: at(PRODUCER),
        consumer: at(CONSUMER),
        desc: at(ENTRIES),
        flags: Some(at(FLAGS)),
    };
    let mut ring = Ring::over(offsets, entry, count, |bytes| Ok(Mapping::without_kernel(bytes))).unwrap();
    let begin = u32::MAX - 20;
    (ring.here, ring.shared, ring.there) = (begin, begin, begin);
    for word in [PRODUCER, CONSUMER] {
        ring.word(word).store(begin, Ordering::Relaxed);
    }
    let far = Far { start: ring.mapping.start(), mask: count - 1, here: begin };
    (ring, far)
}

/// What the kernel does: puts numbered frames into the chunks that it is given, and sends what it is asked to.
struct Kernel {
    fill: Far,
    receive: Far,
    transmit: Far,
    completion: Far,
    memory: NonNull<u8>,
}

// SAFETY: as for `Far`; each chunk is touched while it is the kernel's.
unsafe impl Send for Kernel {}

impl Kernel {
    fn bytes(&self, address: u64) -> *mut [u8; LENGTH] {
        // SAFETY: all addresses are inside of the memory.
        unsafe { self.memory.add(address as usize) }.cast().as_ptr()
    }

    fn run(mut self, sent: u32) {
        let (mut came, mut went) = (0_u32, 0);
        while went < sent || came < FRAMES {
            if came < FRAMES
                && let Some(chunk) = self.fill.take::<u64>()
            {
                let address = chunk + START as u64;
                // SAFETY: whoever fills the ring gives the chunk away.
                unsafe { self.bytes(address).write([came as u8; LENGTH]) };
                self.receive.put(Descriptor { address, length: LENGTH as u32, options: 0 });
                came += 1;
            }
            if let Some(Descriptor { address, .. }) = self.transmit.take() {
                // SAFETY: whoever sends a chunk gives it away.
                let bytes = unsafe { self.bytes(address).read() };
                assert!(bytes.iter().all(|&byte| byte == bytes[0] && byte & 1 == 1), "{bytes:?}");
                self.completion.put(address);
                went += 1;
            }
            thread::yield_now();
        }
    }
}

#[test]
fn each_chunk_is_with_one_side_at_a_time_on_its_way_through_all_rings() {
    let (umem, mut free) = Umem::on(Mapping::without_kernel(CHUNK * CHUNKS as usize), CHUNK, CHUNKS);
    let ((fill, far_fill), (receive, far_receive)) = (ring(ADDRESS, 8), ring(DESCRIPTOR, 4));
    let ((transmit, far_transmit), (completion, far_completion)) = (ring(DESCRIPTOR, 4), ring(ADDRESS, 4));
    let kernel = Kernel {
        fill: far_fill,
        receive: far_receive,
        transmit: far_transmit,
        completion: far_completion,
        memory: umem.mapping.start(),
    };
    let mut fill = FillRing { ring: fill, umem: umem.clone() };
    let mut receive = ReceiveRing { ring: receive, umem: umem.clone() };
    let mut transmit = TransmitRing { ring: transmit, umem: umem.clone() };
    let mut completion = CompletionRing { ring: completion, umem: umem.clone() };
    // Of three frames one is dropped, one is sent from where it lies, and one as a chunk of the program's own.
    let sent = (0..FRAMES).filter(|number| number % 3 > 0).count() as u32;
    thread::scope(|scope| {
        let kernel = scope.spawn(move || kernel.run(sent));
        let (mut number, mut done, mut away) = (0_u32, 0, Vec::<Away>::new());
        while number < FRAMES || done < sent as usize {
            assert!(!kernel.is_finished() || done + 8 >= sent as usize, "the kernel's side has failed");
            while let Some(chunk) = free.pop() {
                if let Err(chunk) = fill.give(chunk) {
                    free.push(chunk);
                    break;
                }
            }
            fill.submit();
            while transmit.has_room()
                && let Some(received) = receive.take()
            {
                let Received { mut chunk, start, length } = received.unwrap();
                assert_eq!((start, length), (START, LENGTH));
                let frame = &mut umem.bytes(&mut chunk)[start..start + length];
                assert!(frame.iter().all(|&byte| byte == number as u8), "{number}: {frame:?}");
                frame.fill(number as u8 | 1);
                match number % 3 {
                    0 => {}
                    1 => {
                        assert!(transmit.send_loan(frame));
                        assert!(!transmit.send_loan(frame), "it is being sent already");
                    }
                    _ => {
                        away.push(transmit.send(chunk, start, length).unwrap());
                        number += 1;
                        continue;
                    }
                }
                match umem.settle(chunk) {
                    Settled::Kept(chunk) => free.push(chunk),
                    Settled::Sent(chunk) => away.push(chunk),
                }
                number += 1;
            }
            receive.release();
            transmit.submit();
            completion.collect();
            for chunk in core::mem::take(&mut away) {
                match umem.reclaim(chunk) {
                    Ok(chunk) => {
                        done += 1;
                        free.push(chunk);
                    }
                    Err(chunk) => away.push(chunk),
                }
            }
            thread::yield_now();
        }
        assert!(away.is_empty(), "all that was sent has come back");
    });
    // The others wait in the fill ring for frames to come.
    let mut numbers: Vec<u32> = free.iter().map(|chunk| chunk.0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), free.len());
    assert_eq!(free.len() as u32 + fill.ring.waiting(), CHUNKS);
}

#[test]
fn addresses_from_elsewhere_lead_to_no_chunk() {
    let (umem, mut chunks) = Umem::on(Mapping::without_kernel(CHUNK * CHUNKS as usize), CHUNK, CHUNKS);
    assert_eq!(umem.chunk_at(CHUNK as u64 * u64::from(CHUNKS)), None);
    assert_eq!(umem.chunk_at(u64::MAX), None);
    let (transmit, _) = ring(DESCRIPTOR, 4);
    let mut transmit = TransmitRing { ring: transmit, umem: umem.clone() };
    assert!(!transmit.send_loan(&[0; 8]), "memory of somebody else");
    let chunk = transmit.send(chunks.pop().unwrap(), CHUNK - 8, 16).unwrap_err();
    let chunk = transmit.send(chunk, usize::MAX, 2).unwrap_err();
    let _ = transmit.send(chunk, CHUNK - 8, 8).unwrap();
    for _ in 0..3 {
        let _ = transmit.send(chunks.pop().unwrap(), 0, 1).unwrap();
    }
    assert!(!transmit.has_room());
    let chunk = transmit.send(chunks.pop().unwrap(), 0, 1).unwrap_err();
    assert_eq!(chunk.0, CHUNKS - 5);
}
