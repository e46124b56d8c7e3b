//! Frames lent from where the kernel or the interface put them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use heapless::Vec as ArrayVec;
use lvs_forward::{Frame, HEADROOM, PortId};

use super::checksum;
use super::turns::Turns;
use crate::device::{BATCH, Receive, ReceiveCounters};
use crate::sys::bpf::{Attachment, Map};
use crate::sys::interface;
use crate::sys::packet::PacketSocket;
use crate::sys::xsk::{Away, Chunk, FillRing, ReceiveRing, Received, Settled, Umem, XdpSocket};

pub(super) struct Receiver {
    pub(super) queues: Vec<Queue>,
    /// The queue that is asked first.
    pub(super) next: usize,
    /// Readable when one of several queues has frames.
    pub(super) any: Option<OwnedFd>,
    pub(super) interface: u32,
    /// Whether checksums that look unfinished are.
    pub(super) detect: bool,
    pub(super) gone: bool,
    pub(super) counters: ReceiveCounters,
    pub(super) hold: Arc<Hold>,
}

/// What is to be held as long as frames are to come in, to any worker.
pub(super) struct Hold {
    pub(super) _attachment: Attachment,
    pub(super) _sockets: Map,
    pub(super) memberships: PacketSocket,
}

/// A queue of the interface, as one worker has it: what comes to its socket there.
pub(super) struct Queue {
    socket: Arc<XdpSocket>,
    umem: Arc<Umem>,
    receive: ReceiveRing,
    fill: Turns<FillRing>,
    /// Chunks that were sent on, in the order in which they were.
    away: VecDeque<Away>,
    /// How many of the queue's chunks are this worker's part.
    part: usize,
    /// Chunks that are to go into the fill ring, from which all sockets of the queue get theirs.
    idle: Vec<Chunk>,
}

impl Queue {
    /// A queue of so many chunks, of which such a part is this worker's. They are in the fill ring, or with the sockets
    /// of other workers.
    pub(super) fn new(
        socket: Arc<XdpSocket>,
        receive: ReceiveRing,
        fill: Turns<FillRing>,
        (chunks, part): (usize, usize),
    ) -> Self {
        let (away, idle) = (VecDeque::with_capacity(chunks), Vec::with_capacity(chunks));
        Self { umem: socket.umem().clone(), socket, receive, fill, away, part, idle }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Lends a batch; says how many frames were taken, and counts those that were lent.
    fn lend(
        &mut self,
        port: PortId,
        detect: bool,
        counters: &mut ReceiveCounters,
        judge: &mut dyn FnMut(&mut [Frame<'_>]),
    ) -> usize {
        self.bring_home();
        let mut taken = 0;
        let mut received = ArrayVec::<Received, BATCH>::new();
        while taken < BATCH
            && let Some(next) = self.receive.take()
        {
            taken += 1;
            match next {
                // There is room: at most as many are taken.
                Some(next) => _ = received.push(next),
                None => counters.invalid += 1,
            }
        }
        if taken == 0 {
            self.refill(true);
            return 0;
        }
        // Only the descriptors go back here. The chunks are this program's until they are in the fill ring again.
        self.receive.release();
        let umem = &self.umem;
        let mut frames = ArrayVec::<Frame<'_>, BATCH>::new();
        for Received { chunk, start, length } in &mut received {
            match Frame::new(umem.bytes(chunk), *start, *start + *length, port) {
                // Tunnels write their headers into this room in front.
                Some(mut frame) if *start >= HEADROOM => {
                    if detect {
                        checksum::detect(&mut frame);
                    }
                    counters.count(&frame);
                    let _ = frames.push(frame);
                }
                Some(_) | None => counters.invalid += 1,
            }
        }
        if !frames.is_empty() {
            judge(&mut frames);
        }
        drop(frames);
        for Received { chunk, .. } in received {
            match umem.settle(chunk) {
                Settled::Kept(chunk) => self.idle.push(chunk),
                Settled::Sent(away) => self.away.push_back(away),
            }
        }
        self.refill(false);
        taken
    }

    /// Takes back what was sent on and has been sent. Frames come back in the order in which they went by one port;
    /// where they go by several, a slow one must not hold the others' up.
    fn bring_home(&mut self) {
        let mut patience = if self.away.len() * 2 > self.part { LOOK_PAST } else { 0 };
        let mut left = self.away.len();
        while left > 0
            && let Some(away) = self.away.pop_front()
        {
            left -= 1;
            match self.umem.reclaim(away) {
                Ok(chunk) => self.idle.push(chunk),
                Err(away) if patience > 0 => {
                    patience -= 1;
                    self.away.push_back(away);
                }
                Err(away) => {
                    self.away.push_front(away);
                    break;
                }
            }
        }
    }

    /// Gives the kernel what it can write into again. Waits for another worker that does the same only where there is
    /// nothing else to do: nobody sleeps on chunks that others lack.
    fn refill(&mut self, has_time: bool) {
        let Self { socket, fill, idle, .. } = self;
        if idle.is_empty() {
            return;
        }
        let give = |fill: &mut FillRing| {
            // The ring has room for all of the queue's chunks.
            idle.drain(..).for_each(|chunk| drop(fill.give(chunk)));
            fill.submit()
        };
        let wants_waking = if has_time { Some(fill.soon(give)) } else { fill.now(give) };
        if wants_waking == Some(true) {
            socket.wake();
        }
    }
}

impl Receive for Receiver {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        if self.gone {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let Self { queues, next, detect, counters, .. } = self;
        for _ in 0..queues.len() {
            // The queues take turns, so that a busy one does not keep the others waiting.
            let index = *next;
            *next = (*next + 1) % queues.len();
            let Some(queue) = queues.get_mut(index) else { continue };
            let taken = queue.lend(port, *detect, counters, judge);
            if taken > 0 {
                return Ok(taken);
            }
        }
        Ok(0)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        match (&self.any, self.queues.first()) {
            (Some(any), _) => Some(any.as_fd()),
            (None, first) => first.map(Queue::as_fd),
        }
    }

    fn recover(&mut self) -> io::Result<()> {
        self.gone = self.is_gone();
        if self.gone { Err(io::Error::from_raw_os_error(libc::ENODEV)) } else { Ok(()) }
    }

    fn counters(&mut self) -> ReceiveCounters {
        let mut lost = 0;
        for queue in &self.queues {
            // Not answered only by a socket of another kind.
            if let Ok(statistics) = queue.socket.statistics() {
                lost += statistics.rx_dropped + statistics.rx_ring_full.unwrap_or(0);
            }
        }
        self.counters.lost = lost;
        // A socket does not tell of it.
        self.gone |= self.is_gone();
        self.counters
    }
}

impl Receiver {
    fn is_gone(&self) -> bool {
        // An AF_XDP socket cannot be asked.
        !interface::exists(&self.hold.memberships, self.interface)
    }
}

/// How many frames that are still being sent are passed over at a time when more than half of a queue's are.
const LOOK_PAST: usize = 64;
