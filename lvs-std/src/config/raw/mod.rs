//! The file as it is written: every key, none of its meaning.
//!
//! Values keep their place in the file ([`Spanned`]), so that what is found wrong with them later can be shown there.

mod check;
mod sysctl;

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use toml::Spanned;

pub(in crate::config) use check::{Check, Initially, OnFailure, Seconds, Several};
pub(in crate::config) use sysctl::Sysctl;

/// The whole file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(default)]
    pub(super) director: Director,
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    #[serde(default)]
    pub(super) tuning: Tuning,
    #[serde(default)]
    pub(super) sysctl: Sysctl,
    #[serde(default)]
    pub(super) virtual_addresses: Vec<Spanned<Address>>,
    pub(super) answer_for: Option<AnswerFor>,
    #[serde(default)]
    pub(super) interface: Vec<Interface>,
    #[serde(default)]
    pub(super) mark: Vec<Mark>,
    #[serde(default)]
    pub(super) service: Vec<Spanned<Service>>,
}

/// `[director]`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Director {
    pub(super) workers: Option<Spanned<Whole>>,
    pub(super) cpus: Option<Spanned<Vec<Spanned<Whole>>>>,
    pub(super) busy_poll: Option<bool>,
    pub(super) offload: Option<bool>,
    pub(super) steer: Option<Spanned<Steer>>,
    pub(super) steer_v4: Option<Spanned<Whole>>,
    pub(super) steer_v6: Option<Spanned<Whole>>,
    pub(super) when_no_interface: Option<WhenNoInterface>,
    pub(super) local_clients: Option<Spanned<bool>>,
    pub(super) durable: Option<Durable>,
    pub(super) control_group: Option<Spanned<Whole>>,
    pub(super) control_rate: Option<Spanned<Whole>>,
}

/// `when-no-interface`.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WhenNoInterface {
    Wait,
    Exit,
}

/// `durable`.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Durable {
    Process,
    Power,
}

/// `steer`.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Steer {
    Address,
    Endpoint,
}

/// `answer-for`.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AnswerFor {
    Configured,
    Services,
    Host,
}

/// `[[mark]]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Mark {
    pub(super) mark: Spanned<Whole>,
    pub(super) protocol: Option<Protocol>,
    pub(super) to: Spanned<Prefix>,
    pub(super) ports: Option<Vec<Spanned<Whole>>>,
}

/// `[timeouts]`, in seconds.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Timeouts {
    pub(super) tcp: Option<Spanned<Whole>>,
    pub(super) tcp_fin: Option<Spanned<Whole>>,
    pub(super) udp: Option<Spanned<Whole>>,
}

/// `[tuning]`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Tuning {
    pub(super) connections: Option<Spanned<Whole>>,
    pub(super) services: Option<Spanned<Whole>>,
    pub(super) servers: Option<Spanned<Whole>>,
    pub(super) addresses: Option<Spanned<Whole>>,
    pub(super) neighbours: Option<Spanned<Whole>>,
    pub(super) scheduler_memory: Option<Spanned<Whole>>,
    pub(super) when_full: Option<WhenFull>,
    pub(super) capture_marked: Option<Spanned<bool>>,
    pub(super) reject: Option<Spanned<bool>>,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WhenFull {
    Reclaim,
    Refuse,
}

/// `[[interface]]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Interface {
    pub(super) name: Spanned<String>,
    pub(super) device: Option<Spanned<DeviceKind>>,
    pub(super) mac: Option<Spanned<String>>,
    pub(super) vlan: Option<Spanned<Whole>>,
    #[serde(default)]
    pub(super) addresses: Vec<Spanned<Prefix>>,
    #[serde(default)]
    pub(super) gateways: Vec<Spanned<Address>>,
    #[serde(default)]
    pub(super) routes: Vec<Route>,
}

/// `device`.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DeviceKind {
    Packet,
    Xdp,
    Auto,
}

/// `{ to = "..", via = "..", on-link = true }`; without `via` for what is on the link itself.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Route {
    pub(super) to: Spanned<Prefix>,
    pub(super) via: Option<Spanned<Address>>,
    pub(super) on_link: Option<Spanned<bool>>,
}

/// `[[service]]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Service {
    pub(super) protocol: Option<Spanned<Protocol>>,
    pub(super) address: Option<Spanned<Address>>,
    pub(super) port: Option<Spanned<Whole>>,
    pub(super) mark: Option<Spanned<Whole>>,
    pub(super) family: Option<Spanned<Family>>,
    pub(super) scheduler: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) flags: Vec<Spanned<Flag>>,
    pub(super) persistence: Option<Persistence>,
    pub(super) one_packet: Option<Spanned<bool>>,
    pub(super) check: Option<Several<Check>>,
    pub(super) quorum: Option<Spanned<Whole>>,
    pub(super) hysteresis: Option<Spanned<Whole>>,
    pub(super) sorry_server: Option<Spanned<Server>>,
    pub(super) on_failure: Option<Spanned<OnFailure>>,
    pub(super) initially: Option<Spanned<Initially>>,
    #[serde(default)]
    pub(super) server: Vec<Server>,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Flag {
    Fallback,
    Port,
}

/// `{ timeout = 300, .. }`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Persistence {
    pub(super) timeout: Spanned<Whole>,
    pub(super) mask: Option<Spanned<Whole>>,
    pub(super) engine: Option<Spanned<String>>,
}

/// `[[service.server]]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Server {
    pub(super) address: Spanned<Address>,
    pub(super) port: Option<Spanned<Whole>>,
    pub(super) method: Spanned<Method>,
    pub(super) tunnel: Option<Spanned<Tunnel>>,
    pub(super) tunnel_port: Option<Spanned<Whole>>,
    pub(super) checksum: Option<Spanned<bool>>,
    pub(super) weight: Option<Spanned<Whole>>,
    pub(super) upper_threshold: Option<Spanned<Whole>>,
    pub(super) lower_threshold: Option<Spanned<Whole>>,
    pub(super) check: Option<Spanned<Several<Check>>>,
    pub(super) check_address: Option<Spanned<Address>>,
    pub(super) check_port: Option<Spanned<Whole>>,
}

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Method {
    Nat,
    Dr,
    Tun,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tunnel {
    Ipip,
    Gre,
    Gue,
}

/// A whole number of any size; its meaning sets the limits.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Expected;
        impl Visitor<'_> for Expected {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Whole, E> {
                Ok(Whole(value))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
                Ok(Whole(i64::try_from(value).unwrap_or(i64::MAX)))
            }
        }
        deserializer.deserialize_i64(Expected)
    }
}

/// An IP address in quotes.
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            Error::custom(format!(
                "`{text}` is no IP address, expected one such as \"10.0.1.11\" or \"2001:db8::1\""
            ))
        })
    }
}

/// An address with the length of its subnet's prefix, in quotes.
#[derive(Clone, Copy)]
pub(super) struct Prefix {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

impl FromStr for Prefix {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let prefix: lvs_forward::host::Prefix = text.parse().map_err(|_| ())?;
        Ok(Self { address: prefix.address(), length: prefix.len() })
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| {
            Error::custom(format!(
                "`{text}` is no address with a prefix length, expected one such as \"10.0.1.254/24\" \
                 or \"2001:db8::1/64\""
            ))
        })
    }
}
