//! What a reload would change.

use core::fmt::Write as _;
use core::net::SocketAddr;
use std::collections::HashMap;

use lvs_core::ServiceKey;
use lvs_core::method::MethodKind;

use crate::control::{
    Ahead, DesiredServer, DesiredService, DesiredState, ServerSpec, ServerStatus, ServiceName, ServiceSpec,
    TableCommand, convert,
};

use super::{disruption, health};
use crate::config::{Configuration, VirtualService};

/// The way from what a director has to what a file says.
///
/// Three are compared: what the file said when it was last applied, what it says now, and what the director has. What
/// the file says anew is changed; what operators changed meanwhile, and the file does not mention or says as before,
/// stays.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Plan {
    /// What is declared and withdrawn.
    pub commands: Vec<TableCommand>,
    /// Where new servers stand until something is known of them.
    pub statuses: Vec<(ServiceName, SocketAddr, ServerStatus)>,
    /// What people are told.
    pub text: String,
    /// Whether time-outs, switches or virtual addresses are others.
    pub settings: bool,
    /// Which shares of clients would find another server, 0 to 1, of the services whose scheduler hashes.
    pub disruption: Vec<(ServiceName, f64)>,
}

impl Plan {
    /// Whether nothing changes by it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What would change, in words, also if nothing would.
    #[must_use]
    pub fn would(&self) -> String {
        if self.is_empty() { "nothing would change\n".to_owned() } else { self.text.clone() }
    }

    /// What has changed, in words, also if nothing has.
    #[must_use]
    pub fn did(&self) -> String {
        if self.is_empty() { "nothing has changed\n".to_owned() } else { self.text.clone() }
    }

    /// From `old`, if a file was applied before, and from what the director has, to `new`.
    pub(super) fn new(old: Option<&Configuration>, new: &Configuration, desired: &DesiredState) -> Self {
        let mut plan = Self { settings: old.is_some_and(|old| !old.has_settings_of(new)), ..Self::default() };
        let (before, now) = (old.map(by_key).unwrap_or_default(), by_key(new));
        for service in &new.services {
            let before = before.get(&service.key).copied();
            plan.service(before, service, desired.service(convert::name(service.key)));
        }
        // Only what the file once said is withdrawn: what operators added is theirs.
        for service in old.into_iter().flat_map(|old| &old.services) {
            let name = convert::name(service.key);
            if !now.contains_key(&service.key) && desired.service(name).is_some() {
                plan.commands.push(TableCommand::DelService(name));
                plan.say(format_args!("- {name}"));
            }
        }
        plan.moved(new, desired);
        if plan.settings {
            plan.say(format_args!("~ time-outs, switches or virtual addresses"));
        }
        if let Some(old) = old {
            for what in old.needs_restart_for(new) {
                plan.say(format_args!("! {what}: takes effect with the next start"));
            }
        }
        plan
    }

    fn service(
        &mut self,
        before: Option<&VirtualService>,
        new: &VirtualService,
        there: Option<&DesiredService>,
    ) {
        let name = convert::name(new.key);
        let spec = convert::service_spec(name.family(), &new.config);
        let Some(there) = there else {
            // Whoever withdrew what the file still says as before wanted it so.
            if before.is_some_and(|before| before.says_as(new)) {
                return;
            }
            self.say(format_args!("+ {name} {}", spec.scheduler));
            self.commands.push(TableCommand::NewService(name, spec));
            health::initial(new).into_iter().for_each(|(server, place)| self.add(name, &server, place));
            return;
        };
        let old_spec = before.map(|before| convert::service_spec(name.family(), &before.config));
        if spec != there.spec && old_spec.as_ref() != Some(&spec) {
            self.say(format_args!("~ {name} {}", differences(&there.spec, &spec)));
            self.commands.push(TableCommand::SetService(name, spec, u32::MAX));
        }
        let had = |address: SocketAddr| {
            before.and_then(|before| before.servers.iter().find(|old| old.address == address))
        };
        for (server, place) in health::initial(new) {
            let spec = convert::server_spec(&server);
            match there.server(server.address) {
                None if had(server.address) == Some(&server) => {}
                None => self.add(name, &server, place),
                Some(there) if there.spec != spec && had(server.address) != Some(&server) => {
                    let (old, new) = (describe(&there.spec), describe(&spec));
                    self.say(format_args!("~ {name}  {}  {old} -> {new}", server.address));
                    self.commands.push(TableCommand::SetServer(name, server.address, spec));
                }
                Some(_) => {}
            }
        }
        for old in before.into_iter().flat_map(|before| &before.servers) {
            let stays = new.servers.iter().any(|server| server.address == old.address);
            if !stays && there.server(old.address).is_some() {
                self.say(format_args!("- {name}  {}", old.address));
                self.commands.push(TableCommand::DelServer(name, old.address));
            }
        }
    }

