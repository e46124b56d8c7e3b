//! The controller: carries commands out on a running director, and remembers what was declared.

use core::marker::PhantomData;
use core::net::SocketAddr;
use std::collections::HashMap;

use lvs_core::service::SchedulerOf;
use lvs_core::{Director, Heap, Scheduler, Store};

use super::backend::{Backend, GONE};
use super::convert::key;
use super::journal::{Journal, JournalError};
use super::protocol::session::CommandHandler;
use super::reconcile::change::TableChange;
use super::reconcile::desired::{DesiredState, Edit, ServerStatus};
use super::reconcile::{fan_out, table};
use super::{
    Answer, Command, DaemonSpec, Errno, Info, Role, ServerReport, ServerSpec, ServiceName, ServiceReport,
    Stats, Timeouts, proc, sysctl,
};
use crate::worker::{Handle, WorkerGone};

/// Whoever runs sync daemons for a director.
pub trait Daemons: Send {
    /// Starts one. What was not asked for is filled in, so that listings show it.
    ///
    /// # Errors
    /// [`Errno::NoDevice`] without such an interface.
    fn start(&mut self, spec: &DaemonSpec) -> Result<DaemonSpec, Errno>;

    /// Stops one that runs.
    fn stop(&mut self, role: Role);
}

/// For directors without sync daemons: there is no interface for them.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing in it")]
pub struct NoDaemons;

impl Daemons for NoDaemons {
    fn start(&mut self, _: &DaemonSpec) -> Result<DaemonSpec, Errno> {
        Err(Errno::NoDevice)
    }

    fn stop(&mut self, _: Role) {}
}

/// Controls a director as the kernel's IPVS is controlled.
///
/// Everything that changes a director's services and servers while it runs should go through its controller: the desired state here and the
/// director's table then agree, listings show all that was declared, and a [journal](Self::keep_journal) makes it last.
///
/// ```
/// use lvs_core::{Config, Director, Heap, Seed};
/// use lvs_forward::host::Host;
/// use lvs_forward::{Forwarder, Options};
/// use lvs_std::control::{Answer, Command, Controller, Local, NoDaemons, CommandHandler, ServiceName, ServiceSpec};
///
/// let seed = Seed::from_bytes([7; 16]);
/// let director = Director::new(Config::new(seed), Heap::with_capacity(1_000));
/// let host: Host = Host::new(seed);
/// let forwarder = Box::new(Forwarder::new(host, Options::new()));
/// let mut controller: Controller<Heap, 64, 256, _> = Controller::new(Local::new(director, forwarder), Box::new(NoDaemons));
///
/// let web = ServiceName::tcp("10.99.0.1:80".parse()?);
/// controller.carry_out(&Command::NewService(web, ServiceSpec::new(web.family(), "wlc")))?;
/// let Answer::Services(listed) = controller.carry_out(&Command::Services)? else { panic!() };
/// assert_eq!(listed[0].name, web);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Controller<S: Store = Heap, const A: usize = 64, const N: usize = 256, R = Handle<S, A, N>> {
    backend: R,
    desired: DesiredState,
    daemons: Box<dyn Daemons>,
    /// Those that run, master first.
    running: Vec<DaemonSpec>,
    journal: Option<Journal>,
    kept: HashMap<&'static str, u32>,
    store: PhantomData<fn() -> S>,
}

impl<S, const A: usize, const N: usize, R> Controller<S, A, N, R>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S, A, N>,
{
    /// The controller of a director that has no services yet.
    #[must_use]
    pub fn new(backend: R, daemons: Box<dyn Daemons>) -> Self {
        let (desired, running, kept) = (DesiredState::new(), Vec::new(), sysctl::KEPT.into_iter().collect());
        Self { backend, desired, daemons, running, journal: None, kept, store: PhantomData }
    }

    /// What was declared.
    #[must_use]
    pub const fn desired(&self) -> &DesiredState {
        &self.desired
    }

    /// The way to the director.
    #[must_use]
    pub const fn backend(&self) -> &R {
        &self.backend
    }

    /// Takes up what a journal holds, and keeps it from now on: every change is in it before it is acknowledged. Returns what the
    /// journal held but could not be done again, with the reason.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read or written.
    pub fn keep_journal(
        &mut self,
        (journal, commands): (Journal, Vec<Command>),
    ) -> Result<Vec<(Command, Errno)>, JournalError> {
        let mut refused = Vec::new();
        for command in commands {
            if let Err(errno) = self.carry_out(&command) {
                refused.push((command, errno));
            }
        }
        self.journal = Some(journal);
        self.rewrite()?;
        Ok(refused)
    }

