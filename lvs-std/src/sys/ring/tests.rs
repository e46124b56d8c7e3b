use core::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use super::*;

#[test]
fn slots_lie_inside_of_their_blocks() {
    let geometry = Geometry::new(65_700, 40).unwrap();
    assert_eq!(geometry.slots, 45);
    assert_eq!(geometry.blocks(), 3);
    for index in 0..geometry.slots {
        let offset = geometry.offset(index);
        assert_eq!(offset / BLOCK, (offset + geometry.slot - 1) / BLOCK, "slot {index}");
    }
    assert!(geometry.offset(44) + geometry.slot <= geometry.bytes());
}

#[test]
fn impossible_rings_are_refused() {
    assert!(Geometry::new(BLOCK + 1, 1).is_none());
    assert!(Geometry::new(0, 1).is_none());
    assert!(Geometry::new(2_048, usize::MAX).is_none());
    assert!(Geometry::new(usize::MAX, 1).is_none());
}

/// Slots that go round. An interpreter takes its time.
const FRAMES: usize = if cfg!(miri) { 200 } else { 20_000 };

/// The kernel's side of a ring: a program of its own, over the same memory.
struct Far {
    start: NonNull<u8>,
    geometry: Geometry,
    index: usize,
}

// SAFETY: statuses are atomic; the test shows whether the rest is one side's at a time.
unsafe impl Send for Far {}

impl Far {
    fn of(memory: &Memory) -> Self {
        Self { start: memory.mapping.start(), geometry: memory.geometry, index: 0 }
    }

    fn slot(&self) -> NonNull<u8> {
        // SAFETY: the mapping is that long, and lives until the thread has ended.
        unsafe { self.start.add(self.geometry.offset(self.index)) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: as in `slot`.
        unsafe { self.slot().cast().as_ref() }
    }

    fn header(&self) -> *mut tpacket2_hdr {
        self.slot().cast().as_ptr()
    }

    /// Goes on to the next slot when this one has one of these statuses.
    fn hand_over(&mut self, status: u32) {
        self.status().store(status, Ordering::Release);
        self.index = (self.index + 1) % self.geometry.slots;
    }

    fn wait_for(&self, status: u32) {
        while self.status().load(Ordering::Acquire) != status {
            thread::yield_now();
        }
    }

    /// Writes a numbered frame into the next slot as soon as it is free.
    fn receive(&mut self, number: usize) {
        self.wait_for(libc::TP_STATUS_KERNEL);
        let start = size_of::<tpacket2_hdr>() + 34;
        // SAFETY: the slot is the kernel's until its status is written.
        unsafe {
            (&raw mut (*self.header()).tp_mac).write(start as u16);
            (&raw mut (*self.header()).tp_len).write(1_500);
            (&raw mut (*self.header()).tp_snaplen).write(8);
            self.slot().add(start).cast::<[u8; 8]>().write((number as u64).to_ne_bytes());
        }
        self.hand_over(libc::TP_STATUS_USER);
    }

    /// Takes what is to be sent, up to a frame that it refuses.
    fn send(&mut self, refuses: impl Fn(u64) -> bool, sent: &mpsc::Sender<u64>) {
        while self.status().load(Ordering::Acquire) == libc::TP_STATUS_SEND_REQUEST {
            // SAFETY: the slot is the kernel's until its status is written.
            let (length, bytes) = unsafe {
                let length = (&raw const (*self.header()).tp_len).read();
                (length, self.slot().add(TRANSMIT_DATA).cast::<[u8; 8]>().read())
            };
            assert_eq!(length, 8);
            let number = u64::from_ne_bytes(bytes);
            if refuses(number) {
                self.status().store(libc::TP_STATUS_WRONG_FORMAT, Ordering::Release);
                return;
            }
            sent.send(number).unwrap();
            self.hand_over(libc::TP_STATUS_AVAILABLE);
        }
    }
}

fn memory(slot: usize) -> Memory {
    let geometry = Geometry::new(slot, 1).unwrap();
    Memory { mapping: Mapping::without_kernel(geometry.bytes()), geometry }
}

#[test]
fn each_slot_is_with_one_side_at_a_time_when_frames_come() {
    let mut ring = ReceiveRing { memory: memory(200_000), head: 0 };
    let mut far = Far::of(&ring.memory);
    thread::scope(|scope| {
        scope.spawn(move || (0..FRAMES).for_each(|number| far.receive(number)));
        let mut number = 0;
        while number < FRAMES {
            let mut count = 0;
            // All that are there are lent at once, and edited.
            for slot in ring.filled() {
                assert_eq!((slot.length, slot.original, slot.vlan, slot.queued), (8, 1_500, None, false));
                let frame = &mut slot.bytes[slot.start..slot.start + slot.length];
                assert_eq!(frame, ((number + count) as u64).to_ne_bytes());
                frame.fill(0xff);
                count += 1;
            }
            ring.release(count);
            number += count;
            thread::yield_now();
        }
    });
}

#[test]
fn each_slot_is_with_one_side_at_a_time_when_frames_are_sent_or_refused() {
    let mut ring = TransmitRing { memory: memory(150_000), head: 0, tail: 0, pending: 0 };
    let mut far = Far::of(&ring.memory);
    let refuses = |number: u64| number % 5 == 3;
    // A call to send: the kernel begins when it is called, and the program waits until it returns.
    let (call, calls) = mpsc::channel::<()>();
    let (returning, returned) = mpsc::channel::<()>();
    let (sent, arrived) = mpsc::channel();
    let (mut taken, mut refused, mut number) = (Vec::new(), 0, 0_u64);
    thread::scope(|scope| {
        scope.spawn(move || {
            for () in calls {
                far.send(refuses, &sent);
                returning.send(()).unwrap();
            }
        });
        while number < FRAMES as u64 || ring.pending() > 0 {
            // Between one frame and a full ring.
            let batch = 1 + number % 9;
            for _ in 0..batch {
                let Some(data) = (number < FRAMES as u64).then(|| ring.claim()).flatten() else { break };
                data[..8].copy_from_slice(&number.to_ne_bytes());
                ring.submit(8);
                number += 1;
            }
            call.send(()).unwrap();
            returned.recv().unwrap();
            let stopped = ring.advance(|length, beginning: [u8; 8]| {
                assert_eq!(length, 8);
                taken.push(u64::from_ne_bytes(beginning));
            });
            refused += usize::from(stopped);
        }
        drop(call);
    });
    let expected: Vec<u64> = (0..FRAMES as u64).filter(|&number| !refuses(number)).collect();
    assert_eq!(taken, expected);
    assert_eq!(refused, FRAMES - expected.len());
    assert_eq!(arrived.iter().collect::<Vec<_>>(), expected);
}
