//! What services and templates of persistence are told apart by.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::model::flow::{Family, Protocol};

/// What tells a virtual service from others, and packets for it from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "the two kinds of IPVS")]
pub enum ServiceKey {
    /// Packets to one address and port (ipvsadm `-t`, `-u`, `--sctp-service`).
    Address {
        /// The transport protocol.
        protocol: Protocol,
        /// The virtual address.
        address: IpAddr,
        /// The virtual port. 0 stands for every port without a service of its own, but without persistence such a
        /// service rejects every packet, as in IPVS.
        port: u16,
    },
    /// Packets with a firewall mark (ipvsadm `-f`), whatever their protocol, address and port.
    Mark {
        /// The family of these packets.
        family: Family,
        /// The mark, not 0 (no packet is marked 0).
        mark: u32,
    },
}

impl ServiceKey {
    /// The TCP service at this address and port.
    #[must_use]
    pub const fn tcp(address: IpAddr, port: u16) -> Self {
        Self::Address { protocol: Protocol::Tcp, address, port }
    }

    /// The UDP service at this address and port.
    #[must_use]
    pub const fn udp(address: IpAddr, port: u16) -> Self {
        Self::Address { protocol: Protocol::Udp, address, port }
    }

    /// The family of the packets that belong to it.
    #[must_use]
    pub const fn family(&self) -> Family {
        match *self {
            Self::Address { address, .. } => Family::of(address),
            Self::Mark { family, .. } => family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, address: IpAddr::V4(address), port } => {
                write!(f, "{protocol} {address}:{port}")
            }
            Self::Address { protocol, address: IpAddr::V6(address), port } => {
                write!(f, "{protocol} [{address}]:{port}")
            }
            Self::Mark { family: Family::V4, mark } => write!(f, "FWM {mark}"),
            Self::Mark { family: Family::V6, mark } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// What a template sends clients to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "the two kinds of services")]
pub enum TemplateTarget {
    /// A virtual address and port; port 0 for all of its ports.
    Address {
        /// The transport protocol.
        protocol: Protocol,
        /// The virtual address and port.
        address: SocketAddr,
    },
    /// A firewall mark: every protocol, address and port with it.
    Mark(u32),
}
