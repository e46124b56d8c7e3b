//! What a controller keeps in its journal, and takes up from it.
//!
//! A command is kept before it is carried out. So what cannot be kept is refused and not done, whatever the disk does;
//! and what the director refuses is taken out of the journal again.

use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use std::time::SystemTime;

use lvs_core::service::SchedulerOf;
use lvs_core::{Scheduler, Store};

use super::Controller;
use crate::control::backend::Backend;
use crate::control::journal::{Entry, Journal, JournalError, Position};
use crate::control::reconcile::ahead::Ahead;
use crate::control::reconcile::change::TableChange;
use crate::control::reconcile::desired::{DesiredState, ServerStatus};
use crate::control::{
    Answer, Command, CommandError, DaemonCommand, Durability, Errno, ServiceName, Setting, TableCommand,
};

/// What became of a journal that a controller has [taken up](Controller::keep_journal).
#[derive(Debug)]
#[non_exhaustive]
pub struct TakenUp {
    /// What could not be done again, in words, and why.
    pub refused: Vec<(String, CommandError)>,
    /// Whether the file can be written. If not, every command is refused until it can be: each tries it again.
    pub written: Result<(), JournalError>,
}

/// Who is told when the journal cannot be written, and when it can be again.
pub(super) type Watcher = Box<dyn FnMut(Result<(), &JournalError>) + Send>;

/// A change of many things at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reload<'a> {
    pub(crate) commands: &'a [TableCommand],
    pub(crate) statuses: &'a [(ServiceName, SocketAddr, ServerStatus)],
    /// Time-outs and switches that were checked: what is refused of them is refused too late.
    pub(crate) settings: &'a [Setting],
    /// The text of the configuration behind it; inside, none if it has none.
    pub(crate) text: Option<Option<&'a str>>,
}

impl<S, R> Controller<S, R>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S>,
{
    /// Takes up what a journal holds, and keeps it from now on: every change is in it before it is made, and
    /// acknowledged.
    pub fn keep_journal(&mut self, mut journal: Journal) -> TakenUp {
        let refused = self.restore(&mut journal);
        TakenUp { refused, written: self.attach_journal(journal) }
    }

    /// Does again what a journal holds. Returns what could not be done.
    pub(crate) fn restore(&mut self, journal: &mut Journal) -> Vec<(String, CommandError)> {
        let found: Vec<Entry> = journal.take_found().into_iter().flatten().collect();
        let mut refused = Vec::new();
        for entries in found.chunk_by(|before, next| declares(before).is_some() && declares(next).is_some()) {
            // Together, because workers would otherwise be asked once for each of perhaps a hundred thousand servers.
            let commands: Vec<_> = entries.iter().filter_map(declares).cloned().collect();
            if commands.len() > 1 && self.submit_all(&commands, &[]).is_ok() {
                continue;
            }
            // One by one it shows which of them is refused.
            self.restore_each(entries, &mut refused);
        }
        if !refused.is_empty() {
            // It was acknowledged once. Whoever wants it back finds it there.
            journal.keep_aside_first();
        }
        self.unrecorded = false;
        refused
    }

    fn restore_each(&mut self, entries: &[Entry], refused: &mut Vec<(String, CommandError)>) {
        for entry in entries {
            let done = match entry {
                Entry::Command(command) => self.carry_out(command).map(drop),
                Entry::Drain(service, server, deadline) => self.drain(*service, *server, *deadline),
                Entry::Undrain(service, server) => self.undrain(*service, *server),
                Entry::Applied(text) => {
                    self.applied = Some(text.clone());
                    Ok(())
                }
                Entry::Reload(parts) => self.reload_again(parts),
                Entry::Withdrawn(_) => Ok(()),
            };
            if let Err(error) = done {
                refused.push((format!("{entry:?}"), error));
            }
        }
    }

