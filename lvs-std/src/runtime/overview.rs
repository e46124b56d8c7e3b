//! Everything that a watcher shows, read at one time.

use core::net::SocketAddr;
use std::collections::HashMap;

use super::{RuntimeController, RuntimeHandle};
use crate::control::{Answer, Command, CommandError, Query, ServerReport, ServiceName};
use crate::metrics::{Overview, WatchedServer, WatchedService};
use crate::worker::{Handle, Snapshot, WorkerGone};

pub(super) fn read(of: &RuntimeHandle) -> Result<Overview, WorkerGone> {
    let workers: Vec<Snapshot> = of.group().handles().iter().map(Handle::snapshot).collect();
    let mut total = workers.first().ok_or(WorkerGone)?.clone();
    workers.iter().skip(1).for_each(|worker| total += worker);
    let capacities = of.group().with_each(|_, director, _, _| director.capacity() as u64)?;
    Ok(Overview {
        total,
        workers,
        interfaces: of.interfaces().to_vec(),
        capacity: capacities.into_iter().sum(),
        services: services(of)?,
        taken: of.0.started.elapsed(),
        health: of.health_row(),
        events: of.past_events(),
    })
}

/// All services. What is removed meanwhile is left out.
fn services(of: &RuntimeHandle) -> Result<Vec<WatchedService>, WorkerGone> {
    let names: Vec<ServiceName> =
        of.with_controller(|controller| controller.desired().services().map(|(name, _)| name).collect());
    let mut services = Vec::with_capacity(names.len());
    for names in names.chunks(SERVICES_AT_ONCE) {
        of.with_controller(|controller| list(controller, names, &mut services))?;
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
