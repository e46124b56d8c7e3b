//! What workers that share the work of one director hand to each other: the rare frames that the kernel cannot steer.
//!
//! The first worker gets them. It hands copies on: what neighbours say of themselves to all, because each worker knows its own
//! neighbours; ICMP errors and fragments to the worker whose connection they are about. The common packet meets none of this.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use lvs_core::Tick;
use lvs_forward::parse::Link;
use lvs_forward::{Frame, HEADROOM, Offload, PortId};

use super::handle::Bell;
use crate::steer::Steer;
use crate::steer::sorter::{Place, Sorter, Waiting};

/// A copy of a frame on its way to another worker.
pub(super) struct Letter {
    /// Headroom and frame.
    bytes: Vec<u8>,
    port: PortId,
    offload: Offload,
    mark: u32,
    /// Another worker answers it, if it is to be answered.
    pub(super) hearsay: bool,
}

/// The post of all workers of a director.
struct Office {
    boxes: Vec<ArrayQueue<Letter>>,
    /// Memory of letters that have been read.
    paper: ArrayQueue<Vec<u8>>,
    bells: Vec<Arc<Bell>>,
}

/// One worker's part in the post.
pub(super) struct Post {
    office: Arc<Office>,
    own: usize,
    /// The first worker's.
    desk: Option<Box<Desk>>,
}

struct Desk {
    sorter: Sorter,
    waiting: Waiting<Letter>,
}

/// What became of letters that a worker wanted to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Posted {
    pub(super) sent: u64,
    /// Lost because a box was full, or because the first fragment did not come before too many others.
    pub(super) lost: u64,
}

impl Post {
    /// The parts of so many workers, in their order.
    pub(super) fn of(steer: Steer, bells: Vec<Arc<Bell>>) -> Vec<Self> {
        let boxes = bells.iter().map(|_| ArrayQueue::new(LETTERS)).collect();
        let workers = bells.len();
        let office = Arc::new(Office { boxes, paper: ArrayQueue::new(LETTERS), bells });
        let desk = |own: usize| {
            (own == 0).then(|| Box::new(Desk { sorter: Sorter::new(steer), waiting: Waiting::new() }))
        };
        (0..workers).map(|own| Self { office: office.clone(), own, desk: desk(own) }).collect()
    }

    /// Hands on what belongs to others of the frames that came in by a port. Says by bits which of them are done with that.
    #[inline]
    pub(super) fn sort(
        &mut self,
        now: Tick,
        frames: &[Frame<'_>],
        link: Link,
        owns: impl Fn(IpAddr) -> bool,
        posted: &mut Posted,
    ) -> u32 {
        // A batch has no more frames than bits.
        let Some(desk) = &self.desk else { return 0 };
        let mut doubtful = 0_u32;
        for (at, frame) in frames.iter().enumerate() {
            doubtful |= u32::from(link != Link::Ethernet || !desk.sorter.is_steered(frame)) << at;
        }
        if doubtful == 0 { 0 } else { self.sort_out(now, frames, doubtful, link, owns, posted) }
    }

    #[cold]
    fn sort_out(
        &mut self,
        now: Tick,
        frames: &[Frame<'_>],
        doubtful: u32,
        link: Link,
        owns: impl Fn(IpAddr) -> bool,
        posted: &mut Posted,
    ) -> u32 {
        let Self { office, own, desk } = self;
        let Some(desk) = desk else { return 0 };
        let mut done = 0;
        for (at, frame) in frames.iter().enumerate().filter(|(at, _)| doubtful & 1 << at != 0) {
            let away = match desk.sorter.place(now, frame, link, &owns) {
                Place::Here => false,
                Place::At(to) => {
                    office.send(to, office.write(frame, false), posted);
                    true
                }
                Place::Everyone => {
                    for to in (0..office.boxes.len()).filter(|to| to != own) {
                        office.send(to, office.write(frame, true), posted);
                    }
                    false
                }
                Place::Later(datagram) => {
                    if let Some(gone) = desk.waiting.hold(datagram, office.write(frame, false)) {
                        posted.lost += 1;
                        office.keep(gone.bytes);
                    }
                    true
                }
                Place::First(datagram, to) => {
                    for letter in desk.waiting.take(datagram) {
                        office.send(to, letter, posted);
                    }
                    if to != *own {
                        office.send(to, office.write(frame, false), posted);
                    }
                    to != *own
                }
            };
            done |= u32::from(away) << at;
        }
        done
    }

    /// The next letter to this worker.
    pub(super) fn next(&self) -> Option<Letter> {
        self.office.boxes.get(self.own)?.pop()
    }

    /// Takes a letter back that has been read.
    pub(super) fn keep(&self, letter: Letter) {
        self.office.keep(letter.bytes);
    }
}

impl Office {
    /// A copy of a frame, on used paper if there is some.
    fn write(&self, frame: &Frame<'_>, hearsay: bool) -> Letter {
        let mut bytes = self.paper.pop().unwrap_or_else(|| Vec::with_capacity(HEADROOM + PAPER));
        bytes.clear();
        bytes.resize(HEADROOM, 0);
        bytes.extend_from_slice(frame.bytes());
        // What is answered in place may be longer.
        bytes.resize(bytes.len() + TAILROOM, 0);
        Letter { bytes, port: frame.port, offload: frame.offload, mark: frame.mark, hearsay }
    }

    fn send(&self, to: usize, letter: Letter, posted: &mut Posted) {
        let Some((letters, bell)) = self.boxes.get(to).zip(self.bells.get(to)) else { return };
        match letters.push(letter) {
            Ok(()) => posted.sent += 1,
            Err(letter) => {
                posted.lost += 1;
                self.keep(letter.bytes);
            }
        }
        bell.ring();
    }

    fn keep(&self, paper: Vec<u8>) {
        // What is too much is given back to the machine.
        let _ = self.paper.push(paper);
    }
}

impl Letter {
    /// The frame in it, as it came in.
    pub(super) fn frame(&mut self) -> Option<Frame<'_>> {
        let end = self.bytes.len().checked_sub(TAILROOM)?;
        let mut frame = Frame::new(&mut self.bytes, HEADROOM, end, self.port)?.with_offload(self.offload);
        frame.mark = self.mark;
        Some(frame)
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Letters that a worker can have unread.
const LETTERS: usize = 256;
/// How long a letter is that needs no more memory than it had first.
const PAPER: usize = 2_048;
const TAILROOM: usize = 64;

const _: () = assert!(crate::device::BATCH <= 32);