    /// Does again what a reload did, as a whole or not at all, as then.
    fn reload_again(&mut self, parts: &[Entry]) -> Result<(), CommandError> {
        let (mut commands, mut settings, mut text) = (Vec::new(), Vec::new(), None);
        for part in parts {
            match part {
                Entry::Command(Command::Table(command)) => commands.push(command.clone()),
                Entry::Command(Command::Setting(setting)) => settings.push(setting.clone()),
                Entry::Applied(applied) => text = Some(applied.as_deref()),
                // No reload does any of these.
                Entry::Command(Command::Daemon(_) | Command::Zero(_) | Command::Query(_))
                | Entry::Drain(..)
                | Entry::Undrain(..)
                | Entry::Reload(_)
                | Entry::Withdrawn(_) => {}
            }
        }
        let reload = Reload { commands: &commands, statuses: &[], settings: &settings, text };
        self.reload(reload).map_err(|(_, error)| error)
    }

    /// Keeps a journal from now on. What has been done since it was read is put into it.
    ///
    /// # Errors
    /// When that fails. The journal is kept all the same, and each command tries again.
    pub(crate) fn attach_journal(&mut self, mut journal: Journal) -> Result<(), JournalError> {
        if self.unrecorded {
            journal.replace_first();
        }
        let is_due = journal.is_stale() || journal.is_long();
        self.waits_for_disk.store(journal.durability() == Durability::Power, Ordering::Relaxed);
        self.journal = Some(journal);
        if !is_due {
            return Ok(());
        }
        match self.rewrite_journal() {
            Ok(()) => Ok(()),
            Err(Unkept::Journal(error)) => Err(error),
            // The director is ending; the next one finds the file as it is.
            Err(Unkept::Command(_)) => Ok(()),
        }
    }

    /// Tells somebody when the journal cannot be written, and when it can be again.
    pub fn watch_journal(&mut self, watcher: impl FnMut(Result<(), &JournalError>) + Send + 'static) {
        self.watcher = Some(Box::new(watcher));
    }

    /// Says when a command counts as kept.
    pub fn set_durability(&mut self, durability: Durability) {
        if let Some(journal) = &mut self.journal {
            journal.set_durability(durability);
            self.waits_for_disk.store(durability == Durability::Power, Ordering::Relaxed);
        }
    }

    /// Where the journal's file is kept that was damaged, or held what could not be done again.
    #[cfg(feature = "runtime")]
    pub(crate) fn journal_kept_aside(&self) -> Option<&std::path::Path> {
        self.journal.as_ref()?.kept_aside()
    }

    /// Leaves the journal as it is: what is commanded from now on is not kept.
    #[cfg(feature = "runtime")]
    pub(crate) fn forget_journal(&mut self) {
        self.journal = None;
    }

    /// The text of the configuration that was applied last, as far as the journal and this controller know.
    #[cfg(feature = "runtime")]
    pub(crate) fn applied_text(&self) -> Option<&str> {
        self.applied.as_ref()?.as_deref()
    }

    /// From now on a real server gets no new connections. The journal keeps that, and the deadline, at which somebody
    /// is to [cut](Self::cut) what is left.
    ///
    /// # Errors
    /// [`Errno::NoService`], [`Errno::NoEntry`] without such a server; those of a journal that cannot be written.
    pub fn drain(
        &mut self,
        service: ServiceName,
        server: SocketAddr,
        deadline: Option<SystemTime>,
    ) -> Result<(), CommandError> {
        self.set_draining(service, server, true, Entry::Drain(service, server, deadline))?;
        // Servers come and go, and their deadlines must not stay.
        let desired = &self.desired;
        self.drains.retain(|(service, server), _| {
            let server = desired.service(*service).and_then(|declared| declared.server(*server));
            server.is_some_and(|server| server.status.draining)
        });
        self.drains.insert((service, server), deadline);
        Ok(())
    }

    /// Gives a real server new connections again.
    ///
    /// # Errors
    /// As for [`drain`](Self::drain).
    pub fn undrain(&mut self, service: ServiceName, server: SocketAddr) -> Result<(), CommandError> {
        self.set_draining(service, server, false, Entry::Undrain(service, server))?;
        self.drains.remove(&(service, server));
        Ok(())
    }

