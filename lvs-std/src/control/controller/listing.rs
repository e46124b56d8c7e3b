//! What a controller tells: listings, and the files that the kernel would show.

use core::net::SocketAddr;
use std::collections::HashMap;

use lvs_core::conn::Connection;
use lvs_core::service::SchedulerOf;
use lvs_core::{Director, Flow, Scheduler, Store};

use super::{Controller, ENTRIES};
use crate::control::backend::Backend;
use crate::control::convert::key;
use crate::control::proc;
use crate::control::reconcile::desired::DesiredService;
use crate::control::reconcile::table::{Entry, LiveServer};
use crate::control::reconcile::{fan_out, table};
use crate::control::sysctl::Switch;
use crate::control::{
    Answer, Command, CommandError, Cursor, Errno, Info, Query, ServerReport, ServerSpec, ServiceName,
    ServiceReport, Stats,
};
use crate::worker::WorkerGone;

/// A page of the connection table.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The connections of the page, in the order of their entries.
    pub connections: Vec<Connection>,
    /// Where the next page begins; `None` at the end of the table.
    pub next: Option<Cursor>,
}

impl<S, R> Controller<S, R>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S>,
{
    pub(super) fn services(&self, only: Option<ServiceName>) -> Result<Vec<ServiceReport>, CommandError> {
        let spec = |(name, declared): (ServiceName, &DesiredService)| (name, declared.spec.clone());
        let listed: Vec<_> = match only {
            Some(name) => {
                self.desired.service(name).map(|declared| spec((name, declared))).into_iter().collect()
            }
            None => self.desired.services().map(spec).collect(),
        };
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
        let live = fan_out::servers(&self.backend, vec![key(name)])?.pop();
        Ok(reports(declared, &live.unwrap_or_default()))
    }

    /// The services at the beginning of some commands whose servers are asked for, as many as can be listed between the
    /// same two batches of packets: some microseconds' work.
    pub(super) fn listed_together(&self, commands: &[Command]) -> Vec<ServiceName> {
        let (mut names, mut servers) = (Vec::new(), 0);
        for command in commands {
            let Command::Query(Query::Servers(name)) = command else { break };
            servers += self.desired.service(*name).map_or(0, |declared| declared.servers.len());
            if servers > SERVERS && !names.is_empty() {
                break;
            }
            names.push(*name);
        }
        names
    }

    /// The servers of several services, each as by [`servers`](Self::servers).
    pub(super) fn servers_of(&self, names: &[ServiceName]) -> Vec<Result<Answer, CommandError>> {
        let live = fan_out::servers(&self.backend, names.iter().map(|name| key(*name)).collect());
        let live = match live {
            Ok(live) => live,
            Err(gone) => return names.iter().map(|_| Err(gone.into())).collect(),
        };
        let list = |(name, live): (&ServiceName, _)| {
            let declared = self.desired.service(*name).ok_or(Errno::NoService)?;
            Ok(Answer::Servers(reports(declared, &live)))
        };
        names.iter().zip(live).map(list).collect()
    }

    /// The beginning of the connection table.
    #[must_use]
    pub const fn beginning(&self) -> Cursor {
        self.beginning
    }

    /// A page of the connection table: the connections among 512 entries of one worker's table, as they are now, and
    /// where the next page begins. [`beginning`](Self::beginning) is where the first one does.
    ///
    /// A page is some microseconds' work of that worker, so packets go on between two of them. Whoever holds the
    /// controller in a lock may let it go meanwhile; [`Cursor`] says what a listing in pages is worth then.
    ///
    /// # Errors
    /// [`Errno::Invalid`] for a cursor of another run; [`CommandError::Gone`].
    pub fn connections_page(&self, at: Cursor) -> Result<Page, CommandError> {
        let connection = |entry| match entry {
            Entry::Connection(connection) => Some(connection),
            Entry::Template(_) => None,
        };
        let (entries, next) = self.entries(at)?;
        Ok(Page { connections: entries.into_iter().filter_map(connection).collect(), next })
    }