    /// Changes how a server is doing, apart from what was declared of it.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server; [`Errno::Memory`].
    pub fn set_server_status(
        &mut self,
        name: ServiceName,
        address: SocketAddr,
        status: ServerStatus,
    ) -> Result<(), Errno> {
        let edit = self.desired.set_server_status(name, address, status)?;
        self.perform(edit)
    }

    /// Adds a server that stands in for others, such as a sorry server: it is listed and used as any, but no state file keeps it.
    ///
    /// # Errors
    /// As for [`Command::NewServer`].
    pub fn stand_in(
        &mut self,
        name: ServiceName,
        address: SocketAddr,
        spec: ServerSpec,
    ) -> Result<(), Errno> {
        let edit = self.desired.new_server(name, address, spec, !self.running.is_empty())?;
        self.perform(edit.standing_in())
    }

    /// How many connections a server still has, those included that are at their end.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server.
    pub fn remaining(&self, name: ServiceName, address: SocketAddr) -> Result<u32, Errno> {
        let reports = self.servers(name)?;
        let report = reports.iter().find(|report| report.address == address).ok_or(Errno::NoEntry)?;
        Ok(report.active + report.inactive)
    }

    /// Ends the connections of a server, and what makes clients come back to it. Returns how many entries of the table that were.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server, or while the director does not use it.
    pub fn cut(&self, name: ServiceName, address: SocketAddr) -> Result<usize, Errno> {
        let key = key(name).ok_or(Errno::NoService)?;
        let find = move |_: usize, director: &mut Director<S>, _: &mut _, _| {
            let mut servers = director.servers(key);
            let id = servers.find(|(_, server)| server.address() == address).map(|(id, _)| id);
            (id, director.capacity())
        };
        let found = self.backend.with_each(find).map_err(|WorkerGone| GONE)?;
        // Each director has a number of its own for it.
        let ids: Vec<_> = found.iter().map(|(id, _)| *id).collect();
        if ids.iter().all(Option::is_none) {
            return Err(Errno::NoEntry);
        }
        let capacity = found.iter().map(|(_, capacity)| *capacity).max().unwrap_or_default();
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        let mut ended = 0;
        // Twice: what controls others ends after them.
        for first in (0..capacity).step_by(ENTRIES as usize).chain((0..capacity).step_by(ENTRIES as usize)) {
            let ids = ids.clone();
            let cut = move |at: usize, director: &mut Director<S>, _: &mut _, now| {
                let id = ids.get(at).copied().flatten();
                id.map_or(0, |id| director.cut(now, id, first, ENTRIES))
            };
            ended += self.backend.with_each(cut).map_err(|WorkerGone| GONE)?.into_iter().sum::<usize>();
        }
        Ok(ended)
    }

    /// Declares, changes and withdraws many things at once, and says how servers do after that: either all of it happens, between two
    /// batches of packets, or nothing.
    ///
    /// # Errors
    /// Which command could not be carried out, and why; the number of commands stands for what only the director can tell.
    pub fn carry_out_all(
        &mut self,
        commands: &[Command],
        statuses: &[(ServiceName, SocketAddr, ServerStatus)],
    ) -> Result<(), (usize, Errno)> {
        let mut desired = self.desired.clone();
        let mut changes = Vec::new();
        let syncing = !self.running.is_empty();
        for (index, command) in commands.iter().enumerate() {
            let edit = desired.plan(command, syncing).unwrap_or(Err(Errno::Unsupported));
            let mut edit = edit.map_err(|errno| (index, errno))?;
            changes.append(&mut edit.changes);
            desired.note(edit);
        }
        for (name, address, status) in statuses {
            let mut edit = desired
                .set_server_status(*name, *address, *status)
                .map_err(|errno| (commands.len(), errno))?;
            changes.append(&mut edit.changes);
            desired.note(edit);
        }
        self.apply(changes).map_err(|errno| (commands.len(), errno))?;
        self.desired = desired;
        self.rewrite().map_err(|_| (commands.len(), Errno::Memory))
    }

    fn perform(&mut self, mut edit: Edit) -> Result<(), Errno> {
        self.apply(core::mem::take(&mut edit.changes))?;
        self.desired.note(edit);
        Ok(())
    }

    fn apply(&self, changes: Vec<TableChange>) -> Result<(), Errno> {
        if changes.is_empty() {
            return Ok(());
        }
        fan_out::apply(&self.backend, changes)
    }

