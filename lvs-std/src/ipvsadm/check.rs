//! The second look: whether the options go together, in ipvsadm's order of checks.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::{Family, Method, Protocol, ServiceKey, Tunnel, Weight};

use super::options::{Opt, Rule, SCHEDULER_FLAGS, SchedulerFlag, Verb};
use super::scan::{self, Given, MAX_TIMEOUT, Way};
use super::value::number;
use super::{
    Command, Daemon, Listing, Mask, Persistence, ServerOptions, ServiceOptions, Subject, UsageError, Value,
};

/// What the words ask for.
pub(super) fn command(given: Given) -> Result<Command, UsageError> {
    let verb = given.verb;
    let times = if verb == Verb::Set { Some(timeouts(&given)?) } else { None };
    let extra = given.words.get(times.map_or(0, |times| times.len())..);
    if let Some(word) = extra.and_then(<[String]>::first) {
        return Err(UsageError::Unexpected(word.clone()));
    }
    let flags = flags(&given)?;
    options(&given)?;
    let service = given.service.ok_or(UsageError::Hint);
    Ok(match verb {
        Verb::AddService => Command::AddService(service?, service_options(&given, flags)?),
        Verb::EditService => Command::EditService(service?, service_options(&given, flags)?),
        Verb::DeleteService => Command::DeleteService(service?),
        Verb::Clear => Command::Clear,
        Verb::List => Command::List(listing(&given)?),
        Verb::AddServer => Command::AddServer(service?, server_options(&given)?),
        Verb::EditServer => Command::EditServer(service?, server_options(&given)?),
        Verb::DeleteServer => {
            let (address, port) = given.server.ok_or(UsageError::Hint)?;
            Command::DeleteServer(service?, SocketAddr::new(address, port))
        }
        Verb::Set => {
            let [tcp, tcp_fin, udp] = times.unwrap_or_default();
            Command::Set { tcp, tcp_fin, udp }
        }
        Verb::StartDaemon => Command::StartDaemon(given.role.ok_or(UsageError::Hint)?, daemon(given)),
        Verb::StopDaemon => Command::StopDaemon(given.role.ok_or(UsageError::Hint)?),
        Verb::Restore => Command::Restore,
        Verb::Save => Command::Save { numeric: given.has(Opt::Numeric) },
        Verb::Zero => Command::Zero(given.service),
        Verb::Help => Command::Help,
        Verb::Version => Command::Version,
    })
}

fn timeouts(given: &Given) -> Result<[u32; 3], UsageError> {
    let [tcp, tcp_fin, udp, ..] = given.words.as_slice() else {
        return Err(UsageError::SetIncomplete);
    };
    let read = |word: &String| {
        number(word, 0..=MAX_TIMEOUT).ok_or_else(|| UsageError::Illegal(Value::Timeout(word.clone())))
    };
    Ok([read(tcp)?, read(tcp_fin)?, read(udp)?])
}

/// Every option that must, may or must not be there.
fn options(given: &Given) -> Result<(), UsageError> {
    let mut subject: Option<Opt> = None;
    for option in Opt::ALL {
        match (given.verb.rule(option), given.has(option)) {
            (Rule::Must, false) => {
                return Err(UsageError::Needs { option: option.name(), of: UsageError::of_verb(given.verb) });
            }
            (Rule::Not, true) => {
                return Err(UsageError::Forbidden {
                    option: option.name(),
                    of: UsageError::of_verb(given.verb),
                });
            }
            (Rule::OneOf, true) => {
                if let Some(other) = subject {
                    return Err(UsageError::Conflict {
                        option: option.name(),
                        other: other.name(),
                        of: UsageError::of_verb(given.verb),
                    });
                }
                subject = Some(option);
            }
            (Rule::Must | Rule::May, true) | (Rule::May | Rule::Not | Rule::OneOf, false) => {}
        }
    }
    Ok(())
}

/// The flags 1 to 3, by their names under this scheduler.
fn flags(given: &Given) -> Result<[bool; 3], UsageError> {
    let mut flags = [false; 3];
    let scheduler = given.scheduler.as_deref().unwrap_or(DEFAULT_SCHEDULER);
    for name in given.flags.iter().flat_map(|names| names.split(',')) {
        if name.is_empty() {
            continue;
        }
        let known = SCHEDULER_FLAGS.iter().find(|flag| flag.name == name);
        let Some(&SchedulerFlag { number, of, .. }) = known else {
            return Err(UsageError::InvalidFlag(name.to_owned()));
        };
        if of.is_some_and(|of| of != scheduler) {
            return Err(UsageError::IncompatibleFlag(name.to_owned()));
        }
        if let Some(flag) = flags.get_mut(number) {
            *flag = true;
        }
    }
    Ok(flags)
}

