//! IP addresses: as bits, and what kinds of them mean on a wire.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_core::packet::Addresses;

/// IPv4 addresses stand among IPv6 ones as mapped addresses (RFC 4291 §2.5.5.2), which are on no wire.
const V4: u128 = 0xffff_0000_0000;

#[inline]
pub(crate) const fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => V4 | address.to_bits() as u128,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address that [`to_bits`] was given.
pub(crate) const fn from_bits(bits: u128) -> IpAddr {
    if bits >> 32 == V4 >> 32 {
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

/// The bits of a packet's destination.
#[inline]
pub(crate) const fn destination_bits(addresses: &Addresses) -> u128 {
    match addresses {
        Addresses::V4 { destination, .. } => V4 | destination.to_bits() as u128,
        Addresses::V6 { destination, .. } => destination.to_bits(),
    }
}

/// Whether neighbours on every link may have this address (RFC 4291 §2.5.6).
pub(crate) const fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Whether packets to this address are for many hosts, or for nobody in particular.
pub(crate) const fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Whether an address cannot stand in a packet on a wire between hosts (RFC 1122 §3.2.1.3, RFC 4291 §2.5).
#[inline]
pub(crate) const fn is_martian(addresses: &Addresses) -> bool {
    match addresses {
        Addresses::V4 { source, destination } => {
            source.is_unspecified()
                || source.is_loopback()
                || source.is_multicast()
                || source.is_broadcast()
                || destination.is_loopback()
                || matches!(destination, &Ipv4Addr::UNSPECIFIED)
        }
        Addresses::V6 { source, destination } => {
            source.is_multicast()
                || source.is_loopback()
                || destination.is_loopback()
                || destination.is_unspecified()
        }
    }
}

/// Whether a packet comes from a loopback address and goes to another host.
pub(crate) const fn is_from_loopback(addresses: &Addresses) -> bool {
    match addresses {
        Addresses::V4 { source, destination } => {
            source.is_loopback()
                && !destination.is_loopback()
                && !matches!(destination, &Ipv4Addr::UNSPECIFIED)
        }
        Addresses::V6 { source, destination } => {
            source.is_loopback() && !destination.is_loopback() && !destination.is_unspecified()
        }
    }
}

/// Whether a packet is for its own link only.
pub(crate) const fn stays(addresses: &Addresses) -> bool {
    match *addresses {
        Addresses::V4 { destination, .. } => destination.is_multicast() || destination.is_broadcast(),
        Addresses::V6 { source, destination } => {
            is_link_local(source) || is_link_local(destination) || destination.is_multicast()
        }
    }
}
