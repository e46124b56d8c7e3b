//! What a controller tells: listings, and the files that the kernel would show.

use std::collections::HashMap;

use lvs_core::conn::Connection;
use lvs_core::service::SchedulerOf;
use lvs_core::{Director, Scheduler, Store};

use super::{Controller, ENTRIES};
use crate::control::backend::Backend;
use crate::control::convert::key;
use crate::control::proc;
use crate::control::reconcile::table::Entry;
use crate::control::reconcile::{fan_out, table};
use crate::control::sysctl::Switch;
use crate::control::{
    CommandError, Errno, Info, ServerReport, ServerSpec, ServiceName, ServiceReport, Stats,
};
use crate::worker::WorkerGone;

impl<S, R> Controller<S, R>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S>,
{
    pub(super) fn services(&self, only: Option<ServiceName>) -> Result<Vec<ServiceReport>, CommandError> {
        let listed = self.desired.services().filter(|(name, _)| only.is_none_or(|only| only == *name));
        let listed: Vec<_> = listed.map(|(name, declared)| (name, declared.spec.clone())).collect();
        let mut reports = Vec::with_capacity(listed.len());
        for page in listed.chunks(SERVICES) {
            let keys: Vec<_> = page.iter().map(|(name, _)| key(*name)).collect();
            let stats = fan_out::service_stats(&self.backend, keys)?;
            let page = page.iter().zip(stats);
            reports.extend(page.map(|((name, spec), stats)| ServiceReport {
                name: *name,
                spec: spec.clone(),
                stats,
            }));
        }
        Ok(reports)
    }

    pub(super) fn servers(&self, name: ServiceName) -> Result<Vec<ServerReport>, CommandError> {
        let declared = self.desired.service(name).ok_or(Errno::NoService)?;
        let live = match key(name) {
            None => HashMap::new(),
            Some(key) => fan_out::servers(&self.backend, key)?,
        };
        // The kernel's listing would not have these either, since keepalived removes servers that it finds dead.
        let listed = declared.servers.iter().filter(|server| !server.status.absent).map(|server| {
            let mut report = ServerReport {
                address: server.address,
                spec: ServerSpec { weight: server.effective_weight(), ..server.spec },
                active: 0,
                inactive: 0,
                persistent: 0,
                stats: Stats::default(),
            };
            if let Some(live) = live.get(&server.address) {
                (report.active, report.inactive) = (live.active, live.inactive);
                (report.persistent, report.stats) = (live.persistent, live.stats);
            }
            report
        });
        Ok(listed.collect())
    }

    /// A page of the connection table: the connections among 512 entries of each worker's table, as they are now; `None`
    /// past its end. Pages are counted from 0.
    ///
    /// A page is some microseconds' work of the workers, so packets go on between two of them. Whoever holds the
    /// controller in a lock may let it go meanwhile. A connection that opens or closes between two pages may be listed
    /// or not.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn connections_page(&self, page: u32) -> Result<Option<Vec<Connection>>, WorkerGone> {
        let connection = |entry| match entry {
            Entry::Connection(connection) => Some(connection),
            Entry::Template(_) => None,
        };
        Ok(self.entries(page)?.map(|entries| entries.into_iter().filter_map(connection).collect()))
    }

    /// The live connections, [page](Self::connections_page) by page.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn connections(&self) -> Result<Vec<Connection>, WorkerGone> {
        let mut all = Vec::new();
        for page in 0.. {
            let Some(mut connections) = self.connections_page(page)? else { break };
            all.append(&mut connections);
        }
        Ok(all)
    }

    /// A page of entries of all workers, connections and templates; `None` past the end of every table.
    fn entries(&self, page: u32) -> Result<Option<Vec<Entry>>, WorkerGone> {
        let first = page.saturating_mul(ENTRIES);
        let read = move |_: usize, director: &mut Director<S>, _: &mut _, now| {
            table::entries(director, now, first, ENTRIES)
        };
        let pages = self.backend.with_each(read)?;
        // Tables may be of several sizes: the longest one says when the listing ends.
        let ended = pages.iter().all(Option::is_none);
        Ok((!ended).then(|| pages.into_iter().flatten().flatten().collect()))
    }

    fn connections_text(&self, with_origin: bool) -> Result<String, CommandError> {
        let mut text = String::from(if with_origin { proc::CONNECTIONS_SYNC } else { proc::CONNECTIONS });
        for page in 0.. {
            let Some(entries) = self.entries(page)? else { break };
            entries.iter().for_each(|entry| proc::connection(&mut text, entry, with_origin));
        }
        Ok(text)
    }

    pub(super) fn info(&self) -> Result<Info, CommandError> {
        let capacities = self.backend.with_each(|_, director, _, _| director.capacity());
        let capacity = capacities?.into_iter().sum::<usize>();
        Ok(Info { version: VERSION, table_size: u32::try_from(capacity).unwrap_or(u32::MAX) })
    }

    pub(super) fn file(&self, path: &str) -> Result<Vec<u8>, CommandError> {
        if let Some(switch) = Switch::at(path) {
            return self.sysctl(switch).map(|value| format!("{value}\n").into_bytes());
        }
        let totals = || fan_out::totals(&self.backend);
        let text = match path {
            "/proc/net/ip_vs" => {
                let mut table = Vec::new();
                for report in self.services(None)? {
                    let servers = self.servers(report.name)?;
                    table.push((report, servers));
                }
                proc::services(self.info()?.table_size, &table)
            }
            "/proc/net/ip_vs_conn" => self.connections_text(false)?,
            "/proc/net/ip_vs_conn_sync" => self.connections_text(true)?,
            "/proc/net/ip_vs_stats" => {
                let (traffic, rates) = fan_out::sum(&totals()?);
                proc::stats(&traffic, &rates)
            }
            "/proc/net/ip_vs_stats_percpu" => {
                let each = totals()?;
                let (traffic, rates) = fan_out::sum(&each);
                proc::stats_percpu(each.iter().map(|(traffic, _)| traffic), &traffic, &rates)
            }
            _ => return Err(Errno::NoEntry.into()),
        };
        Ok(text.into_bytes())
    }
}

/// IPVS 1.2.1.
const VERSION: u32 = 0x0001_0201;
/// Services whose numbers are read between two batches of packets: some microseconds' work.
const SERVICES: usize = 64;
