//! The controller: carries commands out on a running director, and remembers what was declared.

mod keep;
mod listing;
mod settings;

use core::marker::PhantomData;
use core::net::SocketAddr;
use core::sync::atomic::AtomicBool;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use lvs_core::service::SchedulerOf;
use lvs_core::{Director, Heap, Scheduler, Store};

use super::backend::Backend;
use super::convert::key;
use super::journal::{Entry, Journal};
use super::protocol::session::CommandHandler;
use super::reconcile::change::TableChange;
use super::reconcile::desired::{DesiredState, Edit, ServerStatus};
use super::reconcile::fan_out;
use super::sysctl::Switch;
use super::{
    Answer, Command, CommandError, Cursor, DaemonCommand, DaemonSpec, Errno, Query, Role, ServerSpec,
    ServiceName, Setting, TableCommand,
};
use crate::worker::Handle;
use keep::{Watcher, is_about_standin};

pub(crate) use keep::Reload;
pub use keep::TakenUp;

pub use listing::Page;

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
/// Everything that changes a director's services and servers while it runs should go through its controller: the
/// desired state here and the director's table then agree, listings show all that was declared, and a
/// [journal](Self::keep_journal) makes it last.
///
/// ```
/// use lvs_core::{Config, Director, Heap, Seed};
/// use lvs_forward::host::Host;
/// use lvs_forward::{Forwarder, Options};
/// use lvs_std::control::{
///     Answer, CommandHandler, Controller, Local, NoDaemons, Query, ServiceName, ServiceSpec, TableCommand,
/// };
///
/// let seed = Seed::from_bytes([7; 16]);
/// let director = Director::new(Config::new(seed), Heap::with_capacity(1_000));
/// let host: Host = Host::new(seed);
/// let forwarder = Box::new(Forwarder::new(host, Options::new()));
/// let local = Local::new(director, forwarder);
/// let mut controller: Controller<Heap, _> = Controller::new(local, Box::new(NoDaemons));
///
/// let web = ServiceName::tcp("10.99.0.1:80".parse()?);
/// controller.submit(TableCommand::NewService(web, ServiceSpec::new(web.family(), "wlc")))?;
/// let Answer::Services(listed) = controller.submit(Query::Services)? else { panic!() };
/// assert_eq!(listed[0].name, web);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Controller<S: Store = Heap, R = Handle<S>> {
    backend: R,
    desired: DesiredState,
    daemons: Box<dyn Daemons>,
    /// The daemons that run, master first.
    running: Vec<DaemonSpec>,
    journal: Option<Journal>,
    watcher: Option<Watcher>,
    /// Whether a command counts as kept only when the disk has it.
    waits_for_disk: Arc<AtomicBool>,
    /// Something has been done that a journal would have kept, while there was none.
    unrecorded: bool,
    /// The text of the configuration that was applied last; inside, none of one that a program has made.
    applied: Option<Option<String>>,
    /// The deadlines of servers that are drained.
    drains: BTreeMap<(ServiceName, SocketAddr), Option<SystemTime>>,
    /// Switches that were turned since the start, by an operator or a reload, so that a journal keeps them.
    turned: BTreeSet<&'static str>,
    /// The rate of ICMP errors that was asked for: workers have parts of it, which are rounded.
    icmp_rate: Option<u32>,
    /// Where listings of connections begin.
    beginning: Cursor,
    store: PhantomData<fn() -> S>,
}

impl<S, R> Controller<S, R>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S>,
{
    /// The controller of a director that has no services yet.
    #[must_use]
    pub fn new(backend: R, daemons: Box<dyn Daemons>) -> Self {
        Self {
            backend,
            desired: DesiredState::new(),
            daemons,
            running: Vec::new(),
            journal: None,
            watcher: None,
            waits_for_disk: Arc::default(),
            unrecorded: false,
            applied: None,
            drains: BTreeMap::new(),
            turned: BTreeSet::new(),
            icmp_rate: None,
            beginning: Cursor::of_new_table(),
            store: PhantomData,
        }
    }

    /// Carries a command out. Between two batches of packets it has happened as a whole, or not at all; with a
    /// [journal](Self::keep_journal) it is there again after a restart.
    ///
    /// This is the only way to change the table of services and servers while a director runs.
    ///
    /// # Errors
    /// [`CommandError`]: the director's number for what is wrong, or that the worker has stopped.
    pub fn submit(&mut self, command: impl Into<Command>) -> Result<Answer, CommandError> {
        self.carry_out(&command.into())
    }

