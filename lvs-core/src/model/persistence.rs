//! Persistence: clients that come again within a time get the server that they had.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use crate::model::flow::Family;

/// Sends a client's further connections to the server of its first one, for a time (ipvsadm `-p`).
///
/// What is remembered is a *template*: an entry of the connection table for the client's network. It lives
/// [`timeout`](Self::timeout) seconds from the last new connection that it chose the server of, and as long as such a
/// connection lives, looked at again every 60 s. A quiesced or overloaded server keeps its clients; but see
/// [`expire_quiescent_template`](crate::config::Tuning::expire_quiescent_template).
///
/// What shares a template: under a service for one port, the connections to that port. Under a service for all ports
/// or for port 21, those to all ports of the virtual address. Under a firewall mark, all connections with it,
/// whatever their protocol, address and port.
///
/// ```
/// use lvs_core::{Scheduler, ServiceConfig};
/// use lvs_core::service::Persistence;
/// // For five minutes, all clients of a /24 network share a server.
/// let persistence = Persistence::new(300).with_mask(24);
/// let config = ServiceConfig::new(Scheduler::from_name("wlc").unwrap()).with_persistence(persistence);
/// assert_eq!(config.persistence, Some(persistence));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Persistence {
    /// Seconds, from 1 to [`MAX_TIMEOUT_SECS`](crate::config::MAX_TIMEOUT_SECS) (others are taken as the nearest of
    /// these). A change applies to new templates.
    pub timeout: u32,
    /// Which bits of a client's address count (ipvsadm `-M`). `None`, the default, for all.
    #[cfg_attr(feature = "serde", serde(default))]
    pub mask: Option<Mask>,
    /// What else tells clients apart. Default nothing.
    #[cfg_attr(feature = "serde", serde(default))]
    pub engine: Option<PersistenceEngine>,
}

impl Persistence {
    /// For so many seconds, by the client's whole address.
    #[must_use]
    pub const fn new(timeout: u32) -> Self {
        Self { timeout, mask: None, engine: None }
    }

    /// Lets only the first `mask` bits of a client's address count.
    #[must_use]
    pub const fn with_mask(mut self, mask: u8) -> Self {
        self.mask = Some(Mask::Prefix(mask));
        self
    }

    /// Adds an engine that looks into packets.
    #[must_use]
    pub const fn with_engine(mut self, engine: PersistenceEngine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Whether the mask suits the family.
    pub(crate) const fn suits(&self, family: Family) -> bool {
        match (self.mask, family) {
            (None, _) => true,
            (Some(Mask::Prefix(len)), Family::V4) => len <= 32,
            (Some(Mask::Prefix(len)), Family::V6) => len >= 1 && len <= 128,
            (Some(Mask::Bits(_)), family) => matches!(family, Family::V4),
        }
    }

    /// The part of a client's address that counts.
    pub(crate) fn network(&self, client: IpAddr) -> IpAddr {
        match (self.mask, client) {
            (Some(mask), IpAddr::V4(client)) => IpAddr::V4((client.to_bits() & mask.bits().to_bits()).into()),
            (Some(Mask::Prefix(len)), IpAddr::V6(client)) => {
                // A prefix of 0 would shift by the whole width, which no shift does.
                let kept = u128::MAX.checked_shl(128_u32.saturating_sub(len.into())).unwrap_or(0);
                IpAddr::V6((client.to_bits() & kept).into())
            }
            (None | Some(Mask::Bits(_)), client) => client,
        }
    }
}

/// Which bits of a client's address count.
///
/// ```
/// use lvs_core::service::Mask;
/// assert_eq!("24".parse(), Ok(Mask::Prefix(24)));
/// assert_eq!("255.0.255.0".parse(), Ok(Mask::Bits([255, 0, 255, 0].into())));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "all that IPVS knows")]
pub enum Mask {
    /// So many leading bits: 0 to 32 for IPv4, 1 to 128 for IPv6.
    Prefix(u8),
    /// The bits that are set here, also with holes between them; IPv4 only.
    Bits(Ipv4Addr),
}

impl Mask {
    /// The mask of an IPv4 address.
    #[must_use]
    pub const fn bits(self) -> Ipv4Addr {
        match self {
            Self::Prefix(len) => {
                let kept = u32::MAX.checked_shl(32_u32.saturating_sub(len as u32));
                Ipv4Addr::from_bits(match kept {
                    Some(bits) => bits,
                    None => 0,
                })
            }
            Self::Bits(bits) => bits,
        }
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(length) => write!(f, "{length}"),
            Self::Bits(bits) => write!(f, "{bits}"),
        }
    }
}

/// A persistence engine: looks into packets for what belongs together (ipvsadm `--pe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PersistenceEngine {
    /// SIP over UDP (RFC 3261): the packets of one call, by client network and Call-ID. A packet without a Call-ID is
    /// dropped. Calls that a real server starts become connections too.
    Sip,
}

impl PersistenceEngine {
    /// The name that listings and sync messages have.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sip => "sip",
        }
    }

    /// The engine of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sip" => Some(Self::Sip),
            _ => None,
        }
    }
}

impl fmt::Display for PersistenceEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The longest Call-ID that counts, in bytes; longer ones are as none.
pub const MAX_CALL_ID: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_the_networks_bits() {
        let network =
            |client: &str, mask| Persistence::new(1).with_mask(mask).network(client.parse().unwrap());
        assert_eq!(network("192.0.2.77", 24), "192.0.2.0".parse::<IpAddr>().unwrap());
        assert_eq!(network("192.0.2.77", 0), "0.0.0.0".parse::<IpAddr>().unwrap());
        let holes = Persistence { mask: Some(Mask::Bits([255, 0, 255, 0].into())), ..Persistence::new(1) };
        assert_eq!(holes.network("192.0.2.77".parse().unwrap()), "192.0.2.0".parse::<IpAddr>().unwrap());
        assert_eq!(holes.network("192.9.2.77".parse().unwrap()), "192.0.2.0".parse::<IpAddr>().unwrap());
        assert!(holes.suits(Family::V4) && !holes.suits(Family::V6));
        assert_eq!(network("192.0.2.77", 32), "192.0.2.77".parse::<IpAddr>().unwrap());
        assert_eq!(network("2001:db8::77", 64), "2001:db8::".parse::<IpAddr>().unwrap());
        assert_eq!(network("2001:db8::77", 128), "2001:db8::77".parse::<IpAddr>().unwrap());
    }
}
