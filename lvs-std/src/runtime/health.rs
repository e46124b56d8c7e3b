//! Between the checkers and the director: what they find out becomes servers that are there or not, and their weights.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::control::{Backend, CommandError, Controller, DesiredServer, ServerStatus, TableCommand, convert};
use crate::health::{Engine, Event, Group, Member, Presence, ProbeId, Probes, Report, State};
use crate::worker::WorkerGone;
use lvs_core::service::SchedulerOf;
use lvs_core::{Scheduler, ServerConfig, ServiceKey, Store, Weight};

use crate::config::VirtualService;

/// A table whose servers are kept as their health says.
pub trait ServerTable: Send + 'static {
    /// The weights that operators gave a service's servers since the configuration was read, by address.
    fn declared(&self, service: ServiceKey) -> HashMap<SocketAddr, u32>;

    /// Gives a service the servers that it should have, and its sorry server if that serves, all between two batches.
    /// Servers that are none of these are left alone.
    ///
    /// # Errors
    /// [`WorkerGone`], which ends the checks.
    fn place(&self, service: ServiceKey, wanted: &Wanted) -> Result<(), WorkerGone>;
}

/// What a service should have.
#[derive(Debug)]
#[non_exhaustive]
pub struct Wanted {
    /// Each server with its place: there with a weight, or not there.
    pub servers: Vec<(ServerConfig, Presence)>,
    /// The sorry server, and whether it serves.
    pub sorry: Option<(ServerConfig, bool)>,
}

/// Keeps the servers of services as their health says. Stops when it is dropped.
#[derive(Debug)]
pub struct HealthReconciler {
    probes: Option<Probes>,
    engine: Option<JoinHandle<()>>,
    services: Arc<Mutex<Watch>>,
}

impl HealthReconciler {
    /// Starts to check what these services want to have checked, in the network namespace of this thread. `tell`
    /// hears of everything new, once the director has it. `None` when nothing is to be checked.
    ///
    /// # Errors
    /// When no thread or descriptor is left for the checks.
    pub fn start(
        services: &[VirtualService],
        table: impl ServerTable,
        tell: impl FnMut(&Event) + Send + 'static,
    ) -> io::Result<Option<Self>> {
        if !services.iter().any(|service| service.health.is_checked()) {
            return Ok(None);
        }
        let (mut engine, probes, events) = Engine::new()?;
        let watched = Arc::new(Mutex::new(Watch::new(services, &probes)));
        let kept = watched.clone();
        let engine = thread::Builder::new().name("health".to_owned()).spawn(move || engine.run())?;
        thread::Builder::new()
            .name("reconciler".to_owned())
            .spawn(move || keep(&kept, &table, &events, tell))?;
        Ok(Some(Self { probes: Some(probes), engine: Some(engine), services: watched }))
    }

    /// Checks these services from now on. What is known of a probe that both have stays known.
    pub fn replace(&self, services: &[VirtualService]) {
        let Some(probes) = &self.probes else { return };
        // Locked first: what is found out of a new probe waits until the probe is known here. Otherwise it could be
        // forgotten as what was known of an old one.
        let mut old = lock(&self.services);
        // Asked for before the old ones are given up: a probe that both have goes on, and its state stays known.
        let mut new = Watch::new(services, probes);
        let before: HashMap<_, _> =
            old.services.iter().map(|service| (service.key, service.had_quorum)).collect();
        for service in &mut new.services {
            service.had_quorum = before.get(&service.key).copied().unwrap_or(service.had_quorum);
        }
        let old = core::mem::replace(&mut *old, new);
        for id in old.services.iter().flat_map(|service| service.checks.iter().flatten()) {
            probes.forget(*id);
        }
    }

    /// What is known of all probes.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.probes.as_ref().map(Probes::reports).unwrap_or_default()
    }

    /// Whether every check has had an answer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.probes.as_ref().is_none_or(Probes::is_ready)
    }
}

impl Drop for HealthReconciler {
    fn drop(&mut self) {
        // The engine ends with them. The other thread ends with the engine's events, but not before a director that
        // does not work any more is gone too, if it has just commanded it: that is not waited for.
        *lock(&self.services) = Watch::default();
        drop(self.probes.take());
        if let Some(engine) = self.engine.take() {
            // A panic of it has been reported already.
            drop(engine.join());
        }
    }
}

