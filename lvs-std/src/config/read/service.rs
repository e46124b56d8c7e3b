//! `[[service]]`: virtual services.

use core::ops::Range;

use lvs_core::config::{Capacity, MAX_TIMEOUT_SECS, ScheduleFlags};
use lvs_core::error::AddServiceError;
use lvs_core::sched::Schedule;
use lvs_core::service::{Mask, Persistence, PersistenceEngine};
use lvs_core::{Config, Director, Family, Heap, Protocol, Scheduler, ServiceConfig, ServiceKey};
use toml::Spanned;

use super::Reader;
use crate::config::error::suggestion;
use crate::config::{ConfigError, NO_SEED, VirtualService, raw};
use crate::device::mark::MarkRule;

impl From<raw::Protocol> for Protocol {
    fn from(protocol: raw::Protocol) -> Self {
        match protocol {
            raw::Protocol::Tcp => Self::Tcp,
            raw::Protocol::Udp => Self::Udp,
            raw::Protocol::Sctp => Self::Sctp,
        }
    }
}

impl Reader<'_> {
    /// All services of a file, or the first error. A service by mark needs a rule that gives that mark.
    pub(super) fn services(
        self,
        raw: &[Spanned<raw::Service>],
        marks: &[MarkRule],
        tables: usize,
    ) -> Result<Vec<VirtualService>, ConfigError> {
        // As large as the file needs: whether there may be so many is asked elsewhere, with the key that says so.
        let mut capacity = Capacity::new(1);
        let servers = raw
            .iter()
            .map(|service| service.get_ref())
            .map(|service| service.server.len() + usize::from(service.sorry_server.is_some()));
        (capacity.services, capacity.servers, capacity.tables) = (raw.len(), servers.sum(), tables);
        let mut trial = Director::new(Config::new(NO_SEED), Heap::new(capacity));
        let mut services = Vec::new();
        for raw in raw {
            let (key, place) = self.key(raw.get_ref(), raw.span())?;
            let raw = raw.get_ref();
            if let ServiceKey::Mark { family, mark } = key
                && !marks.iter().any(|rule| rule.mark == mark && rule.destination.family() == family)
            {
                let over = if family == Family::V4 { "IPv4" } else { "IPv6" };
                return Err(self
                    .error(place, format!("no [[mark]] gives {over} packets the mark {mark}"))
                    .hint(
                        "add one, such as `[[mark]]`, `mark = 1`, `to = \"192.0.2.100/32\"`, `ports = [80, 443]`",
                    ));
            }
            let config = self.service(raw)?;
            // The core's own refusals are the rules: none of them is written down a second time here.
            if let Err(error) = trial.add_service(key, config.clone()) {
                return Err(self.refused_service(key, place, error));
            }
            let mut servers = Vec::new();
            for raw in &raw.server {
                let server = self.server(key, raw)?;
                if let Err(error) = trial.add_server(key, server) {
                    return Err(self.refused_server(raw, error));
                }
                servers.push(server);
            }
            let health = self.health(key, raw, &servers)?;
            if let (Some(sorry), Some(raw)) = (health.sorry, &raw.sorry_server)
                && let Err(error) = trial.add_server(key, sorry)
            {
                return Err(self.refused_server(raw.get_ref(), error));
            }
            services.push(VirtualService { key, config, servers, health });
        }
        Ok(services)
    }

    /// What tells the service from others, and where that stands.
    fn key(self, raw: &raw::Service, whole: Range<usize>) -> Result<(ServiceKey, Range<usize>), ConfigError> {
        if let Some(mark) = &raw.mark {
            return self.mark_key(raw, mark);
        }
        let Some(address) = &raw.address else {
            return Err(self.error(whole, "this service has no address").hint(
                "write `address = \"192.0.2.100\"`, or `mark = 1` for packets that a firewall marked",
            ));
        };
        let missing = |key: &str, example: &str| {
            self.error(address.span(), format!("the service at {} has no {key}", address.get_ref().0))
                .hint(format!("write `{example}`"))
        };
        let protocol = raw.protocol.as_ref().ok_or_else(|| missing("protocol", "protocol = \"tcp\""))?;
        let port = self.number(raw.port.as_ref(), "port", 0..=65_535)?;
        if let (Some(0), Some(span), None) = (port, &raw.port, &raw.persistence) {
            return Err(self
                .error(
                    span.span(),
                    "a service for all ports needs persistence: without it no client is served",
                )
                .hint("write `persistence = { timeout = 300 }`"));
        }
        let port = port.ok_or_else(|| missing("port", "port = 80"))?;
        if let Some(family) = &raw.family {
            return Err(
                self.error(family.span(), "only a service by mark has a family: others have an address")
            );
        }
        let protocol = (*protocol.get_ref()).into();
        Ok((
            ServiceKey::Address { protocol, address: address.get_ref().0, port: port as u16 },
            address.span(),
        ))
    }

    fn mark_key(
        self,
        raw: &raw::Service,
        mark: &Spanned<raw::Whole>,
    ) -> Result<(ServiceKey, Range<usize>), ConfigError> {
        let span = raw.address.as_ref().map(Spanned::span);
        let span = span.or_else(|| raw.protocol.as_ref().map(Spanned::span));
        if let Some(span) = span.or_else(|| raw.port.as_ref().map(Spanned::span)) {
            return Err(self
                .error(span, "a service by mark has no protocol, address or port")
                .hint("leave out either this or `mark`"));
        }
        let number = self.number(Some(mark), "mark", 1..=u32::MAX)?.unwrap_or_default();
        let Some(family) = &raw.family else {
            return Err(self
                .error(mark.span(), "a service by mark has no family")
                .hint("write `family = \"v4\"` or `family = \"v6\"`"));
        };
        let family = match family.get_ref() {
            raw::Family::V4 => Family::V4,
            raw::Family::V6 => Family::V6,
        };
        Ok((ServiceKey::Mark { family, mark: number }, mark.span()))
    }

    fn service(self, raw: &raw::Service) -> Result<ServiceConfig, ConfigError> {
        let scheduler = match &raw.scheduler {
            None => Scheduler::default(),
            Some(name) => Scheduler::from_name(name.get_ref()).ok_or_else(|| {
                let error = self.error(name.span(), format!("unknown scheduler `{}`", name.get_ref()));
                error.hint(suggestion(name.get_ref(), Scheduler::NAMES).unwrap_or_default())
            })?,
        };
        let mut flags = ScheduleFlags::default();
        for flag in &raw.flags {
            if !scheduler.takes_flags() {
                return Err(self
                    .error(flag.span(), format!("the scheduler `{}` has no flags", scheduler.name()))
                    .hint("flags belong to `sh` and `mh`"));
            }
            match flag.get_ref() {
                raw::Flag::Fallback => flags.fallback = true,
                raw::Flag::Port => flags.port = true,
            }
        }
        let mut config = ServiceConfig::new(scheduler).with_flags(flags);
        if let Some(one_packet) = &raw.one_packet {
            let other = raw.protocol.as_ref().filter(|of| !matches!(of.get_ref(), raw::Protocol::Udp));
            if other.is_some() && *one_packet.get_ref() {
                return Err(self.error(one_packet.span(), "only UDP can be scheduled packet by packet"));
            }
            config.one_packet = *one_packet.get_ref();
        }
        config.persistence = raw.persistence.as_ref().map(|of| self.persistence(raw, of)).transpose()?;
        Ok(config)
    }

    fn persistence(self, service: &raw::Service, raw: &raw::Persistence) -> Result<Persistence, ConfigError> {
        let seconds = 1..=MAX_TIMEOUT_SECS;
        let timeout = self.number(Some(&raw.timeout), "timeout", seconds)?.unwrap_or_default();
        let mut persistence = Persistence::new(timeout);
        let v6 = match (&service.address, &service.family) {
            (Some(address), _) => address.get_ref().0.is_ipv6(),
            (None, family) => family.as_ref().is_some_and(|of| matches!(of.get_ref(), raw::Family::V6)),
        };
        let range = if v6 { 1..=128 } else { 0..=32 };
        persistence.mask = self.number(raw.mask.as_ref(), "mask", range)?.map(|len| Mask::Prefix(len as u8));
        if let Some(name) = &raw.engine {
            let unknown = || {
                let error = self.error(name.span(), format!("unknown engine `{}`", name.get_ref()));
                error.hint("there is one: `sip`")
            };
            persistence.engine = Some(PersistenceEngine::from_name(name.get_ref()).ok_or_else(unknown)?);
        }
        Ok(persistence)
    }

    fn refused_service(self, key: ServiceKey, place: Range<usize>, error: AddServiceError) -> ConfigError {
        if error == AddServiceError::Exists {
            return self
                .error(place, format!("the service {key} is there twice"))
                .hint("put all its real servers below one [[service]]");
        }
        if error == AddServiceError::NoTable {
            return self
                .error(place, "the look-up tables of schedulers take more memory than they may from here on")
                .hint("set a higher `scheduler-memory` in [tuning]");
        }
        self.error(place, format!("the service {key} cannot be added: {error}"))
    }
}
