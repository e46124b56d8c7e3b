//! The nested sets: services, real servers, daemons and their statistics.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::Family;
use lvs_core::stats::{Rates, Traffic};

use super::attr;
use super::attribute::{Writer, attributes, be16, string, u8, u16, u32, u64};
use crate::control::{
    DaemonSpec, Errno, Role, ServerReport, ServerSpec, ServiceName, ServiceReport, ServiceSpec, Stats, flags,
};

/// What stands in a `SERVICE` set, each value if it is there.
#[derive(Debug, Default)]
pub(crate) struct Service {
    family: Option<u16>,
    protocol: Option<u16>,
    address: Option<[u8; 16]>,
    port: Option<u16>,
    mark: Option<u32>,
    scheduler: Option<String>,
    flags: Option<(u32, u32)>,
    timeout: Option<u32>,
    netmask: Option<u32>,
    engine: Option<String>,
    pub(crate) stats: Option<Stats>,
}

impl Service {
    /// Reads a set; `EINVAL` if one of its values is not what it must be.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Errno> {
        let mut set = Self::default();
        for (kind, value) in attributes(bytes) {
            match kind {
                service::AF => set.family = Some(u16(value).ok_or(Errno::Invalid)?),
                service::PROTOCOL => set.protocol = Some(u16(value).ok_or(Errno::Invalid)?),
                service::ADDR => set.address = Some(filled(value).ok_or(Errno::Invalid)?),
                service::PORT => set.port = Some(be16(value).ok_or(Errno::Invalid)?),
                service::FWMARK => set.mark = Some(u32(value).ok_or(Errno::Invalid)?),
                service::SCHED_NAME => set.scheduler = Some(string(value, NAME).ok_or(Errno::Invalid)?),
                service::FLAGS => {
                    let [a, b, c, d, e, f, g, h] = filled(value).ok_or(Errno::Invalid)?;
                    set.flags = Some((u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])));
                }
                service::TIMEOUT => set.timeout = Some(u32(value).ok_or(Errno::Invalid)?),
                service::NETMASK => set.netmask = Some(u32(value).ok_or(Errno::Invalid)?),
                service::PE_NAME => set.engine = Some(string(value, NAME + 1).ok_or(Errno::Invalid)?),
                service::STATS64 => set.stats = Some(read_stats(value)),
                _ => {}
            }
        }
        Ok(set)
    }

    /// What the service is known by.
    pub(crate) fn name(&self) -> Result<ServiceName, Errno> {
        let address = match (self.mark, self.protocol, self.address, self.port) {
            (None, Some(protocol), Some(address), Some(port)) => Some((protocol, address, port)),
            // A mark of 0 is none.
            (Some(0), ..) => Some((TCP, [0; 16], 0)),
            (Some(_), ..) => None,
            (None, ..) => return Err(Errno::Invalid),
        };
        let family = read_family(self.family.ok_or(Errno::Invalid)?).ok_or(Errno::Family)?;
        Ok(match address {
            Some((protocol, bytes, port)) => {
                ServiceName::Address { protocol, address: read_address(family, bytes), port }
            }
            None => ServiceName::Mark { family, mark: self.mark.unwrap_or_default() },
        })
    }

    /// How it is to behave, and which bits of the flags are meant.
    pub(crate) fn spec(&self) -> Result<(ServiceSpec, u32), Errno> {
        let (Some(scheduler), Some((flags, mask)), Some(timeout), Some(netmask)) =
            (&self.scheduler, self.flags, self.timeout, self.netmask)
        else {
            return Err(Errno::Invalid);
        };
        let family = self.family.and_then(read_family).unwrap_or(Family::V4);
        let netmask = match family {
            Family::V4 => u32::from_be(netmask),
            Family::V6 => netmask,
        };
        let engine = self.engine.clone().filter(|name| !name.is_empty());
        Ok((
            ServiceSpec { scheduler: scheduler.clone(), flags: flags & mask, timeout, netmask, engine },
            mask,
        ))
    }

    /// What a listing says.
    pub(crate) fn report(&self) -> Result<ServiceReport, Errno> {
        let (spec, _) = self.spec()?;
        Ok(ServiceReport { name: self.name()?, spec, stats: self.stats.unwrap_or_default() })
    }
}

/// Writes what a service is known by.
pub(crate) fn write_name(to: &mut Writer, name: ServiceName) {
    to.u16(service::AF, family_number(name.family()));
    match name {
        ServiceName::Address { protocol, address, port } => {
            to.u16(service::PROTOCOL, protocol)
                .put(service::ADDR, &address_bytes(address))
                .be16(service::PORT, port);
        }
        ServiceName::Mark { mark, .. } => {
            to.u32(service::FWMARK, mark);
        }
    }
}

