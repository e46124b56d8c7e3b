//! Between the checkers and the director: what they find out becomes servers that are there or not, and their weights.

use core::net::SocketAddr;
use std::collections::HashMap;
use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Receiver;
use lvs_core::{Heap, ServerConfig, ServiceKey, Weight};
use lvs_std::health::{Engine, Event, Group, Member, Place, ProbeId, Probes, State};
use lvs_std::worker::{Handle, WorkerGone};

use crate::config::Service;

/// Keeps the servers of services as their health says. Stops when it is dropped.
pub(crate) struct Keeper {
    probes: Option<Probes>,
    engine: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts to check what these services want to have checked, in the network namespace of this thread. `tell` hears of
    /// everything new, once the director has it. `None` when nothing is to be checked.
    pub(crate) fn start<const A: usize, const N: usize>(
        services: &[Service],
        handle: Handle<Heap, A, N>,
        tell: impl FnMut(&Event) + Send + 'static,
    ) -> io::Result<Option<Self>> {
        if !services.iter().any(|service| service.health.is_checked()) {
            return Ok(None);
        }
        let (mut engine, probes, events) = Engine::new()?;
        let watch = |service: &Service| Watched {
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
        let services = services.iter().filter(|service| service.health.is_checked()).map(watch).collect();
        let keep = move || keep(services, &handle, &events, tell);
        let engine = thread::Builder::new().name("health".to_owned()).spawn(move || engine.run())?;
        thread::Builder::new().name("keeper".to_owned()).spawn(keep)?;
        Ok(Some(Self { probes: Some(probes), engine: Some(engine) }))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The engine ends with them. The other thread ends with the engine's events, but not before a director that does not work any
        // more is gone too, if it has just commanded it: that is not waited for.
        drop(self.probes.take());
        if let Some(engine) = self.engine.take() {
            // A panic of it has been reported already.
            drop(engine.join());
        }
    }
}

/// The servers that a service has before anything is known of them, with their weights.
pub(crate) fn initial(service: &Service) -> Vec<ServerConfig> {
    let decision = group(service).decide();
    let places = service.servers.iter().zip(decision.servers).map(|(&server, place)| (server, place));
    let places = places.chain(service.health.sorry.map(|sorry| (sorry, sorry_place(decision.sorry))));
    places.filter_map(|(server, place)| placed(server, place)).collect()
}

/// Says in the log what is new of a probe.
pub(crate) fn log(event: &Event) {
    match event {
        Event::Changed { probe, state, why: Some(why), .. } => tracing::warn!("{probe} is {state}: {why}"),
        Event::Changed { probe, state, advice: Some(weight), .. } => {
            tracing::info!("{probe} is {state}, and advises the weight {weight}");
        }
        Event::Changed { probe, state, .. } => tracing::info!("{probe} is {state}"),
        Event::Hindered { probe, why, .. } => tracing::error!("{probe} is not checked: {why}"),
        other => tracing::info!("{other:?}"),
    }
}

/// A service whose servers are checked.
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
    fn decide(&mut self, known: &HashMap<ProbeId, (State, Option<u32>)>) -> Vec<(ServerConfig, Place)> {
        for (member, checks) in self.group.members_mut().iter_mut().zip(&self.checks) {
            let found = || checks.iter().map(|id| known.get(id).copied().unwrap_or_default());
            member.state = found().fold(State::Up, |all, (state, _)| all.and(state));
            // Of several, the most careful one.
            member.advice = found().filter_map(|(_, advice)| advice).min();
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
        let servers = self.servers.iter().copied().zip(decision.servers);
        servers.chain(self.sorry.map(|sorry| (sorry, sorry_place(decision.sorry)))).collect()
    }
}

/// Carries out what follows from events, until there are no more or the director is gone.
fn keep<const A: usize, const N: usize>(
    mut services: Vec<Watched>,
    handle: &Handle<Heap, A, N>,
    events: &Receiver<Event>,
    mut tell: impl FnMut(&Event),
) {
    let mut known = HashMap::new();
    for event in events {
        if let Event::Changed { id, state, advice, .. } = &event {
            known.insert(*id, (*state, *advice));
            let touched = |service: &&mut Watched| service.checks.iter().any(|checks| checks.contains(id));
            for service in services.iter_mut().filter(touched) {
                let wanted = service.decide(&known);
                if apply(handle, service.key, wanted).is_err() {
                    return;
                }
            }
        }
        tell(&event);
    }
}

/// Gives a service of a director the servers that it should have, all between two batches. Servers that are none of these are left
/// alone.
fn apply<const A: usize, const N: usize>(
    handle: &Handle<Heap, A, N>,
    service: ServiceKey,
    wanted: Vec<(ServerConfig, Place)>,
) -> Result<(), WorkerGone> {
    let refused = handle.with(move |director, forwarder, now| {
        let mut refused: Vec<(SocketAddr, String)> = Vec::new();
        for (server, place) in wanted {
            let address = server.address;
            let weight = director
                .servers(service)
                .find(|(_, there)| there.address() == address)
                .map(|(_, there)| there.weight());
            let done = match (weight, placed(server, place)) {
                (None, Some(server)) => {
                    let added = director.add_server(service, server).map_err(|error| error.to_string());
                    if added.is_ok() {
                        forwarder.host_mut().look_for(now, address.ip());
                    }
                    added.map(drop)
                }
                (Some(weight), Some(server)) if weight != server.weight.get() => {
                    director.edit_server(service, server).map_err(|error| error.to_string())
                }
                (Some(_), None) => {
                    director.remove_server(service, address).map_err(|error| error.to_string())
                }
                (Some(_), Some(_)) | (None, None) => Ok(()),
            };
            if let Err(error) = done {
                refused.push((address, error));
            }
        }
        refused
    })?;
    for (address, error) in refused {
        tracing::error!("{service}: the real server {address} cannot be changed: {error}");
    }
    Ok(())
}

fn group(service: &Service) -> Group {
    let probes = service.health.probes.iter();
    let member = |(server, probes): (&ServerConfig, &Vec<_>)| Member {
        state: if probes.is_empty() { State::Up } else { State::Unknown },
        ..Member::new(server.weight.get())
    };
    Group::new(service.health.policy, service.servers.iter().zip(probes).map(member).collect())
}

/// A server as it is to be there, if it is.
fn placed(server: ServerConfig, place: Place) -> Option<ServerConfig> {
    match place {
        Place::Absent => None,
        Place::Present(weight) => Some(server.with_weight(Weight::new(weight).unwrap_or(HEAVIEST))),
    }
}

/// What stands for advice beyond what a server can weigh.
const HEAVIEST: Weight = Weight::new(i32::MAX as u32).expect("it is the limit");

/// A sorry server serves with weight 1.
const fn sorry_place(serves: bool) -> Place {
    if serves { Place::Present(1) } else { Place::Absent }
}