    fn add(&mut self, name: ServiceName, server: &lvs_core::ServerConfig, place: crate::health::Presence) {
        let spec = convert::server_spec(server);
        self.say(format_args!("+ {name}  {}  {}", server.address, describe(&spec)));
        self.commands.push(TableCommand::NewServer(name, server.address, spec));
        let declared =
            DesiredServer { address: server.address, spec, status: ServerStatus::default(), standin: false };
        let status = health::status(&declared, place);
        if status != ServerStatus::default() {
            self.statuses.push((name, server.address, status));
        }
    }

    /// Says what share of clients would move, where servers change and a hash decides.
    fn moved(&mut self, new: &Configuration, desired: &DesiredState) {
        let mut ahead = Ahead::new(desired);
        for command in &self.commands {
            if let Ok(edit) = ahead.plan(desired, command, false) {
                ahead.note(edit);
            }
        }
        for service in &new.services {
            let name = convert::name(service.key);
            let (Some(old), Some(new)) = (desired.service(name), ahead.there().service(name)) else {
                continue;
            };
            let (Some(before), Some(after)) = (state(name, old), state(name, new)) else { continue };
            let same = old.spec == new.spec && before.1 == after.1;
            let share = if same { None } else { disruption::share(service.key, &before, &after) };
            if let Some(share) = share {
                self.disruption.push((name, share));
                let (share, scheduler) = (share * 100.0, &new.spec.scheduler);
                self.say(format_args!(
                    "  {name}: {share:.1} % of clients would find another server ({scheduler})"
                ));
            }
        }
    }

    fn say(&mut self, line: core::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A service as schedulers see it, with its servers in the order of their addresses, so that an edit is not taken for
/// a change of places.
fn state(name: ServiceName, declared: &DesiredService) -> Option<disruption::State> {
    let config = |server: &DesiredServer| convert::server_config(server.address, &server.spec);
    let mut servers: Vec<_> = declared.servers.iter().filter_map(config).collect();
    servers.sort_by_key(|server| server.address);
    Some((convert::service_config(name.family(), &declared.spec)?, servers))
}

fn by_key(configuration: &Configuration) -> HashMap<ServiceKey, &VirtualService> {
    configuration.services.iter().map(|service| (service.key, service)).collect()
}

/// What is different, as `old -> new`.
fn differences(old: &ServiceSpec, new: &ServiceSpec) -> String {
    let show = |spec: &ServiceSpec| {
        let mut text = spec.scheduler.clone();
        if spec.flags & crate::control::flags::PERSISTENT != 0 {
            text.push_str(&format!(" persistent {}", spec.timeout));
        }
        if let Some(engine) = &spec.engine {
            text.push_str(&format!(" pe {engine}"));
        }
        text
    };
    let (before, after) = (show(old), show(new));
    if before == after {
        return format!(
            "{after} (flags {:#x} -> {:#x}, mask {:#x} -> {:#x})",
            old.flags, new.flags, old.netmask, new.netmask
        );
    }
    format!("{before} -> {after}")
}

fn describe(spec: &ServerSpec) -> String {
    let way = MethodKind::from_number(spec.method).unwrap_or(MethodKind::Bypass).name();
    let mut text = format!("{way} weight {}", spec.weight);
    if (spec.upper, spec.lower) != (0, 0) {
        text.push_str(&format!(" thresholds {}/{}", spec.upper, spec.lower));
    }
    text
}

impl core::fmt::Display for Plan {
    /// A line for each change; nothing if there is none.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text)
    }
}
