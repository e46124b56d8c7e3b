//! Frames sent from where they lie, or from a copy.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use lvs_forward::{Frame, Offload};
use rustix::io::Errno;

use super::turns::Turns;
use crate::device::{Offloads, Transmit, TransmitCounters, TransmitError};
use crate::sys::xsk::{Away, Chunk, CompletionRing, TransmitRing, XdpSocket};

pub(super) struct Transmitter {
    socket: Arc<XdpSocket>,
    ring: TransmitRing,
    /// What was sent by any socket of the queue.
    completion: Turns<CompletionRing>,
    /// Chunks for copies.
    free: Vec<Chunk>,
    /// Copies that were sent, in the order in which they were.
    away: VecDeque<Away>,
    /// The longest frame.
    longest: usize,
    /// The interface is gone: what still waits is never sent.
    gone: bool,
    counters: TransmitCounters,
}

impl Transmitter {
    pub(super) fn new(
        socket: Arc<XdpSocket>,
        ring: TransmitRing,
        completion: Turns<CompletionRing>,
        free: Vec<Chunk>,
        longest: usize,
    ) -> Self {
        let away = VecDeque::with_capacity(free.len());
        Self {
            socket,
            ring,
            completion,
            free,
            away,
            longest,
            gone: false,
            counters: TransmitCounters::default(),
        }
    }

    /// Takes back what has been sent. Another worker that does so at this moment takes it back for this one too.
    fn collect(&mut self) {
        self.completion.now(CompletionRing::collect);
        while let Some(away) = self.away.pop_front() {
            match self.socket.umem().reclaim(away) {
                Ok(chunk) => self.free.push(chunk),
                Err(away) => {
                    self.away.push_front(away);
                    break;
                }
            }
        }
    }

    /// Lets the kernel send what waits.
    fn kick(&mut self) -> io::Result<()> {
        self.ring.submit();
        let mut waiting = self.ring.waiting();
        while waiting > 0 && self.ring.needs_wakeup() {
            match self.socket.send() {
                // It stops now and then, to be asked again; or it waits for sent frames to be taken back.
                Ok(()) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => {}
                Err(error @ (Errno::NXIO | Errno::NODEV)) => {
                    self.gone = true;
                    return Err(error.into());
                }
                // It is down: what waits is sent when it is up again.
                Err(_) => break,
            }
            self.collect();
            let left = self.ring.waiting();
            // No progress: the interface is full, and asking again at once would only burn time.
            if left == waiting {
                break;
            }
            waiting = left;
        }
        self.collect();
        Ok(())
    }

    fn check(&self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        // Without transmit metadata, a descriptor cannot say that a checksum or a segmentation is left to do.
        if frame.offload != Offload::NONE {
            return Err(TransmitError::Unsupported);
        }
        if self.gone {
            return Err(TransmitError::Down);
        }
        match frame.len() {
            length if length > self.longest => Err(TransmitError::TooLong),
            length if length < ETHERNET => Err(TransmitError::Refused),
            _ => Ok(()),
        }
    }

    /// Makes sure that the ring has room.
    fn make_room(&mut self) -> Result<(), TransmitError> {
        if !self.ring.has_room() {
            // An interface that is gone is reported by the flush that follows.
            let _ = self.kick();
        }
        if self.ring.has_room() { Ok(()) } else { Err(TransmitError::Full) }
    }

    fn copy(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        if self.free.is_empty() {
            self.collect();
        }
        if self.free.is_empty() {
            let _ = self.kick();
        }
        let mut chunk = self.free.pop().ok_or(TransmitError::Full)?;
        let bytes = frame.bytes();
        match self.socket.umem().bytes(&mut chunk).get_mut(..bytes.len()) {
            Some(to) => to.copy_from_slice(bytes),
            None => {
                self.free.push(chunk);
                return Err(TransmitError::TooLong);
            }
        }
        match self.ring.send(chunk, 0, bytes.len()) {
            Ok(away) => self.away.push_back(away),
            Err(chunk) => {
                self.free.push(chunk);
                return Err(TransmitError::Full);
            }
        }
        Ok(())
    }

    fn put(&mut self, frame: &Frame<'_>, whole_loan: bool) -> Result<(), TransmitError> {
        self.check(frame)?;
        self.make_room()?;
        // A frame that was not handed over may be edited before the kernel has read it, so its bytes are copied.
        if !(whole_loan && self.ring.send_loan(frame.bytes())) {
            self.copy(frame)?;
        }
        Ok(())
    }
}

impl Transmit for Transmitter {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let result = self.put(frame, false);
        self.counters.count(frame, result)
    }

    fn hand_over(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let result = self.put(frame, true);
        self.counters.count(frame, result)
    }

    fn flush(&mut self) -> io::Result<usize> {
        self.kick()?;
        Ok(self.ring.waiting() as usize)
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    fn counters(&mut self) -> TransmitCounters {
        let mut counters = self.counters;
        // Not answered only by a socket of another kind.
        if let Ok(statistics) = self.socket.statistics() {
            counters.refused += statistics.tx_invalid_descs;
        }
        // Frames are counted when they are put into the ring, and the kernel has not taken these.
        let waiting = u64::from(self.ring.waiting()).min(counters.frames);
        counters.frames -= waiting;
        if self.gone {
            counters.down += waiting;
        }
        counters
    }
}

/// Bytes of an Ethernet header, the least that is a frame.
const ETHERNET: usize = 14;