/// Writes how a service behaves; `mask` are the bits of the flags that are meant.
pub(crate) fn write_spec(to: &mut Writer, family: Family, spec: &ServiceSpec, mask: u32) {
    to.string(service::SCHED_NAME, &spec.scheduler);
    if let Some(engine) = &spec.engine {
        to.string(service::PE_NAME, engine);
    }
    let mut flags = spec.flags.to_ne_bytes().to_vec();
    flags.extend(mask.to_ne_bytes());
    let netmask = match family {
        Family::V4 => spec.netmask.to_be(),
        Family::V6 => spec.netmask,
    };
    to.put(service::FLAGS, &flags).u32(service::TIMEOUT, spec.timeout).u32(service::NETMASK, netmask);
}

/// Writes a service as a listing shows it.
pub(crate) fn write_service(to: &mut Writer, report: &ServiceReport) {
    to.nest(attr::SERVICE, |set| {
        write_name(set, report.name);
        let mut spec = report.spec.clone();
        spec.flags |= flags::HASHED;
        write_spec(set, report.name.family(), &spec, u32::MAX);
        write_stats(set, service::STATS, service::STATS64, &report.stats);
    });
}

/// What stands in a `DEST` set.
#[derive(Debug, Default)]
pub(crate) struct Dest {
    address: Option<[u8; 16]>,
    port: Option<u16>,
    family: u16,
    method: Option<u32>,
    weight: Option<u32>,
    upper: Option<u32>,
    lower: Option<u32>,
    active: u32,
    inactive: u32,
    persistent: u32,
    tunnel_type: u8,
    tunnel_port: u16,
    tunnel_flags: u16,
    stats: Option<Stats>,
}

impl Dest {
    /// Reads a set; `EINVAL` if one of its values is not what it must be.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Errno> {
        let mut set = Self::default();
        for (kind, value) in attributes(bytes) {
            match kind {
                dest::ADDR => set.address = Some(filled(value).ok_or(Errno::Invalid)?),
                dest::PORT => set.port = Some(be16(value).ok_or(Errno::Invalid)?),
                dest::FWD_METHOD => set.method = Some(u32(value).ok_or(Errno::Invalid)?),
                dest::WEIGHT => set.weight = Some(u32(value).ok_or(Errno::Invalid)?),
                dest::U_THRESH => set.upper = Some(u32(value).ok_or(Errno::Invalid)?),
                dest::L_THRESH => set.lower = Some(u32(value).ok_or(Errno::Invalid)?),
                dest::ACTIVE_CONNS => set.active = u32(value).ok_or(Errno::Invalid)?,
                dest::INACT_CONNS => set.inactive = u32(value).ok_or(Errno::Invalid)?,
                dest::PERSIST_CONNS => set.persistent = u32(value).ok_or(Errno::Invalid)?,
                dest::ADDR_FAMILY => set.family = u16(value).ok_or(Errno::Invalid)?,
                dest::TUN_TYPE => set.tunnel_type = u8(value).ok_or(Errno::Invalid)?,
                dest::TUN_PORT => set.tunnel_port = be16(value).ok_or(Errno::Invalid)?,
                dest::TUN_FLAGS => set.tunnel_flags = u16(value).ok_or(Errno::Invalid)?,
                dest::STATS64 => set.stats = Some(read_stats(value)),
                _ => {}
            }
        }
        Ok(set)
    }

    /// The server's address in a service of this family.
    pub(crate) fn address(&self, service: Family) -> Result<SocketAddr, Errno> {
        let (Some(address), Some(port)) = (self.address, self.port) else { return Err(Errno::Invalid) };
        let family = match self.family {
            0 => service,
            number => read_family(number).ok_or(Errno::Family)?,
        };
        Ok(SocketAddr::new(read_address(family, address), port))
    }

    /// How it is to be used.
    pub(crate) fn spec(&self) -> Result<ServerSpec, Errno> {
        let (Some(method), Some(weight), Some(upper), Some(lower)) =
            (self.method, self.weight, self.upper, self.lower)
        else {
            return Err(Errno::Invalid);
        };
        Ok(ServerSpec {
            method: method & crate::control::method::MASK,
            weight: weight.cast_signed(),
            upper,
            lower,
            tunnel_type: self.tunnel_type,
            tunnel_port: self.tunnel_port,
            tunnel_flags: self.tunnel_flags,
        })
    }

    /// What a listing says of a server whose service is of this family.
    pub(crate) fn report(&self, service: Family) -> Result<ServerReport, Errno> {
        Ok(ServerReport {
            address: self.address(service)?,
            spec: self.spec()?,
            active: self.active,
            inactive: self.inactive,
            persistent: self.persistent,
            stats: self.stats.unwrap_or_default(),
        })
    }
}

