//! What services and templates of persistence are told apart by.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::model::flow::{Family, Protocol};
use crate::model::seed::Seed;

/// What tells a virtual service from others, and packets for it from the rest.
///
/// ```
/// use lvs_core::ServiceKey;
/// let web: ServiceKey = "tcp 192.0.2.1:80".parse()?;
/// assert_eq!(web, ServiceKey::tcp("192.0.2.1".parse()?, 80));
/// assert_eq!(web.to_string(), "TCP 192.0.2.1:80");
/// assert_eq!("fwm 7 IPv6".parse::<ServiceKey>()?.to_string(), "FWM 7 IPv6");
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
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

    /// A keyed hash from whole words. The length in the last byte tells the kinds of keys apart.
    #[inline]
    pub(crate) const fn hash(&self, seed: Seed) -> u64 {
        match *self {
            Self::Address { protocol, address, port } => {
                let end = port as u64 | (protocol.number() as u64) << 16;
                match address {
                    IpAddr::V4(address) => seed.hash([], (address.to_bits() as u64) << 24 | end | 7 << 56),
                    IpAddr::V6(address) => {
                        let bits = address.to_bits();
                        seed.hash([bits as u64, (bits >> 64) as u64], end | 19 << 56)
                    }
                }
            }
            Self::Mark { family, mark } => {
                seed.hash([], mark as u64 | (matches!(family, Family::V6) as u64) << 32 | 5 << 56)
            }
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
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
