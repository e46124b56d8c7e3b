//! The sockets of all ports: one for each queue of an interface and each worker, over one memory.
//!
//! ```text
//!            worker 0      worker 1      worker 2
//! queue 0    socket (tx)   socket        socket (tx)    one fill ring, one completion ring
//! queue 1    socket        socket (tx)   socket         one fill ring, one completion ring
//! ```
//!
//! The program in the kernel chooses a frame's socket: its row is the queue that the frame came by, and its column the
//! worker that its client has. So a worker reads its own receive ring of every queue, whose only writer is the queue.
//! Each worker sends by one socket, at the sending queue that its number says. What the sockets of a row share, they
//! use by turns.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::thread;

use super::OpenError;
use super::error::XdpStep;
use super::plan::{FEWEST_FRAMES, LINK, Plan};
use super::receive::Queue;
use super::transmit::Transmitter;
use super::turns::Turns;
use crate::sys::xsk::{
    Chunk, CompletionRing, FillRing, ReceiveRing, Sharing, Sizes, TransmitRing, Umem, XdpSocket,
};

/// The sockets of one port, all bound.
pub(super) struct Sockets {
    /// All of them, each with the number of its queue and that of its worker.
    pub(super) all: Vec<(u32, usize, Arc<XdpSocket>)>,
    /// What each worker has of them.
    pub(super) workers: Vec<Part>,
}

/// One worker's part of a port.
pub(super) struct Part {
    pub(super) queues: Vec<Queue>,
    pub(super) transmitter: Transmitter,
}

/// A socket that was bound, before its queue's rings are shared out.
struct Bound {
    socket: Arc<XdpSocket>,
    receive: ReceiveRing,
    transmit: Option<TransmitRing>,
}

/// Opens the sockets of all ports with one memory, for so many workers.
pub(super) fn open(plans: &[Plan<'_>], workers: usize, zero_copy: bool) -> Result<Vec<Sockets>, OpenError> {
    let Some(first) = plans.first() else { return Ok(Vec::new()) };
    let all = plans.iter().map(|plan| plan.chunks(workers)).fold(0, u32::saturating_add);
    let (umem, chunks) = Umem::new(Plan::chunk(plans), all).map_err(first.at(XdpStep::Memory))?;
    let mut opener = Opener { umem, chunks, all, workers, zero_copy, root: None };
    plans.iter().map(|plan| opener.port(plan)).collect()
}

struct Opener {
    umem: Arc<Umem>,
    /// Chunks that are still nobody's.
    chunks: Vec<Chunk>,
    all: u32,
    workers: usize,
    zero_copy: bool,
    /// The socket with which the memory was registered.
    root: Option<Arc<XdpSocket>>,
}

impl Opener {
    fn port(&mut self, plan: &Plan<'_>) -> Result<Sockets, OpenError> {
        let mut all = Vec::new();
        let mut queues: Vec<Vec<Queue>> = (0..self.workers).map(|_| Vec::new()).collect();
        let mut transmitters: Vec<Option<Transmitter>> = (0..self.workers).map(|_| None).collect();
        for number in 0..plan.queues {
            let mut bound = Vec::new();
            let mut rings = None;
            for worker in 0..self.workers {
                let first = bound.first().map(|bound: &Bound| bound.socket.clone());
                let (one, of_queue) = self.socket(plan, (number, worker), first.as_deref())?;
                all.push((number, worker, one.socket.clone()));
                rings = rings.or(of_queue);
                bound.push(one);
            }
            // The first socket of a queue brings them.
            let (mut fill, completion) =
                rings.ok_or_else(|| plan.at(XdpStep::Register)(io::ErrorKind::NotFound.into()))?;
            for chunk in self.take(plan.frames.0) {
                // The ring has room for all of the queue's chunks.
                drop(fill.give(chunk));
            }
            fill.submit();
            let senders = bound.iter().filter(|bound| bound.transmit.is_some()).count();
            let mut completions = Turns::of(completion, senders).into_iter();
            let fills = Turns::of(fill, self.workers);
            for ((worker, bound), fill) in bound.into_iter().enumerate().zip(fills) {
                let Bound { socket, receive, transmit } = bound;
                if let Some(ring) = transmit
                    && let Some(completion) = completions.next()
                    && let Some(place) = transmitters.get_mut(worker)
                {
                    let free = self.take(plan.frames.1);
                    let longest = plan.interface.mtu + LINK;
                    *place = Some(Transmitter::new(socket.clone(), ring, completion, free, longest));
                }
                if let Some(queues) = queues.get_mut(worker) {
                    queues.push(Queue::new(
                        socket,
                        receive,
                        fill,
                        (plan.frames.0 as usize, plan.part(self.workers) as usize),
                    ));
                }
            }
        }
        let mut workers = Vec::new();
        for (queues, transmitter) in queues.into_iter().zip(transmitters) {
            // Every worker's number, modulo how many queues send, is a queue's.
            let transmitter =
                transmitter.ok_or_else(|| plan.at(XdpStep::Register)(io::ErrorKind::NotFound.into()))?;
            workers.push(Part { queues, transmitter });
        }
        Ok(Sockets { all, workers })
    }

    /// A socket with its rings, bound to its queue; `first` is another one at that queue.
    fn socket(
        &mut self,
        plan: &Plan<'_>,
        (queue, worker): (u32, usize),
        first: Option<&XdpSocket>,
    ) -> Result<(Bound, Option<(FillRing, CompletionRing)>), OpenError> {
        let sharing = match (first, &self.root) {
            (Some(first), _) => Sharing::Queue(first),
            (None, Some(root)) => Sharing::With(root),
            (None, None) => Sharing::First { zero_copy: self.zero_copy },
        };
        let sends = worker % plan.senders as usize == queue as usize;
        let sizes = Sizes {
            receive: plan.receive_ring(self.workers),
            fill: plan.frames.0,
            transmit: if sends { TRANSMIT_RING } else { 0 },
            // Whoever sends may send everything that there is.
            completion: if queue < plan.senders && (queue as usize) < self.workers {
                self.all.next_power_of_two()
            } else {
                FEWEST_FRAMES
            },
        };
        let step = |error: io::Error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EAFNOSUPPORT) => plan.at(XdpStep::Socket)(error),
            _ => plan.at(XdpStep::Register)(error),
        };
        let (socket, rings) = XdpSocket::new(&self.umem, sizes, sharing).map_err(step)?;
        bind(&socket, plan.interface.index, queue, sharing).map_err(plan.at(XdpStep::Bind))?;
        let socket = Arc::new(socket);
        self.root.get_or_insert_with(|| socket.clone());
        Ok((Bound { socket, receive: rings.receive, transmit: rings.transmit }, rings.queue))
    }

    /// The last `count` of the chunks, which are as many as were planned.
    fn take(&mut self, count: u32) -> Vec<Chunk> {
        self.chunks.split_off(self.chunks.len().saturating_sub(count as usize))
    }
}

/// Binds a socket. The kernel frees a queue a moment after the socket is closed that had it.
fn bind(socket: &XdpSocket, interface: u32, queue: u32, sharing: Sharing<'_>) -> io::Result<()> {
    let mut attempts = 0;
    loop {
        match socket.bind(interface, queue, sharing) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempts < BUSY_ATTEMPTS => {
                attempts += 1;
                thread::sleep(BUSY_WAIT);
            }
            result => return result,
        }
    }
}

/// How often, and after how long, a queue is tried again that is taken.
const BUSY_ATTEMPTS: u32 = 50;
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// Frames that can wait to be sent.
const TRANSMIT_RING: u32 = 2_048;
