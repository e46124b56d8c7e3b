//! What services will be after some steps, and the look-up tables that they are going to need.

use std::collections::BTreeMap;

use lvs_core::sched::Schedule as _;
use lvs_core::service::SchedulerOf;
use lvs_core::{Director, Scheduler, ServiceConfig, ServiceKey, Store};

use super::change::TableChange;
use super::planned::{PlannedService, PrebuiltTables};
use crate::control::backend::Backend;
use crate::worker::WorkerGone;

/// The services whose look-up tables may have to be others after some steps.
#[derive(Clone, Debug)]
pub(crate) struct Concerned {
    /// Each that there is, with whether it gets a scheduler whose table can be made ahead.
    there: BTreeMap<ServiceKey, bool>,
    /// Whether one is added with such a scheduler.
    adds: bool,
}

impl Concerned {
    /// The services that these steps are about.
    pub(crate) fn by<S>(changes: &[TableChange]) -> Self
    where
        S: Store,
        SchedulerOf<S>: From<Scheduler>,
    {
        let mut concerned = Self { there: BTreeMap::new(), adds: false };
        for change in changes {
            let (key, gets) = match change {
                TableChange::AddServer(key, _)
                | TableChange::EditServer { key, .. }
                | TableChange::RemoveServer(key, _) => (*key, false),
                TableChange::EditService { key, new, .. } => (*key, scheduler::<S>(new).builder().is_some()),
                TableChange::AddService(_, config) => {
                    concerned.adds |= scheduler::<S>(config).builder().is_some();
                    continue;
                }
                TableChange::RemoveService(_) => continue,
            };
            *concerned.there.entry(key).or_default() |= gets;
        }
        concerned
    }

    /// Whether no table can be made ahead: then the steps can be taken at once. Most schedulers have none.
    pub(crate) fn has_no_table<S: Store>(&self, director: &Director<S>) -> bool {
        let has_one = |(key, gets): (&ServiceKey, &bool)| *gets || director.table_builder(*key).is_some();
        !self.adds && !self.there.iter().any(has_one)
    }
}

fn scheduler<S>(config: &ServiceConfig<Scheduler>) -> SchedulerOf<S>
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    config.scheduler.clone().into()
}

/// The look-up tables that each director is going to need after these steps, as far as they can be made ahead: by this
/// thread, while packets go on.
pub(crate) fn tables_for<S>(
    backend: &impl Backend<S>,
    changes: &[TableChange],
    concerned: Concerned,
) -> Result<Vec<PrebuiltTables>, WorkerGone>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    let asked = concerned.there;
    let nothing = asked.is_empty();
    let read = move |_: usize, director: &mut Director<S>, _: &mut _, _| -> Vec<PlannedService> {
        asked.iter().filter_map(|(&key, &gets)| PlannedService::read(director, key, gets)).collect()
    };
    let read = if nothing { vec![Vec::new(); backend.workers()] } else { backend.with_each(read)? };
    let by_key = |of: Vec<PlannedService>| of.into_iter().map(|planned| (planned.key(), planned)).collect();
    let mut all: Vec<BTreeMap<ServiceKey, PlannedService>> = read.into_iter().map(by_key).collect();
    for planned in &mut all {
        // What removes comes last, as it is applied.
        let (removals, others): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.removes());
        for change in others.into_iter().chain(removals) {
            match change {
                TableChange::AddService(key, config) => {
                    _ = planned.insert(*key, PlannedService::new(*key, &scheduler::<S>(config)));
                }
                TableChange::EditService { key, old, new } => {
                    if old.scheduler.name() != new.scheduler.name()
                        && let Some(planned) = planned.get_mut(key)
                    {
                        planned.reschedule(&scheduler::<S>(new));
                    }
                }
                TableChange::RemoveService(key) => _ = planned.remove(key),
                TableChange::AddServer(key, config) => _ = planned.get_mut(key).map(|of| of.add(config)),
                TableChange::EditServer { key, new, .. } => _ = planned.get_mut(key).map(|of| of.edit(new)),
                TableChange::RemoveServer(key, address) => {
                    _ = planned.get_mut(key).map(|of| of.remove(*address));
                }
            }
        }
    }
    Ok(PrebuiltTables::of_each(&all))
}
