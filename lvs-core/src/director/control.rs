//! Control: services and real servers come, change and go, between any two packets.

use core::net::{IpAddr, SocketAddr};

use super::time::lifecycle::TRASH_PERIOD_SECS;
use crate::director::Director;
use crate::director::brain::{FTP_PORT, family_index};
use crate::director::engine::Engine;
use crate::director::places::first_from;
use crate::model::error::{
    AddServerError, AddServiceError, EditServerError, EditServiceError, RemoveServerError,
    RemoveServiceError, ZeroError,
};
use crate::model::flow::Family;
use crate::model::id::{ServerId, ServiceId};
use crate::model::key::ServiceKey;
use crate::model::method::Method;
use crate::model::news::ServerFact;
use crate::model::persistence::Persistence;
use crate::model::server::{Life, Server, ServerConfig, has_tunnel_port};
use crate::model::standing::{Latency, Standing};
use crate::sched::pool::Pool;
use crate::sched::schedule::{Change, Schedule, TableLen};
use crate::store::service::{Service, ServiceConfig};
use crate::store::{SchedulerOf, Services as _, Store};

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
        let from = self.brain.next_service_place;
        let vacant = first_from(tables.services, from, Option::is_none).ok_or(AddServiceError::Full)?;
        self.brain.next_service_place = vacant + 1;
        let index = vacant as u32;
        if !self.store.lend_table(index, config.scheduler.table_len()) {
            return Err(AddServiceError::NoTable);
        }
        let mut engine = self.engine();
        engine.brain.call_services += u32::from(goes_by_call(config.persistence));
        engine.tables.services[vacant] = Some(Service::new(key, config));
        engine.tables.by_key.insert(key, index);
        // The answer that was kept may be that there is none, or the service for all ports, which the new one comes
        // before.
        engine.brain.services_changed();
        engine.brain.families[family_index(key.family())] += 1;
        engine.brain.wildcards += u32::from(has_port(&key, 0));
        engine.brain.ftp_services += u32::from(has_port(&key, FTP_PORT));
        engine.inform(index, Change::Bound);
        say!(debug, "service {key} added");
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
        // ipvsadm and keepalived name the scheduler in every edit. To begin its turns anew each time would favour the
        // first servers.
        if service.scheduler.name() == config.scheduler.name() {
            service.behave(&config);
            self.brain.call_services = self.brain.call_services - before + after;
            say!(debug, "service {key} edited");
            return Ok(());
        }
        // Before anything changes: if there is no memory for the table the old scheduler goes on with its own.
        if !self.store.lend_table(index, config.scheduler.table_len()) {
            return Err(EditServiceError::NoTable);
        }
        let mut engine = self.engine();
        if let Some(Some(service)) = engine.tables.services.get_mut(index as usize) {
            service.behave(&config);
            service.scheduler = config.scheduler;
        }
        engine.brain.call_services = engine.brain.call_services - before + after;
        engine.inform(index, Change::Bound);
        say!(debug, "service {key} edited, with another scheduler");
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
        let mut engine = self.engine();
        let index = engine.tables.by_key.find(&key).ok_or(RemoveServiceError::NotFound)?;
        let service = engine.tables.services.get_mut(index as usize).and_then(Option::take);
        let service = service.ok_or(RemoveServiceError::NotFound)?;
        engine.tables.by_key.remove(&key);
        engine.brain.services_changed();
        engine.brain.families[family_index(key.family())] -= 1;
        engine.brain.wildcards -= u32::from(has_port(&key, 0));
        engine.brain.ftp_services -= u32::from(has_port(&key, FTP_PORT));
        engine.brain.call_services -= u32::from(goes_by_call(service.persistence));
        let mut next = service.first;
        while let Some(id) = next {
            next = engine.tables.servers[id.0 as usize].next;
            engine.retire(id);
        }
        engine.for_removed(&key, index, |server| {
            // A service with the same key may come back in this place; it is not the same one.
            server.service = NO_SERVICE;
            server.holds = 0;
        });
        // Its memory is for tables of others now. None can always be lent.
        self.store.lend_table(index, TableLen::NONE);
        say!(debug, "service {key} removed with its servers");
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
        let mut engine = self.engine();
        let index = engine.tables.by_key.find(&key).ok_or(AddServerError::NoService)?;
        check(&key, &config, engine.brain.joins_families).map_err(|fault| match fault {
            Fault::NotDirect => AddServerError::NotDirect,
            Fault::FamilyMismatch => AddServerError::FamilyMismatch,
            Fault::NoTunnelPort => AddServerError::NoTunnelPort,
            Fault::Thresholds => AddServerError::BadThresholds,
        })?;
        if engine.find_server(index, config.address).is_some() {
            return Err(AddServerError::Exists);
        }
        // After the look for a server with this address, so that the errors come in the order of IPVS.
        if !is_unicast(config.address.ip()) {
            return Err(AddServerError::BadAddress);
        }
        let id = engine.take_place(&key, config.address).ok_or(AddServerError::Full)?;
        let Some(Some(service)) = engine.tables.services.get_mut(index as usize) else {
            return Err(AddServerError::NoService);
        };
        let server = &mut engine.tables.servers[id.0 as usize];
        // A server that comes back to its service goes on counting; what another service counted in this place is not
        // its own.
        if server.service != ServiceId(index) {
            server.meter = crate::model::meter::Meter::ZERO;
        }
        server.address = config.address;
        server.method = config.method;
        server.draining = config.draining;
        server.tag = config.tag;
        server.standing = Standing::new(config.weight.get());
        (server.load, server.latency) = (0, Latency::NEW);
        // What was still to be said of it is over: it is in a service again.
        server.pending = server.pending.of_another();
        server.life = Life::Available;
        // While it was away nobody estimated its rates.
        engine.brain.rates_fall |= server.meter.moves();
        server.service = ServiceId(index);
        server.key = key;
        server.next = service.first;
        // One that comes back with its connections may be overloaded by them, as before.
        let tell = server.set_thresholds(config.upper, config.lower) || server.overloaded;
        service.first = Some(id);
        service.servers += 1;
        engine.list_at(id);
        engine.announce_overload(id, tell);
        engine.inform(index, Change::Added(id));
        say!(debug, "server {} added to service {key}", config.address);
        Ok(id)
    }

    /// Changes a real server's method, weight and thresholds. Existing connections keep their method.
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn edit_server(&mut self, key: ServiceKey, config: ServerConfig) -> Result<(), EditServerError> {
        let config = ServerConfig { address: endpoint(config.address), ..config };
        let mut engine = self.engine();
        let index = engine.tables.by_key.find(&key).ok_or(EditServerError::NoService)?;
        check(&key, &config, engine.brain.joins_families).map_err(|fault| match fault {
            Fault::NotDirect => EditServerError::NotDirect,
            Fault::FamilyMismatch => EditServerError::FamilyMismatch,
            Fault::NoTunnelPort => EditServerError::NoTunnelPort,
            Fault::Thresholds => EditServerError::BadThresholds,
        })?;
        let found = engine.find_server(index, config.address).ok_or(EditServerError::NotFound)?;
        let id = found.server;
        if engine.tables.servers[id.0 as usize].method != config.method {
            // By which chain it is found depends on the method.
            engine.unlist_at(id);
            engine.tables.servers[id.0 as usize].method = config.method;
            engine.list_at(id);
        }
        let server = &mut engine.tables.servers[id.0 as usize];
        server.standing.configure(config.weight.get());
        server.draining = config.draining;
        server.tag = config.tag;
        let drained = server.is_drained();
        let changed = server.set_thresholds(config.upper, config.lower);
        engine.announce_overload(id, changed);
        if drained {
            engine.note_server(id, ServerFact::Drained);
        }
        engine.inform(index, Change::Edited(id));
        say!(debug, "server {} of service {key} edited: weight {}", config.address, config.weight);
        Ok(())
    }

    /// Removes a real server from a service. Its connections stay in the table, their packets are dropped until they
    /// time out or the server comes back; with [`expire_nodest_conn`](crate::config::Tuning::expire_nodest_conn) they
    /// end at once instead. To let them finish first, edit its weight to 0 and wait for
    /// [`Event::Drained`](crate::Event::Drained).
    ///
    /// # Errors
    ///
    /// Says why not; nothing has changed then.
    pub fn remove_server(&mut self, key: ServiceKey, address: SocketAddr) -> Result<(), RemoveServerError> {
        let mut engine = self.engine();
        let index = engine.tables.by_key.find(&key).ok_or(RemoveServerError::NoService)?;
        let found = engine.find_server(index, endpoint(address)).ok_or(RemoveServerError::NotFound)?;
        let after = engine.tables.servers[found.server.0 as usize].next;
        if let Some(before) = found.before {
            engine.tables.servers[before.0 as usize].next = after;
        }
        if let Some(Some(service)) = engine.tables.services.get_mut(index as usize) {
            if found.before.is_none() {
                service.first = after;
            }
            service.servers -= 1;
        }
        engine.retire(found.server);
        engine.inform(index, Change::Removed { server: found.server, before: found.before });
        say!(debug, "server {address} of service {key} removed");
        Ok(())
    }
}

