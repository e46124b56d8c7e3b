//! What was declared: services and servers as clients named them, whatever a director makes of it.

use core::cmp::Reverse;
use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use lvs_core::service::PersistenceEngine;
use lvs_core::{Family, Scheduler, ServerConfig, ServiceConfig, ServiceKey};

use super::change::TableChange;
use crate::control::convert::{is_server_address, key, server_config, service_config};
use crate::control::{Errno, ServerSpec, ServiceName, ServiceSpec, TableCommand, tunnel};

/// The declared table.
///
/// Every value that a client gave is in it, also those that a director has no use for, and listings are answered from
/// them. What the director is told follows from the declared table: [`TableChange`]s that are applied before the
/// desired state takes note, so that both always agree. Facts that are not the client's, a server's [`ServerStatus`],
/// are kept apart from what was declared; the effective weight follows from both.
#[derive(Clone, Debug, Default)]
pub struct DesiredState {
    /// Shared with copies: a change is planned on a copy of the whole, and touches few of them.
    services: BTreeMap<ServiceName, Arc<DesiredService>>,
    /// How many services there have been.
    count: u64,
    /// How many changes were noted.
    revision: u64,
}

/// A declared service.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "what a desired service knows of a service")]
pub struct DesiredService {
    /// How it behaves.
    pub spec: ServiceSpec,
    /// The service's servers, the one added last first.
    pub servers: Vec<DesiredServer>,
    /// The service's number in the desired state: later ones have greater numbers.
    pub number: u64,
}

/// A declared real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what a desired service knows of a server")]
pub struct DesiredServer {
    /// The server's address and port.
    pub address: SocketAddr,
    /// How it is used.
    pub spec: ServerSpec,
    /// How it is doing.
    pub status: ServerStatus,
    /// The server stands in for others for a while (a sorry server): nobody declared it, and no state file keeps it.
    pub standin: bool,
}

/// What is known of a server besides what was declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "each is a fact of its own")]
pub struct ServerStatus {
    /// The server is not to be used at all: a checker found it dead, or it waits in reserve.
    pub absent: bool,
    /// The weight that a checker gave it, instead of the declared one.
    pub weight: Option<i32>,
    /// The server gets no new connections, by an operator's wish.
    pub draining: bool,
}

impl DesiredServer {
    /// The weight that the director works with.
    #[must_use]
    pub const fn effective_weight(&self) -> i32 {
        // Draining is an operator's wish, which no checker's advice overrides.
        match (self.status.draining, self.status.weight) {
            (true, _) => 0,
            (false, Some(weight)) => weight,
            (false, None) => self.spec.weight,
        }
    }

    /// What the director is told of it, if anything.
    fn config(&self) -> Option<ServerConfig> {
        let spec = ServerSpec { weight: self.effective_weight(), ..self.spec };
        let config = server_config(self.address, &spec).filter(|_| !self.status.absent)?;
        Some(if self.status.draining { config.with_draining() } else { config })
    }
}

impl DesiredService {
    /// The server at this address.
    #[must_use]
    pub fn server(&self, address: SocketAddr) -> Option<&DesiredServer> {
        self.servers.iter().find(|server| server.address == address)
    }
}

/// A change to the desired state: it is noted once a director has taken its steps.
#[derive(Debug)]
#[must_use = "nothing has changed until it is noted"]
pub struct Edit {
    /// What is put into the desired state, by service.
    notes: Vec<(ServiceName, Note)>,
    /// What the director is told before.
    pub changes: Vec<TableChange>,
}

impl Edit {
    /// If the change adds a server: makes it one that stands in for others.
    pub(crate) fn standing_in(mut self) -> Self {
        for (_, note) in &mut self.notes {
            if let Note::Server(server) = note {
                server.standin = true;
            }
        }
        self
    }
}

#[derive(Debug)]
enum Note {
    Service(ServiceSpec),
    Gone,
    Server(DesiredServer),
    NoServer(SocketAddr),
}

