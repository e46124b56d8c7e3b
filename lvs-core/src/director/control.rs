//! Control: services and real servers come, change and go, between any two packets.

use core::net::{IpAddr, SocketAddr};

use super::time::lifecycle::TRASH_PERIOD_SECS;
use super::{Brain, Director, FTP_PORT, family_index};
use crate::model::error::{
    AddServerError, AddServiceError, EditServerError, EditServiceError, RemoveServerError,
    RemoveServiceError, ZeroError,
};
use crate::model::event::Event;
use crate::model::flow::Family;
use crate::model::id::ServerId;
use crate::model::id::ServiceId;
use crate::model::key::ServiceKey;
use crate::model::method::Method;
use crate::model::persistence::Persistence;
use crate::model::server::{Life, Server, ServerConfig, has_tunnel_port};
use crate::sched::pool::Pool;
use crate::sched::schedule::{Change, Schedule};
use crate::store::service::{Service, ServiceConfig};
use crate::store::{Queue, SchedulerOf, Services, Store, Tables};

impl<S: Store> Director<S> {
    /// Adds a virtual service without real servers.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn add_service(
        &mut self,
        key: ServiceKey,
        config: ServiceConfig<SchedulerOf<S>>,
    ) -> Result<ServiceId, AddServiceError> {
        if matches!(key, ServiceKey::Mark { mark: 0, .. }) {
            return Err(AddServiceError::NoMark);
        }
        if config.persistence.is_some_and(|persistence| !persistence.suits(key.family())) {
            return Err(AddServiceError::BadMask);
        }
        let tables = self.store.parts();
        if tables.by_key.find(&key).is_some() {
            return Err(AddServiceError::Exists);
        }
        let vacant = tables.services.iter().position(Option::is_none).ok_or(AddServiceError::Full)?;
        let index = vacant as u32;
        if !self.store.lend_table(index, config.scheduler.table_len()) {
            return Err(AddServiceError::NoTable);
        }
        let mut tables = self.store.parts();
        self.brain.call_services += u32::from(goes_by_call(config.persistence));
        tables.services[vacant] = Some(Service::new(key, config));
        tables.by_key.insert(key, index);
        self.brain.last_service = None;
        self.brain.families[family_index(key.family())] += 1;
        self.brain.wildcards += u32::from(has_port(&key, 0));
        self.brain.ftp_services += u32::from(has_port(&key, FTP_PORT));
        inform(&mut self.brain, &mut tables, index, Change::Bound);
        Ok(ServiceId(index))
    }

    /// Changes how a service behaves. A scheduler of the same name keeps its state; its flags count from the next
    /// connection on. Servers and connections stay.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn edit_service(
        &mut self,
        key: ServiceKey,
        config: ServiceConfig<SchedulerOf<S>>,
    ) -> Result<(), EditServiceError> {
        let tables = self.store.parts();
        let index = tables.by_key.find(&key).ok_or(EditServiceError::NotFound)?;
        if config.persistence.is_some_and(|persistence| !persistence.suits(key.family())) {
            return Err(EditServiceError::BadMask);
        }
        let Some(Some(service)) = tables.services.get_mut(index as usize) else {
            return Err(EditServiceError::NotFound);
        };
        let before = u32::from(goes_by_call(service.persistence));
        let after = u32::from(goes_by_call(config.persistence));
        if service.scheduler.name() == config.scheduler.name() {
            service.behave(&config);
            self.brain.call_services = self.brain.call_services - before + after;
            return Ok(());
        }
        if !self.store.lend_table(index, config.scheduler.table_len()) {
            return Err(EditServiceError::NoTable);
        }
        let mut tables = self.store.parts();
        if let Some(Some(service)) = tables.services.get_mut(index as usize) {
            service.behave(&config);
            service.scheduler = config.scheduler;
        }
        self.brain.call_services = self.brain.call_services - before + after;
        inform(&mut self.brain, &mut tables, index, Change::Bound);
        Ok(())
    }

    /// Removes a service with all its real servers. Its connections stay in the table: their packets are dropped as
    /// those of removed servers, and flow again if service and server are added again in time. When it was
    /// the last one of its address family, packets of that family are left to the host altogether, as by IPVS.
    ///
    /// # Errors
    ///
    /// [`RemoveServiceError::NotFound`].
    pub fn remove_service(&mut self, key: ServiceKey) -> Result<(), RemoveServiceError> {
        let mut tables = self.store.parts();
        let index = tables.by_key.find(&key).ok_or(RemoveServiceError::NotFound)?;
        let service = tables.services.get_mut(index as usize).and_then(Option::take);
        let service = service.ok_or(RemoveServiceError::NotFound)?;
        tables.by_key.remove(&key);
        self.brain.last_service = None;
        self.brain.families[family_index(key.family())] -= 1;
        self.brain.wildcards -= u32::from(has_port(&key, 0));
        self.brain.ftp_services -= u32::from(has_port(&key, FTP_PORT));
        self.brain.call_services -= u32::from(goes_by_call(service.persistence));
        let mut next = service.first;
        while let Some(id) = next {
            next = tables.servers[id.0 as usize].next;
            self.brain.retire(&mut tables, id);
        }
        for server in tables.servers.iter_mut().filter(|server| server.service == ServiceId(index)) {
            // A service with the same key may come back in this place; it is not the same one.
            server.service = NO_SERVICE;
            server.holds = 0;
        }
        Ok(())
    }

    /// Adds a real server to a service. It is the first in the schedulers' order.
    ///
    /// A server that was removed and is still referred to by connections (or was, until two to three minutes ago) comes
    /// back with its counts, and its connections go on, by the method that they had.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn add_server(&mut self, key: ServiceKey, config: ServerConfig) -> Result<ServerId, AddServerError> {
        let config = ServerConfig { address: endpoint(config.address), ..config };
        let mut tables = self.store.parts();
        let index = tables.by_key.find(&key).ok_or(AddServerError::NoService)?;
        check(&key, &config).map_err(|fault| match fault {
            Fault::FamilyMismatch => AddServerError::FamilyMismatch,
            Fault::NoTunnelPort => AddServerError::NoTunnelPort,
            Fault::Thresholds => AddServerError::BadThresholds,
        })?;
        if find_server(&mut tables, index, config.address).is_some() {
            return Err(AddServerError::Exists);
        }
        if !is_unicast(config.address.ip()) {
            return Err(AddServerError::BadAddress);
        }
        let id = self.brain.take_place(tables.servers, &key, config.address).ok_or(AddServerError::Full)?;
        let Some(Some(service)) = tables.services.get_mut(index as usize) else {
            return Err(AddServerError::NoService);
        };
        let server = &mut tables.servers[id.0 as usize];
        if server.service != ServiceId(index) {
            server.meter = crate::model::meter::Meter::ZERO;
        }
        server.address = config.address;
        server.method = config.method;
        server.weight = config.weight.get();
        server.last_weight = config.weight.get();
        server.draining = config.draining;
        server.life = Life::Available;
        server.service = ServiceId(index);
        server.key = key;
        server.next = service.first;
        let changed = server.set_thresholds(config.upper, config.lower);
        service.first = Some(id);
        service.servers += 1;
        self.brain.announce_overload(&mut tables, id, changed);
        inform(&mut self.brain, &mut tables, index, Change::Added(id));
        Ok(id)
    }

    /// Changes a real server's method, weight and thresholds. Existing connections keep their method.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn edit_server(&mut self, key: ServiceKey, config: ServerConfig) -> Result<(), EditServerError> {
        let config = ServerConfig { address: endpoint(config.address), ..config };
        let mut tables = self.store.parts();
        let index = tables.by_key.find(&key).ok_or(EditServerError::NoService)?;
        check(&key, &config).map_err(|fault| match fault {
            Fault::FamilyMismatch => EditServerError::FamilyMismatch,
            Fault::NoTunnelPort => EditServerError::NoTunnelPort,
            Fault::Thresholds => EditServerError::BadThresholds,
        })?;
        let found = find_server(&mut tables, index, config.address).ok_or(EditServerError::NotFound)?;
        let id = found.server;
        let server = &mut tables.servers[id.0 as usize];
        server.method = config.method;
        server.weight = config.weight.get();
        server.draining = config.draining;
        if server.weight != 0 {
            server.last_weight = server.weight;
        }
        let drained = server.is_drained();
        let changed = server.set_thresholds(config.upper, config.lower);
        self.brain.announce_overload(&mut tables, id, changed);
        if drained {
            self.brain.note(&mut tables, Event::Drained { server: id });
        }
        inform(&mut self.brain, &mut tables, index, Change::Edited(id));
        Ok(())
    }

    /// Removes a real server from a service. Its connections stay in the table, their packets are dropped until they
    /// time out or the server comes back; with [`expire_nodest_conn`](crate::Tuning::expire_nodest_conn) they
    /// end at once instead. To let them finish first, edit its weight to 0 and wait for [`Event::Drained`].
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn remove_server(&mut self, key: ServiceKey, address: SocketAddr) -> Result<(), RemoveServerError> {
        let mut tables = self.store.parts();
        let index = tables.by_key.find(&key).ok_or(RemoveServerError::NoService)?;
        let found = find_server(&mut tables, index, endpoint(address)).ok_or(RemoveServerError::NotFound)?;
        let after = tables.servers[found.server.0 as usize].next;
        if let Some(before) = found.before {
            tables.servers[before.0 as usize].next = after;
        }
        if let Some(Some(service)) = tables.services.get_mut(index as usize) {
            if found.before.is_none() {
                service.first = after;
            }
            service.servers -= 1;
        }
        self.brain.retire(&mut tables, found.server);
        inform(
            &mut self.brain,
            &mut tables,
            index,
            Change::Removed { server: found.server, before: found.before },
        );
        Ok(())
    }
}

