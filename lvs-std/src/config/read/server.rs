//! `[[service.server]]`: real servers.

use core::net::SocketAddr;
use core::ops::Range;

use lvs_core::error::AddServerError;
use lvs_core::{Method, ServerConfig, ServiceKey, Tunnel, Weight};
use toml::Spanned;

use super::Reader;
use crate::config::{ConfigError, raw};

impl Reader<'_> {
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

    pub(super) fn refused_server(self, raw: &raw::Server, error: AddServerError) -> ConfigError {
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