impl<S: Store> Director<S> {
    /// Sets to zero what `ipvsadm` shows of a service and its real servers (see
    /// [`Meter::zero`](crate::stats::Meter::zero)), or of everything.
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
        let Some(Some(service)) = tables.services.get_mut(index as usize) else {
            return Err(ZeroError::NotFound);
        };
        service.meter.zero();
        let mut next = service.first;
        while let Some(server) = next.and_then(|id| tables.servers.get_mut(id.0 as usize)) {
            server.meter.zero();
            next = server.next;
        }
        Ok(())
    }
}

impl<S: Store> Engine<'_, S> {
    /// Turns a server that was unlinked into a removed one.
    fn retire(&mut self, id: ServerId) {
        self.unlist_at(id);
        let server = &mut self.tables.servers[id.0 as usize];
        server.life = Life::Removed { idle_since: None };
        let drained = server.is_drained();
        self.list(id);
        if self.brain.trash == 0 {
            self.brain.next_trash = self.brain.clock.plus_secs(TRASH_PERIOD_SECS);
        }
        self.brain.trash += 1;
        // From the beginning, also if such a search is under way: it has passed entries of this server.
        if self.brain.config.tuning.expire_nodest_conn {
            self.brain.flush = Some(0);
        }
        if drained {
            self.note_server(id, ServerFact::Drained);
        }
    }

    fn announce_overload(&mut self, server: ServerId, changed: bool) {
        if changed {
            let overloaded = self.tables.servers[server.0 as usize].overloaded;
            let fact = if overloaded { ServerFact::Overloaded } else { ServerFact::Relieved };
            self.note_server(server, fact);
        }
    }

    /// A place for a server: the one that it had before it was removed, else a vacant one, else that of a removed
    /// server that no connection refers to.
    fn take_place(&mut self, key: &ServiceKey, address: SocketAddr) -> Option<ServerId> {
        // Its connections name the place: in the same place they flow again.
        let same = |server: &Server| server.is_removed() && server.address == address && server.key == *key;
        match self.find_listed(key, same) {
            Some(id) => {
                self.unlist(id);
                self.brain.trash -= 1;
                Some(id)
            }
            None => self.take_vacant(),
        }
    }

    /// Tells a service's scheduler what changed.
    pub(super) fn inform(&mut self, index: u32, change: Change) {
        if change == Change::Bound
            && let Some(Some(service)) = self.tables.services.get(index as usize)
        {
            // What a former scheduler's cache held is forgotten with it.
            let (key, mut next) = (service.key, service.first);
            while let Some(server) = next.and_then(|id| self.tables.servers.get_mut(id.0 as usize)) {
                server.holds = 0;
                next = server.next;
            }
            // Removed servers are in no service's list, but know it.
            self.for_removed(&key, index, |server| server.holds = 0);
        }
        if let Some(Some(service)) = self.tables.services.get_mut(index as usize) {
            // Not now: a large table takes a millisecond, and the next change would make it useless. The first
            // connection after the changes makes it, unless one that was made ahead is taken over before.
            if service.scheduler.builder().is_some() {
                service.stale = true;
            } else {
                service.stale = false;
                let lookup = self.tables.by_key.table(index);
                let (context, _) = self.brain.pick_context(&service.key);
                let mut pool = Pool::new(
                    self.tables.servers,
                    service.first,
                    service.servers,
                    lookup,
                    service.flags,
                    context,
                );
                service.scheduler.on_change(&mut pool, change);
            }
            self.brain.timers.expect(service.scheduler.next_tick());
        }
    }

    /// A server of the service at `index`, by its address.
    pub(super) fn find_server(&self, index: u32, address: SocketAddr) -> Option<Found> {
        let first = self.tables.services.get(index as usize)?.as_ref()?.first;
        let mut before = None;
        for (server, config) in crate::sched::order::walk(self.tables.servers, first) {
            if config.address == address {
                return Some(Found { server, before });
            }
            before = Some(server);
        }
        None
    }
}

/// A server in a service's chain, and the one before it.
pub(super) struct Found {
    pub(super) server: ServerId,
    before: Option<ServerId>,
}

/// Address and port alone. An IPv6 socket address also carries a scope and a flow label, which are no part of a
/// server's name: packets do not show them.
const fn endpoint(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// What is wrong with a server's configuration.
enum Fault {
    NotDirect,
    FamilyMismatch,
    NoTunnelPort,
    Thresholds,
}

fn check(key: &ServiceKey, config: &ServerConfig, joins_families: bool) -> Result<(), Fault> {
    // Where no packet is rewritten, nothing else than the address can be meant.
    if joins_families && config.method != Method::Direct {
        return Err(Fault::NotDirect);
    }
    if config.lower > config.upper || config.upper > i32::MAX as u32 {
        return Err(Fault::Thresholds);
    }
    if !has_tunnel_port(config.method) {
        return Err(Fault::NoTunnelPort);
    }
    let joins = joins_families || matches!(config.method, Method::Tunnel(_));
    if Family::of(config.address.ip()) != key.family() && !joins {
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