fn lock(services: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    services.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The services that are checked.
#[derive(Debug, Default)]
struct Watch {
    services: Vec<Watched>,
    /// The places of the services that each probe is about.
    about: HashMap<ProbeId, Vec<usize>>,
}

impl Watch {
    /// The services that want to be checked, with their probes asked for.
    fn new(services: &[VirtualService], probes: &Probes) -> Self {
        let watch = |service: &VirtualService| Watched {
            key: service.key,
            group: group(service),
            servers: service.servers.clone(),
            sorry: service.health.sorry,
            checks: service
                .health
                .probes
                .iter()
                .map(|of| of.iter().map(|probe| probes.watch(probe.clone())).collect())
                .collect(),
            had_quorum: true,
        };
        let checked = services.iter().filter(|service| service.health.is_checked());
        let services: Vec<Watched> = checked.map(watch).collect();
        let mut about: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, service) in services.iter().enumerate() {
            for id in service.checks.iter().flatten() {
                let places = about.entry(*id).or_default();
                if places.last() != Some(&at) {
                    places.push(at);
                }
            }
        }
        Self { services, about }
    }
}

/// Where a service's servers belong before anything is known of them.
pub(super) fn initial(service: &VirtualService) -> Vec<(ServerConfig, Presence)> {
    let decision = group(service).decide();
    service.servers.iter().copied().zip(decision.servers).collect()
}

/// Says in the log what is new of a probe.
pub(super) fn log(event: &Event) {
    match event {
        Event::Changed { probe, state, why: Some(why), .. } => tracing::warn!("{probe} is {state}: {why}"),
        Event::Changed { probe, state, advice: Some(weight), .. } => {
            tracing::info!("{probe} is {state}, and advises the weight {weight}");
        }
        Event::Changed { probe, state, .. } => tracing::info!("{probe} is {state}"),
        Event::Hindered { probe, why, .. } => tracing::error!("{probe} is not checked: {why}"),
    }
}

/// A service whose servers are checked.
#[derive(Debug)]
struct Watched {
    key: ServiceKey,
    group: Group,
    servers: Vec<ServerConfig>,
    sorry: Option<ServerConfig>,
    /// The probes of each server.
    checks: Vec<Vec<ProbeId>>,
    had_quorum: bool,
}

impl Watched {
    /// Takes in what is known now, and says where each server belongs.
    fn decide(
        &mut self,
        known: &HashMap<ProbeId, (State, Option<u32>)>,
        declared: &HashMap<SocketAddr, u32>,
    ) -> Wanted {
        let members = self.group.members_mut().iter_mut().zip(&self.servers).zip(&self.checks);
        for ((member, server), checks) in members {
            let found = || checks.iter().map(|id| known.get(id).copied().unwrap_or_default());
            member.state = found().fold(State::Up, |all, (state, _)| all.and(state));
            // Of several, the most careful one.
            member.advice = found().filter_map(|(_, advice)| advice).min();
            member.weight = declared.get(&server.address).copied().unwrap_or_else(|| server.weight.get());
        }
        let decision = self.group.decide();
        if decision.quorum != self.had_quorum {
            self.had_quorum = decision.quorum;
            let (key, sorry) = (self.key, self.sorry.is_some());
            match (decision.quorum, sorry) {
                (true, _) => tracing::info!("{key} has its quorum again"),
                (false, true) => tracing::warn!("{key} has lost its quorum: the sorry server serves"),
                (false, false) => tracing::warn!("{key} has lost its quorum"),
            }
        }
        let servers = self.servers.iter().copied().zip(decision.servers).collect();
        Wanted { servers, sorry: self.sorry.map(|sorry| (sorry, decision.sorry)) }
    }
}

