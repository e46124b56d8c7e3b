//! One director that several workers share: what is told to all of them, and what they say together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lvs_core::service::SchedulerOf;
use lvs_core::stats::{Rates, Traffic};
use lvs_core::{Director, Scheduler, ServerConfig, ServiceKey, Store};

use super::change::TableChange;
use super::planned::PrebuiltTables;
use super::prebuild::{Concerned, tables_for};
use super::table::{self, LiveServer};
use crate::control::backend::Backend;
use crate::control::{CommandError, Errno, Stats};
use crate::worker::WorkerGone;

/// Applies steps to all directors, or to none: first what adds and changes, which is taken back everywhere when one of
/// them refuses; then what removes, which cannot fail. One alone does both between the same two batches; of several
/// each does so at moments of its own.
///
/// Directors that are set up equally refuse the same, but for one thing: a server that was removed keeps its place as
/// long as it has connections, and those are each director's own.
pub(crate) fn apply<S>(backend: &impl Backend<S>, changes: Vec<TableChange>) -> Result<(), CommandError>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    // Asked before any director is told, because this refusal is not one of theirs. Such a service would need its
    // connections moved between workers while they live.
    for change in &changes {
        if let TableChange::AddService(key, config) | TableChange::EditService { key, new: config, .. } =
            change
        {
            backend.suits(*key, config.persistence).map_err(|_| Errno::Invalid)?;
        }
    }
    let workers = backend.workers();
    if workers == 1 {
        // A single director takes all steps between two batches, so there is never a moment with only some of them. In
        // the common case it is asked once: to wake it takes longer than such a step.
        let concerned = Concerned::by::<S>(&changes);
        let (done, changes, concerned) = backend.with(move |director, forwarder, now| {
            let at_once = concerned.has_no_table(director);
            (at_once.then(|| table::apply(director, forwarder, now, &changes)), changes, concerned)
        })?;
        if let Some(done) = done {
            return Ok(done?);
        }
        let mut tables = tables_for(backend, &changes, concerned)?.pop().unwrap_or_default();
        let work = move |director: &mut _, forwarder: &mut _, now| {
            let done = table::apply(director, forwarder, now, &changes);
            tables.adopt(director);
            // The tables go back with the answer, so that this thread returns their memory and not the worker.
            (done, tables)
        };
        return Ok(backend.with(work)?.0?);
    }
    // No worker waits for another, so one may have carried out what the next one refuses. What adds and edits can be
    // taken back; what removes cannot, and so it comes last, when nobody refuses any more.
    let (removals, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(TableChange::removes);
    if !others.is_empty() {
        let shares: Arc<[Vec<TableChange>]> = (0..workers).map(|at| of_share(&others, at, workers)).collect();
        let done = apply_to_each(backend, &others, shares.clone())?;
        if let Some(refused) = done.iter().find_map(|done| done.err()) {
            // A director that refused has already taken its own steps back.
            let took: Vec<bool> = done.iter().map(Result::is_ok).collect();
            let undone = backend.with_each(move |at, director, _, _| {
                if took.get(at) == Some(&true) {
                    table::undo_all(director, shares.get(at).map(Vec::as_slice).unwrap_or_default());
                }
            });
            undone?;
            return Err(refused.into());
        }
    }
    if !removals.is_empty() {
        let same: Arc<[Vec<TableChange>]> = vec![removals.clone(); workers].into();
        apply_to_each(backend, &removals, same)?.into_iter().collect::<Result<(), Errno>>()?;
    }
    Ok(())
}