impl DesiredState {
    /// Nothing declared.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The services, the one added last first, and those by mark after all others, as the kernel lists those of one
    /// hash.
    pub fn services(&self) -> impl DoubleEndedIterator<Item = (ServiceName, &DesiredService)> {
        let mut services: Vec<_> =
            self.services.iter().map(|(name, declared)| (*name, &**declared)).collect();
        let by_mark = |name: &ServiceName| matches!(name, ServiceName::Mark { .. });
        services.sort_by_key(|(name, declared)| (by_mark(name), Reverse(declared.number)));
        services.into_iter()
    }

    /// A service.
    #[must_use]
    pub fn service(&self, name: ServiceName) -> Option<&DesiredService> {
        self.services.get(&name).map(Arc::as_ref)
    }

    /// The names of the services, in no order that means anything.
    pub fn names(&self) -> impl Iterator<Item = ServiceName> {
        self.services.keys().copied()
    }

    /// Whether a server is of another family than its service, which sync messages have no place for.
    #[must_use]
    pub fn is_mixed(&self) -> bool {
        let mixed = |(name, declared): (&ServiceName, &Arc<DesiredService>)| {
            declared.servers.iter().any(|server| Family::of(server.address.ip()) != name.family())
        };
        self.services.iter().any(mixed)
    }

    /// A new service.
    ///
    /// # Errors
    /// [`Errno::Exists`], [`Errno::NoEntry`] without such a scheduler or engine, [`Errno::Invalid`] for an IPv6 mask of
    /// no length.
    pub fn new_service(&self, name: ServiceName, spec: ServiceSpec) -> Result<Edit, Errno> {
        if self.services.contains_key(&name) {
            return Err(Errno::Exists);
        }
        let spec = checked(name, spec)?;
        let changes = difference(name, None, Some((&spec, &[])));
        Ok(Edit { notes: vec![(name, Note::Service(spec))], changes })
    }

    /// Other options for a service; bits of the flags outside `mask` stay.
    ///
    /// # Errors
    /// [`Errno::NoService`], and those of [`new_service`](Self::new_service).
    pub fn set_service(&self, name: ServiceName, mut spec: ServiceSpec, mask: u32) -> Result<Edit, Errno> {
        let declared = self.services.get(&name).ok_or(Errno::NoService)?;
        spec.flags = (declared.spec.flags & !mask) | (spec.flags & mask);
        let spec = checked(name, spec)?;
        let changes =
            difference(name, Some((&declared.spec, &declared.servers)), Some((&spec, &declared.servers)));
        Ok(Edit { notes: vec![(name, Note::Service(spec))], changes })
    }

    /// A service goes, with its servers.
    ///
    /// # Errors
    /// [`Errno::NoService`].
    pub fn del_service(&self, name: ServiceName) -> Result<Edit, Errno> {
        let declared = self.services.get(&name).ok_or(Errno::NoService)?;
        let changes = difference(name, Some((&declared.spec, &declared.servers)), None);
        Ok(Edit { notes: vec![(name, Note::Gone)], changes })
    }

    /// A new server; `syncing` says whether a sync daemon runs.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::Exists`]; [`Errno::Invalid`] and [`Errno::Range`] for what no server can have.
    pub fn new_server(
        &self,
        name: ServiceName,
        address: SocketAddr,
        spec: ServerSpec,
        syncing: bool,
    ) -> Result<Edit, Errno> {
        let declared = self.services.get(&name).ok_or(Errno::NoService)?;
        check_server(name, address, &spec, syncing)?;
        // The order of these checks is the kernel's, because a client with several faults sees the number of the first.
        if declared.server(address).is_some() {
            return Err(Errno::Exists);
        }
        if !is_server_address(address.ip()) {
            return Err(Errno::Invalid);
        }
        Ok(declared
            .put(name, DesiredServer { address, spec, status: ServerStatus::default(), standin: false }))
    }

    /// Other options for a server; its status stays.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server, and those of [`new_server`](Self::new_server).
    pub fn set_server(
        &self,
        name: ServiceName,
        address: SocketAddr,
        spec: ServerSpec,
        syncing: bool,
    ) -> Result<Edit, Errno> {
        let declared = self.services.get(&name).ok_or(Errno::NoService)?;
        check_server(name, address, &spec, syncing)?;
        let server = declared.server(address).ok_or(Errno::NoEntry)?;
        Ok(declared.put(name, DesiredServer { spec, ..*server }))
    }

