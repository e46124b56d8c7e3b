//! Starting a director, and waiting for its end.

use core::sync::atomic::{AtomicBool, Ordering};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::drain::Drains;
use super::events::Events;
use super::handle::Parts;
use super::options::beside;
use super::reload::Reconciler;
use super::shutdown::Shutdown;
use super::supervisor::Supervised;
use super::sync::{Sync, SyncControl};
use super::threads::Threads;
use super::{
    Assembly, Problems, RunError, RuntimeController, RuntimeHandle, RuntimeOptions, SharedController,
    StartError, Statistics, addresses, memory,
};
use crate::config::ConfigSource;
use crate::control::api::ApiServer;
use crate::control::{Controller, Journal, ServeOptions, Serving, serve};
use crate::ownership::{Access, OwnedState, Ownership, OwnershipError};
use crate::worker::End;

/// A director at work, until it is [stopped](RuntimeHandle::stop) or dropped.
#[derive(Debug)]
pub struct Runtime {
    // In the order in which they end: nobody shall ask, then nothing shall forward.
    serving: Option<(Serving, ApiServer)>,
    handle: RuntimeHandle,
    threads: Option<Threads>,
    /// It ends because it can use none of its interfaces.
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
        let Assembly { workers, group, events: queues, cpus, interfaces, supervisor } = assembly;
        let first = group.handles().first().ok_or(StartError::NoWorker)?.clone();
        let (problems, shutdown) = (Problems::default(), Shutdown::default());
        let events = problems.events().clone();
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
        let restored = state.transpose()?.map_or(Ok(false), |state| restore(&mut controller, state))?;
        let controller = SharedController(Arc::new(Mutex::new(controller)));
        let reconciler = match source {
            None => None,
            Some(source) => {
                let kept = options.state.as_deref().map(|state| beside(state, "toml"));
                let known = (controller.clone(), group.clone(), events.clone());
                let reconciler = Arc::new(Reconciler::new(known, source.file.clone(), kept, restored));
                reconciler.start(&source).map_err(StartError::Configuration)?;
                let watched = (controller.clone(), group.clone(), reconciler.clone());
                let followed = addresses::follow(watched, source.configuration.answer_for, shutdown.clone());
                followed.map_err(StartError::system("virtual addresses"))?;
                if source.configuration.watches_memory() {
                    let watched = memory::watch(group.clone(), shutdown.clone());
                    watched.map_err(StartError::system("available memory"))?;
                }
                Some(reconciler)
            }
        };
        // Sockets come last: whoever finds them finds a director that answers.
        let drains = Drains::start(controller.clone(), events.clone(), shutdown.clone());
        let drains = drains.map_err(StartError::system("drains"))?;
        let parts = Parts { controller, group, reconciler, drains, events, problems, shutdown, interfaces };
        let handle = RuntimeHandle(Arc::new(parts));
        let serving = options.socket.as_deref().map(|socket| listen(socket, &owned, &handle)).transpose()?;
        ending.keep();
        Ok(Self { serving, handle, threads: Some(threads), without, ownership: owned })
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

/// Takes up the state that there is. Returns whether there was any.
fn restore(controller: &mut RuntimeController, state: &OwnedState) -> Result<bool, StartError> {
    let file = state.path();
    let failed = |error| StartError::State { file: file.to_owned(), error };
    let (journal, commands) = Journal::open(state).map_err(failed)?;
    let restored = !commands.is_empty();
    for (command, errno) in controller.keep_journal((journal, commands)).map_err(failed)? {
        tracing::warn!("{}: {command:?} could not be done again: {errno}", file.display());
    }
    if restored {
        tracing::info!("services and servers are as {} has them", file.display());
    }
    Ok(restored)
}

/// Listens for commands and questions.
fn listen(
    socket: &Path,
    owned: &Ownership,
    handle: &RuntimeHandle,
) -> Result<(Serving, ApiServer), StartError> {
    let own = |socket: &Path| {
        let own = owned.socket(socket).cloned();
        own.ok_or_else(|| not_claimed(format_args!("the control socket {}", socket.display())))
    };
    let failed = |error| StartError::Listen { socket: socket.to_owned(), error };
    let netlink = serve(ServeOptions::at(own(socket)?), handle.0.controller.0.clone()).map_err(failed)?;
    let socket = &*beside(socket, "json");
    let failed = |error| StartError::Listen { socket: socket.to_owned(), error };
    let json = ApiServer::start(own(socket)?, Access::default(), Arc::new(handle.clone())).map_err(failed)?;
    Ok((netlink, json))
}

fn not_claimed(what: core::fmt::Arguments<'_>) -> StartError {
    OwnershipError::NotClaimed { what: what.to_string() }.into()
}