impl<S: Store> Director<S> {
    /// Sets to zero what `ipvsadm` shows of a service and its real servers (see [`Meter::zero`](crate::Meter::zero)), or of
    /// everything.
    ///
    /// # Errors
    ///
    /// [`ZeroError::NotFound`].
    pub fn zero(&mut self, key: Option<ServiceKey>) -> Result<(), ZeroError> {
        let tables = self.store.parts();
        let Some(key) = key else {
            self.brain.meter.zero();
            tables.services.iter_mut().flatten().for_each(|service| service.meter.zero());
            tables.servers.iter_mut().filter(|server| server.is_available()).for_each(|s| s.meter.zero());
            return Ok(());
        };
        let index = tables.by_key.find(&key).ok_or(ZeroError::NotFound)?;
        if let Some(Some(service)) = tables.services.get_mut(index as usize) {
            service.meter.zero();
        }
        tables.servers.iter_mut().filter(|server| server.serves(index)).for_each(|s| s.meter.zero());
        Ok(())
    }
}

impl Brain {
    /// Turns a server that was unlinked into a removed one.
    fn retire<P, M, Q: Queue>(&mut self, tables: &mut Tables<'_, P, M, Q>, id: ServerId) {
        let server = &mut tables.servers[id.0 as usize];
        server.life = Life::Removed { idle_since: None };
        server.next = None;
        let drained = server.is_drained();
        if self.trash == 0 {
            self.next_trash = self.clock.plus_secs(TRASH_PERIOD_SECS);
        }
        self.trash += 1;
        if self.config.tuning.expire_nodest_conn {
            self.flush = Some(0);
        }
        if drained {
            self.note(tables, Event::Drained { server: id });
        }
    }