    fn is_about_standin(&self, command: &Command) -> bool {
        let (Command::SetServer(name, address, _) | Command::DelServer(name, address)) = command else {
            return false;
        };
        let server = self.desired.service(*name).and_then(|declared| declared.server(*address));
        server.is_some_and(|server| server.standin)
    }

    fn record(&mut self, command: &Command) -> Result<(), Errno> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        // It happened, but would not last: whoever asked must know.
        journal.append(command).map_err(|_| Errno::Memory)?;
        if journal.is_long() { self.rewrite().map_err(|_| Errno::Memory) } else { Ok(()) }
    }

    /// Writes the journal anew, from what is.
    fn rewrite(&mut self) -> Result<(), JournalError> {
        let timeouts = self.timeouts();
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut commands = Vec::new();
        // The oldest first, so that they come back in this order.
        for (name, declared) in self.desired.services().rev() {
            commands.push(Command::NewService(name, declared.spec.clone()));
            let servers = declared.servers.iter().rev().filter(|server| !server.standin);
            commands.extend(servers.map(|server| Command::NewServer(name, server.address, server.spec)));
        }
        commands.extend(timeouts.map(Command::SetTimeouts));
        commands.extend(self.running.iter().cloned().map(Command::NewDaemon));
        journal.replace(&commands)
    }

    fn timeouts(&self) -> Result<Timeouts, Errno> {
        let read = self.backend.with(|director, _, _| director.config().timeouts);
        let timeouts = read.map_err(|WorkerGone| GONE)?;
        Ok(Timeouts { tcp: timeouts.tcp, tcp_fin: timeouts.tcp_fin, udp: timeouts.udp })
    }

    fn set_timeouts(&self, asked: Timeouts) -> Result<(), Errno> {
        let Timeouts { tcp, tcp_fin, udp } = asked;
        if [tcp, tcp_fin, udp].into_iter().any(|seconds| seconds > LONGEST_TIMEOUT) {
            return Err(Errno::Invalid);
        }
        let done = self.backend.with_each(move |_, director, _, _| {
            let mut config = director.config().clone();
            let set = |to: &mut u32, from: u32| *to = if from == 0 { *to } else { from };
            set(&mut config.timeouts.tcp, tcp);
            set(&mut config.timeouts.tcp_fin, tcp_fin);
            set(&mut config.timeouts.udp, udp);
            director.set_config(config);
        });
        done.map(drop).map_err(|WorkerGone| GONE)
    }

    fn zero(&self, name: Option<ServiceName>) -> Result<(), Errno> {
        let key = match name {
            None => None,
            Some(name) if self.desired.service(name).is_none() => return Err(Errno::NoService),
            // A service that the director does not have has counted nothing.
            Some(name) => match key(name) {
                None => return Ok(()),
                key => key,
            },
        };
        // For the same reason it does not matter if it is not there.
        let zeroed = self.backend.with_each(move |_, director, _, _| _ = director.zero(key));
        zeroed.map(drop).map_err(|WorkerGone| GONE)
    }

    fn services(&self, only: Option<ServiceName>) -> Result<Vec<ServiceReport>, Errno> {
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

    fn servers(&self, name: ServiceName) -> Result<Vec<ServerReport>, Errno> {
        let declared = self.desired.service(name).ok_or(Errno::NoService)?;
        let live = match key(name) {
            None => HashMap::new(),
            Some(key) => fan_out::servers(&self.backend, key)?,
        };
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

    fn start_daemon(&mut self, spec: &DaemonSpec) -> Result<(), Errno> {
        if self.desired.is_mixed() {
            return Err(Errno::Invalid);
        }
        if self.running.iter().any(|daemon| daemon.role == spec.role) {
            return Err(Errno::Exists);
        }
        let filled = self.daemons.start(spec)?;
        let place = if spec.role == Role::Master { 0 } else { self.running.len() };
        self.running.insert(place, filled);
        self.tell_roles()
    }

    fn stop_daemon(&mut self, role: Role) -> Result<(), Errno> {
        let place = self.running.iter().position(|daemon| daemon.role == role).ok_or(Errno::NoService)?;
        self.running.remove(place);
        self.daemons.stop(role);
        self.tell_roles()
    }

    fn tell_roles(&self) -> Result<(), Errno> {
        let runs = |role| self.running.iter().any(|daemon| daemon.role == role);
        let (master, backup) = (runs(Role::Master), runs(Role::Backup));
        let told = self.backend.with_each(move |_, director, _, _| director.set_sync_role(master, backup));
        told.map(drop).map_err(|WorkerGone| GONE)
    }

    fn flush(&mut self) -> Result<(), Errno> {
        let names: Vec<_> = self.desired.services().map(|(name, _)| name).collect();
        let commands: Vec<_> = names.into_iter().map(Command::DelService).collect();
        let mut changes = Vec::new();
        let mut desired = self.desired.clone();
        for command in &commands {
            if let Some(Ok(mut edit)) = desired.plan(command, false) {
                changes.append(&mut edit.changes);
                desired.note(edit);
            }
        }
        self.apply(changes)?;
        self.desired = desired;
        Ok(())
    }

    fn connections(&self, with_origin: bool) -> Result<String, Errno> {
        let mut text = String::from(if with_origin { proc::CONNECTIONS_SYNC } else { proc::CONNECTIONS });
        for first in (0..).step_by(ENTRIES as usize) {
            let read = move |_: usize, director: &mut _, _: &mut _, now| {
                table::entries(director, now, first, ENTRIES)
            };
            let pages: Vec<_> = self.backend.with_each(read).map_err(|WorkerGone| GONE)?;
            if pages.iter().all(Option::is_none) {
                break;
            }
            let entries = pages.iter().flatten().flatten();
            entries.for_each(|entry| proc::connection(&mut text, entry, with_origin));
        }
        Ok(text)
    }

    fn info(&self) -> Result<Info, Errno> {
        let capacities = self.backend.with_each(|_, director, _, _| director.capacity());
        let capacity = capacities.map_err(|WorkerGone| GONE)?.into_iter().sum::<usize>();
        Ok(Info { version: VERSION, table_size: u32::try_from(capacity).unwrap_or(u32::MAX) })
    }

    fn switch(&self, name: &str) -> Result<String, Errno> {
        if let Some(kept) = self.kept.get(name) {
            return Ok(kept.to_string());
        }
        let name = name.to_owned();
        let read = self.backend.with(move |director, forwarder, _| {
            sysctl::get(&director.config().tuning, forwarder.options(), &name)
        });
        read.map_err(|WorkerGone| GONE)?.ok_or(Errno::NoEntry)
    }

    fn set_switch(&mut self, name: &str, value: &str) -> Result<(), Errno> {
        if let Some(kept) = self.kept.get_mut(name) {
            *kept = value.trim().parse().map_err(|_| Errno::Invalid)?;
            return Ok(());
        }
        let (name, value) = (name.to_owned(), value.to_owned());
        let done = self.backend.with_each(move |_, director, forwarder, _| {
            let (mut config, mut options) = (director.config().clone(), *forwarder.options());
            sysctl::set(&mut config.tuning, &mut options, &name, &value)?;
            director.set_config(config);
            forwarder.set_options(options);
            Ok(())
        });
        // What is said of a value depends on it alone: all say the same.
        let done: Result<(), _> = done.map_err(|WorkerGone| GONE)?.into_iter().collect();
        done.map_err(|error| match error {
            sysctl::SysctlError::Unknown => Errno::NoEntry,
            sysctl::SysctlError::Value => Errno::Invalid,
        })
    }
}

impl<S, const A: usize, const N: usize, R> CommandHandler for Controller<S, A, N, R>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S, A, N>,
{
    fn carry_out(&mut self, command: &Command) -> Result<Answer, Errno> {
        let syncing = !self.running.is_empty();
        if let Some(edit) = self.desired.plan(command, syncing) {
            let lasts = !self.is_about_standin(command);
            self.perform(edit?)?;
            if lasts {
                self.record(command)?;
            }
            return Ok(Answer::Done);
        }
        match command {
            Command::GetService(name) => {
                let mut reports = self.services(Some(*name))?;
                return reports.pop().map(|report| Answer::Service(Box::new(report))).ok_or(Errno::NoService);
            }
            Command::Services => return self.services(None).map(Answer::Services),
            Command::Servers(name) => return self.servers(*name).map(Answer::Servers),
            Command::Daemons => return Ok(Answer::Daemons(self.running.clone())),
            Command::GetTimeouts => return self.timeouts().map(Answer::Timeouts),
            Command::GetInfo => return self.info().map(Answer::Info),
            Command::Zero(name) => return self.zero(*name).map(|()| Answer::Done),
            Command::SetTimeouts(timeouts) => self.set_timeouts(*timeouts)?,
            Command::NewDaemon(spec) => self.start_daemon(spec)?,
            Command::DelDaemon(role) => self.stop_daemon(*role)?,
            Command::Flush => self.flush()?,
            Command::NewService(..)
            | Command::SetService(..)
            | Command::DelService(_)
            | Command::NewServer(..)
            | Command::SetServer(..)
            | Command::DelServer(..) => {}
        }
        self.record(command)?;
        Ok(Answer::Done)
    }

    fn has_service(&mut self, name: ServiceName) -> bool {
        self.desired.service(name).is_some()
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        if let Some(name) = path.strip_prefix(sysctl::FOLDER) {
            return self.switch(name).map(|value| format!("{value}\n").into_bytes());
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
            "/proc/net/ip_vs_conn" => self.connections(false)?,
            "/proc/net/ip_vs_conn_sync" => self.connections(true)?,
            "/proc/net/ip_vs_stats" => {
                let (traffic, rates) = fan_out::sum(&totals()?);
                proc::stats(&traffic, &rates)
            }
            "/proc/net/ip_vs_stats_percpu" => {
                let each = totals()?;
                let (traffic, rates) = fan_out::sum(&each);
                proc::stats_percpu(each.iter().map(|(traffic, _)| traffic), &traffic, &rates)
            }
            _ => return Err(Errno::NoEntry),
        };
        Ok(text.into_bytes())
    }

    fn write_file(&mut self, path: &str, text: &[u8]) -> Result<(), Errno> {
        let name = path.strip_prefix(sysctl::FOLDER).ok_or(Errno::NoEntry)?;
        let text = core::str::from_utf8(text).map_err(|_| Errno::Invalid)?.to_owned();
        self.set_switch(name, &text)
    }
}

impl<S: Store, const A: usize, const N: usize, R> core::fmt::Debug for Controller<S, A, N, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Controller")
            .field("services", &self.desired.services().count())
            .finish_non_exhaustive()
    }
}