    /// Another status for a server.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`].
    pub fn set_server_status(
        &self,
        name: ServiceName,
        address: SocketAddr,
        status: ServerStatus,
    ) -> Result<Edit, Errno> {
        let declared = self.services.get(&name).ok_or(Errno::NoService)?;
        let server = declared.server(address).ok_or(Errno::NoEntry)?;
        Ok(declared.put(name, DesiredServer { status, ..*server }))
    }

    /// A server goes.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`].
    pub fn del_server(&self, name: ServiceName, address: SocketAddr) -> Result<Edit, Errno> {
        let declared = self.services.get(&name).ok_or(Errno::NoService)?;
        let server = declared.server(address).ok_or(Errno::NoEntry)?;
        let mut changes = Vec::new();
        if let Some((key, _)) = projected(name, &declared.spec) {
            server_difference(key, Some(server), None, &mut changes);
        }
        Ok(Edit { notes: vec![(name, Note::NoServer(address))], changes })
    }

    /// What a command changes; `syncing` says whether a sync daemon runs.
    ///
    /// # Errors
    /// The errors of the method that the command is.
    pub fn plan(&self, command: &TableCommand, syncing: bool) -> Result<Edit, Errno> {
        match command {
            TableCommand::NewService(name, spec) => self.new_service(*name, spec.clone()),
            TableCommand::SetService(name, spec, mask) => self.set_service(*name, spec.clone(), *mask),
            TableCommand::DelService(name) => self.del_service(*name),
            TableCommand::NewServer(name, address, spec) => self.new_server(*name, *address, *spec, syncing),
            TableCommand::SetServer(name, address, spec) => self.set_server(*name, *address, *spec, syncing),
            TableCommand::DelServer(name, address) => self.del_server(*name, *address),
            TableCommand::Flush => Ok(self.flush()),
        }
    }

    /// All services go.
    pub fn flush(&self) -> Edit {
        let mut edit = Edit { notes: Vec::new(), changes: Vec::new() };
        for (name, declared) in self.services() {
            edit.changes.extend(difference(name, Some((&declared.spec, &declared.servers)), None));
            edit.notes.push((name, Note::Gone));
        }
        edit
    }

    /// A number that is another one after every change, for whoever follows them.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes note of a change that the director has taken.
    pub fn note(&mut self, edit: Edit) {
        self.revision += 1;
        edit.notes.into_iter().for_each(|(name, note)| self.note_one(name, note));
    }

    /// A state of the same age without any service.
    pub(super) fn without_services(&self) -> Self {
        Self { services: BTreeMap::new(), ..*self }
    }

    /// Takes up a service as another state has it, if it has it.
    pub(super) fn share(&mut self, other: &Self, name: ServiceName) {
        if let Some(declared) = other.services.get(&name) {
            drop(self.services.insert(name, declared.clone()));
        }
    }

    /// Has these services as another state has them: those that are not there in it are gone.
    pub(super) fn replace(&mut self, services: impl IntoIterator<Item = ServiceName>, mut by: Self) {
        for name in services {
            match by.services.remove(&name) {
                Some(declared) => drop(self.services.insert(name, declared)),
                None => drop(self.services.remove(&name)),
            }
        }
        (self.count, self.revision) = (by.count, by.revision);
    }

    fn note_one(&mut self, name: ServiceName, note: Note) {
        match note {
            Note::Service(spec) => match self.services.get_mut(&name) {
                Some(declared) => Arc::make_mut(declared).spec = spec,
                None => {
                    self.count += 1;
                    let declared = DesiredService { spec, servers: Vec::new(), number: self.count };
                    drop(self.services.insert(name, Arc::new(declared)));
                }
            },
            Note::Gone => drop(self.services.remove(&name)),
            Note::Server(server) => {
                let Some(declared) = self.services.get_mut(&name).map(Arc::make_mut) else { return };
                let place = declared.servers.iter().position(|other| other.address == server.address);
                let back = |old: &DesiredServer| old.status.absent && !server.status.absent;
                match place.and_then(|at| declared.servers.get_mut(at)) {
                    Some(old) if !back(old) => *old = server,
                    // Who comes back is added to the director anew, and so first there.
                    Some(_) => {
                        declared.servers.retain(|other| other.address != server.address);
                        declared.servers.insert(0, server);
                    }
                    None => declared.servers.insert(0, server),
                }
            }
            Note::NoServer(address) => {
                if let Some(declared) = self.services.get_mut(&name).map(Arc::make_mut) {
                    declared.servers.retain(|server| server.address != address);
                }
            }
        }
    }
}

