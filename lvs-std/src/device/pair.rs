//! Two devices in this process that are joined to each other: for tests, examples and programs that embed a director.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use heapless::Vec;
use lvs_forward::{Frame, HEADROOM, Offload, PortId};
use rustix::event::{EventfdFlags, eventfd};

use crate::device::{
    BATCH, Device, LONGEST, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError,
};

/// How a pair is made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PairOptions {
    /// Frames that can wait in each direction; one more is lost as [`TransmitError::Full`]. Each takes 64 KiB of
    /// address space, of memory only what its frames filled. Default: 256, at least 1.
    pub frames: usize,
    /// The unfinished frames that can pass. Default: all.
    pub offloads: Offloads,
}

impl Default for PairOptions {
    fn default() -> Self {
        Self { frames: 256, offloads: Offloads::ALL }
    }
}

/// Makes two devices: what one is sent, the other lends. Either may be moved to another thread.
///
/// All memory is allocated here.
///
/// ```
/// let (mut here, mut there) = lvs_std::device::pair(&Default::default())?;
/// here.send(b"a frame")?;
/// assert_eq!(there.drain()?, [b"a frame"]);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When the process has no file descriptor left.
pub fn pair(options: &PairOptions) -> io::Result<(Device, Device)> {
    let (there, here) = (Arc::new(Line::new(options)?), Arc::new(Line::new(options)?));
    let end = |from: &Arc<Line>, to: &Arc<Line>| {
        let transmit = Sender {
            line: to.clone(),
            offloads: options.offloads,
            unannounced: false,
            counters: TransmitCounters::default(),
        };
        Device::new(Receiver { line: from.clone(), counters: ReceiveCounters::default() }, transmit)
    };
    Ok((end(&here, &there), end(&there, &here)))
}

/// One direction.
struct Line {
    full: ArrayQueue<Cell>,
    free: ArrayQueue<Cell>,
    /// Readable when frames came after the receiver found none.
    event: OwnedFd,
}

impl Line {
    fn new(options: &PairOptions) -> io::Result<Self> {
        let frames = options.frames.max(1);
        let (full, free) = (ArrayQueue::new(frames), ArrayQueue::new(frames));
        for _ in 0..frames {
            let bytes = vec![0; HEADROOM + LONGEST].into_boxed_slice();
            // There is room for as many as are pushed.
            let _ = free.push(Cell { bytes, length: 0, offload: Offload::default() });
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { full, free, event })
    }
}

/// Memory of one frame, behind the headroom.
struct Cell {
    bytes: Box<[u8]>,
    length: usize,
    offload: Offload,
}

struct Sender {
    line: Arc<Line>,
    offloads: Offloads,
    /// Frames were sent of which the receiver was not told.
    unannounced: bool,
    counters: TransmitCounters,
}

impl Sender {
    fn enqueue(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        if !self.offloads.carry(&frame.offload) {
            return Err(TransmitError::Unsupported);
        }
        if frame.len() > LONGEST {
            return Err(TransmitError::TooLong);
        }
        let mut cell = self.line.free.pop().ok_or(TransmitError::Full)?;
        if let Some(bytes) = cell.bytes.get_mut(HEADROOM..HEADROOM + frame.len()) {
            bytes.copy_from_slice(frame.bytes());
        }
        (cell.length, cell.offload) = (frame.len(), frame.offload);
        self.unannounced = true;
        // As many cells exist as the queue has places.
        self.line.full.push(cell).map_err(|_| TransmitError::Full)
    }
}

impl Transmit for Sender {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let result = self.enqueue(frame);
        self.counters.count(frame, result)
    }

    fn flush(&mut self) -> io::Result<usize> {
        if core::mem::take(&mut self.unannounced) {
            // It can only fail when the count overflows, and then the receiver has been told.
            let _ = rustix::io::write(&self.line.event, &1u64.to_ne_bytes());
        }
        Ok(0)
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn counters(&mut self) -> TransmitCounters {
        self.counters
    }
}

struct Receiver {
    line: Arc<Line>,
    counters: ReceiveCounters,
}