    fn carry_out(&mut self, command: &Command) -> Result<Answer, CommandError> {
        match command {
            Command::Table(change) => {
                let edit = self.desired.plan(change, !self.running.is_empty())?;
                let lasts = !is_about_standin(&self.desired, change);
                let entry = if lasts { Entry::of(command) } else { None };
                self.kept(entry, |controller| controller.perform(edit))?;
            }
            Command::Daemon(DaemonCommand::Start(spec)) => {
                self.check_daemon(spec)?;
                self.kept(Entry::of(command), |controller| controller.start_daemon(spec))?;
            }
            Command::Daemon(DaemonCommand::Stop(role)) => {
                let place = self.running.iter().position(|daemon| daemon.role == *role);
                let place = place.ok_or(Errno::NoService)?;
                self.kept(Entry::of(command), |controller| controller.stop_daemon(place))?;
            }
            Command::Setting(Setting::Timeouts(timeouts)) => {
                settings::check_timeouts(*timeouts)?;
                self.kept(Entry::of(command), |controller| controller.set_timeouts(*timeouts))?;
            }
            Command::Setting(Setting::Sysctl(name, value)) => {
                self.set_sysctl(name, value).map_err(settings::numbered)?;
            }
            // Not recorded, since a director that starts again counts from 0 anyway.
            Command::Zero(name) => self.zero(*name)?,
            Command::Query(query) => return self.answer(query),
        }
        Ok(Answer::Done)
    }

    fn answer(&self, query: &Query) -> Result<Answer, CommandError> {
        Ok(match query {
            Query::Service(name) => {
                let report = self.services(Some(*name))?.pop().ok_or(Errno::NoService)?;
                Answer::Service(Box::new(report))
            }
            Query::Services => Answer::Services(self.services(None)?),
            Query::Servers(name) => Answer::Servers(self.servers(*name)?),
            Query::Daemons => Answer::Daemons(self.running.clone()),
            Query::Timeouts => Answer::Timeouts(self.timeouts()?),
            Query::Info => Answer::Info(self.info()?),
            Query::Sysctl(name) => Answer::Sysctl(self.sysctl(Switch::find(name).ok_or(Errno::NoEntry)?)?),
        })
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

    /// Changes how a server is doing, apart from what was declared of it. Whether it is [drained](Self::drain) stays as
    /// it is: that is an operator's wish, which a journal keeps, and the rest is observed.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server; [`Errno::ServersFull`].
    pub fn set_server_status(
        &mut self,
        name: ServiceName,
        address: SocketAddr,
        status: ServerStatus,
    ) -> Result<(), CommandError> {
        let declared = self.desired.service(name).ok_or(Errno::NoService)?;
        let draining = declared.server(address).ok_or(Errno::NoEntry)?.status.draining;
        let edit = self.desired.set_server_status(name, address, ServerStatus { draining, ..status })?;
        self.perform(edit)
    }

    /// Adds a server that stands in for others, such as a sorry server: it is listed and used as any, but no state file
    /// keeps it.
    ///
    /// # Errors
    /// As for [`TableCommand::NewServer`].
    pub fn stand_in(
        &mut self,
        name: ServiceName,
        address: SocketAddr,
        spec: ServerSpec,
    ) -> Result<(), CommandError> {
        let edit = self.desired.new_server(name, address, spec, !self.running.is_empty())?;
        self.perform(edit.standing_in())
    }

    /// How many connections a server still has, those included that are at their end.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server.
    pub fn remaining(&self, name: ServiceName, address: SocketAddr) -> Result<u32, CommandError> {
        let reports = self.servers(name)?;
        let report = reports.iter().find(|report| report.address == address).ok_or(Errno::NoEntry)?;
        Ok(report.active + report.inactive)
    }

    /// Ends the connections of a server, and what makes clients come back to it. Returns how many entries of the table
    /// that were.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server, or while the director does not use it.
    pub fn cut(&self, name: ServiceName, address: SocketAddr) -> Result<usize, CommandError> {
        let key = key(name).ok_or(Errno::NoService)?;
        let find = move |_: usize, director: &mut Director<S>, _: &mut _, _| {
            let mut servers = director.servers(key);
            let id = servers.find(|(_, server)| server.address() == address).map(|(id, _)| id);
            (id, director.capacity())
        };
        let found = self.backend.with_each(find)?;
        // Each director has a number of its own for it.
        let ids: Vec<_> = found.iter().map(|(id, _)| *id).collect();
        if ids.iter().all(Option::is_none) {
            return Err(Errno::NoEntry.into());
        }
        let capacity = found.iter().map(|(_, capacity)| *capacity).max().unwrap_or_default();
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        // In pages, each between two batches, so that no packet waits for a walk over the whole table.
        let mut ended = 0;
        // Twice: what controls others ends after them.
        for first in (0..capacity).step_by(ENTRIES as usize).chain((0..capacity).step_by(ENTRIES as usize)) {
            let ids = ids.clone();
            let cut = move |at: usize, director: &mut Director<S>, _: &mut _, now| {
                let id = ids.get(at).copied().flatten();
                id.map_or(0, |id| director.cut(now, id, first, ENTRIES))
            };
            ended += self.backend.with_each(cut)?.into_iter().sum::<usize>();
        }
        Ok(ended)
    }

    /// Declares, changes and withdraws many things at once, and says how servers do after that: either all of it
    /// happens, between two batches of packets, or nothing.
    ///
    /// # Errors
    /// Which command could not be carried out, and why; the number of commands stands for what only the director can
    /// tell.
    pub fn submit_all(
        &mut self,
        commands: &[TableCommand],
        statuses: &[(ServiceName, SocketAddr, ServerStatus)],
    ) -> Result<(), (usize, CommandError)> {
        self.reload(Reload { commands, statuses, ..Reload::default() })
    }

    fn perform(&mut self, mut edit: Edit) -> Result<(), CommandError> {
        // The director comes first. What it refuses is not noted, so the desired state never says more than it has.
        self.apply(core::mem::take(&mut edit.changes))?;
        self.desired.note(edit);
        Ok(())
    }

    fn apply(&self, changes: Vec<TableChange>) -> Result<(), CommandError> {
        // Much of what clients declare means nothing to a director: some flags, or a service without scheduler. Then no
        // worker is disturbed.
        if changes.is_empty() {
            return Ok(());
        }
        fan_out::apply(&self.backend, changes)
    }

    fn check_daemon(&self, spec: &DaemonSpec) -> Result<(), CommandError> {
        if self.desired.is_mixed() {
            return Err(Errno::Invalid.into());
        }
        if self.running.iter().any(|daemon| daemon.role == spec.role) {
            return Err(Errno::Exists.into());
        }
        Ok(())
    }

    fn start_daemon(&mut self, spec: &DaemonSpec) -> Result<(), CommandError> {
        let filled = self.daemons.start(spec)?;
        let place = if spec.role == Role::Master { 0 } else { self.running.len() };
        self.running.insert(place, filled);
        self.tell_roles()
    }

    fn stop_daemon(&mut self, place: usize) -> Result<(), CommandError> {
        let daemon = self.running.remove(place);
        self.daemons.stop(daemon.role);
        self.tell_roles()
    }

    fn tell_roles(&self) -> Result<(), CommandError> {
        let runs = |role| self.running.iter().any(|daemon| daemon.role == role);
        let (master, backup) = (runs(Role::Master), runs(Role::Backup));
        let told = self.backend.with_each(move |_, director, _, _| director.set_sync_role(master, backup));
        Ok(told.map(drop)?)
    }
}

impl<S, R> CommandHandler for Controller<S, R>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S>,
{
    fn handle(&mut self, command: &Command) -> Result<Answer, Errno> {
        Ok(self.carry_out(command)?)
    }

