//! What workers that share the work of one director hand to each other: the rare frames that the kernel cannot steer.
//!
//! The first worker gets them. It hands copies on: what neighbours say of themselves to all, because each worker knows
//! its own neighbours; ICMP errors and fragments to the worker whose connection they are about. The common packet meets
//! none of this.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use lvs_core::Tick;
use lvs_forward::parse::Link;
use lvs_forward::{Frame, HEADROOM, Offload, PortId};

use super::handle::Waker;
use super::questions::Questions;
use crate::steering::Steer;
use crate::steering::dispatch::{Dispatch, Dispatcher, Waiting};

/// A copy of a frame on its way to another worker.
pub(super) struct FrameCopy {
    /// Headroom and frame.
    bytes: Vec<u8>,
    port: PortId,
    offload: Offload,
    mark: u32,
    /// Another worker answers it, if it is to be answered.
    pub(super) hearsay: bool,
}

/// The post of all workers of a director.
struct Mailboxes {
    queues: Vec<ArrayQueue<FrameCopy>>,
    /// Memory of copies that have been read.
    pool: ArrayQueue<Vec<u8>>,
    wakers: Vec<Arc<Waker>>,
    questions: Questions,
}

/// One worker's part in the post.
pub(super) struct Mailbox {
    mailboxes: Arc<Mailboxes>,
    own: usize,
    /// The first worker's.
    first: Option<Box<FirstWorker>>,
}

struct FirstWorker {
    dispatcher: Dispatcher,
    waiting: Waiting<FrameCopy>,
}

/// What became of copies that a worker wanted to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HandedOver {
    pub(super) sent: u64,
    /// Lost because a box was full, or because the first fragment did not come before too many others.
    pub(super) lost: u64,
}

impl Mailbox {
    /// The parts of so many workers, in their order.
    pub(super) fn of(steer: Steer, wakers: Vec<Arc<Waker>>) -> Vec<Self> {
        let queues = wakers.iter().map(|_| ArrayQueue::new(MAILBOX_LENGTH)).collect();
        let workers = wakers.len();
        let pool = ArrayQueue::new(MAILBOX_LENGTH);
        let mailboxes = Arc::new(Mailboxes { queues, pool, wakers, questions: Questions::new() });
        let first = |own: usize| {
            (own == 0).then(|| {
                Box::new(FirstWorker { dispatcher: Dispatcher::new(steer), waiting: Waiting::new() })
            })
        };
        (0..workers).map(|own| Self { mailboxes: mailboxes.clone(), own, first: first(own) }).collect()
    }

    /// Hands on what belongs to others of the frames that came in by a port. Says by bits which of them are done with
    /// that.
    #[inline]
    pub(super) fn dispatch(
        &mut self,
        now: Tick,
        frames: &[Frame<'_>],
        link: Link,
        owns: impl Fn(IpAddr) -> bool,
        handed_over: &mut HandedOver,
    ) -> u32 {
        // A batch has no more frames than bits.
        let Some(first) = &self.first else { return 0 };
        // Nearly every frame was steered by the kernel, so a look at a few bytes of each has to be enough for a whole
        // batch.
        let mut doubtful = 0_u32;
        for (at, frame) in frames.iter().enumerate() {
            doubtful |= u32::from(link != Link::Ethernet || !first.dispatcher.is_steered(frame)) << at;
        }
        if doubtful == 0 { 0 } else { self.dispatch_doubtful(now, frames, doubtful, link, owns, handed_over) }
    }

    #[cold]
    fn dispatch_doubtful(
        &mut self,
        now: Tick,
        frames: &[Frame<'_>],
        doubtful: u32,
        link: Link,
        owns: impl Fn(IpAddr) -> bool,
        handed_over: &mut HandedOver,
    ) -> u32 {
        let Self { mailboxes, own, first } = self;
        let Some(first) = first else { return 0 };
        let mut done = 0;
        for (at, frame) in frames.iter().enumerate().filter(|(at, _)| doubtful & 1 << at != 0) {
            let away = match first.dispatcher.dispatch(now, frame, link, &owns) {
                Dispatch::Here => false,
                Dispatch::At(to) => {
                    mailboxes.send(to, mailboxes.write(frame, false), handed_over);
                    true
                }
                Dispatch::Everyone => {
                    // Marked as hearsay, because a question for a MAC address wants one answer and not one of each
                    // worker.
                    for to in (0..mailboxes.queues.len()).filter(|to| to != own) {
                        mailboxes.send(to, mailboxes.write(frame, true), handed_over);
                    }
                    false
                }
                Dispatch::Later(datagram) => {
                    if let Some(gone) = first.waiting.hold(datagram, mailboxes.write(frame, false)) {
                        handed_over.lost += 1;
                        mailboxes.keep(gone.bytes);
                    }
                    true
                }
                Dispatch::First(datagram, to) => {
                    for copy in first.waiting.take(datagram) {
                        mailboxes.send(to, copy, handed_over);
                    }
                    if to != *own {
                        mailboxes.send(to, mailboxes.write(frame, false), handed_over);
                    }
                    to != *own
                }
            };
            done |= u32::from(away) << at;
        }
        done
    }

    /// What any of them has asked lately.
    pub(super) fn questions(&self) -> &Questions {
        &self.mailboxes.questions
    }

    /// The next copy to this worker.
    pub(super) fn next(&self) -> Option<FrameCopy> {
        self.mailboxes.queues.get(self.own)?.pop()
    }

    /// Takes a copy back that has been read.
    pub(super) fn keep(&self, copy: FrameCopy) {
        self.mailboxes.keep(copy.bytes);
    }
}

impl Mailboxes {
    /// A copy of a frame, on used pool if there is some.
    fn write(&self, frame: &Frame<'_>, hearsay: bool) -> FrameCopy {
        let mut bytes = self.pool.pop().unwrap_or_else(|| Vec::with_capacity(HEADROOM + COMMON_LENGTH));
        bytes.clear();
        bytes.resize(HEADROOM, 0);
        bytes.extend_from_slice(frame.bytes());
        // What is answered in place may be longer.
        bytes.resize(bytes.len() + TAILROOM, 0);
        FrameCopy { bytes, port: frame.port, offload: frame.offload, mark: frame.mark, hearsay }
    }

    fn send(&self, to: usize, copy: FrameCopy, handed_over: &mut HandedOver) {
        let Some((copies, waker)) = self.queues.get(to).zip(self.wakers.get(to)) else { return };
        match copies.push(copy) {
            Ok(()) => handed_over.sent += 1,
            Err(copy) => {
                handed_over.lost += 1;
                self.keep(copy.bytes);
            }
        }
        // Also when the queue is full: its owner may be asleep, and nobody else empties it.
        waker.wake();
    }

    fn keep(&self, pool: Vec<u8>) {
        // What is too much is given back to the machine.
        let _ = self.pool.push(pool);
    }
}

impl FrameCopy {
    /// The frame in it, as it came in.
    pub(super) fn frame(&mut self) -> Option<Frame<'_>> {
        let end = self.bytes.len().checked_sub(TAILROOM)?;
        let mut frame = Frame::new(&mut self.bytes, HEADROOM, end, self.port)?.with_offload(self.offload);
        frame.mark = self.mark;
        Some(frame)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Copies that a worker can have unread.
const MAILBOX_LENGTH: usize = 256;
/// How long a copy is that needs no more memory than it had first.
const COMMON_LENGTH: usize = 2_048;
const TAILROOM: usize = 64;

const _: () = assert!(crate::device::BATCH <= 32);
