//! From what was declared to what a director is told.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::config::ScheduleFlags;
use lvs_core::sched::Schedule as _;
use lvs_core::service::{Mask, Persistence, PersistenceEngine};
use lvs_core::{
    Family, Method, Protocol, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Tunnel, Weight,
};

use super::{ServerSpec, ServiceName, ServiceSpec, flags, method, tunnel, whole};

/// What a director calls the service. `None` for protocols that no packet of a director has.
#[must_use]
pub fn key(name: ServiceName) -> Option<ServiceKey> {
    Some(match name {
        ServiceName::Address { protocol, address, port } => {
            let protocol = match protocol {
                6 => Protocol::Tcp,
                17 => Protocol::Udp,
                132 => Protocol::Sctp,
                _ => return None,
            };
            ServiceKey::Address { protocol, address, port }
        }
        ServiceName::Mark { family, mark } => ServiceKey::Mark { family, mark },
    })
}

/// How a director's service is called here.
#[must_use]
pub fn name(key: ServiceKey) -> ServiceName {
    match key {
        ServiceKey::Address { protocol, address, port } => {
            ServiceName::Address { protocol: u16::from(protocol.number()), address, port }
        }
        ServiceKey::Mark { family, mark } => ServiceName::Mark { family, mark },
    }
}

/// What a director is told of a service. `None` if there is no such scheduler: the service then does nothing.
#[must_use]
pub fn service_config(family: Family, spec: &ServiceSpec) -> Option<ServiceConfig<Scheduler>> {
    let set = |bit| spec.flags & bit != 0;
    let scheduler = Scheduler::from_name(&spec.scheduler)?;
    let flags = ScheduleFlags { fallback: set(flags::SCHED_1), port: set(flags::SCHED_2) };
    let mut config = ServiceConfig::new(scheduler).with_flags(flags);
    config.one_packet = set(flags::ONE_PACKET);
    if set(flags::PERSISTENT) {
        let mut persistence = Persistence::new(spec.timeout);
        persistence.engine = spec.engine.as_deref().and_then(PersistenceEngine::from_name);
        persistence.mask = (spec.netmask != whole(family)).then(|| match family {
            Family::V4 => Mask::Bits(Ipv4Addr::from_bits(spec.netmask)),
            Family::V6 => Mask::Prefix(spec.netmask.min(128) as u8),
        });
        config.persistence = Some(persistence);
    }
    Some(config)
}

/// What a director is told of a server. `None` for methods that no director has.
#[must_use]
pub fn server_config(address: SocketAddr, spec: &ServerSpec) -> Option<ServerConfig> {
    let checksum = spec.tunnel_flags & (tunnel::CSUM | tunnel::REMCSUM) != 0;
    let method = match spec.method {
        method::MASQUERADING => Method::Nat,
        method::LOCAL => Method::Local,
        method::TUNNEL => Method::Tunnel(match spec.tunnel_type {
            tunnel::GUE => Tunnel::Gue { port: spec.tunnel_port, checksum },
            tunnel::GRE => Tunnel::Gre { checksum },
            // The kernel sends what it does not know as IPIP.
            _ => Tunnel::IpIp,
        }),
        method::DIRECT => Method::Direct,
        method::BYPASS => Method::Bypass,
        _ => return None,
    };
    let weight = Weight::new(u32::try_from(spec.weight).ok()?)?;
    Some(ServerConfig::new(address, method).with_weight(weight).with_thresholds(spec.upper, spec.lower))
}

/// Whether IPVS takes this address for a real server: any unicast one, as far as that can be told without its
/// interfaces.
#[must_use]
pub fn is_server_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
        }
        IpAddr::V6(address) => {
            let usable = !address.is_unspecified() && !address.is_multicast();
            usable && address.to_ipv4_mapped().is_none() && !address.is_unicast_link_local()
        }
    }
}

/// What a client would say to get this service.
#[must_use]
pub fn service_spec(family: Family, config: &ServiceConfig<Scheduler>) -> ServiceSpec {
    let mut spec = ServiceSpec::new(family, config.scheduler.name());
    let bits = [
        (config.persistence.is_some(), flags::PERSISTENT),
        (config.one_packet, flags::ONE_PACKET),
        (config.flags.fallback, flags::SCHED_1),
        (config.flags.port, flags::SCHED_2),
    ];
    spec.flags = bits.into_iter().filter(|(set, _)| *set).fold(flags::HASHED, |flags, (_, bit)| flags | bit);
    if let Some(persistence) = config.persistence {
        spec.timeout = persistence.timeout;
        spec.engine = persistence.engine.map(|engine| engine.name().to_owned());
        spec.netmask = match (family, persistence.mask) {
            (_, None) => whole(family),
            (Family::V4, Some(mask)) => mask.bits().to_bits(),
            (Family::V6, Some(Mask::Prefix(length))) => u32::from(length),
            (Family::V6, Some(Mask::Bits(_))) => whole(family),
        };
    }
    spec
}

/// What a client would say to get this server.
#[must_use]
pub fn server_spec(config: &ServerConfig) -> ServerSpec {
    let method = match config.method {
        Method::Nat => method::MASQUERADING,
        Method::Local => method::LOCAL,
        Method::Tunnel(_) => method::TUNNEL,
        Method::Direct => method::DIRECT,
        Method::Bypass => method::BYPASS,
    };
    let mut spec = ServerSpec::new(method, config.weight.get().cast_signed());
    (spec.upper, spec.lower) = (config.upper, config.lower);
    let checksum = |on| if on { tunnel::CSUM } else { 0 };
    if let Method::Tunnel(kind) = config.method {
        (spec.tunnel_type, spec.tunnel_port, spec.tunnel_flags) = match kind {
            Tunnel::IpIp => (tunnel::IPIP, 0, 0),
            Tunnel::Gre { checksum: on } => (tunnel::GRE, 0, checksum(on)),
            Tunnel::Gue { port, checksum: on } => (tunnel::GUE, port, checksum(on)),
        };
    }
    spec
}
