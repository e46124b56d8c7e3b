//! Starting a director, and waiting for its end.

use core::sync::atomic::{AtomicBool, Ordering};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use lvs_core::Tick;

use super::drain::Drains;
use super::events::Events;
use super::handle::Parts;
use super::options::beside;
use super::reload::Reconciler;
use super::shutdown::Shutdown;
use super::supervisor::Supervised;
use super::sync::{Sync, SyncControl};
use super::threads::Threads;
use super::trace::Traces;
use super::{
    Assembly, Part, Problems, RunError, RuntimeController, RuntimeHandle, RuntimeOptions, SharedController,
    StartError, Statistics, addresses, guest, memory,
};
use crate::config::ConfigSource;
use crate::control::api::ApiServer;
use crate::control::{Controller, Durability, Journal, ServeOptions, Serving, serve};
use crate::ownership::{Access, OwnedState, Ownership, OwnershipError};
use crate::worker::End;

/// A director at work, until it is [stopped](RuntimeHandle::stop) or dropped.
#[derive(Debug)]
pub struct Runtime {
    // In the order in which they end: nobody shall ask, then nothing shall forward.
    serving: Option<(Serving, ApiServer)>,
    handle: RuntimeHandle,
    threads: Option<Threads>,
    /// What the director has in the kernel, and takes back at its end.
    beside_kernel: Option<JoinHandle<()>>,
    /// Set when the director ends because it can use none of its interfaces.
    without: Arc<AtomicBool>,
    /// Given up last: until then nobody else may begin.
    ownership: Ownership,
}

/// What is left of a director that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Why it ended: [`End::Stopped`], or [`End::Ended`] when its devices were recordings that were played to their
    /// end.
    pub end: End,
    /// What it has done.
    pub statistics: Statistics,
}