/// Carries out what follows from events, until there are no more or the director is gone. From time to time it looks
/// over all: operators add and remove servers too.
fn keep(
    services: &Mutex<Watch>,
    table: &impl ServerTable,
    events: &Receiver<Event>,
    mut tell: impl FnMut(&Event),
) {
    let mut known = HashMap::new();
    loop {
        let event = match events.recv_timeout(LOOK_OVER) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut watch = lock(services);
        let touched: Vec<usize> = match &event {
            Some(Event::Changed { id, state, advice, .. }) => {
                known.insert(*id, (*state, *advice));
                watch.about.get(id).cloned().unwrap_or_default()
            }
            Some(_) => Vec::new(),
            None => {
                // Reloads replace probes, and what was known of the old ones must not pile up.
                known.retain(|id, _| watch.about.contains_key(id));
                (0..watch.services.len()).collect()
            }
        };
        for at in touched {
            let Some(service) = watch.services.get_mut(at) else { continue };
            let wanted = service.decide(&known, &table.declared(service.key));
            if table.place(service.key, &wanted).is_err() {
                return;
            }
        }
        drop(watch);
        if let Some(event) = &event {
            tell(event);
        }
    }
}

/// A controller that others use too: what they declare is kept, and how servers do is said beside it.
impl<S, R> ServerTable for Arc<Mutex<Controller<S, R>>>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S> + Send + 'static,
{
    fn declared(&self, service: ServiceKey) -> HashMap<SocketAddr, u32> {
        let controller = self.lock().unwrap_or_else(PoisonError::into_inner);
        let servers =
            controller.desired().service(convert::name(service)).map(|declared| declared.servers.iter());
        let weight = |server: &DesiredServer| (server.address, server.spec.weight.cast_unsigned());
        servers.into_iter().flatten().map(weight).collect()
    }

    fn place(&self, service: ServiceKey, wanted: &Wanted) -> Result<(), WorkerGone> {
        let name = convert::name(service);
        let mut controller = self.lock().unwrap_or_else(PoisonError::into_inner);
        for (server, place) in &wanted.servers {
            // An operator may have removed it.
            let Some(declared) =
                controller.desired().service(name).and_then(|of| of.server(server.address)).copied()
            else {
                continue;
            };
            let status = status(&declared, *place);
            if status != declared.status {
                log_refusal(
                    service,
                    server.address,
                    controller.set_server_status(name, server.address, status),
                );
            }
        }
        if let Some((sorry, serves)) = &wanted.sorry {
            let there =
                controller.desired().service(name).is_some_and(|of| of.server(sorry.address).is_some());
            let done = match (there, serves) {
                (false, true) => controller.stand_in(
                    name,
                    sorry.address,
                    convert::server_spec(&sorry.with_weight(Weight::ONE)),
                ),
                (true, false) => controller.submit(TableCommand::DelServer(name, sorry.address)).map(drop),
                (true, true) | (false, false) => Ok(()),
            };
            log_refusal(service, sorry.address, done);
        }
        Ok(())
    }
}

/// How a declared server does in its place.
pub(super) const fn status(declared: &DesiredServer, place: Presence) -> ServerStatus {
    let ServerStatus { draining, .. } = declared.status;
    match place {
        Presence::Absent => ServerStatus { absent: true, weight: None, draining },
        Presence::Present(weight) if weight == declared.spec.weight.cast_unsigned() => {
            ServerStatus { absent: false, weight: None, draining }
        }
        Presence::Present(weight) => {
            // Advice beyond what a server can weigh is as much as it can.
            let weight = if weight > i32::MAX.cast_unsigned() { i32::MAX } else { weight.cast_signed() };
            ServerStatus { absent: false, weight: Some(weight), draining }
        }
    }
}

fn log_refusal(service: ServiceKey, address: SocketAddr, done: Result<(), CommandError>) {
    if let Err(errno) = done {
        tracing::error!("{service}: the real server {address} cannot be changed: {errno}");
    }
}

fn group(service: &VirtualService) -> Group {
    let probes = service.health.probes.iter();
    let member = |(server, probes): (&ServerConfig, &Vec<_>)| Member {
        state: if probes.is_empty() { State::Up } else { State::Unknown },
        ..Member::new(server.weight.get())
    };
    Group::new(service.health.policy, service.servers.iter().zip(probes).map(member).collect())
}

/// How often all is looked over.
const LOOK_OVER: Duration = Duration::from_secs(1);
