//! Talking to a worker from other threads.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use lvs_core::config::ScheduleFlags;
use lvs_core::conn::Connection;
use lvs_core::error::{
    AddServerError, AddServiceError, EditServerError, EditServiceError, RemoveServerError, RemoveServiceError,
};
use lvs_core::sched::Schedule;
use lvs_core::service::{SchedulerOf, Server, Service, ServiceId};
use lvs_core::stats::Traffic;
use lvs_core::tables::TableBuilder;
use lvs_core::{ConnId, Director, Heap, ServerConfig, ServerId, ServiceConfig, ServiceKey, Store, Tick};
use lvs_forward::Forwarder;

use super::prebuild::{PlannedService, PrebuiltTables};
use crate::worker::Snapshot;

/// Something that a worker does between two batches.
pub(super) type Command<S, const A: usize, const N: usize> =
    Box<dyn FnOnce(&mut Director<S>, &mut Forwarder<A, N>, Tick) -> Answer + Send>;

/// Tells the asker, once all that follows from the command is done.
pub(super) type Answer = Box<dyn FnOnce()>;

/// Commands that wait at most; further ones wait in [`Handle::with`].
const COMMANDS: usize = 64;
/// Table entries that are listed between two batches: some microseconds' work.
const PAGE: u32 = 1_024;

/// Commands a running worker. Clones command the same one.
///
/// Every command waits until the worker has carried it out, between two batches and so within microseconds, unless the
/// command itself takes longer. None must be given to a worker by its own thread (from inside a command, or between
/// two [turns](super::Worker::turn)): it would wait for ever.
///
/// A worker that has stopped answers every command with [`WorkerGone`]. The parameters are those of the
/// [`Worker`](super::Worker).
pub struct Handle<S: Store = Heap, const A: usize = 64, const N: usize = 256> {
    commands: Sender<Command<S, A, N>>,
    waker: Arc<Waker>,
    published: Arc<Mutex<Snapshot>>,
}

/// What the worker holds of the connection to its handles.
pub(super) struct Inbox<S: Store, const A: usize, const N: usize> {
    commands: Receiver<Command<S, A, N>>,
    waker: Arc<Waker>,
    wake_rx: UnixStream,
    published: Arc<Mutex<Snapshot>>,
}

/// Wakes the worker.
pub(super) struct Waker {
    stop: Arc<AtomicBool>,
    wake_tx: UnixStream,
}

/// A new handle and the worker's side of it.
pub(super) fn channel<S: Store, const A: usize, const N: usize>(
    snapshot: Snapshot,
) -> io::Result<(Handle<S, A, N>, Inbox<S, A, N>)> {
    let (wake_tx, wake_rx) = UnixStream::pair()?;
    wake_tx.set_nonblocking(true)?;
    wake_rx.set_nonblocking(true)?;
    let (sender, receiver) = bounded(COMMANDS);
    let waker = Arc::new(Waker { stop: Arc::new(AtomicBool::new(false)), wake_tx });
    let published = Arc::new(Mutex::new(snapshot));
    let inbox = Inbox { commands: receiver, waker: waker.clone(), wake_rx, published: published.clone() };
    Ok((Handle { commands: sender, waker, published }, inbox))
}

impl Waker {
    pub(super) fn wake(&self) {
        // A full pipe wakes as well as a fuller one.
        let _ = (&self.wake_tx).write(&[0]);
    }

    /// Tells the worker to stop when the process gets one of the signals; `seen` says that it has had one, and that the
    /// next is to end it at once.
    pub(super) fn follow_signals(&self, seen: &Arc<AtomicBool>) -> io::Result<()> {
        use signal_hook::{consts, flag, low_level};
        for signal in [consts::SIGINT, consts::SIGTERM] {
            flag::register_conditional_default(signal, seen.clone())?;
            flag::register(signal, self.stop.clone())?;
            low_level::pipe::register(signal, OwnedFd::from(self.wake_tx.try_clone()?))?;
        }
        Ok(())
    }
}

