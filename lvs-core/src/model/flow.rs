//! Who talks to whom: the five-tuple of a packet.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The transport protocols that can be balanced, with their IANA numbers.
///
/// ```
/// use lvs_core::Protocol;
/// assert_eq!("udp".parse(), Ok(Protocol::Udp));
/// assert_eq!(Protocol::Udp.to_string(), "UDP");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(
    clippy::exhaustive_enums,
    reason = "matches must name every protocol, so that a new one shows its places"
)]
pub enum Protocol {
    /// TCP, RFC 9293.
    Tcp = 6,
    /// UDP, RFC 768.
    Udp = 17,
    /// SCTP, RFC 9260.
    Sctp = 132,
}

impl Protocol {
    /// Every protocol, in the order of the numbers.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The name as listings have it: `TCP`, `UDP`, `SCTP`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The IANA protocol number, as in the IPv4 protocol and IPv6 next-header fields.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The protocol of an IANA number, if it can be balanced.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Source and destination address of a packet: always of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two families")]
pub enum Addresses {
    /// Of an IPv4 packet.
    V4 {
        /// Who sent it.
        source: Ipv4Addr,
        /// To whom.
        destination: Ipv4Addr,
    },
    /// Of an IPv6 packet.
    V6 {
        /// Who sent it.
        source: Ipv6Addr,
        /// To whom.
        destination: Ipv6Addr,
    },
}

impl Addresses {
    /// The pair, unless the families differ.
    #[must_use]
    pub const fn new(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4 { source, destination }),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6 { source, destination }),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// The family of both.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }

    /// Who sent it.
    #[must_use]
    pub const fn source(self) -> IpAddr {
        match self {
            Self::V4 { source, .. } => IpAddr::V4(source),
            Self::V6 { source, .. } => IpAddr::V6(source),
        }
    }

    /// To whom.
    #[must_use]
    pub const fn destination(self) -> IpAddr {
        match self {
            Self::V4 { destination, .. } => IpAddr::V4(destination),
            Self::V6 { destination, .. } => IpAddr::V6(destination),
        }
    }

    /// The pair with the roles swapped.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::V4 { source, destination } => Self::V4 { source: destination, destination: source },
            Self::V6 { source, destination } => Self::V6 { source: destination, destination: source },
        }
    }
}

/// The five-tuple of a packet, as it stands on the wire.
///
/// ```
/// use lvs_core::{Flow, Protocol};
/// let flow = Flow::new(Protocol::Tcp, "192.0.2.7:40000".parse()?, "10.99.0.1:80".parse()?).unwrap();
/// assert_eq!(flow, "tcp 192.0.2.7:40000 > 10.99.0.1:80".parse()?);
/// assert_eq!(flow.reversed().source(), "10.99.0.1:80".parse()?);
/// assert!(Flow::new(Protocol::Tcp, "192.0.2.7:40000".parse()?, "[2001:db8::1]:80".parse()?).is_none());
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a five-tuple has five parts")]
pub struct Flow {
    /// The transport protocol.
    pub protocol: Protocol,
    /// Both addresses.
    pub addresses: Addresses,
    /// Source port, host byte order.
    pub source_port: u16,
    /// Destination port, host byte order.
    pub destination_port: u16,
}

impl Flow {
    /// The flow from `source` to `destination`; `None` when their families differ.
    #[must_use]
    pub const fn new(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Option<Self> {
        match Addresses::new(source.ip(), destination.ip()) {
            Some(addresses) => Some(Self {
                protocol,
                addresses,
                source_port: source.port(),
                destination_port: destination.port(),
            }),
            None => None,
        }
    }

    /// Source address and port.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        SocketAddr::new(self.addresses.source(), self.source_port)
    }

    /// Destination address and port.
    #[must_use]
    pub const fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.addresses.destination(), self.destination_port)
    }

    /// The flow as the other end sees it.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            protocol: self.protocol,
            addresses: self.addresses.reversed(),
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} > {}", self.protocol, self.source(), self.destination())
    }
}
