//! A director's configuration while it runs: applied at the start, and again when it has changed.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::events::Events;
use super::{HealthReconciler, Plan, ReloadError, RuntimeGroup, SharedController, health, settings};
use crate::config::{AnswerFor, ConfigSource, Configuration};
use crate::control::api::ApiEvent;
use crate::control::{CommandError, Reload};
use crate::health::{Event, Report};
use crate::worker::WorkerGone;

/// Brings a running director to what a configuration says.
pub(super) struct Reconciler {
    controller: SharedController,
    group: RuntimeGroup,
    events: Events,
    /// The file that the director was started with.
    file: Option<PathBuf>,
    applied: Mutex<Applied>,
}

struct Applied {
    /// What was applied last, by this process or the one before.
    configuration: Option<Configuration>,
    checks: Option<HealthReconciler>,
}

impl Reconciler {
    /// For the first application. `text` is what the configuration said when the director had the table that it came
    /// back with.
    pub(super) fn new(
        (controller, group, events): (SharedController, RuntimeGroup, Events),
        file: Option<PathBuf>,
        text: Option<&str>,
    ) -> Self {
        // A text that this version cannot parse counts as none, so nothing is withdrawn because of it.
        let configuration = text.and_then(|text| Configuration::parse(text).ok());
        let applied = Mutex::new(Applied { configuration, checks: None });
        Self { controller, group, events, file, applied }
    }

    /// Applies what the configuration said at the start. Everything but services and servers is so already.
    pub(super) fn start(&self, source: &ConfigSource) -> Result<(), ReloadError> {
        self.apply(&mut self.applied(), source).map(drop)
    }

    /// What a reload would change.
    pub(super) fn plan(&self, configuration: &Configuration) -> Plan {
        let applied = self.applied();
        Plan::new(applied.configuration.as_ref(), configuration, self.controller.lock().desired())
    }

    /// Reads the file that the director was started with.
    pub(super) fn read_file(&self) -> Result<ConfigSource, ReloadError> {
        let file = self.file.as_deref().ok_or(ReloadError::NoFile)?;
        Ok(ConfigSource::read(file)?)
    }

    /// Applies a configuration, as a whole or not at all. Says what has changed.
    pub(super) fn reload(&self, source: &ConfigSource) -> Result<Plan, ReloadError> {
        let plan = self.apply(&mut self.applied(), source)?;
        self.events.tell(&ApiEvent::Reloaded { changes: plan.text.clone() });
        Ok(plan)
    }

    fn apply(&self, applied: &mut Applied, source: &ConfigSource) -> Result<Plan, ReloadError> {
        let configuration = &source.configuration;
        // Asked first, because the refusal that comes with the commands could not say why.
        for service in &configuration.services {
            let suits = self.group.steer().suits(service.key, service.config.persistence);
            suits.map_err(|why| ReloadError::Unsuited { service: service.key, why })?;
        }
        settings::check(configuration).map_err(ReloadError::Setting)?;
        let old = applied.configuration.as_ref();
        let plan = {
            // Held from the comparison to the end of the change, so that no operator comes in between.
            let mut controller = self.controller.lock();
            let plan = Plan::new(old, configuration, controller.desired());
            // At the start the workers were made with what the configuration says.
            let settings = old.filter(|_| plan.settings).map(|old| settings::changes(old, configuration));
            let reload = Reload {
                commands: &plan.commands,
                statuses: &plan.statuses,
                settings: &settings.unwrap_or_default(),
                // Kept with the table that it leads to, so that the next start compares with the same. A configuration
                // without one was made by a program, which makes it again.
                text: Some(source.text.as_deref()),
            };
            controller.reload(reload).map_err(|(index, why)| match why {
                CommandError::Gone => ReloadError::Ending,
                CommandError::Refused(errno) => {
                    ReloadError::Refused { command: plan.commands.get(index).cloned().map(Box::new), errno }
                }
            })?;
            controller.set_durability(configuration.durability);
            plan
        };
        if plan.settings {
            self.apply_rest(old, configuration).map_err(|WorkerGone| ReloadError::Ending)?;
        }
        // The checks come last: what they find out is noted at servers, which have to be there by then.
        match &applied.checks {
            Some(checks) => checks.replace(&configuration.services),
            None => {
                let events = self.events.clone();
                let tell = move |event: &Event| tell(event, &events);
                let started =
                    HealthReconciler::start(&configuration.services, self.controller.0.clone(), tell);
                applied.checks = started.map_err(ReloadError::Checks)?;
            }
        }
        // Noted at the end. After a failure above, the next reload compares with what was applied before.
        applied.configuration = Some(configuration.clone());
        Ok(plan)
    }

    /// What no command changes: the policy of a full table, options that are no switches, and virtual addresses. The
    /// configuration alone says it, so no journal need keep it.
    fn apply_rest(&self, old: Option<&Configuration>, new: &Configuration) -> Result<(), WorkerGone> {
        let mut had = old.map(|old| old.virtual_addresses.clone()).unwrap_or_default();
        let mut new = new.clone();
        if new.answer_for != AnswerFor::Configured {
            // Whoever follows services or machine does the rest.
            had.clear();
            new.virtual_addresses.clear();
        }
        let (before, now): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) =
            (had.into_iter().collect(), new.virtual_addresses.iter().copied().collect());
        let gone: Vec<_> = before.difference(&now).copied().collect();
        let added: Vec<_> = now.difference(&before).copied().collect();
        let (when_full, from) = (new.when_full, new.options);
        self.group.with_each(move |_, director, forwarder, _| {
            let (mut config, mut options) = (director.config().clone(), *forwarder.options());
            config.when_full = when_full;
            // The other options are switches: those have been submitted, or are as an operator has set them.
            (options.reject, options.capture_marked) = (from.reject, from.capture_marked);
            director.set_config(config);
            forwarder.set_options(options);
        })?;
        if !gone.is_empty() || !added.is_empty() {
            // The trial when the file was read has found room and fault alike.
            for (address, done) in self.group.change_addresses(gone, added)? {
                if let Err(error) = done {
                    tracing::error!("{address} cannot be a virtual address: {error}");
                }
            }
        }
        Ok(())
    }

    /// The virtual addresses of the file that was applied last.
    pub(super) fn virtual_addresses(&self) -> Vec<IpAddr> {
        self.applied().configuration.as_ref().map(|of| of.virtual_addresses.clone()).unwrap_or_default()
    }

    /// What is known of the checks: each with its state, and whether all have answered.
    pub(super) fn health(&self) -> (bool, Vec<Report>) {
        let applied = self.applied();
        let checks = applied.checks.as_ref();
        (
            checks.is_none_or(HealthReconciler::is_ready),
            checks.map(HealthReconciler::reports).unwrap_or_default(),
        )
    }

    /// What was applied last.
    pub(super) fn configuration(&self) -> Option<Configuration> {
        self.applied().configuration.clone()
    }

    /// The director has ended: nothing is checked any more.
    pub(super) fn end(&self) {
        drop(self.applied().checks.take());
    }

    fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what is new of a check.
fn tell(event: &Event, events: &Events) {
    health::log(event);
    if let Event::Changed { probe, state, why, .. } = event {
        let why = why.as_ref().map(ToString::to_string);
        events.tell(&ApiEvent::Probe { probe: probe.to_string(), state: state.to_string(), why });
    }
}