    /// The real servers that get no new connections by an operator's wish, each with its deadline.
    #[must_use]
    pub fn drains(&self) -> Vec<(ServiceName, SocketAddr, Option<SystemTime>)> {
        let mut drains = Vec::new();
        for (name, declared) in self.desired.services() {
            for server in declared.servers.iter().filter(|server| server.status.draining) {
                drains.push((name, server.address, self.deadline(name, server.address)));
            }
        }
        drains
    }

    fn deadline(&self, service: ServiceName, server: SocketAddr) -> Option<SystemTime> {
        self.drains.get(&(service, server)).copied().flatten()
    }

    fn set_draining(
        &mut self,
        service: ServiceName,
        server: SocketAddr,
        draining: bool,
        entry: Entry,
    ) -> Result<(), CommandError> {
        let declared = self.desired.service(service).ok_or(Errno::NoService)?;
        let declared = declared.server(server).ok_or(Errno::NoEntry)?;
        let (status, standin) = (ServerStatus { draining, ..declared.status }, declared.standin);
        let edit = self.desired.set_server_status(service, server, status)?;
        self.kept((!standin).then_some(entry), |controller| controller.perform(edit))
    }

    /// Carries out commands of several clients, each for itself, in this order. They are given to the disk together,
    /// which is what makes many of them fast under [`Durability::Power`].
    pub fn submit_each(&mut self, commands: &[Command]) -> Vec<Result<Answer, CommandError>> {
        let mut done = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while let Some((first, others)) = rest.split_first() {
            let changes: Vec<_> = rest
                .iter()
                .map_while(|command| match command {
                    Command::Table(change) => Some(change),
                    Command::Daemon(_) | Command::Setting(_) | Command::Zero(_) | Command::Query(_) => None,
                })
                .collect();
            let asked = self.listed_together(rest);
            if asked.len() > 1 {
                rest = rest.get(asked.len()..).unwrap_or_default();
                done.extend(self.servers_of(&asked));
            } else if changes.len() < 2 {
                done.push(self.carry_out(first));
                rest = others;
            } else {
                rest = rest.get(changes.len()..).unwrap_or_default();
                self.change_together(&changes, &mut done);
            }
        }
        done
    }

    /// Changes the table by several commands that are kept together.
    fn change_together(&mut self, changes: &[&TableCommand], done: &mut Vec<Result<Answer, CommandError>>) {
        // Each is checked against what those before it lead to.
        let mut ahead = Ahead::new(&self.desired);
        let (mut units, mut steps) = (Vec::new(), Vec::new());
        let planned: Vec<Result<bool, Errno>> = changes
            .iter()
            .map(|change| {
                let entry = self.plan_ahead(&mut ahead, change, &mut steps)?;
                let lasts = entry.is_some();
                units.extend(entry.map(|entry| vec![entry]));
                Ok(lasts)
            })
            .collect();
        let recorded = self.record(&units);
        // At once, because to wake a worker takes far longer than most changes. If the director refuses one of them it
        // has done nothing, and one by one it shows which. What removes would come last there, not in its place.
        let at_once = recorded.is_ok() && changes.iter().all(|change| change.declares());
        if at_once && self.apply(steps).is_ok() {
            ahead.take_place(&mut self.desired);
            done.extend(planned.into_iter().map(|planned| planned.map(|_| Answer::Done).map_err(Into::into)));
        } else {
            self.change_each(changes, planned, recorded, done);
        }
        self.shorten_journal();
    }

    /// Changes the table by commands that were [planned and recorded together](Self::change_together), one by one.
    fn change_each(
        &mut self,
        changes: &[&TableCommand],
        planned: Vec<Result<bool, Errno>>,
        recorded: Result<Vec<Position>, CommandError>,
        done: &mut Vec<Result<Answer, CommandError>>,
    ) {
        let syncing = !self.running.is_empty();
        let mut positions = recorded.as_deref().unwrap_or_default().iter();
        for ((change, planned), at) in changes.iter().zip(planned).zip(0..) {
            // Planned once more, because one that this one builds on may have been refused, by the journal or by the
            // director.
            let edit = self.desired.plan(change, syncing).map_err(CommandError::from);
            let result = match (planned, &recorded) {
                (Ok(false), _) => edit.and_then(|edit| self.perform(edit)),
                (_, Err(error)) => edit.and(Err(*error)),
                (Ok(true), Ok(_)) => {
                    let position = positions.next().copied();
                    let performed = edit.and_then(|edit| self.perform(edit));
                    performed.inspect_err(|_| self.withdraw(position))
                }
                (Err(_), Ok(_)) => match edit {
                    Err(error) => Err(error),
                    // The one that was in the way is not there. This one is recorded only now, so all that follow are
                    // recorded anew, behind it.
                    Ok(_) => {
                        self.withdraw(Position::of_all(positions.as_slice()));
                        let rest = changes.get(at..).unwrap_or_default();
                        return done.extend(rest.iter().map(|change| self.submit((*change).clone())));
                    }
                },
            };
            done.push(result.map(|()| Answer::Done));
        }
    }

