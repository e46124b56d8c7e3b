//! Where the parts of a parsed frame stand.

use core::net::{Ipv4Addr, Ipv6Addr};

use lvs_core::Family;
use lvs_core::packet::Addresses;

use crate::header::{array, get16, ipv4, ipv6};

/// The offsets of an IP packet inside a frame, checked once by [`parse`](crate::parse::parse): the IP header, its
/// options or extension headers, and the transport header's fixed part all lie inside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(crate) network: u32,
    pub(crate) transport: u32,
    pub(crate) end: u32,
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
}

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every kind")]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first fragment: it has the transport header, but not all of the payload.
    First,
    /// A later fragment, which starts inside the payload: it has no ports.
    Later,
}

impl Layout {
    /// From the frame's first byte to the IP header: the length of the link header with its VLAN tags.
    #[must_use]
    pub const fn network(&self) -> usize {
        self.network as usize
    }

    /// From the frame's first byte to the transport header, or to the payload of a later fragment.
    #[must_use]
    pub const fn transport(&self) -> usize {
        self.transport as usize
    }

    /// From the frame's first byte to the end of the IP packet. Link-layer padding may follow.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.end as usize
    }

    /// Length of the IP packet in bytes, header included.
    #[must_use]
    pub const fn packet_len(&self) -> usize {
        (self.end - self.network) as usize
    }

    /// Length of the IP header with options or extension headers.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        (self.transport - self.network) as usize
    }

    /// Length from the transport header to the end of the packet.
    #[must_use]
    pub const fn transport_len(&self) -> usize {
        (self.end - self.transport) as usize
    }

    /// The family of the IP header.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The transport's protocol number, behind all extension headers.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Which part of a datagram this is.
    #[must_use]
    pub const fn fragment(&self) -> Fragment {
        self.fragment
    }

    /// The layout after the frame has lost its first `count` bytes, or `None` if the IP header would go.
    pub(crate) fn without_front(mut self, count: usize) -> Option<Self> {
        let count = u32::try_from(count).ok()?;
        self.network = self.network.checked_sub(count)?;
        self.transport -= count;
        self.end -= count;
        Some(self)
    }

    /// The layout of a packet that ends elsewhere, or `None` if that is before its transport.
    pub(crate) fn with_end(mut self, end: usize) -> Option<Self> {
        self.end = u32::try_from(end).ok().filter(|&end| end >= self.transport)?;
        Some(self)
    }

    /// Source and destination address as they stand in `bytes`, the frame's, now.
    #[must_use]
    pub fn addresses(&self, bytes: &[u8]) -> Option<Addresses> {
        addresses_at(bytes, self.network(), self.family)
    }

    /// TTL or hop limit as it stands in `bytes` now.
    pub(crate) fn ttl(&self, bytes: &[u8]) -> Option<u8> {
        let field = match self.family {
            Family::V4 => ipv4::TTL,
            Family::V6 => ipv6::HOP_LIMIT,
        };
        bytes.get(self.network() + field).copied()
    }

    /// TOS byte or traffic class.
    pub(crate) fn traffic_class(&self, bytes: &[u8]) -> Option<u8> {
        match self.family {
            Family::V4 => bytes.get(self.network() + ipv4::TOS).copied(),
            Family::V6 => get16(bytes, self.network()).map(|word| (word >> 4) as u8),
        }
    }

    /// Whether the packet forbids its fragmentation: IPv4's DF. Routers never fragment IPv6.
    pub(crate) fn dont_fragment(&self, bytes: &[u8]) -> bool {
        match self.family {
            Family::V4 => get16(bytes, self.network() + ipv4::FRAGMENT)
                .is_some_and(|word| word & ipv4::DONT_FRAGMENT != 0),
            Family::V6 => true,
        }
    }
}

/// Source and destination of the IP header at `network`.
pub(crate) fn addresses_at(bytes: &[u8], network: usize, family: Family) -> Option<Addresses> {
    Some(match family {
        Family::V4 => {
            let header: &[u8; ipv4::LEN] = array(bytes, network)?;
            Addresses::V4 {
                source: ipv4_in(header, ipv4::SOURCE)?,
                destination: ipv4_in(header, ipv4::DESTINATION)?,
            }
        }
        Family::V6 => {
            let header: &[u8; ipv6::LEN] = array(bytes, network)?;
            Addresses::V6 {
                source: ipv6_in(header, ipv6::SOURCE)?,
                destination: ipv6_in(header, ipv6::DESTINATION)?,
            }
        }
    })
}

/// The IPv4 address at `at`.
pub(crate) fn ipv4_in(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    array::<4>(bytes, at).map(|&octets| Ipv4Addr::from(octets))
}

/// The IPv6 address at `at`.
pub(crate) fn ipv6_in(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    array::<16>(bytes, at).map(|&octets| Ipv6Addr::from(octets))
}
