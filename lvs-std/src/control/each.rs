//! One director that several workers share: what is told to all of them, and what they say together.

use std::collections::HashMap;
use std::sync::Arc;

use lvs_core::{Director, Rates, Scheduler, SchedulerOf, ServerConfig, ServiceKey, Store, Traffic};

use super::change::Change;
use super::reach::Reach;
use super::table::{self, LiveServer};
use super::{Errno, Stats};
use crate::worker::WorkerGone;

/// Applies steps to all directors, or to none: first what adds and changes, which is taken back everywhere when one of them refuses; then what
/// removes, which cannot fail. One alone does both between the same two batches; of several each does so at moments of its own.
///
/// Directors that are set up equally refuse the same, but for one thing: a server that was removed keeps its place as long as it has
/// connections, and those are each director's own.
pub(super) fn apply<S, const A: usize, const N: usize>(
    reach: &impl Reach<S, A, N>,
    changes: Vec<Change>,
) -> Result<(), Errno>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    for change in &changes {
        if let Change::AddService(key, config) | Change::EditService { key, new: config, .. } = change {
            reach.suits(*key, config.persistence).map_err(|_| Errno::Invalid)?;
        }
    }
    let workers = reach.workers();
    if workers == 1 {
        let work =
            move |director: &mut _, forwarder: &mut _, now| table::apply(director, forwarder, now, &changes);
        return reach.with(work).unwrap_or(Err(GONE));
    }
    let (removals, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(Change::removes);
    if !others.is_empty() {
        let shares: Arc<[Vec<Change>]> = (0..workers).map(|at| of_share(&others, at, workers)).collect();
        let all = shares.clone();
        let done = reach.with_each(move |at, director: &mut Director<S>, forwarder, now| {
            table::apply(director, forwarder, now, all.get(at).map(Vec::as_slice).unwrap_or_default())
        });
        let done = done.map_err(|WorkerGone| GONE)?;
        if let Some(refused) = done.iter().find_map(|done| done.err()) {
            let took: Vec<bool> = done.iter().map(Result::is_ok).collect();
            let undone = reach.with_each(move |at, director, _, _| {
                if took.get(at) == Some(&true) {
                    table::undo_all(director, shares.get(at).map(Vec::as_slice).unwrap_or_default());
                }
            });
            return undone.map_err(|WorkerGone| GONE).and(Err(refused));
        }
    }
    if !removals.is_empty() {
        let removals: Arc<[Change]> = removals.into();
        let done = reach.with_each(move |_, director: &mut Director<S>, forwarder, now| {
            table::apply(director, forwarder, now, &removals)
        });
        return done.map_err(|WorkerGone| GONE)?.into_iter().collect();
    }
    Ok(())
}

/// What one of several directors is told: of a server's thresholds it has its part.
fn of_share(changes: &[Change], at: usize, workers: usize) -> Vec<Change> {
    let part = |config: &ServerConfig| {
        config.with_thresholds(part(config.upper, at, workers), part(config.lower, at, workers))
    };
    let share = |change: &Change| match change {
        Change::AddServer(key, config) => Change::AddServer(*key, part(config)),
        Change::EditServer { key, old, new } => {
            Change::EditServer { key: *key, old: part(old), new: part(new) }
        }
        Change::AddService(..)
        | Change::EditService { .. }
        | Change::RemoveService(_)
        | Change::RemoveServer(..) => change.clone(),
    };
    changes.iter().map(share).collect()
}

/// Parts that make the whole; at least 1 each, because 0 stands for no threshold, as it does here.
fn part(whole: u32, at: usize, workers: usize) -> u32 {
    if whole == 0 {
        return 0;
    }
    let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
    let more = u32::try_from(at).unwrap_or(u32::MAX) < whole % workers;
    (whole / workers + u32::from(more)).max(1)
}

/// The numbers of services, in the order in which they are asked for; nothing of those that no director has.
pub(super) fn service_stats<S: Store, const A: usize, const N: usize>(
    reach: &impl Reach<S, A, N>,
    keys: Vec<Option<ServiceKey>>,
) -> Result<Vec<Stats>, Errno> {
    let mut all = reach.with_each(move |_, director, _, _| -> Vec<Stats> {
        let stats =
            |key: &Option<_>| key.map_or_else(Stats::default, |key| table::service_stats(director, key));
        keys.iter().map(stats).collect()
    });
    let mut all = all.as_mut().map_err(|WorkerGone| GONE)?.drain(..);
    let mut sums = all.next().unwrap_or_default();
    for one in all {
        sums.iter_mut().zip(one).for_each(|(sum, more)| *sum += more);
    }
    Ok(sums)
}

/// What the directors say of a service's servers, by address.
pub(super) fn servers<S: Store, const A: usize, const N: usize>(
    reach: &impl Reach<S, A, N>,
    key: ServiceKey,
) -> Result<HashMap<core::net::SocketAddr, LiveServer>, Errno> {
    let all = reach.with_each(move |_, director, _, _| table::servers(director, key));
    let mut sums = HashMap::<_, LiveServer>::new();
    for server in all.map_err(|WorkerGone| GONE)?.into_iter().flatten() {
        match sums.get_mut(&server.address) {
            Some(sum) => *sum += server,
            None => _ = sums.insert(server.address, server),
        }
    }
    Ok(sums)
}

/// The traffic and rates of each director.
pub(super) fn totals<S: Store, const A: usize, const N: usize>(
    reach: &impl Reach<S, A, N>,
) -> Result<Vec<(Traffic, Rates)>, Errno> {
    reach.with_each(|_, director, _, _| table::totals(director)).map_err(|WorkerGone| GONE)
}

/// The sum of traffic and rates.
pub(super) fn sum(totals: &[(Traffic, Rates)]) -> (Traffic, Rates) {
    let mut sum = (Traffic::default(), Rates::default());
    for (traffic, rates) in totals {
        sum.0 += *traffic;
        sum.1 += *rates;
    }
    sum
}

/// What is said when a worker has stopped: the program is at its end.
pub(super) const GONE: Errno = Errno::NoDevice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_threshold_make_the_whole_unless_it_is_less_than_the_workers() {
        let parts =
            |whole: u32, workers: usize| (0..workers).map(|at| part(whole, at, workers)).collect::<Vec<_>>();
        assert_eq!(parts(0, 3), [0, 0, 0]);
        assert_eq!(parts(10, 3), [4, 3, 3]);
        assert_eq!(parts(2, 3), [1, 1, 1]);
        for (upper, lower) in [(10, 9), (3, 1), (1, 1), (7, 0)] {
            assert!(parts(upper, 4).iter().zip(parts(lower, 4)).all(|(upper, lower)| lower <= *upper));
        }
    }
}