impl Runtime {
    /// Starts the director that a configuration describes, with its interfaces opened.
    ///
    /// The source is a [`Configuration`](crate::config::Configuration), or a [`ConfigSource`] with its text or file,
    /// so that a later start knows what the director was told, and [`RuntimeHandle::reload_file`] where to look.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(source: impl Into<ConfigSource>, options: RuntimeOptions) -> Result<Self, StartError> {
        let source = source.into();
        // Before anything is read, opened or bound: a second start by mistake touches nothing of the first one.
        let owned = Assembly::claims(&source.configuration, options.claims()).take()?;
        let assembly = Assembly::open(&source.configuration, &owned)?;
        Self::start_with(assembly, Some(source), options, owned)
    }

    /// Starts a director from workers of the program's own, for example with devices of its own. A source says what
    /// services they have; without one, nothing is reloaded or checked.
    ///
    /// `owned` has what the [options claim](RuntimeOptions::claims), and the interfaces behind the devices: it is
    /// taken before these are opened.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_with(
        assembly: Assembly,
        source: Option<ConfigSource>,
        options: RuntimeOptions,
        owned: Ownership,
    ) -> Result<Self, StartError> {
        let Assembly { mut workers, group, events: queues, cpus, interfaces, supervisor } = assembly;
        let first = group.handles().first().ok_or(StartError::NoWorker)?.clone();
        let (problems, shutdown) = (Problems::default(), Shutdown::default());
        let events = problems.events().clone();
        // Until they know their services, clients that come early must not be refused: they try again.
        for worker in &mut workers {
            worker.forwarder().hold_resets(Tick::from_millis(u64::MAX));
        }
        // Commands are carried out by workers that run: they come first.
        let threads = Threads::start(workers, group.clone(), &cpus)?;
        // Ends the other threads on the way out by an error.
        let ending = EndOnDrop(Some((shutdown.clone(), events.clone())));
        let without = Arc::new(AtomicBool::new(false));
        if let Some(supervisor) = supervisor {
            let (problems, shutdown, without) = (problems.clone(), shutdown.clone(), without.clone());
            let supervised = Supervised { group: group.clone(), problems, shutdown, without };
            supervisor.start(supervised).map_err(StartError::system("changes of interfaces"))?;
        }
        let fetch = move || queues.iter().find_map(|queue| queue.try_recv().ok());
        let sync = Sync::start(interfaces.clone(), first, fetch, shutdown.clone());
        let sync = sync.map_err(StartError::system("sync daemons"))?;
        let daemons = Box::new(SyncControl { sync, group: group.clone() });
        let mut controller = Controller::new(group.clone(), daemons);
        let state = options.state.as_deref().map(|file| {
            owned.state().ok_or_else(|| not_claimed(format_args!("the state file {}", file.display())))
        });
        let restored = state.transpose()?.map(|state| restore(&mut controller, state)).transpose()?;
        let durability = source.as_ref().map(|source| source.configuration.durability).unwrap_or_default();
        let access = source.as_ref().and_then(|source| source.configuration.control_group);
        let rate =
            source.as_ref().map_or(Some(ServeOptions::RATE), |source| source.configuration.control_rate);
        let access = access.map_or_else(Access::default, Access::for_group);
        let controller = SharedController(Arc::new(Mutex::new(controller)));
        let mut beside_kernel = None;
        let reconciler = match source {
            None => None,
            Some(source) => {
                let known = (controller.clone(), group.clone(), events.clone());
                let text = restored.as_ref().and_then(|restored| restored.text.as_deref());
                let reconciler = Arc::new(Reconciler::new(known, source.file.clone(), text));
                reconciler.start(&source).map_err(StartError::Configuration)?;
                let watched = (controller.clone(), group.clone(), reconciler.clone());
                let followed = addresses::follow(
                    watched,
                    source.configuration.answer_for,
                    problems.clone(),
                    shutdown.clone(),
                );
                followed.map_err(StartError::system("virtual addresses"))?;
                guest::introduce(&source.configuration.interfaces);
                let known = (controller.clone(), problems.clone(), shutdown.clone());
                let guarded = guest::watch(&source.configuration, (known.0, group.clone()), known.1, known.2);
                beside_kernel = Some(guarded.map_err(StartError::system("this machine's addresses"))?);
                if source.configuration.watches_memory() {
                    let watched = memory::watch(group.clone(), shutdown.clone());
                    watched.map_err(StartError::system("available memory"))?;
                }
                Some(reconciler)
            }
        };
        if let Some(restored) = restored {
            keep(&controller, restored, durability, &problems);
        }
        let ready = group.with_each(|_, _, forwarder, _| forwarder.hold_resets(Tick::ZERO));
        ready.map_err(|_| StartError::NoWorker)?;
        // Sockets come last: whoever finds them finds a director that answers.
        let drains = Drains::start(controller.clone(), events.clone(), shutdown.clone());
        let drains = drains.map_err(StartError::system("drains"))?;
        let traces = Traces::default();
        let parts =
            Parts { controller, group, reconciler, drains, events, problems, shutdown, interfaces, traces };
        let handle = RuntimeHandle(Arc::new(parts));
        let serving = options
            .socket
            .as_deref()
            .map(|socket| listen(socket, &owned, (access, rate), &handle))
            .transpose()?;
        ending.keep();
        Ok(Self { serving, handle, threads: Some(threads), beside_kernel, without, ownership: owned })
    }

    /// What the director can be asked and told. Handles can be cloned, and outlive the director; then they say that
    /// it is ending.
    #[must_use]
    pub fn handle(&self) -> RuntimeHandle {
        self.handle.clone()
    }

    /// What the director owns, for a successor that goes on with it: [`Ownership::hand_over`].
    #[must_use]
    pub const fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Waits until the director has ended: by [`RuntimeHandle::stop`], or because its interfaces are gone.
    ///
    /// # Errors
    /// [`RunError`] when it has not been told to.
    pub fn join(mut self) -> Result<Ended, RunError> {
        let Some(threads) = self.threads.take() else { return Err(RunError::Panic) };
        let (mut workers, end) = threads.join();
        let end = end?;
        if end == End::Failed || self.without.load(Ordering::Acquire) {
            return Err(RunError::Interfaces);
        }
        // Without an end by a panic there is a worker at least.
        let statistics =
            Statistics::of_workers(&self.handle.subject(), &mut workers).ok_or(RunError::Panic)?;
        Ok(Ended { end, statistics })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.serving.take());
        self.handle.0.end();
        drop(self.threads.take());
        if let Some(thread) = self.beside_kernel.take() {
            // A panic there has been said.
            let _ = thread.join();
        }
        // Handles may live on. What they command from now on must not reach a file that is another director's.
        self.handle.0.controller.lock().forget_journal();
    }
}