    /// The live connections, [page](Self::connections_page) by page.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn connections(&self) -> Result<Vec<Connection>, WorkerGone> {
        let (mut all, mut at) = (Vec::new(), Some(self.beginning));
        while let Some(cursor) = at {
            // The cursor is the controller's own, so nothing but the worker can be in the way.
            let mut page = self.connections_page(cursor).map_err(|_| WorkerGone)?;
            all.append(&mut page.connections);
            at = page.next;
        }
        Ok(all)
    }

    /// The connection that a request of this flow belongs to, of any worker: one look-up in each table.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn connection(&self, flow: Flow) -> Result<Option<Connection>, WorkerGone> {
        let find =
            move |_: usize, director: &mut Director<S>, _: &mut _, now| director.find_connection(&flow, now);
        Ok(self.backend.with_each(find)?.into_iter().flatten().next())
    }

    /// A page of entries of one worker, connections and templates, and where the next one begins.
    fn entries(&self, at: Cursor) -> Result<(Vec<Entry>, Option<Cursor>), CommandError> {
        if !at.is_of(&self.beginning) {
            return Err(Errno::Invalid.into());
        }
        let read = move |director: &mut Director<S>, _: &mut _, now| {
            table::entries(director, now, at.entry, ENTRIES)
        };
        let Some((entries, next)) = self.backend.with_one(at.worker, read)? else {
            return Ok((Vec::new(), None));
        };
        let next = match next {
            Some(entry) => Some(at.at(at.worker, entry)),
            None => Some(at.at(at.worker + 1, 0)).filter(|next| next.worker < self.backend.workers()),
        };
        Ok((entries, next))
    }

    /// A piece of a file that lists the connection table.
    fn connections_text(
        &self,
        with_origin: bool,
        at: Option<Cursor>,
    ) -> Result<(Vec<u8>, Option<Cursor>), CommandError> {
        let mut text = match at {
            None if with_origin => String::from(proc::CONNECTIONS_SYNC),
            None => String::from(proc::CONNECTIONS),
            Some(_) => String::new(),
        };
        let (entries, next) = self.entries(at.unwrap_or(self.beginning))?;
        entries.iter().for_each(|entry| proc::connection(&mut text, entry, with_origin));
        Ok((text.into_bytes(), next))
    }

    /// A piece of a file, and where the next one begins.
    pub(super) fn piece(
        &self,
        path: &str,
        at: Option<Cursor>,
    ) -> Result<(Vec<u8>, Option<Cursor>), CommandError> {
        match path {
            "/proc/net/ip_vs_conn" => self.connections_text(false, at),
            "/proc/net/ip_vs_conn_sync" => self.connections_text(true, at),
            _ => Ok((self.short_file(path)?, None)),
        }
    }

    /// A whole file.
    pub(super) fn file(&self, path: &str) -> Result<Vec<u8>, CommandError> {
        let (mut text, mut next) = self.piece(path, None)?;
        while let Some(at) = next {
            let (piece, behind) = self.piece(path, Some(at))?;
            text.extend(piece);
            next = behind;
        }
        Ok(text)
    }

    pub(super) fn info(&self) -> Result<Info, CommandError> {
        let capacities = self.backend.with_each(|_, director, _, _| director.capacity());
        let capacity = capacities?.into_iter().sum::<usize>();
        Ok(Info { version: VERSION, table_size: u32::try_from(capacity).unwrap_or(u32::MAX) })
    }

    /// A file that is not as long as the connection table.
    fn short_file(&self, path: &str) -> Result<Vec<u8>, CommandError> {
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

/// The servers of a service, with what directors say of them.
fn reports(declared: &DesiredService, live: &HashMap<SocketAddr, LiveServer>) -> Vec<ServerReport> {
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
    listed.collect()
}

/// IPVS 1.2.1.
const VERSION: u32 = 0x0001_0201;
/// Services whose numbers are read between two batches of packets: some microseconds' work.
const SERVICES: usize = 64;
/// Servers, of several services together, whose numbers are read between two batches of packets.
const SERVERS: usize = 512;
