//! A director's table: steps applied to it, and what it says of itself.

use core::net::SocketAddr;
use core::ops::AddAssign;

use lvs_core::conn::{Connection, Template, TemplateTarget};
use lvs_core::error::{AddServerError, AddServiceError, EditServerError, EditServiceError};
use lvs_core::service::SchedulerOf;
use lvs_core::stats::{Rates, Traffic};
use lvs_core::{ConnId, Director, Scheduler, ServiceConfig, ServiceKey, Store, Tick};
use lvs_forward::Forwarder;

use super::change::TableChange;
use crate::control::{Errno, Stats};

/// Applies steps, all of them or none: the removing ones last, since they cannot fail.
pub(crate) fn apply<S>(
    director: &mut Director<S>,
    forwarder: &mut Forwarder,
    now: Tick,
    changes: &[TableChange],
) -> Result<(), Errno>
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    let (removals, others): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.removes());
    for (done, change) in others.iter().enumerate() {
        if let Err(errno) = step(director, forwarder, now, change) {
            // Backwards, since a later step may rest on an earlier one, as a server does on its service.
            others.iter().take(done).rev().for_each(|change| undo(director, change));
            return Err(errno);
        }
    }
    for change in removals {
        // What is not there need not go.
        let _ = step(director, forwarder, now, change);
    }
    Ok(())
}

/// Takes back steps that were applied a moment ago, of which none removes anything.
pub(crate) fn undo_all<S>(director: &mut Director<S>, changes: &[TableChange])
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    changes.iter().rev().for_each(|change| undo(director, change));
}

fn step<S>(
    director: &mut Director<S>,
    forwarder: &mut Forwarder,
    now: Tick,
    change: &TableChange,
) -> Result<(), Errno>
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    match change {
        TableChange::AddService(key, config) => {
            director.add_service(*key, converted(config)).map(drop).map_err(|error| {
                match error {
                    AddServiceError::Exists => Errno::Exists,
                    AddServiceError::Full => Errno::ServicesFull,
                    AddServiceError::NoTable => Errno::TablesFull,
                    // The enum may grow; what the kernel calls EINVAL is the general case.
                    AddServiceError::BadMask | AddServiceError::NoMark | _ => Errno::Invalid,
                }
            })
        }
        TableChange::EditService { key, new, .. } => {
            director.edit_service(*key, converted(new)).map_err(|error| match error {
                EditServiceError::NotFound => Errno::NoService,
                EditServiceError::NoTable => Errno::TablesFull,
                EditServiceError::BadMask | _ => Errno::Invalid,
            })
        }
        TableChange::RemoveService(key) => director.remove_service(*key).map_err(|_| Errno::NoService),
        TableChange::AddServer(key, config) => {
            if forwarder.host().is_broadcast(config.address.ip()) {
                return Err(Errno::Invalid);
            }
            let added = director.add_server(*key, *config).map(drop).map_err(|error| match error {
                AddServerError::BadThresholds => Errno::Range,
                AddServerError::Exists => Errno::Exists,
                AddServerError::Full => Errno::ServersFull,
                AddServerError::NoService => Errno::NoService,
                AddServerError::BadAddress
                | AddServerError::FamilyMismatch
                | AddServerError::NoTunnelPort
                | _ => Errno::Invalid,
            });
            // So that first packets need not wait for its link-layer address.
            forwarder.host_mut().look_for(now, config.address.ip());
            added
        }
        TableChange::EditServer { key, new, .. } => {
            director.edit_server(*key, *new).map_err(|error| match error {
                EditServerError::BadThresholds => Errno::Range,
                EditServerError::NotFound => Errno::NoEntry,
                EditServerError::NoService => Errno::NoService,
                EditServerError::FamilyMismatch | EditServerError::NoTunnelPort | _ => Errno::Invalid,
            })
        }
        TableChange::RemoveServer(key, address) => {
            director.remove_server(*key, *address).map_err(|_| Errno::NoEntry)
        }
    }
}

fn undo<S>(director: &mut Director<S>, change: &TableChange)
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    // It was so a moment ago, so it can be so again.
    match change {
        TableChange::AddService(key, _) => _ = director.remove_service(*key),
        TableChange::EditService { key, old, .. } => _ = director.edit_service(*key, converted(old)),
        TableChange::AddServer(key, config) => _ = director.remove_server(*key, config.address),
        TableChange::EditServer { key, old, .. } => _ = director.edit_server(*key, *old),
        TableChange::RemoveService(_) | TableChange::RemoveServer(..) => {}
    }
}

fn converted<P: From<Scheduler>>(config: &ServiceConfig<Scheduler>) -> ServiceConfig<P> {
    let mut new = ServiceConfig::new(P::from(config.scheduler.clone())).with_flags(config.flags);
    (new.persistence, new.one_packet) = (config.persistence, config.one_packet);
    new
}

/// What a director says of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveServer {
    pub(crate) address: SocketAddr,
    pub(crate) active: u32,
    pub(crate) inactive: u32,
    pub(crate) persistent: u32,
    pub(crate) stats: Stats,
}

impl AddAssign for LiveServer {
    fn add_assign(&mut self, other: Self) {
        self.active += other.active;
        self.inactive += other.inactive;
        self.persistent += other.persistent;
        self.stats += other.stats;
    }
}

/// What a director says of a service's traffic.
pub(crate) fn service_stats<S: Store>(director: &Director<S>, key: ServiceKey) -> Stats {
    director.service(key).map_or_else(Stats::default, |service| Stats {
        traffic: service.meter().shown(),
        rates: service.meter().rates(),
    })
}

/// What a director says of a service's servers.
pub(crate) fn servers<S: Store>(director: &Director<S>, key: ServiceKey) -> Vec<LiveServer> {
    let live = director.servers(key).map(|(_, server)| LiveServer {
        address: server.address(),
        active: server.active(),
        inactive: server.inactive(),
        persistent: server.persistent(),
        stats: Stats { traffic: server.meter().shown(), rates: server.meter().rates() },
    });
    live.collect()
}

/// The whole director's traffic and rates.
pub(crate) fn totals<S: Store>(director: &Director<S>) -> (Traffic, Rates) {
    (director.meter().shown(), director.meter().rates())
}

/// An entry of the connection table.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Connection(Connection),
    Template(OwnTemplate),
}

/// A template with its Call-ID copied.
#[derive(Clone, Debug)]
pub(crate) struct OwnTemplate {
    pub(crate) client: core::net::IpAddr,
    pub(crate) target: TemplateTarget,
    pub(crate) destination: SocketAddr,
    pub(crate) assured: bool,
    pub(crate) expires_in: u64,
    pub(crate) call: Option<Vec<u8>>,
}

/// The entries among `count` of a table, from the one with the number `first` on, and the number behind these; `None`
/// at the end of the table.
pub(crate) fn entries<S: Store>(
    director: &Director<S>,
    now: Tick,
    first: u32,
    count: u32,
) -> (Vec<Entry>, Option<u32>) {
    // What was never used is behind all that was.
    let used = director.used();
    let own = |template: Template<'_>| OwnTemplate {
        client: template.client,
        target: template.target,
        destination: template.destination,
        assured: template.assured,
        expires_in: template.expires_in,
        call: template.call.map(<[u8]>::to_vec),
    };
    let end = used.min(first.saturating_add(count));
    let ids = (first..end).map(ConnId::from_index);
    let entry = |id| match director.connection(id, now) {
        Some(connection) => Some(Entry::Connection(connection)),
        None => director.template(id, now).map(|template| Entry::Template(own(template))),
    };
    (ids.filter_map(entry).collect(), (end < used).then_some(end))
}