impl Receive for Receiver {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        let mut cells = Vec::<Cell, BATCH>::new();
        take(&self.line.full, &mut cells);
        if cells.is_empty() {
            // Announced frames are in the queue already, so nothing is missed by looking after this.
            let _ = rustix::io::read(&self.line.event, &mut [0; 8]);
            take(&self.line.full, &mut cells);
        }
        let mut frames = Vec::<Frame<'_>, BATCH>::new();
        for cell in &mut cells {
            if let Some(frame) = Frame::new(&mut cell.bytes, HEADROOM, HEADROOM + cell.length, port) {
                let frame = frame.with_offload(cell.offload);
                self.counters.count(&frame);
                // As many frames fit as cells.
                let _ = frames.push(frame);
            }
        }
        if !frames.is_empty() {
            judge(&mut frames);
        }
        drop(frames);
        let count = cells.len();
        for cell in cells {
            // It was taken from there, or from a queue with as many places.
            let _ = self.line.free.push(cell);
        }
        Ok(count)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.line.event.as_fd())
    }

    fn counters(&mut self) -> ReceiveCounters {
        self.counters
    }
}

/// Moves as many cells as there are and fit.
fn take(queue: &ArrayQueue<Cell>, cells: &mut Vec<Cell, BATCH>) {
    while !cells.is_full() {
        let Some(cell) = queue.pop() else { return };
        let _ = cells.push(cell);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::thread;

    use lvs_forward::{Checksum, Merged, MergedKind};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_ready(device: &Device) -> bool {
        let fd = device.receive.readiness().unwrap();
        poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn frames_pass_in_order_both_ways_with_their_offload() {
        let (mut here, mut there) = pair(&PairOptions::default()).unwrap();
        for number in 0..100 {
            here.send(&[number; 60]).unwrap();
        }
        there.send(b"back").unwrap();
        let sent: std::vec::Vec<_> = (0..100).map(|number| std::vec::Vec::from([number; 60])).collect();
        assert_eq!(there.drain().unwrap(), sent);
        assert_eq!(here.drain().unwrap(), [b"back"]);

        let offload = Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            merged: Some(Merged { kind: MergedKind::TcpV4, segment: 1_448, ecn: true }),
        };
        let mut bytes = [7; 3_000];
        let frame = Frame::new(&mut bytes, 0, 3_000, PortId(0)).unwrap().with_offload(offload);
        here.transmit.transmit(&frame).unwrap();
        let lent = there.receive.receive(PortId(5), &mut |frames| {
            assert_eq!((frames[0].offload, frames[0].port, frames[0].len()), (offload, PortId(5), 3_000));
            assert_eq!(frames[0].headroom(), HEADROOM);
        });
        assert_eq!(lent.unwrap(), 1);
    }

    #[test]
    fn a_full_queue_loses_the_newest_and_counts_it() {
        let options = PairOptions { frames: 2, ..PairOptions::default() };
        let (mut here, mut there) = pair(&options).unwrap();
        here.send(b"1").unwrap();
        here.send(b"2").unwrap();
        assert!(here.send(b"3").is_err());
        assert_eq!(there.drain().unwrap(), [b"1", b"2"]);
        here.send(b"4").unwrap();
        assert_eq!(there.drain().unwrap(), [b"4"]);
        assert_eq!((here.transmit.counters().frames, here.transmit.counters().full), (3, 1));
    }

    #[test]
    fn readiness_follows_the_queue() {
        let (mut here, mut there) = pair(&PairOptions::default()).unwrap();
        assert!(!is_ready(&there));
        here.send(b"1").unwrap();
        assert!(is_ready(&there));
        there.drain().unwrap();
        assert!(!is_ready(&there));
    }

    #[test]
    fn no_frame_is_missed_between_threads() {
        let (mut here, mut there) = pair(&PairOptions::default()).unwrap();
        let sender = thread::spawn(move || {
            for number in 0..10_000u32 {
                while here.send(&number.to_ne_bytes()).is_err() {
                    thread::yield_now();
                }
            }
            here
        });
        let mut expected = 0u32;
        while expected < 10_000 {
            let fd = there.receive.readiness().unwrap();
            let patience = Timespec::try_from(Duration::from_secs(10)).unwrap();
            let ready = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&patience)).unwrap();
            assert_eq!(ready, 1, "woken after {expected}");
            for frame in there.drain().unwrap() {
                assert_eq!(frame, expected.to_ne_bytes());
                expected += 1;
            }
        }
        sender.join().unwrap();
    }
}