/// Writes a server as a client does.
pub(crate) fn write_dest(to: &mut Writer, address: SocketAddr, spec: Option<&ServerSpec>) {
    to.u16(dest::ADDR_FAMILY, family_number(Family::of(address.ip())))
        .put(dest::ADDR, &address_bytes(address.ip()))
        .be16(dest::PORT, address.port());
    if let Some(spec) = spec {
        write_use(to, spec);
        to.u32(dest::U_THRESH, spec.upper).u32(dest::L_THRESH, spec.lower);
    }
}

/// Writes a server as a listing shows it.
pub(crate) fn write_server(to: &mut Writer, report: &ServerReport) {
    to.nest(attr::DEST, |set| {
        set.put(dest::ADDR, &address_bytes(report.address.ip())).be16(dest::PORT, report.address.port());
        write_use(set, &report.spec);
        set.u32(dest::U_THRESH, report.spec.upper)
            .u32(dest::L_THRESH, report.spec.lower)
            .u32(dest::ACTIVE_CONNS, report.active)
            .u32(dest::INACT_CONNS, report.inactive)
            .u32(dest::PERSIST_CONNS, report.persistent)
            .u16(dest::ADDR_FAMILY, family_number(Family::of(report.address.ip())));
        write_stats(set, dest::STATS, dest::STATS64, &report.stats);
    });
}

fn write_use(to: &mut Writer, spec: &ServerSpec) {
    to.u32(dest::FWD_METHOD, spec.method)
        .u32(dest::WEIGHT, spec.weight.cast_unsigned())
        .u8(dest::TUN_TYPE, spec.tunnel_type)
        .be16(dest::TUN_PORT, spec.tunnel_port)
        .u16(dest::TUN_FLAGS, spec.tunnel_flags);
}

/// Reads a `DAEMON` set; without `whole` only the role counts.
pub(crate) fn read_daemon(bytes: &[u8], whole: bool) -> Result<DaemonSpec, Errno> {
    let (mut role, mut interface, mut sync_id) = (None, None, None);
    let (mut max_len, mut group4, mut group6, mut port, mut ttl) = (None, None, None, None, None);
    for (kind, value) in attributes(bytes) {
        match kind {
            daemon::STATE => role = Some(u32(value).ok_or(Errno::Invalid)?),
            daemon::MCAST_IFN => interface = Some(string(value, NAME).ok_or(Errno::Invalid)?),
            daemon::SYNC_ID => sync_id = Some(u32(value).ok_or(Errno::Invalid)?),
            daemon::SYNC_MAXLEN => max_len = Some(u16(value).ok_or(Errno::Invalid)?),
            daemon::MCAST_GROUP => {
                let bytes: &[u8; 4] = value.first_chunk().ok_or(Errno::Invalid)?;
                group4 = Some(IpAddr::from(*bytes));
            }
            daemon::MCAST_GROUP6 => {
                let bytes: &[u8; 16] = value.first_chunk().ok_or(Errno::Invalid)?;
                group6 = Some(IpAddr::from(*bytes));
            }
            daemon::MCAST_PORT => port = Some(u16(value).ok_or(Errno::Invalid)?),
            daemon::MCAST_TTL => ttl = Some(u8(value).ok_or(Errno::Invalid)?),
            _ => {}
        }
    }
    let role = role.ok_or(Errno::Invalid)?;
    if whole && (interface.is_none() || sync_id.is_none()) {
        return Err(Errno::Invalid);
    }
    let group = group4.or(group6);
    if whole && group.is_some_and(|group| !group.is_multicast()) {
        return Err(Errno::Invalid);
    }
    let role = match role {
        1 => Role::Master,
        2 => Role::Backup,
        _ => return Err(Errno::Invalid),
    };
    let (interface, sync_id) = (interface.unwrap_or_default(), sync_id.unwrap_or_default());
    Ok(DaemonSpec { role, interface, sync_id, max_len, group, port, ttl })
}