impl DesiredService {
    fn put(&self, name: ServiceName, server: DesiredServer) -> Edit {
        let mut changes = Vec::new();
        if let Some((key, _)) = projected(name, &self.spec) {
            server_difference(key, self.server(server.address), Some(&server), &mut changes);
        }
        Edit { notes: vec![(name, Note::Server(server))], changes }
    }
}

/// A service and its servers, of which `None` is one that is not there.
type Whole<'a> = Option<(&'a ServiceSpec, &'a [DesiredServer])>;

/// The steps from one state of a service to another.
fn difference(name: ServiceName, old: Whole<'_>, new: Whole<'_>) -> Vec<TableChange> {
    let side = |side: Whole<'_>| side.and_then(|(spec, _)| projected(name, spec));
    let servers =
        |side: Option<(&ServiceSpec, &'_ [DesiredServer])>| side.map(|(_, servers)| servers.to_vec());
    let mut changes = Vec::new();
    match (side(old), side(new)) {
        (None, None) => {}
        (Some((key, _)), None) => changes.push(TableChange::RemoveService(key)),
        (None, Some((key, config))) => {
            changes.push(TableChange::AddService(key, config));
            // The oldest first, since a director lists the server added last first.
            for server in servers(new).unwrap_or_default().iter().rev() {
                server_difference(key, None, Some(server), &mut changes);
            }
        }
        (Some((key, old)), Some((_, new))) => {
            // Servers do not depend on their service's options, so they need not be touched.
            changes.push(TableChange::EditService { key, old, new });
        }
    }
    changes
}

fn server_difference(
    key: ServiceKey,
    old: Option<&DesiredServer>,
    new: Option<&DesiredServer>,
    changes: &mut Vec<TableChange>,
) {
    match (old.and_then(DesiredServer::config), new.and_then(DesiredServer::config)) {
        (None, None) => {}
        (Some(old), None) => changes.push(TableChange::RemoveServer(key, old.address)),
        (None, Some(new)) => changes.push(TableChange::AddServer(key, new)),
        (Some(old), Some(new)) if old == new => {}
        (Some(old), Some(new)) => changes.push(TableChange::EditServer { key, old, new }),
    }
}

/// What a director has of a service, if it can have it.
fn projected(name: ServiceName, spec: &ServiceSpec) -> Option<(ServiceKey, ServiceConfig<Scheduler>)> {
    Some((key(name)?, service_config(name.family(), spec)?))
}

/// A service's options as they are kept, unless the kernel refuses them.
fn checked(name: ServiceName, mut spec: ServiceSpec) -> Result<ServiceSpec, Errno> {
    if spec.scheduler != NO_SCHEDULER && Scheduler::from_name(&spec.scheduler).is_none() {
        return Err(Errno::NoEntry);
    }
    if spec.engine.as_deref().is_some_and(|engine| PersistenceEngine::from_name(engine).is_none()) {
        return Err(Errno::NoEntry);
    }
    if name.family() == Family::V6 && !(1..=128).contains(&spec.netmask) {
        return Err(Errno::Invalid);
    }
    // The kernel sets this flag on every service in its table, and clients read it back in listings.
    spec.flags |= super::super::flags::HASHED;
    // The kernel keeps it in 32 bits of its clock's ticks.
    spec.timeout = spec.timeout.wrapping_mul(TICKS_PER_SECOND) / TICKS_PER_SECOND;
    Ok(spec)
}

fn check_server(
    name: ServiceName,
    address: SocketAddr,
    spec: &ServerSpec,
    syncing: bool,
) -> Result<(), Errno> {
    let mixed = Family::of(address.ip()) != name.family();
    // Only a tunnel can carry packets of one family to a server of the other.
    if mixed && (syncing || spec.method != super::super::method::TUNNEL) {
        return Err(Errno::Invalid);
    }
    if spec.weight < 0 || spec.lower > spec.upper {
        return Err(Errno::Range);
    }
    if i32::try_from(spec.upper).is_err() || (spec.tunnel_type == tunnel::GUE && spec.tunnel_port == 0) {
        return Err(Errno::Invalid);
    }
    Ok(())
}

/// The name that stands for no scheduler at all.
const NO_SCHEDULER: &str = "none";
/// The kernel's `HZ` as most distributions build it.
const TICKS_PER_SECOND: u32 = 250;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::method;

    fn name() -> ServiceName {
        ServiceName::tcp("10.99.0.1:80".parse().unwrap())
    }

    fn with_server() -> (DesiredState, SocketAddr) {
        let (mut desired, address) = (DesiredState::new(), "10.0.1.11:80".parse().unwrap());
        let edit = desired.new_service(name(), ServiceSpec::new(Family::V4, "rr")).unwrap();
        desired.note(edit);
        let edit = desired.new_server(name(), address, ServerSpec::new(method::DIRECT, 3), false).unwrap();
        desired.note(edit);
        (desired, address)
    }

    #[test]
    fn a_weight_that_an_operator_sets_while_a_server_is_down_is_there_when_it_returns() {
        let (mut desired, address) = with_server();
        let down = ServerStatus { absent: true, ..ServerStatus::default() };
        let edit = desired.set_server_status(name(), address, down).unwrap();
        assert!(matches!(edit.changes[..], [TableChange::RemoveServer(..)]));
        desired.note(edit);
        let edit = desired.set_server(name(), address, ServerSpec::new(method::DIRECT, 7), false).unwrap();
        assert!(edit.changes.is_empty(), "the director does not have it now");
        desired.note(edit);
        let edit = desired.set_server_status(name(), address, ServerStatus::default()).unwrap();
        let [TableChange::AddServer(_, config)] = edit.changes[..] else { panic!() };
        assert_eq!(config.weight.get(), 7);
    }

    #[test]
    fn a_service_without_scheduler_reaches_the_director_with_its_servers_once_it_has_one() {
        let (mut desired, _) = with_server();
        let edit = desired.set_service(name(), ServiceSpec::new(Family::V4, "none"), u32::MAX).unwrap();
        assert!(matches!(edit.changes[..], [TableChange::RemoveService(_)]));
        desired.note(edit);
        let edit = desired.set_service(name(), ServiceSpec::new(Family::V4, "wlc"), u32::MAX).unwrap();
        assert!(matches!(edit.changes[..], [TableChange::AddService(..), TableChange::AddServer(..)]));
    }

    #[test]
    fn services_are_listed_newest_first_and_marks_last() {
        let mut desired = DesiredState::new();
        let tcp = |text: &str| ServiceName::tcp(text.parse().unwrap());
        let mark = ServiceName::Mark { family: Family::V4, mark: 1 };
        let (one, other, third) = (tcp("10.0.0.1:80"), tcp("192.168.0.1:80"), tcp("100.0.0.1:80"));
        for name in [one, mark, other, third] {
            let edit = desired.new_service(name, ServiceSpec::new(name.family(), "rr")).unwrap();
            desired.note(edit);
        }
        let edit = desired.set_service(one, ServiceSpec::new(Family::V4, "wlc"), u32::MAX).unwrap();
        desired.note(edit);
        let names: Vec<_> = desired.services().map(|(name, _)| name).collect();
        assert_eq!(names, [third, other, one, mark]);
    }

    #[test]
    fn errors_come_in_the_kernels_order() {
        let (desired, address) = with_server();
        let other = ServiceName::Mark { family: Family::V4, mark: 9 };
        let mut spec = ServerSpec::new(method::DIRECT, -1);
        assert_eq!(desired.new_server(other, address, spec, false).unwrap_err(), Errno::NoService);
        assert_eq!(desired.new_server(name(), address, spec, false).unwrap_err(), Errno::Range);
        spec.weight = 1;
        assert_eq!(desired.new_server(name(), address, spec, false).unwrap_err(), Errno::Exists);
        let six = "[2001:db8::1]:80".parse().unwrap();
        assert_eq!(desired.new_server(name(), six, spec, false).unwrap_err(), Errno::Invalid);
        assert_eq!(desired.del_server(name(), six).unwrap_err(), Errno::NoEntry);
    }
}