/// IPVS 1.2.1.
const VERSION: u32 = 0x0001_0201;
/// The kernel's limit, from the ticks that it counts in.
const LONGEST_TIMEOUT: u32 = i32::MAX.cast_unsigned() / 250;
/// Services whose numbers are read between two batches of packets: some microseconds' work.
const SERVICES: usize = 64;
/// Entries of the connection table that are read between two batches of packets.
const ENTRIES: u32 = 512;

#[cfg(test)]
mod tests {
    use lvs_core::{Config, Director, Seed};
    use lvs_forward::host::Host;
    use lvs_forward::{Forwarder, Options};

    use super::*;
    use crate::control::{Local, ServiceSpec, method};

    fn controller() -> Controller<Heap, 8, 8, Local<Heap, 8, 8>> {
        let seed = Seed::from_bytes([7; 16]);
        let director = Director::new(Config::new(seed), Heap::with_capacity(16));
        let host: Host<8, 8> = Host::new(seed);
        Controller::new(
            Local::new(director, Box::new(Forwarder::new(host, Options::new()))),
            Box::new(NoDaemons),
        )
    }

    #[test]
    fn who_stands_in_for_others_is_listed_but_not_there_after_a_restart() {
        let path = std::env::temp_dir().join(format!("director-controller-{}", std::process::id()));
        let name = ServiceName::tcp("10.99.0.1:80".parse().unwrap());
        let (own, sorry) = ("10.0.1.11:80".parse().unwrap(), "10.0.1.99:80".parse().unwrap());
        let spec = ServerSpec::new(method::DIRECT, 1);
        let servers = |controller: &Controller<_, 8, 8, _>| {
            controller.servers(name).unwrap().iter().map(|of| of.address).collect::<Vec<_>>()
        };
        let mut controller = controller();
        controller.keep_journal(Journal::open(&path).unwrap()).unwrap();
        controller.carry_out(&Command::NewService(name, ServiceSpec::new(name.family(), "rr"))).unwrap();
        controller.carry_out(&Command::NewServer(name, own, spec)).unwrap();
        controller.stand_in(name, sorry, spec).unwrap();
        controller.rewrite().unwrap();
        assert_eq!(servers(&controller), [sorry, own]);
        let mut again = self::controller();
        assert!(again.keep_journal(Journal::open(&path).unwrap()).unwrap().is_empty());
        assert_eq!(servers(&again), [own]);
        controller.carry_out(&Command::DelServer(name, sorry)).unwrap();
        assert!(
            self::controller().keep_journal(Journal::open(&path).unwrap()).unwrap().is_empty(),
            "nothing of it was kept"
        );
        std::fs::remove_file(&path).unwrap();
    }
}
