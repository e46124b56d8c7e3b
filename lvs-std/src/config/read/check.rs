//! `check = { .. }`: what is asked of a real server, and how often.

use core::net::SocketAddr;
use core::ops::{Range, RangeInclusive};
use core::time::Duration;

use lvs_core::{Method, Protocol, ServiceKey};
use toml::Spanned;

use super::Reader;
use crate::config::error::suggestion;
use crate::config::{ConfigError, raw};
use crate::health::{
    BadTls, Check, Dns, Http, Https, Pattern, Ping, Program, Record, Reply, Schedule, Tcp, Through,
    ThroughMethod, Trust, Udp,
};

impl Reader<'_> {
    pub(super) fn schedule(self, raw: &raw::Check) -> Result<Schedule, ConfigError> {
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

    pub(super) fn check(
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
        use crate::health::BadRequest;
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
            check.statuses = statuses
                .map_err(|error: crate::health::BadStatuses| self.error(status.span(), error.to_string()))?;
        }
        if let Some(digest) = &raw.digest {
            let read = digest.get_ref().parse();
            check.digest =
                Some(read.map_err(|error: crate::health::BadDigest| {
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
                read.map_err(|error: crate::health::BadName| self.error(name.span(), error.to_string()))?;
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

/// Types that speak HTTP.
const WEB: &[&str] = &["http", "https"];
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(86_400);