    fn waits_for_disk(&self) -> Option<Arc<AtomicBool>> {
        Some(self.waits_for_disk.clone())
    }

    fn handle_each(&mut self, commands: &[Command]) -> Vec<Result<Answer, Errno>> {
        self.submit_each(commands).into_iter().map(|done| Ok(done?)).collect()
    }

    fn has_service(&mut self, name: ServiceName) -> bool {
        self.desired.service(name).is_some()
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        Ok(self.file(path)?)
    }

    fn read_piece(&mut self, path: &str, at: Option<Cursor>) -> Result<(Vec<u8>, Option<Cursor>), Errno> {
        Ok(self.piece(path, at)?)
    }
}

impl<S: Store, R> core::fmt::Debug for Controller<S, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Controller")
            .field("services", &self.desired.services().count())
            .finish_non_exhaustive()
    }
}

/// Entries of the connection table that are read between two batches of packets.
const ENTRIES: u32 = 512;

#[cfg(test)]
mod tests {
    use lvs_core::{Config, Director, Seed};
    use lvs_forward::host::Host;
    use lvs_forward::{Forwarder, Options};

    use super::*;
    use crate::control::protocol::{file, request};
    use crate::control::{Local, ServiceSpec, Session, method, sysctl};

    fn open(path: &std::path::Path) -> Journal {
        Journal::open(&crate::ownership::OwnedState::take(path).unwrap()).unwrap()
    }

    fn take_up(controller: &mut Controller<Heap, Local<Heap>>, path: &std::path::Path) {
        let taken = controller.keep_journal(open(path));
        assert!(taken.refused.is_empty() && taken.written.is_ok(), "{taken:?}");
    }

