//! A bad line: a wrapper that drops, doubles, delays and corrupts frames of any device, for tests.
//!
//! Equal seed and equal frames give equal faults.
//!
//! ```
//! use lvs_std::device::{fault::{self, Faults}, pair};
//!
//! let (mut sender, receiver) = pair(&Default::default())?;
//! let mut lossy = fault::receiving(receiver, 7, Faults { drop: 500, ..Faults::NONE });
//! for number in 0..100u8 {
//!     sender.send(&[number; 60])?;
//! }
//! let left = lossy.drain()?.len();
//! assert!((30..70).contains(&left), "about half of them: {left}");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use lvs_forward::{Frame, HEADROOM, Offload, PortId};

use crate::device::{
    BATCH, Device, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError,
};

/// How often something goes wrong: of 1,000 frames on average so many. A frame has one fault at most; the sum must not
/// exceed 1,000, or the later ones come short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by struct update from NONE")]
pub struct Faults {
    /// The frame is lost.
    pub drop: u16,
    /// The frame comes twice.
    pub double: u16,
    /// The frame comes after one to four later ones.
    pub delay: u16,
    /// One bit of the frame is turned over.
    pub corrupt: u16,
}

impl Faults {
    /// A perfect line.
    pub const NONE: Self = Self { drop: 0, double: 0, delay: 0, corrupt: 0 };
}

/// The device with faults in what it receives. Its counters are those of the device itself.
#[must_use]
pub fn receiving(device: Device, seed: u64, faults: Faults) -> Device {
    let Device { receive, transmit } = device;
    let receive = Box::new(FaultyReceive { inner: receive, line: Line::new(seed, faults) });
    Device { receive, transmit }
}

/// The device with faults in what it sends. Its counters are those of the device itself, so that a dropped frame
/// does not count at all and a doubled one twice.
#[must_use]
pub fn sending(device: Device, seed: u64, faults: Faults) -> Device {
    let Device { receive, transmit } = device;
    let transmit = Box::new(FaultyTransmit { inner: transmit, line: Line::new(seed, faults) });
    Device { receive, transmit }
}

/// The line itself: chance, and the copies under way.
struct Line {
    faults: Faults,
    state: u64,
    /// Copies to be delivered after so many more frames, or when the line is idle.
    held: VecDeque<(u8, Copied)>,
}

/// A frame that was copied, behind headroom.
struct Copied {
    buffer: Vec<u8>,
    offload: Offload,
    mark: u32,
}

enum Fate {
    Pass,
    Drop,
    Double,
    Delay,
    Corrupt,
}

impl Line {
    const fn new(seed: u64, faults: Faults) -> Self {
        Self { faults, state: seed, held: VecDeque::new() }
    }

    fn fate(&mut self) -> Fate {
        let Faults { drop, double, delay, corrupt } = self.faults;
        // One number decides about all of them, so a frame has one fate and the shares add up.
        let mut point = (self.random() % 1_000) as u16;
        for (share, fate) in
            [(drop, Fate::Drop), (double, Fate::Double), (delay, Fate::Delay), (corrupt, Fate::Corrupt)]
        {
            match point.checked_sub(share) {
                Some(left) => point = left,
                None => return fate,
            }
        }
        Fate::Pass
    }

    /// Does to a frame what is its fate; says whether the frame itself goes on.
    fn apply(&mut self, frame: &mut Frame<'_>) -> bool {
        match self.fate() {
            Fate::Pass => true,
            Fate::Drop => false,
            Fate::Double => {
                self.hold(0, frame);
                true
            }
            Fate::Delay => {
                let later = (self.random() % 4) as u8 + 1;
                self.hold(later, frame);
                false
            }
            Fate::Corrupt => {
                let bit = self.random() as usize % (frame.len() * 8).max(1);
                if let Some(byte) = frame.bytes_mut().get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                true
            }
        }
    }

    fn hold(&mut self, frames: u8, frame: &Frame<'_>) {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(frame.bytes());
        self.held.push_back((frames, Copied { buffer, offload: frame.offload, mark: frame.mark }));
    }

    /// The next copy whose time has come.
    fn due(&mut self) -> Option<Copied> {
        let at = self.held.iter().position(|(left, _)| *left == 0)?;
        Some(self.held.remove(at)?.1)
    }