    /// A place for a server: the one that it had before it was removed, else a vacant one, else that of a removed
    /// server that no connection refers to.
    fn take_place(
        &mut self,
        servers: &mut [Server],
        key: &ServiceKey,
        address: SocketAddr,
    ) -> Option<ServerId> {
        let returned = (self.trash > 0)
            .then(|| servers.iter().position(|s| s.is_removed() && s.address == address && s.key == *key))
            .flatten();
        if let Some(at) = returned {
            self.trash -= 1;
            return Some(ServerId(at as u32));
        }
        self.vacate(servers).map(|at| ServerId(at as u32))
    }

    /// A vacant place, if need be that of a removed server that nothing refers to.
    pub(super) fn vacate(&mut self, servers: &mut [Server]) -> Option<usize> {
        let at = match servers.iter().position(|server| server.life == Life::Vacant) {
            Some(at) => at,
            None => {
                let at = servers.iter().position(|server| server.is_removed() && !server.is_referred_to())?;
                self.trash -= 1;
                at
            }
        };
        servers[at].vacate();
        Some(at)
    }

    fn announce_overload<P, M, Q: Queue>(
        &mut self,
        tables: &mut Tables<'_, P, M, Q>,
        server: ServerId,
        changed: bool,
    ) {
        if changed {
            let overloaded = tables.servers[server.0 as usize].overloaded;
            let event = if overloaded { Event::Overloaded { server } } else { Event::Relieved { server } };
            self.note(tables, event);
        }
    }
}

