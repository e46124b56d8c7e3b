//! Virtual services and real servers of a file.

use core::net::SocketAddr;
use core::ops::Range;

use lvs_core::{
    AddServerError, AddServiceError, Config, Director, Engine, Family, Heap, MAX_TIMEOUT_SECS, Mask, Method,
    Persistence, Protocol, Schedule, ScheduleFlags, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey,
    Tunnel, Weight,
};
use lvs_std::control::convert;
use lvs_std::device::mark::MarkRule;
use toml::Spanned;

use super::error::suggestion;
use super::{ConfigError, Health, Reader, raw};

/// A virtual service with its real servers, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) key: ServiceKey,
    pub(crate) config: ServiceConfig,
    pub(crate) servers: Vec<ServerConfig>,
    pub(crate) health: Health,
}

impl Service {
    /// Whether another file says the same of this service and its servers.
    pub(crate) fn says_as(&self, other: &Self) -> bool {
        let spec = |service: &Self| convert::service_spec(service.key.family(), &service.config);
        self.key == other.key && spec(self) == spec(other) && self.servers == other.servers
    }
}

/// All services of a file, or the first error. A service by mark needs a rule that gives that mark.
pub(super) fn read(
    reader: Reader<'_>,
    raw: &[Spanned<raw::Service>],
    marks: &[MarkRule],
) -> Result<Vec<Service>, ConfigError> {
    let mut trial = Director::new(Config::new(Seed::from_bytes([0; 16])), Heap::with_capacity(1));
    let mut services = Vec::new();
    for raw in raw {
        let (key, place) = reader.key(raw.get_ref(), raw.span())?;
        let raw = raw.get_ref();
        if let ServiceKey::Mark { family, mark } = key
            && !marks.iter().any(|rule| rule.mark == mark && rule.destination.family() == family)
        {
            let over = if family == Family::V4 { "IPv4" } else { "IPv6" };
            return Err(reader
                .error(place, format!("no [[mark]] gives {over} packets the mark {mark}"))
                .hint(
                    "add one, such as `[[mark]]`, `mark = 1`, `to = \"192.0.2.100/32\"`, `ports = [80, 443]`",
                ));
        }
        let config = reader.service(raw)?;
        if let Err(error) = trial.add_service(key, config.clone()) {
            return Err(reader.refused_service(key, place, error));
        }
        let mut servers = Vec::new();
        for raw in &raw.server {
            let server = reader.server(key, raw)?;
            if let Err(error) = trial.add_server(key, server) {
                return Err(reader.refused_server(raw, error));
            }
            servers.push(server);
        }
        let health = reader.health(key, raw, &servers)?;
        if let (Some(sorry), Some(raw)) = (health.sorry, &raw.sorry_server)
            && let Err(error) = trial.add_server(key, sorry)
        {
            return Err(reader.refused_server(raw.get_ref(), error));
        }
        services.push(Service { key, config, servers, health });
    }
    Ok(services)
}

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
            if !matches!(scheduler.name(), "sh" | "mh") {
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
            persistence.engine = Some(Engine::from_name(name.get_ref()).ok_or_else(unknown)?);
        }
        Ok(persistence)
    }

    pub(super) fn server(self, key: ServiceKey, raw: &raw::Server) -> Result<ServerConfig, ConfigError> {
        let method = self.method(raw)?;
        let port = self.number(raw.port.as_ref(), "port", 1..=65_535)?;
        if let (Some(port), Some(place), false) = (port, &raw.port, method == Method::Nat) {
            let same = matches!(key, ServiceKey::Address { port: service, .. } if u32::from(service) == port);
            if !same {
                return Err(self
                    .error(place.span(), "only NAT changes the port")
                    .hint("leave it out: the real server must listen on the service's port"));
            }
        }
        let port = match key {
            ServiceKey::Address { port: service, .. } => port.map_or(service, |port| port as u16),
            ServiceKey::Mark { .. } => port.map_or(0, |port| port as u16),
        };
        let weight = self.number(raw.weight.as_ref(), "weight", 0..=i32::MAX as u32)?;
        let upper = self.number(raw.upper_threshold.as_ref(), "upper-threshold", 0..=i32::MAX as u32)?;
        let lower = self.number(raw.lower_threshold.as_ref(), "lower-threshold", 0..=i32::MAX as u32)?;
        let server = ServerConfig::new(SocketAddr::new(raw.address.get_ref().0, port), method);
        Ok(server
            .with_weight(weight.and_then(Weight::new).unwrap_or(Weight::ONE))
            .with_thresholds(upper.unwrap_or(0), lower.unwrap_or(0)))
    }

    fn method(self, raw: &raw::Server) -> Result<Method, ConfigError> {
        let only = |span: Option<Range<usize>>, key: &str, whose: &str| match span {
            None => Ok(()),
            Some(span) => Err(self.error(span, format!("`{key}` belongs to {whose}")).hint("leave it out")),
        };
        let (tunnel, port, checksum) = (
            raw.tunnel.as_ref().map(Spanned::span),
            raw.tunnel_port.as_ref().map(Spanned::span),
            raw.checksum.as_ref().map(Spanned::span),
        );
        let kind = match raw.method.get_ref() {
            method @ (raw::Method::Nat | raw::Method::Dr) => {
                only(tunnel, "tunnel", "method \"tun\"")?;
                only(port, "tunnel-port", "method \"tun\"")?;
                only(checksum, "checksum", "method \"tun\"")?;
                return Ok(if *method == raw::Method::Nat { Method::Nat } else { Method::Direct });
            }
            raw::Method::Tun => raw.tunnel.as_ref().map_or(raw::Tunnel::Ipip, |tunnel| *tunnel.get_ref()),
        };
        let with_checksum = raw.checksum.as_ref().is_some_and(|checksum| *checksum.get_ref());
        Ok(Method::Tunnel(match kind {
            raw::Tunnel::Ipip => {
                only(port, "tunnel-port", "tunnel \"gue\"")?;
                only(checksum, "checksum", "the tunnels \"gre\" and \"gue\"")?;
                Tunnel::IpIp
            }
            raw::Tunnel::Gre => {
                only(port, "tunnel-port", "tunnel \"gue\"")?;
                Tunnel::Gre { checksum: with_checksum }
            }
            raw::Tunnel::Gue => {
                let port = self.number(raw.tunnel_port.as_ref(), "tunnel-port", 1..=65_535)?;
                let Some(port) = port else {
                    let span = tunnel.unwrap_or_else(|| raw.method.span());
                    return Err(self.error(span, "a gue tunnel has no port").hint(
                        "write `tunnel-port = 6080`, the UDP port on which the real server decapsulates",
                    ));
                };
                Tunnel::Gue { port: port as u16, checksum: with_checksum }
            }
        }))
    }

    fn refused_service(self, key: ServiceKey, place: Range<usize>, error: AddServiceError) -> ConfigError {
        if error == AddServiceError::Exists {
            return self
                .error(place, format!("the service {key} is there twice"))
                .hint("put all its real servers below one [[service]]");
        }
        self.error(place, format!("the service {key} cannot be added: {error}"))
    }

    fn refused_server(self, raw: &raw::Server, error: AddServerError) -> ConfigError {
        let address = raw.address.get_ref().0;
        let place = if error == AddServerError::BadThresholds {
            let place = raw.lower_threshold.as_ref().or(raw.upper_threshold.as_ref());
            place.map_or_else(|| raw.address.span(), Spanned::span)
        } else {
            raw.address.span()
        };
        let refused = self.error(place, format!("the real server {address} cannot be added: {error}"));
        if error == AddServerError::FamilyMismatch {
            return refused.hint("give it an address of the service's family, or method = \"tun\"");
        }
        refused
    }
}