    fn controller() -> Controller<Heap, Local<Heap>> {
        let seed = Seed::from_bytes([7; 16]);
        let director = Director::new(Config::new(seed), Heap::with_capacity(16));
        let host: Host = Host::new(seed);
        Controller::new(
            Local::new(director, Box::new(Forwarder::new(host, Options::new()))),
            Box::new(NoDaemons),
        )
    }

    #[test]
    fn who_stands_in_for_others_is_listed_but_not_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let name = ServiceName::tcp("10.99.0.1:80".parse().unwrap());
        let (own, sorry) = ("10.0.1.11:80".parse().unwrap(), "10.0.1.99:80".parse().unwrap());
        let spec = ServerSpec::new(method::DIRECT, 1);
        let servers = |controller: &Controller<_, _>| {
            controller.servers(name).unwrap().iter().map(|of| of.address).collect::<Vec<_>>()
        };
        let mut controller = controller();
        take_up(&mut controller, &path);
        controller.submit(TableCommand::NewService(name, ServiceSpec::new(name.family(), "rr"))).unwrap();
        controller.submit(TableCommand::NewServer(name, own, spec)).unwrap();
        controller.stand_in(name, sorry, spec).unwrap();
        controller.rewrite_for_tests();
        assert_eq!(servers(&controller), [sorry, own]);
        controller.submit(TableCommand::DelServer(name, sorry)).unwrap();
        drop(controller);
        let mut again = self::controller();
        // Nothing of it was kept, so nothing is refused.
        take_up(&mut again, &path);
        assert_eq!(servers(&again), [own]);
    }

    /// A value that a switch does not have by default.
    fn another(switch: &Switch) -> String {
        match switch.name {
            "sync_threshold" => "4\t60".to_owned(),
            _ if switch.default_value() == switch.range.end().to_string() => switch.range.start().to_string(),
            _ => switch.range.end().to_string(),
        }
    }

    #[test]
    fn each_switch_says_the_same_by_command_and_by_file_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let read = |controller: &mut Controller<Heap, Local<Heap>>, switch: &Switch| {
            let asked = controller.submit(Query::Sysctl(switch.name.to_owned())).unwrap();
            let file = String::from_utf8(controller.read_file(&switch.path()).unwrap()).unwrap();
            assert_eq!(asked, Answer::Sysctl(file.trim_end().to_owned()), "{}", switch.name);
            file.trim_end().to_owned()
        };
        for switch in sysctl::all() {
            let mut first = controller();
            take_up(&mut first, &path);
            assert_eq!(read(&mut first, switch), switch.default_value(), "{}", switch.name);
            let value = another(switch);
            let done = first.submit(Setting::Sysctl(switch.name.to_owned(), value.clone()));
            if switch.is_fixed() {
                assert_eq!(done, Ok(Answer::Done), "{}: what it is may be said", switch.name);
                let done = first.submit(Setting::Sysctl(switch.name.to_owned(), "77".to_owned()));
                assert_eq!(done, Err(CommandError::Refused(Errno::Invalid)), "{}", switch.name);
                assert_eq!(read(&mut first, switch), switch.default_value());
                continue;
            }
            assert_eq!(done, Ok(Answer::Done), "{} = {value}", switch.name);
            assert_eq!(read(&mut first, switch), value, "{}", switch.name);
            let mut again = controller();
            drop(first);
            take_up(&mut again, &path);
            assert_eq!(read(&mut again, switch), value, "{} from the journal", switch.name);
            // Replaced, from what is.
            again.rewrite_for_tests();
            drop(again);
            let mut third = controller();
            take_up(&mut third, &path);
            assert_eq!(read(&mut third, switch), value, "{} from a replaced journal", switch.name);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_write_to_a_switchs_file_is_the_command_and_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut first = controller();
        take_up(&mut first, &path);
        let file = "/proc/sys/net/ipv4/vs/drop_entry";
        let write = request::write_file_message(file::WRITE, file, Some(b"3\n"), 1);
        let answers = Session::new(true).answer(&write, &mut first);
        assert_eq!(answers[0][16..20], [0; 4], "no error");
        let refused =
            request::write_file_message(file::WRITE, "/proc/sys/net/ipv4/vs/conntrack", Some(b"1\n"), 2);
        let answers = Session::new(true).answer(&refused, &mut first);
        assert_eq!(answers[0][16..20], (-Errno::Invalid.number()).to_ne_bytes());
        let mut again = controller();
        drop(first);
        take_up(&mut again, &path);
        assert_eq!(again.read_file(file).unwrap(), b"3\n");
    }
}