/// Tells a service's scheduler what changed.
fn inform<P: Schedule, M: Services, Q>(
    brain: &mut Brain,
    tables: &mut Tables<'_, P, M, Q>,
    index: u32,
    change: Change,
) {
    if let Some(Some(service)) = tables.services.get_mut(index as usize) {
        if change == Change::Bound {
            // What a former scheduler's cache held is forgotten with it.
            let own = tables.servers.iter_mut().filter(|server| server.service == ServiceId(index));
            own.for_each(|server| server.holds = 0);
        }
        if service.scheduler.builder().is_some() {
            service.stale = true;
        } else {
            service.stale = false;
            let lookup = tables.by_key.table(index);
            let (context, _) = brain.pick_context(&service.key);
            let mut pool =
                Pool::new(tables.servers, service.first, service.servers, lookup, service.flags, context);
            service.scheduler.on_change(&mut pool, change);
        }
        brain.timers.expect(service.scheduler.next_tick());
    }
}

/// A server in a service's chain, and the one before it.
pub(super) struct Found {
    pub(super) server: ServerId,
    before: Option<ServerId>,
}

pub(super) fn find_server<P, M, Q>(
    tables: &mut Tables<'_, P, M, Q>,
    index: u32,
    address: SocketAddr,
) -> Option<Found> {
    let first = tables.services.get(index as usize)?.as_ref()?.first;
    let mut before = None;
    for (server, config) in crate::sched::order::walk(tables.servers, first) {
        if config.address == address {
            return Some(Found { server, before });
        }
        before = Some(server);
    }
    None
}

/// Address and port alone. An IPv6 socket address also carries a scope and a flow label, which are no part of a server's
/// name: packets do not show them.
const fn endpoint(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// What is wrong with a server's configuration.
enum Fault {
    FamilyMismatch,
    NoTunnelPort,
    Thresholds,
}

fn check(key: &ServiceKey, config: &ServerConfig) -> Result<(), Fault> {
    if config.lower > config.upper || config.upper > i32::MAX as u32 {
        return Err(Fault::Thresholds);
    }
    if !has_tunnel_port(config.method) {
        return Err(Fault::NoTunnelPort);
    }
    let tunnelled = matches!(config.method, Method::Tunnel(_));
    if Family::of(config.address.ip()) != key.family() && !tunnelled {
        return Err(Fault::FamilyMismatch);
    }
    Ok(())
}

/// Whether a server can have this address.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] != 0 && !address.is_multicast() && !address.is_broadcast(),
        IpAddr::V6(address) => {
            !address.is_unspecified() && !address.is_multicast() && !address.is_unicast_link_local()
        }
    }
}

fn has_port(key: &ServiceKey, wanted: u16) -> bool {
    matches!(key, ServiceKey::Address { port, .. } if *port == wanted)
}

fn goes_by_call(persistence: Option<Persistence>) -> bool {
    persistence.is_some_and(|persistence| persistence.engine.is_some())
}

/// The service of a server whose service was removed.
const NO_SERVICE: ServiceId = ServiceId(u32::MAX);