    /// Plans a command after what was planned before it, and appends the steps that it takes. Returns what a journal
    /// keeps of it, if anything.
    fn plan_ahead(
        &self,
        ahead: &mut Ahead,
        command: &TableCommand,
        steps: &mut Vec<TableChange>,
    ) -> Result<Option<Entry>, Errno> {
        let mut edit = ahead.plan(&self.desired, command, !self.running.is_empty())?;
        let lasts = !is_about_standin(ahead.there(), command);
        steps.append(&mut edit.changes);
        ahead.note(edit);
        Ok(if lasts { Entry::of(&Command::Table(command.clone())) } else { None })
    }

    /// Does what a reload changes: all of it happens, between two batches of packets, or nothing.
    pub(crate) fn reload(&mut self, reload: Reload<'_>) -> Result<(), (usize, CommandError)> {
        let Reload { commands, statuses, settings, text } = reload;
        // Each command is checked against what those before it lead to. If the journal or the director refuses them,
        // what was planned is dropped and nothing has happened.
        let mut ahead = Ahead::new(&self.desired);
        let (mut changes, mut unit) = (Vec::new(), Vec::new());
        for (index, command) in commands.iter().enumerate() {
            let planned = self.plan_ahead(&mut ahead, command, &mut changes);
            unit.extend(planned.map_err(|errno| (index, errno.into()))?);
        }
        let whole = |error: CommandError| (commands.len(), error);
        for status in statuses {
            let edit = ahead.set_server_status(&self.desired, *status);
            let mut edit = edit.map_err(|errno| whole(errno.into()))?;
            changes.append(&mut edit.changes);
            ahead.note(edit);
        }
        unit.extend(settings.iter().filter_map(|setting| Entry::of(&Command::Setting(setting.clone()))));
        if let Some(text) = text.filter(|text| self.applied.as_ref().map(Option::as_deref) != Some(*text)) {
            unit.push(Entry::Applied(text.map(str::to_owned)));
        }
        // One record, so a crash leaves all of it or nothing.
        let units = if unit.is_empty() { Vec::new() } else { vec![vec![Entry::Reload(unit)]] };
        let position = self.record(&units).map_err(whole)?.pop();
        if let Err(error) = self.apply(changes) {
            self.withdraw(position);
            return Err(whole(error));
        }
        ahead.take_place(&mut self.desired);
        if let Some(text) = text {
            self.applied = Some(text.map(str::to_owned));
        }
        for setting in settings {
            self.set(setting).map_err(whole)?;
        }
        self.shorten_journal();
        Ok(())
    }

