//! A director's configuration file while it runs: applied at the start, and again when it has changed.

use core::net::IpAddr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lvs_std::health::Event;
use lvs_std::worker::WorkerGone;

use super::SharedController;
use super::events::{ApiEvent, Events};
use super::plan::Plan;
use crate::health::{self, HealthReconciler};
use crate::run::LargeGroup;
use lvs_std::config::{AnswerFor, ConfigSource, Configuration};

/// Applies a configuration file to a running director.
pub(crate) struct Reloader {
    controller: SharedController,
    group: LargeGroup,
    events: Events,
    file: PathBuf,
    /// Where the text is kept that was applied last.
    memory: Option<PathBuf>,
    applied: Mutex<Applied>,
}

struct Applied {
    /// What was applied last, by this process or the one before.
    configuration: Option<Configuration>,
    keeper: Option<HealthReconciler>,
}

impl Reloader {
    /// For the first application. If the director came back with the table that it had, `memory` tells what its file said then.
    pub(super) fn new(
        controller: SharedController,
        group: LargeGroup,
        events: Events,
        file: &Path,
        memory: Option<PathBuf>,
        restored: bool,
    ) -> Self {
        let text = memory.as_deref().filter(|_| restored).and_then(|memory| fs::read_to_string(memory).ok());
        let configuration = text.and_then(|text| Configuration::parse(&text).ok());
        let applied = Mutex::new(Applied { configuration, keeper: None });
        Self { controller, group, events, file: file.to_owned(), memory, applied }
    }

    /// Applies what the file said at the start. Everything but services and servers is so already.
    pub(super) fn start(&self, origin: &ConfigSource) -> Result<(), String> {
        let mut applied = self.applied();
        self.apply(&mut applied, &origin.text, &origin.configuration)?;
        Ok(())
    }

    /// What a reload of this text, or of the file, would change, in words.
    pub(crate) fn plan(&self, text: Option<&str>) -> Result<String, String> {
        let configuration = match text {
            Some(text) => Configuration::parse(text).map_err(|error| error.show("").to_string())?,
            None => ConfigSource::read(&self.file).map_err(|error| error.to_string())?.configuration,
        };
        let applied = self.applied();
        let plan =
            Plan::new(applied.configuration.as_ref(), &configuration, self.controller.lock().desired());
        Ok(if plan.text.is_empty() { "nothing would change\n".to_owned() } else { plan.text })
    }

    /// Reads the file again and applies it, as a whole or not at all. Says what has changed.
    pub(crate) fn reload(&self) -> Result<String, String> {
        let ConfigSource { text, configuration, .. } =
            ConfigSource::read(&self.file).map_err(|error| error.to_string())?;
        let mut applied = self.applied();
        let said = self.apply(&mut applied, &text, &configuration)?;
        self.events.tell(&ApiEvent::Reloaded { changes: said.clone() });
        Ok(if said.is_empty() { "nothing has changed\n".to_owned() } else { said })
    }

    fn apply(
        &self,
        applied: &mut Applied,
        text: &str,
        configuration: &Configuration,
    ) -> Result<String, String> {
        for service in &configuration.services {
            self.group.steer().suits(service.key, service.config.persistence).map_err(|why| {
                format!("nothing has changed: {}: {why}; that takes a new start", service.key)
            })?;
        }
        let plan = {
            let mut controller = self.controller.lock();
            let plan = Plan::new(applied.configuration.as_ref(), configuration, controller.desired());
            controller.carry_out_all(&plan.commands, &plan.statuses).map_err(|(index, errno)| match plan
                .commands
                .get(index)
            {
                Some(command) => format!("nothing has changed: {command:?}: {errno}"),
                None => format!("nothing has changed: {errno}"),
            })?;
            plan
        };
        if plan.settings {
            self.settings(applied.configuration.as_ref(), configuration)
                .map_err(|WorkerGone| "the director is ending")?;
        }
        match &applied.keeper {
            Some(keeper) => keeper.replace(&configuration.services),
            None => {
                let events = self.events.clone();
                let tell = move |event: &Event| {
                    health::log(event);
                    if let Event::Changed { probe, state, why, .. } = event {
                        let (probe, state) = (probe.to_string(), state.to_string());
                        events.tell(&ApiEvent::Probe {
                            probe,
                            state,
                            why: why.as_ref().map(ToString::to_string),
                        });
                    }
                };
                let keeper = HealthReconciler::start(&configuration.services, self.controller.clone(), tell);
                applied.keeper =
                    keeper.map_err(|error| format!("real servers cannot be checked: {error}"))?;
            }
        }
        applied.configuration = Some(configuration.clone());
        if let Some(memory) = &self.memory {
            super::write_atomically(memory, text.as_bytes()).map_err(|error| {
                format!(
                    "applied, but {} cannot be written, so that the next start may not know: {error}",
                    memory.display()
                )
            })?;
        }
        Ok(plan.text)
    }

    /// Time-outs, switches and virtual addresses.
    fn settings(&self, old: Option<&Configuration>, new: &Configuration) -> Result<(), WorkerGone> {
        let mut had = old.map(|old| old.virtual_addresses.clone()).unwrap_or_default();
        let mut new = new.clone();
        if new.answer_for != AnswerFor::Configured {
            // Whoever follows services or machine does the rest.
            had.clear();
            new.virtual_addresses.clear();
        }
        let (gone, added): (Vec<_>, Vec<_>) = (
            had.iter().filter(|address| !new.virtual_addresses.contains(address)).copied().collect(),
            new.virtual_addresses.iter().filter(|address| !had.contains(address)).copied().collect(),
        );
        let options = new.options_each();
        self.group.with_each(move |_, director, forwarder, _| {
            let seed = director.config().seed;
            director.set_config(new.core(seed));
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
    pub(crate) fn health(&self) -> (bool, Vec<lvs_std::health::Report>) {
        let applied = self.applied();
        let keeper = applied.keeper.as_ref();
        (
            keeper.is_none_or(HealthReconciler::is_ready),
            keeper.map(HealthReconciler::reports).unwrap_or_default(),
        )
    }

    fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
