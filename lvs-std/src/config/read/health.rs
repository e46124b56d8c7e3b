//! What a file says about health: checks of the real servers, and what a service makes of them.

use core::net::SocketAddr;
use core::ops::Range;

use lvs_core::{Method, ServerConfig, ServiceKey};
use toml::Spanned;

use super::Reader;
use crate::config::{ConfigError, ServiceHealth, raw};
use crate::health::{Check, Initially, OnFailure, Policy, Probe};

impl Reader<'_> {
    /// The health of a service with these servers.
    pub(super) fn health(
        self,
        key: ServiceKey,
        raw: &raw::Service,
        servers: &[ServerConfig],
    ) -> Result<ServiceHealth, ConfigError> {
        let mut probes = Vec::new();
        for (server, raw_server) in servers.iter().zip(&raw.server) {
            probes.push(self.probes(key, (raw, raw_server), server)?);
        }
        if raw.server.is_empty() {
            // What is wrong with a check is said also while there is nothing to check.
            for check in raw.check.iter().flat_map(|checks| &checks.0) {
                self.check(check, (key, 1, Method::Direct))?;
                self.schedule(check)?;
            }
        }
        let mut health = ServiceHealth { policy: Policy::default(), sorry: None, probes };
        if raw.check.is_none() && !health.is_checked() {
            self.nothing_to_do_for(raw)?;
            return Ok(health);
        }
        health.sorry = raw.sorry_server.as_ref().map(|sorry| self.sorry(key, sorry)).transpose()?;
        health.policy = self.policy(raw, servers)?;
        Ok(health)
    }

    /// Finds a key that has no effect without a check.
    fn nothing_to_do_for(self, raw: &raw::Service) -> Result<(), ConfigError> {
        let keys = [
            ("quorum", raw.quorum.as_ref().map(Spanned::span)),
            ("hysteresis", raw.hysteresis.as_ref().map(Spanned::span)),
            ("sorry-server", raw.sorry_server.as_ref().map(Spanned::span)),
            ("on-failure", raw.on_failure.as_ref().map(Spanned::span)),
            ("initially", raw.initially.as_ref().map(Spanned::span)),
        ];
        keys.into_iter().try_for_each(|(key, span)| self.no_effect(key, span))
    }

    /// Refuses a key where nothing is checked.
    fn no_effect(self, key: &str, span: Option<Range<usize>>) -> Result<(), ConfigError> {
        let Some(span) = span else { return Ok(()) };
        Err(self
            .error(span, format!("`{key}` has no effect: nothing is checked"))
            .hint("add a check, such as `check = { type = \"tcp\" }`"))
    }

    fn policy(self, raw: &raw::Service, servers: &[ServerConfig]) -> Result<Policy, ConfigError> {
        let total: u64 = servers.iter().map(|server| u64::from(server.weight.get())).sum();
        let quorum = self.number(raw.quorum.as_ref(), "quorum", 1..=u32::MAX)?.map_or(1, u64::from);
        let hysteresis =
            self.number(raw.hysteresis.as_ref(), "hysteresis", 0..=u32::MAX)?.map_or(0, u64::from);
        let place = raw.hysteresis.as_ref().or(raw.quorum.as_ref()).map(Spanned::span);
        if let Some(place) = place {
            if hysteresis >= quorum {
                return Err(self
                    .error(
                        place,
                        format!("a hysteresis of {hysteresis} never lets go of a quorum of {quorum}"),
                    )
                    .hint("it must be less than the quorum"));
            }
            if quorum + hysteresis > total && !servers.is_empty() {
                let both =
                    if hysteresis == 0 { "quorum".to_owned() } else { "quorum and hysteresis".to_owned() };
                return Err(self
                    .error(place, format!("{both} of {} are never reached", quorum + hysteresis))
                    .hint(format!("all servers together weigh {total}")));
            }
        }
        Ok(Policy {
            quorum,
            hysteresis,
            sorry: raw.sorry_server.is_some(),
            on_failure: raw.on_failure.as_ref().map_or_else(OnFailure::default, |of| match of.get_ref() {
                raw::OnFailure::Remove => OnFailure::Remove,
                raw::OnFailure::Quiesce => OnFailure::Quiesce,
            }),
            initially: raw.initially.as_ref().map_or_else(Initially::default, |of| match of.get_ref() {
                raw::Initially::Up => Initially::Up,
                raw::Initially::Down => Initially::Down,
                raw::Initially::Unknown => Initially::Unknown,
            }),
        })
    }

    fn sorry(self, key: ServiceKey, raw: &Spanned<raw::Server>) -> Result<ServerConfig, ConfigError> {
        let raw = raw.get_ref();
        let keys = [
            ("weight", raw.weight.as_ref().map(Spanned::span), "it is the only one while it serves"),
            (
                "check",
                raw.check.as_ref().map(Spanned::span),
                "it is the last resort, whether it answers or not",
            ),
            ("check-address", raw.check_address.as_ref().map(Spanned::span), "it is not checked"),
            ("check-port", raw.check_port.as_ref().map(Spanned::span), "it is not checked"),
        ];
        for (key, span, why) in keys {
            if let Some(span) = span {
                return Err(self.error(span, format!("a sorry server has no {key}")).hint(why));
            }
        }
        self.server(key, raw)
    }

    /// What must answer for a server to be up.
    fn probes(
        self,
        key: ServiceKey,
        (service, raw): (&raw::Service, &raw::Server),
        server: &ServerConfig,
    ) -> Result<Vec<Probe>, ConfigError> {
        let own = raw.check.as_ref().map(|checks| &checks.get_ref().0);
        let checks = own.or_else(|| service.check.as_ref().map(|checks| &checks.0));
        let Some(checks) = checks.filter(|checks| !checks.is_empty()) else {
            self.no_effect("check-address", raw.check_address.as_ref().map(Spanned::span))?;
            self.no_effect("check-port", raw.check_port.as_ref().map(Spanned::span))?;
            return Ok(Vec::new());
        };
        let address = raw.check_address.as_ref().map_or_else(|| server.address.ip(), |of| of.get_ref().0);
        let port = self.number(raw.check_port.as_ref(), "check-port", 1..=65_535)?;
        let port = port.map_or_else(|| server.address.port(), |port| port as u16);
        let mut probes = Vec::new();
        for raw_check in checks {
            let check = self.check(raw_check, (key, port, server.method))?;
            if port == 0 && needs_port(&check) {
                return Err(self
                    .error(raw.address.span(), format!("a {} check of this server has no port", check.name()))
                    .hint("write `check-port = 80` below it"));
            }
            // A ping has no use for it: servers of one host share the probe.
            let port = if matches!(check, Check::Ping(_) | Check::Through(_)) { 0 } else { port };
            probes.push(Probe::new(SocketAddr::new(address, port), check, self.schedule(raw_check)?));
        }
        Ok(probes)
    }
}

/// Whether a check is of a port rather than of a whole host.
const fn needs_port(check: &Check) -> bool {
    !matches!(check, Check::Ping(_) | Check::Program(_) | Check::Through(_))
}
