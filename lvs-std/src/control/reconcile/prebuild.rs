//! What services will be after some steps, and the look-up tables that they are going to need.

use lvs_core::sched::Schedule as _;
use lvs_core::service::SchedulerOf;
use lvs_core::{Director, Scheduler, ServiceConfig, ServiceKey, Store};

use super::change::TableChange;
use super::planned::{PlannedService, PrebuiltTables};
use crate::control::backend::Backend;
use crate::worker::WorkerGone;

/// The look-up tables that each director is going to need after these steps, as far as they can be made ahead: by this
/// thread, while packets go on.
pub(crate) fn tables_for<S>(
    backend: &impl Backend<S>,
    changes: &[TableChange],
) -> Result<Vec<PrebuiltTables>, WorkerGone>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    let scheduler = |config: &ServiceConfig<Scheduler>| SchedulerOf::<S>::from(config.scheduler.clone());
    let mut asked: Vec<(ServiceKey, bool)> = Vec::new();
    for change in changes {
        let (key, gets) = match change {
            TableChange::AddServer(key, _)
            | TableChange::EditServer { key, .. }
            | TableChange::RemoveServer(key, _) => (*key, false),
            TableChange::EditService { key, new, .. } => (*key, scheduler(new).builder().is_some()),
            TableChange::AddService(..) | TableChange::RemoveService(_) => continue,
        };
        match asked.iter_mut().find(|of| of.0 == key) {
            Some(of) => of.1 |= gets,
            None => asked.push((key, gets)),
        }
    }
    let nothing = asked.is_empty();
    let read = move |_: usize, director: &mut Director<S>, _: &mut _, _| -> Vec<PlannedService> {
        asked.iter().filter_map(|&(key, gets)| PlannedService::read(director, key, gets)).collect()
    };
    let mut all = if nothing { vec![Vec::new(); backend.workers()] } else { backend.with_each(read)? };
    for planned in &mut all {
        // What removes comes last, as it is applied.
        let (removals, others): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.removes());
        for change in others.into_iter().chain(removals) {
            let of = |key: &ServiceKey| planned.iter().position(|planned| planned.key() == *key);
            match change {
                TableChange::AddService(key, config) => {
                    planned.push(PlannedService::new(*key, &scheduler(config)));
                }
                TableChange::EditService { key, old, new } => {
                    if let Some(at) = of(key).filter(|_| old.scheduler.name() != new.scheduler.name()) {
                        planned[at].reschedule(&scheduler(new));
                    }
                }
                TableChange::RemoveService(key) => _ = of(key).map(|at| planned.remove(at)),
                TableChange::AddServer(key, config) => _ = of(key).map(|at| planned[at].add(config)),
                TableChange::EditServer { key, new, .. } => _ = of(key).map(|at| planned[at].edit(new)),
                TableChange::RemoveServer(key, address) => _ = of(key).map(|at| planned[at].remove(*address)),
            }
        }
    }
    Ok(PrebuiltTables::of_each(&all))
}
