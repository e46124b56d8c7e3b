//! Who a server is picked for, and what comes of it.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(doc)]
use crate::Picker;
use crate::model::flow::{Addresses, Family, Flow, Protocol};
use crate::model::id::{ConnId, ServerId};
use crate::model::key::ServiceKey;
use crate::model::persistence::MAX_CALL_ID;
use crate::model::reason::Reason;
use crate::model::seed::Seed;

/// Who a real server is picked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Client<'a> {
    /// An address, of either family. The mask of a service's persistence counts for clients of the service's own
    /// family; of others the whole address does.
    Address(IpAddr),
    /// An address and a port, for schedulers that hash ports as well
    /// ([`ScheduleFlags::PORT`](crate::sched::ScheduleFlags::PORT)).
    Endpoint(SocketAddr),
    /// A number, such as that of a user or a shard. Equal numbers are one client.
    Key(u64),
    /// Bytes of any length, such as a cookie, a host name or a path. Equal bytes are one client. Under
    /// [`PersistenceEngine::Sip`](crate::service::PersistenceEngine::Sip) they are the Call-ID, of 255 bytes at most:
    /// more are [`Reason::NoCallId`].
    Bytes(&'a [u8]),
}

/// A real server that was picked, and counts a connection until this is [released](Picker::release).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a pick that is not released counts as a connection of its server for ever"]
pub struct Pick {
    pub(super) server: ServerId,
    pub(super) address: SocketAddr,
    pub(super) active: bool,
}

impl Pick {
    /// The real server.
    #[must_use]
    pub const fn server(&self) -> ServerId {
        self.server
    }

    /// Where to connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A connection that [`Picker::open`] has found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Opened {
    /// The real server.
    pub server: ServerId,
    /// Where to connect to.
    pub address: SocketAddr,
    /// The connection's entry; [`ConnId::NONE`] under one-packet scheduling.
    pub connection: ConnId,
    /// Whether the connection was there before.
    pub known: bool,
}

/// No real server was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct NotPicked {
    /// Why not. It was counted, as a director counts packets that are not forwarded.
    pub reason: Reason,
}

impl fmt::Display for NotPicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no real server was picked: {}", self.reason)
    }
}

impl core::error::Error for NotPicked {}

impl Client<'_> {
    /// The family of an address.
    pub(super) const fn family(&self) -> Option<Family> {
        match *self {
            Self::Address(address) => Some(Family::of(address)),
            Self::Endpoint(at) => Some(Family::of(at.ip())),
            Self::Key(_) | Self::Bytes(_) => None,
        }
    }
}

/// What tells a call.
pub(super) const fn call_of(client: Client<'_>) -> Option<&[u8]> {
    match client {
        Client::Bytes(call) if call.len() <= MAX_CALL_ID => Some(call),
        Client::Bytes(_) | Client::Address(_) | Client::Endpoint(_) | Client::Key(_) => None,
    }
}

/// The flow that stands for a client of a service. Without an address of its own a client gets one of a network that no
/// packet comes from, by a keyed hash.
pub(super) fn flow_of(service: &ServiceKey, client: Client<'_>, seed: Seed) -> Flow {
    let (protocol, virt, destination_port) = match *service {
        ServiceKey::Address { protocol, address, port } => (protocol, address, port),
        ServiceKey::Mark { family: Family::V4, .. } => (Protocol::Tcp, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        ServiceKey::Mark { family: Family::V6, .. } => (Protocol::Tcp, IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    };
    let hashed = |hash: u64| IpAddr::V6((NOBODYS | u128::from(hash)).into());
    let (source, source_port) = match client {
        Client::Address(address) => (address, 0),
        Client::Endpoint(at) => (at.ip(), at.port()),
        Client::Key(key) => (hashed(seed.hash([key], 8 << 56)), 0),
        Client::Bytes(bytes) => (hashed(seed.hash_bytes(bytes)), 0),
    };
    let addresses = match (source, virt) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4 { source, destination },
        (source, destination) => Addresses::V6 { source: mapped(source), destination: mapped(destination) },
    };
    Flow { protocol, addresses, source_port, destination_port }
}

/// The discard prefix `100::/64` (RFC 6666).
const NOBODYS: u128 = 0x0100 << 112;

/// An address as one of IPv6 (RFC 4291, section 2.5.5.2).
const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