    /// Keeps an entry, and then does what it says.
    pub(super) fn kept<E>(
        &mut self,
        entry: Option<Entry>,
        act: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E>
    where
        E: From<CommandError>,
    {
        let units: Vec<_> = entry.into_iter().map(|entry| vec![entry]).collect();
        let position = self.record(&units)?.pop();
        let done = act(self);
        match done {
            Ok(()) => self.shorten_journal(),
            Err(_) => self.withdraw(position),
        }
        done
    }

    fn record(&mut self, units: &[Vec<Entry>]) -> Result<Vec<Position>, CommandError> {
        if units.is_empty() {
            return Ok(Vec::new());
        }
        let Some(journal) = &self.journal else {
            self.unrecorded = true;
            return Ok(Vec::new());
        };
        if journal.is_stale() {
            self.rewrite_journal().map_err(|error| match error {
                Unkept::Journal(error) => CommandError::Refused(error.errno()),
                Unkept::Command(error) => error,
            })?;
        }
        let Some(journal) = &mut self.journal else { return Ok(Vec::new()) };
        let recorded = journal.record(units);
        self.tell(recorded.as_ref().map(drop).err());
        recorded.map_err(|error| CommandError::Refused(error.errno()))
    }

    /// Takes back what was kept of a command that was refused.
    fn withdraw(&mut self, position: Option<Position>) {
        let (Some(position), Some(journal)) = (position, &mut self.journal) else { return };
        // If that fails, the file is replaced with the next command.
        let done = journal.withdraw(position);
        self.tell(done.as_ref().err());
    }

    /// Writes the journal anew if most of it is history. Nothing is lost if that fails.
    fn shorten_journal(&mut self) {
        if self.journal.as_ref().is_some_and(Journal::is_long)
            && self.rewrite_journal().is_err()
            && let Some(journal) = &mut self.journal
        {
            journal.postpone();
        }
    }

    /// Writes the journal anew, from what is.
    fn rewrite_journal(&mut self) -> Result<(), Unkept> {
        let snapshot = self.snapshot()?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let done = journal.replace(snapshot);
        self.tell(done.as_ref().err());
        Ok(done?)
    }

    #[cfg(test)]
    pub(super) fn rewrite_for_tests(&mut self) {
        self.rewrite_journal().unwrap();
    }

    /// What is, as what leads to it: each in a record of its own.
    fn snapshot(&self) -> Result<Vec<Vec<Entry>>, CommandError> {
        let mut entries: Vec<Entry> = self.applied.iter().cloned().map(Entry::Applied).collect();
        let command = |command: Command| Entry::Command(command);
        // The oldest first, so that they come back in this order.
        for (name, declared) in self.desired.services().rev() {
            entries.push(command(TableCommand::NewService(name, declared.spec.clone()).into()));
            for server in declared.servers.iter().rev().filter(|server| !server.standin) {
                entries.push(command(TableCommand::NewServer(name, server.address, server.spec).into()));
                if server.status.draining {
                    entries.push(Entry::Drain(name, server.address, self.deadline(name, server.address)));
                }
            }
        }
        entries.push(command(Setting::Timeouts(self.timeouts()?).into()));
        // As they are now: of several commands for one switch the last one counts.
        entries.extend(self.turned_switches()?.into_iter().map(|setting| command(setting.into())));
        entries.extend(self.running.iter().cloned().map(|spec| command(DaemonCommand::Start(spec).into())));
        Ok(entries.into_iter().map(|entry| vec![entry]).collect())
    }

    fn tell(&mut self, error: Option<&JournalError>) {
        if let Some(watcher) = &mut self.watcher {
            watcher(error.map_or(Ok(()), Err));
        }
    }
}

/// Why the journal was not written anew.
#[derive(Debug)]
enum Unkept {
    Journal(JournalError),
    Command(CommandError),
}

impl From<JournalError> for Unkept {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<CommandError> for Unkept {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// The change that an entry is if it adds or edits: of those many can be done together. What removes is done in its
/// place, since what was removed may come again.
fn declares(entry: &Entry) -> Option<&TableCommand> {
    match entry {
        Entry::Command(Command::Table(change)) if change.declares() => Some(change),
        Entry::Command(_)
        | Entry::Drain(..)
        | Entry::Undrain(..)
        | Entry::Applied(_)
        | Entry::Reload(_)
        | Entry::Withdrawn(_) => None,
    }
}

/// Whether a command is about a server that stands in for others: a journal keeps what was declared, and nobody
/// declared a stand-in.
pub(super) fn is_about_standin(desired: &DesiredState, command: &TableCommand) -> bool {
    let (TableCommand::SetServer(name, address, _) | TableCommand::DelServer(name, address)) = command else {
        return false;
    };
    let server = desired.service(*name).and_then(|declared| declared.server(*address));
    server.is_some_and(|server| server.standin)
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
