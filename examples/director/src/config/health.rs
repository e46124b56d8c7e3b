//! What a file says about health: checks of the real servers, and what a service makes of them.

use core::net::SocketAddr;
use core::ops::{Range, RangeInclusive};
use core::time::Duration;

use lvs_core::{Method, Protocol, ServerConfig, ServiceKey};
use lvs_std::health::{
    BadTls, Check, Dns, Http, Https, Initially, OnFailure, Pattern, Ping, Policy, Probe, Program, Record,
    Reply, Schedule, Tcp, Through, ThroughMethod, Trust, Udp,
};
use toml::Spanned;

use super::error::suggestion;
use super::{ConfigError, Reader, raw};

/// How a service masks failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) policy: Policy,
    /// Who serves alone while the quorum is lost.
    pub(crate) sorry: Option<ServerConfig>,
    /// For each server, in their order, what must answer for it to be up. Without any it is always up.
    pub(crate) probes: Vec<Vec<Probe>>,
}

impl Health {
    /// Whether anything is checked at all.
    pub(crate) fn is_checked(&self) -> bool {
        self.probes.iter().any(|probes| !probes.is_empty())
    }
}

impl Reader<'_> {
    /// The health of a service with these servers.
    pub(super) fn health(
        self,
        key: ServiceKey,
        raw: &raw::Service,
        servers: &[ServerConfig],
    ) -> Result<Health, ConfigError> {
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
        let mut health = Health { policy: Policy::default(), sorry: None, probes };
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

    fn schedule(self, raw: &raw::Check) -> Result<Schedule, ConfigError> {
        let some_time = Duration::from_millis(1)..=LONGEST;
        let any_time = Duration::ZERO..=LONGEST;
        let interval = self.time(raw.interval.as_ref(), "interval", Duration::from_millis(10)..=LONGEST)?;
        let mut schedule = Schedule::every(interval.unwrap_or(DEFAULT_INTERVAL));
        let time = |value, key, range| self.time(value, key, range);
        schedule.timeout =
            time(raw.timeout.as_ref(), "timeout", some_time.clone())?.unwrap_or(schedule.timeout);
        schedule.retry = time(raw.retry.as_ref(), "retry", some_time)?;
        schedule.jitter = time(raw.jitter.as_ref(), "jitter", any_time.clone())?.unwrap_or(schedule.jitter);
        schedule.warmup = time(raw.warmup.as_ref(), "warmup", any_time)?.unwrap_or(schedule.warmup);
        let count = |value, key| self.number(value, key, 1..=1_000);
        schedule.rise = count(raw.rise.as_ref(), "rise")?.unwrap_or(schedule.rise);
        schedule.fall = count(raw.fall.as_ref(), "fall")?.unwrap_or(schedule.fall);
        Ok(schedule)
    }

    fn time(
        self,
        value: Option<&Spanned<raw::Seconds>>,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, ConfigError> {
        let Some(value) = value else { return Ok(None) };
        let raw::Seconds(time) = *value.get_ref();
        if range.contains(&time) {
            return Ok(Some(time));
        }
        Err(self.error(value.span(), format!("{key} {time:?} is out of range")).hint(format!(
            "expected {:?} to {:?}",
            range.start(),
            range.end()
        )))
    }

    fn check(
        self,
        raw: &raw::Check,
        (service, port, method): (ServiceKey, u16, Method),
    ) -> Result<Check, ConfigError> {
        let name = raw.r#type.get_ref().as_str();
        let check = match name {
            "tcp" => Tcp::new().into(),
            "http" => self.http(raw)?.into(),
            "https" => self.https(raw)?.into(),
            "through" => self.through(raw, (service, port, method))?.into(),
            "udp" => self.udp(raw)?.into(),
            "dns" => self.dns(raw)?.into(),
            "ping" => Ping::new().into(),
            "program" => self.program(raw)?.into(),
            _ => {
                let error = self.error(raw.r#type.span(), format!("unknown type of check `{name}`"));
                return Err(error.hint(suggestion(name, Check::NAMES).unwrap_or_default()));
            }
        };
        self.only_own_keys(raw, name)?;
        Ok(check)
    }

    /// Finds a key that another type of check has.
    fn only_own_keys(self, raw: &raw::Check, name: &str) -> Result<(), ConfigError> {
        fn span<T>(key: &'static str, value: Option<&Spanned<T>>) -> (&'static str, Option<Range<usize>>) {
            (key, value.map(Spanned::span))
        }
        let keys = [
            (span("method", raw.method.as_ref()), WEB),
            (span("path", raw.path.as_ref()), WEB),
            (span("host", raw.host.as_ref()), WEB),
            (span("status", raw.status.as_ref()), WEB),
            (span("text", raw.text.as_ref()), WEB),
            (span("digest", raw.digest.as_ref()), WEB),
            (span("body-limit", raw.body_limit.as_ref()), WEB),
            (span("trust", raw.trust.as_ref()), &["https"]),
            (span("sni", raw.sni.as_ref()), &["https"]),
            (span("payload", raw.payload.as_ref()), &["udp"]),
            (span("reply", raw.reply.as_ref()), &["udp"]),
            (span("shortest", raw.shortest.as_ref()), &["udp"]),
            (span("longest", raw.longest.as_ref()), &["udp"]),
            (span("name", raw.name.as_ref()), &["dns"]),
            (span("record", raw.record.as_ref()), &["dns"]),
            (span("command", raw.command.as_ref()), &["program"]),
            (span("dynamic", raw.dynamic.as_ref()), &["program"]),
        ];
        for ((key, span), types) in keys {
            if let Some(span) = span.filter(|_| !types.contains(&name)) {
                let whose: Vec<String> = types.iter().map(|name| format!("\"{name}\"")).collect();
                return Err(self
                    .error(span, format!("`{key}` belongs to checks of type {}", whose.join(" and ")))
                    .hint("leave it out"));
            }
        }
        Ok(())
    }

    fn http(self, raw: &raw::Check) -> Result<Http, ConfigError> {
        use lvs_std::health::BadRequest;
        let text = |value: &'_ Option<Spanned<String>>| value.as_ref().map(|value| value.get_ref().clone());
        let (method, path, host) = (text(&raw.method), text(&raw.path), text(&raw.host));
        let check =
            Http::new(method.as_deref().unwrap_or("GET"), path.as_deref().unwrap_or("/"), host.as_deref());
        let mut check = check.map_err(|error| {
            let part = match error {
                BadRequest::Method => &raw.method,
                BadRequest::Path => &raw.path,
                BadRequest::Host => &raw.host,
            };
            let span = part.as_ref().map_or_else(|| raw.r#type.span(), Spanned::span);
            self.error(span, error.to_string())
        })?;
        if let Some(status) = &raw.status {
            let statuses = status.get_ref().0.parse();
            check.statuses = statuses.map_err(|error: lvs_std::health::BadStatuses| {
                self.error(status.span(), error.to_string())
            })?;
        }
        if let Some(digest) = &raw.digest {
            let read = digest.get_ref().parse();
            check.digest =
                Some(read.map_err(|error: lvs_std::health::BadDigest| {
                    self.error(digest.span(), error.to_string())
                })?);
        }
        check.text = text(&raw.text);
        let limit = self.number(raw.body_limit.as_ref(), "body-limit", 1..=1 << 30)?;
        check.body_limit = limit.unwrap_or(check.body_limit);
        Ok(check)
    }

    fn https(self, raw: &raw::Check) -> Result<Https, ConfigError> {
        let trust = match raw.trust.as_ref().map(|trust| trust.get_ref().as_str()) {
            None | Some("any") => Trust::Any,
            Some("system") => Trust::System,
            Some(file) => Trust::File(file.into()),
        };
        let sni = raw.sni.as_ref().map(|sni| sni.get_ref().as_str());
        Https::new(self.http(raw)?, trust, sni).map_err(|error| {
            let (key, hint) = match error {
                BadTls::Name => (&raw.sni, ""),
                BadTls::Trust(_) => {
                    (&raw.trust, "expected \"any\", \"system\" or a file of certificates (PEM)")
                }
            };
            let span = key.as_ref().map_or_else(|| raw.r#type.span(), Spanned::span);
            let error = self.error(span, error.to_string());
            if hint.is_empty() { error } else { error.hint(hint) }
        })
    }

    fn through(
        self,
        raw: &raw::Check,
        (service, port, method): (ServiceKey, u16, Method),
    ) -> Result<Through, ConfigError> {
        let refused = |why: &str| Err(self.error(raw.r#type.span(), format!("a through check is {why}")));
        let way = match method {
            Method::Direct => ThroughMethod::Direct,
            Method::Tunnel(tunnel) => ThroughMethod::Tunnel(tunnel),
            Method::Bypass | Method::Local | Method::Nat => {
                return refused(
                    "for servers by \"dr\" and \"tun\", which have the virtual address themselves",
                );
            }
        };
        match service {
            ServiceKey::Address { protocol: Protocol::Tcp, address, .. } if port > 0 => {
                Ok(Through::new(SocketAddr::new(address, port), way))
            }
            ServiceKey::Address { .. } | ServiceKey::Mark { .. } => {
                refused("for TCP services at one address and port")
            }
        }
    }

    fn udp(self, raw: &raw::Check) -> Result<Udp, ConfigError> {
        let pattern = |value: &Option<Spanned<String>>| match value {
            None => Ok(None),
            Some(value) => match value.get_ref().parse::<Pattern>() {
                Ok(pattern) => Ok(Some((pattern, value.span()))),
                Err(error) => Err(self.error(value.span(), error.to_string())),
            },
        };
        let mut check = Udp::default();
        if let Some((payload, span)) = pattern(&raw.payload)? {
            let some =
                || self.error(span, "a payload has no digits that do not matter").hint("replace each X");
            check.payload = payload.bytes().ok_or_else(some)?;
        }
        let lengths = self.number(raw.shortest.as_ref(), "shortest", 0..=65_507)?;
        let lengths = (lengths, self.number(raw.longest.as_ref(), "longest", 0..=65_507)?);
        let Some((begins, _)) = pattern(&raw.reply)? else {
            if let Some(length) = raw.shortest.as_ref().or(raw.longest.as_ref()) {
                return Err(self
                    .error(length.span(), "no reply is asked for whose length could matter")
                    .hint("write `reply = \"\"` for any"));
            }
            return Ok(check);
        };
        let mut reply = Reply::new(begins);
        reply.shortest = lengths.0.map_or(reply.shortest, |length| length as u16);
        reply.longest = lengths.1.map_or(reply.longest, |length| length as u16);
        check.reply = Some(reply);
        Ok(check)
    }

    fn dns(self, raw: &raw::Check) -> Result<Dns, ConfigError> {
        let mut check = Dns::default();
        if let Some(name) = &raw.name {
            let read = name.get_ref().parse();
            check.name =
                read.map_err(|error: lvs_std::health::BadName| self.error(name.span(), error.to_string()))?;
        }
        if let Some(record) = &raw.record {
            check.record = Record::from_name(record.get_ref()).ok_or_else(|| {
                let error = self.error(record.span(), format!("unknown record `{}`", record.get_ref()));
                error.hint(suggestion(record.get_ref(), Record::NAMES).unwrap_or_default())
            })?;
        }
        Ok(check)
    }

    fn program(self, raw: &raw::Check) -> Result<Program, ConfigError> {
        let example = "write `command = [\"/usr/local/bin/check\", \"argument\"]`";
        let Some(command) = &raw.command else {
            return Err(self.error(raw.r#type.span(), "this check has no command").hint(example));
        };
        let Some((path, arguments)) = command.get_ref().split_first().filter(|(path, _)| !path.is_empty())
        else {
            return Err(self.error(command.span(), "this command names no program").hint(example));
        };
        if command.get_ref().iter().any(|word| word.contains('\0')) {
            return Err(self.error(command.span(), "no word of a command can have a zero byte in it"));
        }
        let mut check = Program::new(path.clone(), arguments.to_vec());
        check.dynamic = raw.dynamic.as_ref().is_some_and(|dynamic| *dynamic.get_ref());
        Ok(check)
    }
}

/// Whether a check is of a port rather than of a whole host.
const fn needs_port(check: &Check) -> bool {
    !matches!(check, Check::Ping(_) | Check::Program(_) | Check::Through(_))
}

/// Types that speak HTTP.
const WEB: &[&str] = &["http", "https"];
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(86_400);