/// Ends the threads beside the workers, unless the start succeeds.
struct EndOnDrop(Option<(Shutdown, Events)>);

impl EndOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some((shutdown, events)) = self.0.take() {
            shutdown.end();
            events.close();
        }
    }
}

/// What came back from a state file.
struct Restored {
    journal: Journal,
    /// The text of the configuration that was applied last. None if not all of the table has come back: what is
    /// missing of what the configuration says must not pass for something that an operator has removed.
    text: Option<String>,
}

/// Takes up the state that there is.
fn restore(controller: &mut RuntimeController, state: &OwnedState) -> Result<Restored, StartError> {
    let file = state.path();
    let opened = Journal::open(state);
    let mut journal = opened.map_err(|error| StartError::State { file: file.to_owned(), error })?;
    let refused = controller.restore(&mut journal);
    for (what, why) in &refused {
        tracing::warn!("{}: {what} could not be done again: {why}", file.display());
    }
    if let Some(damage) = journal.damage() {
        tracing::warn!("{}: {damage}; the file as it was is going to be kept beside it", file.display());
    }
    let is_whole = refused.is_empty() && journal.damage().is_none();
    let (text, restored) = match controller.applied_text() {
        Some(text) => (Some(text.to_owned()), true),
        // Earlier versions kept it in a file of its own.
        None => {
            let restored = controller.desired().services().next().is_some();
            let is_old = restored && journal.is_of_first_version();
            (fs::read_to_string(beside(file, "toml")).ok().filter(|_| is_old), restored)
        }
    };
    if restored {
        tracing::info!("services and servers are as {} has them", file.display());
    }
    Ok(Restored { journal, text: text.filter(|_| is_whole) })
}

/// Keeps the journal from now on. What the configuration has changed meanwhile is put into it, before anybody is told
/// that the director is at work.
///
/// A director whose state file cannot be written forwards packets all the same, and refuses what it could not keep.
fn keep(controller: &SharedController, mut restored: Restored, durability: Durability, problems: &Problems) {
    restored.journal.set_durability(durability);
    let file = restored.journal.path().to_owned();
    let (problems, part) = (problems.clone(), Part::State(file.clone()));
    let mut controller = controller.lock();
    controller.watch_journal(move |written| match written {
        Ok(()) => _ = problems.clear(&part),
        Err(error) => _ = problems.raise(part.clone(), format!("{error}; commands are refused meanwhile")),
    });
    // If it fails, the watcher has said so.
    if controller.attach_journal(restored.journal).is_ok()
        && let Some(kept) = controller.journal_kept_aside()
    {
        tracing::warn!("{}: the file as it was is {}", file.display(), kept.display());
    }
}

/// Listens for commands and questions.
fn listen(
    socket: &Path,
    owned: &Ownership,
    (access, rate): (Access, Option<u32>),
    handle: &RuntimeHandle,
) -> Result<(Serving, ApiServer), StartError> {
    let own = |socket: &Path| {
        let own = owned.socket(socket).cloned();
        own.ok_or_else(|| not_claimed(format_args!("the control socket {}", socket.display())))
    };
    let failed = |error| StartError::Listen { socket: socket.to_owned(), error };
    let mut options = ServeOptions::at(own(socket)?);
    (options.access, options.rate) = (access, rate);
    let netlink = serve(options, handle.0.controller.0.clone()).map_err(failed)?;
    let socket = &*beside(socket, "json");
    let failed = |error| StartError::Listen { socket: socket.to_owned(), error };
    let json = ApiServer::start(own(socket)?, access, rate, Arc::new(handle.clone())).map_err(failed)?;
    Ok((netlink, json))
}

fn not_claimed(what: core::fmt::Arguments<'_>) -> StartError {
    OwnershipError::NotClaimed { what: what.to_string() }.into()
}