impl<S: Store, const A: usize, const N: usize> Handle<S, A, N> {
    /// Runs a closure on the worker's director and forwarder, between two batches, and returns what it returns.
    ///
    /// This is the way to everything that has no method here. No packet moves meanwhile: it should be short.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder<A, N>, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        self.begin(work)?.recv().map_err(|_| WorkerGone)
    }

    /// The same without waiting: what the closure returns comes later.
    pub(super) fn begin<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder<A, N>, Tick) -> R + Send + 'static,
    ) -> Result<Receiver<R>, WorkerGone> {
        let (sender, receiver) = bounded(1);
        let command: Command<S, A, N> = Box::new(move |director, forwarder, now| {
            let result = work(director, forwarder, now);
            Box::new(move || {
                // Nobody waits for it if the asker died.
                let _ = sender.send(result);
            })
        });
        self.commands.send(command).map_err(|_| WorkerGone)?;
        self.waker.wake();
        Ok(receiver)
    }

    /// What wakes the worker.
    pub(super) const fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// [`Director::add_service`].
    ///
    /// # Errors
    /// [`WorkerGone`]; inside, the director's refusal.
    pub fn add_service(
        &self,
        key: ServiceKey,
        config: ServiceConfig<SchedulerOf<S>>,
    ) -> Result<Result<ServiceId, AddServiceError>, WorkerGone>
    where
        SchedulerOf<S>: Send + 'static,
    {
        self.with(move |director, _, _| director.add_service(key, config))
    }

    /// [`Director::edit_service`].
    ///
    /// # Errors
    /// [`WorkerGone`]; inside, the director's refusal.
    pub fn edit_service(
        &self,
        key: ServiceKey,
        config: ServiceConfig<SchedulerOf<S>>,
    ) -> Result<Result<(), EditServiceError>, WorkerGone>
    where
        SchedulerOf<S>: Send + 'static,
    {
        let next = TableBuilder::of(&config.scheduler, key.family());
        let name = config.scheduler.name();
        let read = move |director: &mut Director<S>, _: &mut _, _| {
            // Another one of the same name changes nothing.
            let keeps = director.service(key).is_none_or(|service| service.scheduler().name() == name);
            if keeps { None } else { PlannedService::read(director, key, true) }
        };
        let planned = if next.is_some() { self.with(read)? } else { None };
        let tables = planned.map(|mut planned| {
            planned.reschedule(&config.scheduler);
            PrebuiltTables::of(&[planned])
        });
        self.with_tables(tables, move |director, _, _| director.edit_service(key, config))
    }

    /// [`Director::remove_service`].
    ///
    /// # Errors
    /// [`WorkerGone`]; inside, the director's refusal.
    pub fn remove_service(&self, key: ServiceKey) -> Result<Result<(), RemoveServiceError>, WorkerGone> {
        self.with(move |director, _, _| director.remove_service(key))
    }

    /// [`Director::add_server`]. The server's link-layer address is asked for at once.
    ///
    /// # Errors
    /// [`WorkerGone`]; inside, the director's refusal.
    pub fn add_server(
        &self,
        service: ServiceKey,
        server: ServerConfig,
    ) -> Result<Result<ServerId, AddServerError>, WorkerGone> {
        let tables = self.tables(service, |planned| planned.add(&server))?;
        self.with_tables(tables, move |director, forwarder, now| {
            let added = director.add_server(service, server);
            if added.is_ok() {
                forwarder.host_mut().look_for(now, server.address.ip());
            }
            added
        })
    }

    /// [`Director::edit_server`].
    ///
    /// # Errors
    /// [`WorkerGone`]; inside, the director's refusal.
    pub fn edit_server(
        &self,
        service: ServiceKey,
        server: ServerConfig,
    ) -> Result<Result<(), EditServerError>, WorkerGone> {
        let tables = self.tables(service, |planned| planned.edit(&server))?;
        self.with_tables(tables, move |director, _, _| director.edit_server(service, server))
    }

    /// [`Director::remove_server`].
    ///
    /// # Errors
    /// [`WorkerGone`]; inside, the director's refusal.
    pub fn remove_server(
        &self,
        service: ServiceKey,
        address: SocketAddr,
    ) -> Result<Result<(), RemoveServerError>, WorkerGone> {
        let tables = self.tables(service, |planned| planned.remove(address))?;
        self.with_tables(tables, move |director, _, _| director.remove_server(service, address))
    }

    /// The look-up table that a service is going to need, if it can be made ahead: here, while the worker goes on.
    fn tables(
        &self,
        service: ServiceKey,
        change: impl FnOnce(&mut PlannedService),
    ) -> Result<Option<PrebuiltTables>, WorkerGone> {
        let planned = self.with(move |director, _, _| PlannedService::read(director, service, false))?;
        Ok(planned.map(|mut planned| {
            change(&mut planned);
            PrebuiltTables::of(&[planned])
        }))
    }

    /// Runs a closure as [`with`](Self::with) does, and gives the director these tables after it.
    fn with_tables<R: Send + 'static>(
        &self,
        tables: Option<PrebuiltTables>,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder<A, N>, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        let Some(mut tables) = tables else { return self.with(work) };
        let work = move |director: &mut Director<S>, forwarder: &mut _, now| {
            let done = work(director, forwarder, now);
            tables.adopt(director);
            // Back to where they were made: the worker need not return their memory.
            (done, tables)
        };
        self.with(work).map(|(done, _)| done)
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

    /// The services with their real servers, all at one moment.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn services(&self) -> Result<Vec<ServiceListing>, WorkerGone> {
        self.with(|director, _, _| {
            let listing = |service: &Service<SchedulerOf<S>>| ServiceListing {
                key: service.key(),
                scheduler: service.scheduler().name(),
                flags: service.flags(),
                traffic: service.traffic(),
                servers: director.servers(service.key()).map(|(id, server)| (id, server.clone())).collect(),
            };
            director.services().map(listing).collect()
        })
    }

    /// The live connections, as they were at moments within some milliseconds: the table is read a part at a time, so
    /// that packets go on, and one that opens or closes meanwhile may be in the list or not.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn connections(&self) -> Result<Vec<Connection>, WorkerGone> {
        let capacity = self.with(|director, _, _| director.capacity())?;
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        let mut found = Vec::new();
        for first in (0..capacity).step_by(PAGE as usize) {
            let page: Vec<Connection> = self.with(move |director, _, now| {
                let ids = (first..capacity.min(first + PAGE)).map(ConnId::from_index);
                ids.filter_map(|id| director.connection(id, now)).collect()
            })?;
            found.extend(page);
        }
        Ok(found)
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

    /// Makes the worker stop when the process gets SIGINT or SIGTERM, which then no longer end it. A second one ends
    /// the process at once, should the worker be stuck.
    ///
    /// # Errors
    /// When the process has no file descriptor left, or the signal handler is refused.
    pub fn stop_on_signals(&self) -> io::Result<()> {
        self.waker.follow_signals(&self.waker.stop)
    }
}

impl<S: Store, const A: usize, const N: usize> Clone for Handle<S, A, N> {
    fn clone(&self) -> Self {
        let Self { commands, waker, published } = self;
        Self { commands: commands.clone(), waker: waker.clone(), published: published.clone() }
    }
}

impl<S: Store, const A: usize, const N: usize> fmt::Debug for Handle<S, A, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<S: Store, const A: usize, const N: usize> Inbox<S, A, N> {
    /// The next command, if one waits.
    pub(super) fn next(&self) -> Option<Command<S, A, N>> {
        self.commands.try_recv().ok()
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
        if let Ok(mut snapshot) = self.published.try_lock() {
            fill(&mut snapshot);
        }
    }
}

/// A service in [`Handle::services`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceListing {
    /// What it is reached by.
    pub key: ServiceKey,
    /// Its scheduler's name.
    pub scheduler: &'static str,
    /// Options of the hashing schedulers.
    pub flags: ScheduleFlags,
    /// What went through it.
    pub traffic: Traffic,
    /// Its real servers, the one added last first.
    pub servers: Vec<(ServerId, Server)>,
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