fn service_options(given: &Given, flags: [bool; 3]) -> Result<ServiceOptions, UsageError> {
    let persistent = given.has(Opt::Persistent);
    if let Some(ServiceKey::Address { protocol, port, .. }) = given.service {
        if port == 0 && !persistent {
            return Err(UsageError::ZeroPort);
        }
        if given.has(Opt::OnePacket) && protocol != Protocol::Udp {
            return Err(UsageError::OnePacketNotUdp);
        }
    }
    let mask = given.mask.unwrap_or_else(|| match given.service.map(|key| key.family()) {
        Some(Family::V6) => Mask::V6(128),
        Some(Family::V4) | None => Mask::V4(Ipv4Addr::BROADCAST),
    });
    Ok(ServiceOptions {
        scheduler: given.scheduler.clone().unwrap_or_else(|| DEFAULT_SCHEDULER.to_owned()),
        flags,
        persistence: persistent.then_some(Persistence { timeout: given.persistent, mask }),
        engine: given.engine.clone(),
        one_packet: given.has(Opt::OnePacket),
    })
}

fn server_options(given: &Given) -> Result<ServerOptions, UsageError> {
    let (address, mut port) = given.server.ok_or(UsageError::Hint)?;
    let service = given.service.ok_or(UsageError::Hint)?;
    if service.family() != Family::of(address) && given.way != Way::Tunnel {
        return Err(UsageError::OtherFamily);
    }
    if let (ServiceKey::Address { port: service, .. }, Way::Direct | Way::Tunnel) = (service, given.way) {
        port = service;
    }
    Ok(ServerOptions {
        address: SocketAddr::new(address, port),
        method: method(given)?,
        remote_checksum: given.has(Opt::TunRemCsum),
        weight: Weight::new(given.weight).ok_or(UsageError::Illegal(Value::Weight))?,
        upper: given.upper,
        lower: given.lower,
    })
}

fn method(given: &Given) -> Result<Method, UsageError> {
    let checksums = [Opt::TunNoCsum, Opt::TunCsum, Opt::TunRemCsum];
    let mut tunnel_options = [Opt::TunType, Opt::TunPort].into_iter().chain(checksums);
    match given.way {
        Way::Direct | Way::Nat if tunnel_options.any(|option| given.has(option)) => {
            return Err(UsageError::TunnelOptions);
        }
        Way::Direct => return Ok(Method::Direct),
        Way::Nat => return Ok(Method::Nat),
        Way::Tunnel => {}
    }
    let (kind, illegal): (_, &[Opt]) = match given.tunnel {
        scan::Tunnel::IpIp => ("ipip", &[Opt::TunPort, Opt::TunNoCsum, Opt::TunCsum, Opt::TunRemCsum]),
        scan::Tunnel::Gue => ("gue", &[]),
        scan::Tunnel::Gre => ("gre", &[Opt::TunPort, Opt::TunRemCsum]),
    };
    let of = || UsageError::of_tunnel(kind);
    if given.tunnel == scan::Tunnel::Gue && !given.has(Opt::TunPort) {
        return Err(UsageError::Needs { option: Opt::TunPort.name(), of: of() });
    }
    if let Some(option) = illegal.iter().find(|&&option| given.has(option)) {
        return Err(UsageError::Forbidden { option: option.name(), of: of() });
    }
    let mut asked = checksums.into_iter().filter(|&option| given.has(option));
    if let (Some(first), Some(second)) = (asked.next(), asked.next()) {
        return Err(UsageError::Conflict { option: second.name(), other: first.name(), of: of() });
    }
    let checksum = given.has(Opt::TunCsum) || given.has(Opt::TunRemCsum);
    Ok(Method::Tunnel(match given.tunnel {
        scan::Tunnel::IpIp => Tunnel::IpIp,
        scan::Tunnel::Gue => Tunnel::Gue { port: given.tunnel_port, checksum },
        scan::Tunnel::Gre => Tunnel::Gre { checksum },
    }))
}

fn listing(given: &Given) -> Result<Listing, UsageError> {
    let has = |option| given.has(option);
    let apart = has(Opt::Timeout) || has(Opt::Daemon);
    let numbers = has(Opt::Stats) || has(Opt::Rate) || has(Opt::Thresholds);
    if (has(Opt::Connection) || apart) && numbers || apart && has(Opt::PersistentConn) {
        return Err(UsageError::ListConflict);
    }
    let subject = match given.service {
        _ if has(Opt::Connection) => Subject::Connections,
        _ if has(Opt::Timeout) => Subject::Timeouts,
        _ if has(Opt::Daemon) => Subject::Daemons,
        Some(service) => Subject::Service(service),
        None => Subject::Services,
    };
    Ok(Listing {
        subject,
        numeric: has(Opt::Numeric),
        stats: has(Opt::Stats),
        rate: has(Opt::Rate),
        thresholds: has(Opt::Thresholds),
        persistent_conn: has(Opt::PersistentConn),
        tun_info: has(Opt::TunInfo),
        nosort: has(Opt::NoSort),
        exact: has(Opt::Exact),
    })
}

fn daemon(given: Given) -> Daemon {
    Daemon {
        interface: given.interface.unwrap_or_else(|| "eth0".to_owned()),
        sync_id: given.sync_id,
        max_len: given.max_len,
        group: given.group.filter(|group: &IpAddr| !group.is_unspecified()),
        port: given.mcast_port,
        ttl: given.ttl,
    }
}

const DEFAULT_SCHEDULER: &str = "wlc";
