//! Everything that a watcher shows, read at one time.

use core::net::SocketAddr;
use std::collections::HashMap;

use super::{RuntimeController, RuntimeGroup, SharedController};
use crate::control::{Answer, Command, CommandError, Query, ServerReport, ServiceName};
use crate::metrics::{WatchedServer, WatchedService};
use crate::worker::{Handle, Snapshot, WorkerGone};

/// What all workers have counted together, what each has, and the entries that their tables can have.
pub(super) fn counters(of: &RuntimeGroup) -> Result<(Snapshot, Vec<Snapshot>, u64), WorkerGone> {
    let workers: Vec<Snapshot> = of.handles().iter().map(Handle::snapshot).collect();
    let total = Snapshot::total(&workers).ok_or(WorkerGone)?;
    let capacities = of.with_each(|_, director, _, _| director.capacity() as u64)?;
    Ok((total, workers, capacities.into_iter().sum()))
}

/// All services. What is removed meanwhile is left out.
pub(super) fn services(of: &SharedController) -> Result<Vec<WatchedService>, WorkerGone> {
    let names: Vec<ServiceName> = of.lock().desired().services().map(|(name, _)| name).collect();
    let mut services = Vec::with_capacity(names.len());
    for names in names.chunks(SERVICES_AT_ONCE) {
        list(&mut of.lock(), names, &mut services)?;
    }
    Ok(services)
}

fn list(
    controller: &mut RuntimeController,
    names: &[ServiceName],
    services: &mut Vec<WatchedService>,
) -> Result<(), WorkerGone> {
    let queries: Vec<Command> = names.iter().map(|name| Query::Servers(*name).into()).collect();
    for (name, answer) in names.iter().zip(controller.submit_each(&queries)) {
        let listed = match answer {
            Ok(Answer::Servers(listed)) => listed,
            Err(CommandError::Gone) => return Err(WorkerGone),
            // It has just been removed.
            Ok(_) | Err(_) => continue,
        };
        let Some(service) = controller.desired().service(*name) else { continue };
        let mut reports: HashMap<SocketAddr, ServerReport> =
            listed.into_iter().map(|report| (report.address, report)).collect();
        let servers = service
            .servers
            .iter()
            .map(|declared| WatchedServer { declared: *declared, report: reports.remove(&declared.address) });
        let (name, scheduler, servers) = (*name, service.spec.scheduler.clone(), servers.collect());
        services.push(WatchedService { name, scheduler, servers });
    }
    Ok(())
}

/// So many services are listed before the controller is let go for others.
const SERVICES_AT_ONCE: usize = 64;
