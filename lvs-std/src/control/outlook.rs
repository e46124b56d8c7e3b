//! What services will be after some steps, and the look-up tables that they are going to need.

use lvs_core::{Director, Schedule as _, Scheduler, SchedulerOf, ServiceConfig, ServiceKey, Store};

use super::Errno;
use super::change::Change;
use super::each::GONE;
use super::reach::Reach;
use crate::ahead::{Outline, Tables};
use crate::worker::WorkerGone;

/// The look-up tables that each director is going to need after these steps, as far as they can be made ahead: by this thread, while packets
/// go on.
pub(super) fn tables_for<S, const A: usize, const N: usize>(
    reach: &impl Reach<S, A, N>,
    changes: &[Change],
) -> Result<Vec<Tables>, Errno>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    let scheduler = |config: &ServiceConfig<Scheduler>| SchedulerOf::<S>::from(config.scheduler.clone());
    let mut asked: Vec<(ServiceKey, bool)> = Vec::new();
    for change in changes {
        let (key, gets) = match change {
            Change::AddServer(key, _) | Change::EditServer { key, .. } | Change::RemoveServer(key, _) => {
                (*key, false)
            }
            Change::EditService { key, new, .. } => (*key, scheduler(new).builder().is_some()),
            Change::AddService(..) | Change::RemoveService(_) => continue,
        };
        match asked.iter_mut().find(|of| of.0 == key) {
            Some(of) => of.1 |= gets,
            None => asked.push((key, gets)),
        }
    }
    let nothing = asked.is_empty();
    let read = move |_: usize, director: &mut Director<S>, _: &mut _, _| -> Vec<Outline> {
        asked.iter().filter_map(|&(key, gets)| Outline::read(director, key, gets)).collect()
    };
    let mut all = if nothing {
        vec![Vec::new(); reach.workers()]
    } else {
        reach.with_each(read).map_err(|WorkerGone| GONE)?
    };
    for outlines in &mut all {
        // What removes comes last, as it is applied.
        let (removals, others): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.removes());
        for change in others.into_iter().chain(removals) {
            let of = |key: &ServiceKey| outlines.iter().position(|outline| outline.key() == *key);
            match change {
                Change::AddService(key, config) => outlines.push(Outline::new(*key, &scheduler(config))),
                Change::EditService { key, old, new } => {
                    if let Some(at) = of(key).filter(|_| old.scheduler.name() != new.scheduler.name()) {
                        outlines[at].reschedule(&scheduler(new));
                    }
                }
                Change::RemoveService(key) => _ = of(key).map(|at| outlines.remove(at)),
                Change::AddServer(key, config) => _ = of(key).map(|at| outlines[at].add(config)),
                Change::EditServer { key, new, .. } => _ = of(key).map(|at| outlines[at].edit(new)),
                Change::RemoveServer(key, address) => _ = of(key).map(|at| outlines[at].remove(*address)),
            }
        }
    }
    Ok(Tables::of_each(&all))
}