    /// A frame went by, or nobody came.
    fn tick(&mut self) {
        for (left, _) in &mut self.held {
            *left = left.saturating_sub(1);
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    const fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Copied {
    /// Lends it, whole again.
    fn frame(&mut self, port: PortId) -> Option<Frame<'_>> {
        let end = self.buffer.len();
        let mut frame = Frame::new(&mut self.buffer, HEADROOM, end, port)?.with_offload(self.offload);
        frame.mark = self.mark;
        Some(frame)
    }
}

struct FaultyReceive {
    inner: Box<dyn Receive>,
    line: Line,
}

impl Receive for FaultyReceive {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        let mut taken = 0;
        while taken < BATCH
            && let Some(mut copy) = self.line.due()
        {
            taken += 1;
            if let Some(frame) = copy.frame(port) {
                judge(&mut [frame]);
            }
        }
        let line = &mut self.line;
        let received = self.inner.receive(port, &mut |frames| {
            let mut kept = 0;
            for at in 0..frames.len() {
                if line.apply(&mut frames[at]) {
                    frames.swap(kept, at);
                    kept += 1;
                }
                line.tick();
            }
            if kept > 0 {
                judge(&mut frames[..kept]);
            }
        })?;
        if received == 0 {
            line.tick();
        }
        // A copy that waits is asked for again at once: its time comes also when nothing else does.
        Ok(taken + received + usize::from(!line.held.is_empty()))
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readiness()
    }

    fn recover(&mut self) -> io::Result<()> {
        self.inner.recover()
    }

    fn ended(&self) -> bool {
        self.inner.ended() && self.line.held.is_empty()
    }

    fn counters(&mut self) -> ReceiveCounters {
        self.inner.counters()
    }
}

struct FaultyTransmit {
    inner: Box<dyn Transmit>,
    line: Line,
}

impl FaultyTransmit {
    fn deliver_due(&mut self) {
        while let Some(mut copy) = self.line.due() {
            if let Some(frame) = copy.frame(PortId::default()) {
                // The device counts what it cannot take.
                let _ = self.inner.transmit(&frame);
            }
        }
    }
}

impl Transmit for FaultyTransmit {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let mut copy = Copied { buffer: vec![0; HEADROOM], offload: frame.offload, mark: frame.mark };
        copy.buffer.extend_from_slice(frame.bytes());
        let mut result = Ok(());
        if let Some(mut frame) = copy.frame(frame.port)
            && self.line.apply(&mut frame)
        {
            result = self.inner.transmit(&frame);
        }
        self.deliver_due();
        self.line.tick();
        result
    }

    fn flush(&mut self) -> io::Result<usize> {
        self.deliver_due();
        self.line.tick();
        Ok(self.inner.flush()? + self.line.held.len())
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn counters(&mut self) -> TransmitCounters {
        self.inner.counters()
    }
}

#[cfg(test)]
mod tests {
    use crate::device::{PairOptions, pair};

    use super::*;

    /// The first bytes of what arrives of 200 frames, numbered in their first byte.
    fn passed(faults: Faults, seed: u64, sending_side: bool) -> Vec<Vec<u8>> {
        let (here, there) = pair(&PairOptions { frames: 512, ..PairOptions::default() }).unwrap();
        let (mut here, mut there) = if sending_side {
            (sending(here, seed, faults), there)
        } else {
            (here, receiving(there, seed, faults))
        };
        for number in 0..200 {
            here.send(&[number; 60]).unwrap();
        }
        while here.transmit.flush().unwrap() > 0 {}
        there.drain().unwrap()
    }

    fn numbers(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().map(|frame| frame[0]).collect()
    }

    #[test]
    fn perfect_line_changes_nothing() {
        for side in [false, true] {
            let all: Vec<u8> = (0..200).collect();
            assert_eq!(numbers(&passed(Faults::NONE, 1, side)), all);
        }
    }

    #[test]
    fn equal_seeds_give_equal_faults() {
        let faults = Faults { drop: 100, double: 100, delay: 100, corrupt: 100 };
        for side in [false, true] {
            assert_eq!(passed(faults, 5, side), passed(faults, 5, side));
            assert_ne!(passed(faults, 5, side), passed(faults, 6, side));
        }
    }

    #[test]
    fn delayed_frames_all_come_in_another_order() {
        for side in [false, true] {
            let mut order = numbers(&passed(Faults { delay: 300, ..Faults::NONE }, 2, side));
            assert!(!order.is_sorted());
            order.sort_unstable();
            let all: Vec<u8> = (0..200).collect();
            assert_eq!(order, all);
        }
    }

    #[test]
    fn doubled_frames_come_twice_and_whole() {
        for side in [false, true] {
            let frames = passed(Faults { double: 1_000, ..Faults::NONE }, 3, side);
            assert_eq!(frames.len(), 400);
            assert!(frames.iter().all(|frame| *frame == [frame[0]; 60]));
        }
    }

    #[test]
    fn corrupted_frames_differ_in_one_bit() {
        for side in [false, true] {
            for (number, frame) in (0u8..).zip(passed(Faults { corrupt: 1_000, ..Faults::NONE }, 4, side)) {
                let turned: u32 = frame.iter().map(|byte| (byte ^ number).count_ones()).sum();
                assert_eq!(turned, 1);
            }
        }
    }
}