/// Applies steps to several directors, to each its own share of them.
fn apply_to_each<S>(
    backend: &impl Backend<S>,
    changes: &[TableChange],
    shares: Arc<[Vec<TableChange>]>,
) -> Result<Vec<Result<(), Errno>>, WorkerGone>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    // Each worker takes its own ones, so none waits for another at their locks.
    let tables: Arc<[Mutex<PrebuiltTables>]> =
        tables_for(backend, changes, Concerned::by::<S>(changes))?.into_iter().map(Mutex::new).collect();
    let theirs = tables.clone();
    let done = backend.with_each(move |at, director: &mut Director<S>, forwarder, now| {
        let share = shares.get(at).map(Vec::as_slice).unwrap_or_default();
        let done = table::apply(director, forwarder, now, share);
        if let Some(tables) = theirs.get(at) {
            tables.lock().unwrap_or_else(PoisonError::into_inner).adopt(director);
        }
        done
    });
    // Whoever lets go of them last, it is not a worker that has to return their memory.
    for tables in tables.iter() {
        drop(core::mem::take(&mut *tables.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    done
}

/// What one of several directors is told: of a server's thresholds it has its part.
fn of_share(changes: &[TableChange], at: usize, workers: usize) -> Vec<TableChange> {
    let part = |config: &ServerConfig| {
        config.with_thresholds(part(config.upper, at, workers), part(config.lower, at, workers))
    };
    let share = |change: &TableChange| match change {
        TableChange::AddServer(key, config) => TableChange::AddServer(*key, part(config)),
        TableChange::EditServer { key, old, new } => {
            TableChange::EditServer { key: *key, old: part(old), new: part(new) }
        }
        TableChange::AddService(..)
        | TableChange::EditService { .. }
        | TableChange::RemoveService(_)
        | TableChange::RemoveServer(..) => change.clone(),
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
pub(crate) fn service_stats<S: Store>(
    backend: &impl Backend<S>,
    keys: Vec<Option<ServiceKey>>,
) -> Result<Vec<Stats>, WorkerGone> {
    let all = backend.with_each(move |_, director, _, _| -> Vec<Stats> {
        let stats =
            |key: &Option<_>| key.map_or_else(Stats::default, |key| table::service_stats(director, key));
        keys.iter().map(stats).collect()
    });
    let mut all = all?.into_iter();
    let mut sums = all.next().unwrap_or_default();
    for one in all {
        sums.iter_mut().zip(one).for_each(|(sum, more)| *sum += more);
    }
    Ok(sums)
}

/// What the directors say of services' servers, by address, in the order in which they are asked for; nothing of
/// services that no director has.
pub(crate) fn servers<S: Store>(
    backend: &impl Backend<S>,
    keys: Vec<Option<ServiceKey>>,
) -> Result<Vec<HashMap<core::net::SocketAddr, LiveServer>>, WorkerGone> {
    let mut sums: Vec<HashMap<_, LiveServer>> = keys.iter().map(|_| HashMap::new()).collect();
    let all = backend.with_each(move |_, director, _, _| -> Vec<Vec<LiveServer>> {
        keys.iter().map(|key| key.map_or_else(Vec::new, |key| table::servers(director, key))).collect()
    });
    for of_one in all? {
        for (sums, servers) in sums.iter_mut().zip(of_one) {
            for server in servers {
                match sums.get_mut(&server.address) {
                    Some(sum) => *sum += server,
                    None => _ = sums.insert(server.address, server),
                }
            }
        }
    }
    Ok(sums)
}

/// The traffic and rates of each director.
pub(crate) fn totals<S: Store>(backend: &impl Backend<S>) -> Result<Vec<(Traffic, Rates)>, WorkerGone> {
    backend.with_each(|_, director, _, _| table::totals(director))
}

/// The sum of traffic and rates.
pub(crate) fn sum(totals: &[(Traffic, Rates)]) -> (Traffic, Rates) {
    let mut sum = (Traffic::default(), Rates::default());
    for (traffic, rates) in totals {
        sum.0 += *traffic;
        sum.1 += *rates;
    }
    sum
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use lvs_core::config::Capacity;
    use lvs_core::sched::Schedule as _;
    use lvs_core::service::Persistence;
    use lvs_core::{Config, Heap, Method, Seed, ServiceConfig, Tick};
    use lvs_forward::host::Host;
    use lvs_forward::{Forwarder, Options};

    use super::*;
    use crate::control::{Local, ServiceSpec};
    use crate::steering::{By, Steer, Unsuited};

    type One = Local<Heap>;
    type Table = (Option<&'static str>, Vec<(SocketAddr, u32)>);

    /// Directors beside each other, each with room for so many servers.
    struct Several(Vec<One>);

    impl Several {
        fn with_room_for(servers: &[usize]) -> Self {
            let one = |servers: &usize| {
                let seed = Seed::from_bytes([7; 16]);
                let mut capacity = Capacity::new(16);
                capacity.servers = *servers;
                let host: Host = Host::new(seed);
                let director = Director::new(Config::new(seed), Heap::new(capacity));
                Local::new(director, Box::new(Forwarder::new(host, Options::new())))
            };
            Self(servers.iter().map(one).collect())
        }

        /// What each has: its scheduler, and its servers with their thresholds.
        fn tables(&self, key: ServiceKey) -> Vec<Table> {
            let table = move |_: usize, director: &mut Director<Heap>, _: &mut _, _| {
                let servers = director.servers(key).map(|(_, server)| (server.address(), server.upper()));
                let mut servers: Vec<_> = servers.collect();
                servers.sort_unstable();
                (director.service(key).map(|service| service.scheduler().name()), servers)
            };
            self.with_each(table).unwrap()
        }
    }

    impl Backend<Heap> for Several {
        fn with<R: Send + 'static>(
            &self,
            work: impl FnOnce(&mut Director<Heap>, &mut Forwarder, Tick) -> R + Send + 'static,
        ) -> Result<R, WorkerGone> {
            self.0[0].with(work)
        }

        fn with_each<R: Send + 'static>(
            &self,
            work: impl Fn(usize, &mut Director<Heap>, &mut Forwarder, Tick) -> R + Clone + Send + 'static,
        ) -> Result<Vec<R>, WorkerGone> {
            let with = |(at, one): (usize, &One)| {
                let work = work.clone();
                one.with(move |director, forwarder, now| work(at, director, forwarder, now))
            };
            self.0.iter().enumerate().map(with).collect()
        }

        fn workers(&self) -> usize {
            self.0.len()
        }

        fn suits(&self, key: ServiceKey, persistence: Option<Persistence>) -> Result<(), Unsuited> {
            Steer::new(Seed::from_bytes([7; 16]), self.0.len(), By::Endpoint).suits(key, persistence)
        }
    }

    fn web() -> ServiceKey {
        ServiceKey::tcp([192, 0, 2, 100].into(), 80)
    }

    fn config(scheduler: &str) -> ServiceConfig<Scheduler> {
        ServiceConfig::new(Scheduler::from_name(scheduler).unwrap())
    }

    fn server(number: u8) -> ServerConfig {
        ServerConfig::new(SocketAddr::from(([10, 0, 1, number], 80)), Method::Nat).with_thresholds(11, 0)
    }

    #[test]
    fn all_directors_take_a_change_and_each_has_its_part_of_a_threshold() {
        let several = Several::with_room_for(&[4, 4]);
        let changes = vec![
            TableChange::AddService(web(), config("rr")),
            TableChange::AddServer(web(), server(1)),
            TableChange::AddServer(web(), server(2)),
        ];
        assert_eq!(apply(&several, changes), Ok(()));
        let remove = TableChange::RemoveServer(web(), server(1).address);
        let edit =
            TableChange::EditServer { key: web(), old: server(2), new: server(2).with_thresholds(1, 1) };
        assert_eq!(several.tables(web())[0].1[0].1 + several.tables(web())[1].1[0].1, 11);
        assert_eq!(apply(&several, vec![remove, edit]), Ok(()));
        for (_, servers) in several.tables(web()) {
            assert_eq!(servers, [(server(2).address, 1)]);
        }
    }

    #[test]
    fn when_one_director_refuses_a_change_none_has_it() {
        // The second has no place for a third server, as when the connections of removed ones hold theirs.
        let several = Several::with_room_for(&[8, 2]);
        let first = vec![
            TableChange::AddService(web(), config("rr")),
            TableChange::AddServer(web(), server(1)),
            TableChange::AddServer(web(), server(2)),
        ];
        assert_eq!(apply(&several, first), Ok(()));
        let before = several.tables(web());
        let changes = vec![
            TableChange::RemoveServer(web(), server(1).address),
            TableChange::EditService { key: web(), old: config("rr"), new: config("wrr") },
            TableChange::AddServer(web(), server(3)),
        ];
        assert_eq!(apply(&several, changes), Err(Errno::ServersFull.into()));
        assert_eq!(several.tables(web()), before);
    }

    #[test]
    fn what_cannot_be_shared_out_is_refused_before_anything_happens() {
        let several = Several::with_room_for(&[8, 8]);
        let ftp = ServiceKey::tcp([192, 0, 2, 100].into(), 21);
        let changes =
            vec![TableChange::AddService(web(), config("rr")), TableChange::AddService(ftp, config("rr"))];
        assert_eq!(apply(&several, changes), Err(Errno::Invalid.into()));
        assert_eq!(several.tables(web())[0].0, None);
    }

    #[test]
    fn a_desk_shows_what_was_declared_and_what_all_have() {
        use crate::control::{
            Answer, CommandHandler as _, Controller, NoDaemons, Query, ServerSpec, ServiceName, TableCommand,
            method,
        };
        let mut controller = Controller::new(Several::with_room_for(&[8, 8, 8]), Box::new(NoDaemons));
        let name = ServiceName::tcp("192.0.2.100:80".parse().unwrap());
        controller.submit(TableCommand::NewService(name, ServiceSpec::new(name.family(), "rr"))).unwrap();
        let mut spec = ServerSpec::new(method::MASQUERADING, 1);
        spec.upper = 10;
        controller.submit(TableCommand::NewServer(name, server(1).address, spec)).unwrap();
        let Ok(Answer::Servers(listed)) = controller.submit(Query::Servers(name)) else { panic!() };
        assert_eq!((listed.len(), listed[0].spec.upper), (1, 10), "the whole threshold");
        let uppers: u32 = controller
            .backend()
            .tables(crate::control::convert::key(name).unwrap())
            .iter()
            .map(|of| of.1[0].1)
            .sum();
        assert_eq!(uppers, 10);
        let percpu =
            String::from_utf8(controller.read_file("/proc/net/ip_vs_stats_percpu").unwrap()).unwrap();
        let rows: Vec<&str> = percpu.lines().map(|line| line.get(..3).unwrap_or_default()).collect();
        assert_eq!(rows[2..6], ["  0", "  1", "  2", "  ~"], "{percpu}");
        let Ok(Answer::Info(info)) = controller.submit(Query::Info) else { panic!() };
        assert_eq!(info.table_size, 48);
    }

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
