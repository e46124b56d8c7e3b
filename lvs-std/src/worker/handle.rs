//! Talking to a worker from other threads.

use core::fmt;
use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use lvs_core::{Director, Heap, Store, Tick};
use lvs_forward::Forwarder;

use super::slots::Slots;
use crate::trace::Tracer;
use crate::worker::Snapshot;

/// Something that a worker does between two batches.
pub(super) type Command<S> =
    Box<dyn FnOnce(&mut Director<S>, &mut Forwarder, &mut Slots<'_>, Tick) -> Answer + Send>;

/// Tells the asker, once all that follows from the command is done.
pub(super) type Answer = Box<dyn FnOnce()>;

/// Commands that wait at most; further ones wait in [`Handle::with`].
const COMMANDS: usize = 64;

/// Commands a running worker. Clones command the same one.
///
/// Every command waits until the worker has carried it out, between two batches and so within microseconds, unless the
/// command itself takes longer. None must be given to a worker by its own thread (from inside a command, or between
/// two [turns](super::Worker::turn)): it would wait for ever.
///
/// A worker whose [run](super::Worker::run) is over answers every command with [`WorkerGone`]. The parameters are those
/// of the [`Worker`](super::Worker).
pub struct Handle<S: Store = Heap> {
    // This channel drops what waits in it when the worker goes, so that whoever waits for an answer hears of that. A
    // channel of several receivers would keep it until the last handle goes.
    commands: SyncSender<Command<S>>,
    waker: Arc<Waker>,
    published: Arc<Mutex<Snapshot>>,
}

/// What the worker holds of the connection to its handles.
pub(super) struct Inbox<S: Store> {
    /// `None` when the worker has ended.
    commands: Option<Receiver<Command<S>>>,
    waker: Arc<Waker>,
    wake_rx: UnixStream,
    published: Arc<Mutex<Snapshot>>,
}

/// Wakes the worker.
pub(super) struct Waker {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) wake_tx: UnixStream,
}

/// A new handle and the worker's side of it.
pub(super) fn channel<S: Store>(snapshot: Snapshot) -> io::Result<(Handle<S>, Inbox<S>)> {
    let (wake_tx, wake_rx) = UnixStream::pair()?;
    // A worker that is behind must not hold up those who wake it, and an empty pipe must not hold up the worker.
    wake_tx.set_nonblocking(true)?;
    wake_rx.set_nonblocking(true)?;
    let (sender, receiver) = sync_channel(COMMANDS);
    let waker = Arc::new(Waker { stop: Arc::new(AtomicBool::new(false)), wake_tx });
    let published = Arc::new(Mutex::new(snapshot));
    let inbox =
        Inbox { commands: Some(receiver), waker: waker.clone(), wake_rx, published: published.clone() };
    Ok((Handle { commands: sender, waker, published }, inbox))
}

impl Waker {
    pub(super) fn wake(&self) {
        // A full pipe wakes as well as a fuller one.
        let _ = (&self.wake_tx).write(&[0]);
    }
}

impl<S: Store> Handle<S> {
    /// Runs a closure on the worker's director and forwarder, between two batches, and returns what it returns.
    ///
    /// Everything that has no method here is reached this way. No packet moves meanwhile: it should be short. Services
    /// and servers are changed by a [`Controller`](crate::control::Controller), which knows what was declared of them
    /// and makes large look-up tables before it holds up packets.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        self.begin(work)?.recv().map_err(|_| WorkerGone)
    }

    /// Runs a closure without waiting: what the closure returns comes later.
    pub(super) fn begin<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<Receiver<R>, WorkerGone> {
        self.begin_with_slots(move |director, forwarder, _, now| work(director, forwarder, now))
    }

    /// Runs a closure that exchanges devices, without waiting: what the closure returns comes later.
    pub(super) fn begin_with_slots<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, &mut Slots<'_>, Tick) -> R + Send + 'static,
    ) -> Result<Receiver<R>, WorkerGone> {
        let (sender, receiver) = sync_channel(1);
        let command: Command<S> = Box::new(move |director, forwarder, slots, now| {
            let result = work(director, forwarder, slots, now);
            // A step of its own, because the worker settles the flow offload between the command and its answer.
            Box::new(move || {
                // Nobody waits for it if the asker died.
                let _ = sender.send(result);
            })
        });
        self.commands.send(command).map_err(|_| WorkerGone)?;
        self.waker.wake();
        Ok(receiver)
    }

    /// Has the worker record what becomes of packets, or stop that. Returns the tracer that it had, so that it need not
    /// free the memory.
    pub(super) fn trace(&self, tracer: Option<Box<Tracer>>) -> Result<Option<Box<Tracer>>, WorkerGone> {
        self.begin_with_slots(move |_, _, slots, _| slots.trace(tracer))?.recv().map_err(|_| WorkerGone)
    }

    /// What wakes the worker.
    pub(super) const fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// Announces one of the director's own addresses on its links, or all of them with `None`: take-over from another
    /// director. False when it does not have that address.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn announce(&self, address: Option<IpAddr>) -> Result<bool, WorkerGone> {
        self.with(move |_, forwarder, now| match address {
            Some(address) => forwarder.host_mut().announce(now, address),
            None => {
                forwarder.host_mut().announce_all(now);
                true
            }
        })
    }

    /// The numbers that the worker published last, about a second ago at most. Takes no time of the worker's.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the worker to stop; it does so after the batch that it is at. To know when it has, join its thread.
    pub fn stop(&self) {
        self.waker.stop.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl<S: Store> Clone for Handle<S> {
    fn clone(&self) -> Self {
        let Self { commands, waker, published } = self;
        Self { commands: commands.clone(), waker: waker.clone(), published: published.clone() }
    }
}

impl<S: Store> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<S: Store> Inbox<S> {
    /// The next command, if one waits.
    pub(super) fn next(&self) -> Option<Command<S>> {
        self.commands.as_ref()?.try_recv().ok()
    }

    /// Takes no command any more: whoever waits for one that was not carried out learns that it will not be.
    pub(super) fn close(&mut self) {
        self.commands = None;
    }

    /// Whether the worker has been told to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.waker.stop.load(Ordering::Acquire)
    }

    /// Readable when the waker has rung since the last [`clear_wakes`](Self::clear_wakes).
    pub(super) fn wake_rx(&self) -> BorrowedFd<'_> {
        self.wake_rx.as_fd()
    }

    /// Takes note of the waker; to be called before looking for commands.
    pub(super) fn clear_wakes(&self) {
        let mut wakes = [0; 64];
        while (&self.wake_rx).read(&mut wakes).is_ok_and(|count| count == wakes.len()) {}
    }

    /// Publishes new numbers, unless somebody is just reading the old ones.
    pub(super) fn publish(&self, fill: impl FnOnce(&mut Snapshot)) {
        // The worker waits for no reader, who gets the next numbers a second later.
        if let Ok(mut snapshot) = self.published.try_lock() {
            fill(&mut snapshot);
        }
    }
}

/// The worker has stopped, and the command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct WorkerGone;

impl fmt::Display for WorkerGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker has stopped")
    }
}

impl core::error::Error for WorkerGone {}