/// Writes a daemon, as clients and listings do.
pub(crate) fn write_daemon(to: &mut Writer, spec: &DaemonSpec) {
    to.nest(attr::DAEMON, |set| {
        let state = match spec.role {
            Role::Master => 1,
            Role::Backup => 2,
        };
        set.u32(daemon::STATE, state)
            .string(daemon::MCAST_IFN, &spec.interface)
            .u32(daemon::SYNC_ID, spec.sync_id);
        if let Some(length) = spec.max_len {
            set.u16(daemon::SYNC_MAXLEN, length);
        }
        if let Some(port) = spec.port {
            set.u16(daemon::MCAST_PORT, port);
        }
        if let Some(ttl) = spec.ttl {
            set.u8(daemon::MCAST_TTL, ttl);
        }
        match spec.group {
            Some(IpAddr::V4(group)) => {
                set.put(daemon::MCAST_GROUP, &group.octets());
            }
            Some(IpAddr::V6(group)) => {
                set.put(daemon::MCAST_GROUP6, &group.octets());
            }
            None => {}
        }
    });
}

fn write_stats(to: &mut Writer, narrow: u16, wide: u16, stats: &Stats) {
    let Stats { traffic, rates } = stats;
    let packets = [traffic.connections, traffic.in_packets, traffic.out_packets];
    let bytes = [traffic.in_bytes, traffic.out_bytes];
    let rates = [rates.connections, rates.in_packets, rates.out_packets, rates.in_bytes, rates.out_bytes];
    to.nest(narrow, |set| {
        // The narrow ones are the lower halves.
        (1..).zip(packets).for_each(|(kind, value)| _ = set.u32(kind, value as u32));
        (4..).zip(bytes).for_each(|(kind, value)| _ = set.u64(kind, value));
        (6..).zip(rates).for_each(|(kind, value)| _ = set.u32(kind, value as u32));
    });
    to.nest(wide, |set| {
        let all = packets.into_iter().chain(bytes).chain(rates);
        (1..).zip(all).for_each(|(kind, value)| _ = set.u64(kind, value));
    });
}

fn read_stats(bytes: &[u8]) -> Stats {
    let (mut traffic, mut rates) = (Traffic::default(), Rates::default());
    for (kind, value) in attributes(bytes) {
        let place = match kind {
            1 => &mut traffic.connections,
            2 => &mut traffic.in_packets,
            3 => &mut traffic.out_packets,
            4 => &mut traffic.in_bytes,
            5 => &mut traffic.out_bytes,
            6 => &mut rates.connections,
            7 => &mut rates.in_packets,
            8 => &mut rates.out_packets,
            9 => &mut rates.in_bytes,
            10 => &mut rates.out_bytes,
            _ => continue,
        };
        *place = u64(value).unwrap_or_default();
    }
    Stats { traffic, rates }
}

/// A value of at most `N` bytes, zeros behind it.
fn filled<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    bytes.get_mut(..value.len())?.copy_from_slice(value);
    Some(bytes)
}

const fn read_family(number: u16) -> Option<Family> {
    match number {
        AF_INET => Some(Family::V4),
        AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

const fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

fn read_address(family: Family, bytes: [u8; 16]) -> IpAddr {
    match (family, bytes) {
        (Family::V4, [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        (Family::V6, bytes) => IpAddr::V6(Ipv6Addr::from(bytes)),
    }
}

fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// `IPVS_SVC_ATTR_*`.
mod service {
    pub(super) const AF: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDR: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const FWMARK: u16 = 5;
    pub(super) const SCHED_NAME: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
    pub(super) const STATS: u16 = 10;
    pub(super) const PE_NAME: u16 = 11;
    pub(super) const STATS64: u16 = 12;
}

/// `IPVS_DEST_ATTR_*`.
mod dest {
    pub(super) const ADDR: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const FWD_METHOD: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const U_THRESH: u16 = 5;
    pub(super) const L_THRESH: u16 = 6;
    pub(super) const ACTIVE_CONNS: u16 = 7;
    pub(super) const INACT_CONNS: u16 = 8;
    pub(super) const PERSIST_CONNS: u16 = 9;
    pub(super) const STATS: u16 = 10;
    pub(super) const ADDR_FAMILY: u16 = 11;
    pub(super) const STATS64: u16 = 12;
    pub(super) const TUN_TYPE: u16 = 13;
    pub(super) const TUN_PORT: u16 = 14;
    pub(super) const TUN_FLAGS: u16 = 15;
}

/// `IPVS_DAEMON_ATTR_*`.
mod daemon {
    pub(super) const STATE: u16 = 1;
    pub(super) const MCAST_IFN: u16 = 2;
    pub(super) const SYNC_ID: u16 = 3;
    pub(super) const SYNC_MAXLEN: u16 = 4;
    pub(super) const MCAST_GROUP: u16 = 5;
    pub(super) const MCAST_GROUP6: u16 = 6;
    pub(super) const MCAST_PORT: u16 = 7;
    pub(super) const MCAST_TTL: u16 = 8;
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const TCP: u16 = 6;
/// The longest name of a scheduler or interface.
const NAME: usize = 15;
