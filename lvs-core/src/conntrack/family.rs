//! Address families as types, so that the fast tier is compiled once for each.

#![expect(
    unnameable_types,
    reason = "the trait is sealed: how a family's words are kept has no name outside"
)]

use core::fmt::Debug;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::key::Key;
use crate::model::flow::{Addresses, Family};
use crate::model::seed::Seed;

/// An address family as a type: [`V4`] or [`V6`]. Code that is generic over it is compiled for addresses of one width.
///
/// ```
/// use lvs_core::Family;
/// use lvs_core::batch::{AddressFamily, V4, V6};
///
/// assert_eq!(V4::FAMILY, Family::V4);
/// assert_eq!(V6::bits(&"::1".parse()?), Some(1));
/// assert_eq!(V6::bits(&"192.0.2.7".parse()?), None);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
pub trait AddressFamily: Copy + Debug + Eq + private::Words {
    /// The family as a value.
    const FAMILY: Family;

    /// The bits of an address in host byte order; `None` for one of the other family.
    fn bits(address: &IpAddr) -> Option<Self::Bits>;
}

/// IPv4 as a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a name without values")]
pub enum V4 {}

/// IPv6 as a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a name without values")]
pub enum V6 {}

impl AddressFamily for V4 {
    const FAMILY: Family = Family::V4;

    #[inline(always)]
    fn bits(address: &IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        }
    }
}

impl AddressFamily for V6 {
    const FAMILY: Family = Family::V6;

    #[inline(always)]
    fn bits(address: &IpAddr) -> Option<u128> {
        match address {
            IpAddr::V6(address) => Some(address.to_bits()),
            IpAddr::V4(_) => None,
        }
    }
}

pub(crate) mod private {
    use super::{Addresses, Debug, Seed, SocketAddr};

    /// How a family's addresses are kept in a key and in a slot.
    pub trait Words {
        /// An address in host byte order.
        type Bits: Copy + Debug + Eq;
        /// The client's address and the other end's, as the first words of a slot have them.
        type Pair: Copy + Debug + Eq;

        /// The bit of a key's tag that tells the family.
        const TAG: u8;

        /// The address of a socket of this family.
        fn socket_bits(address: &SocketAddr) -> Option<Self::Bits>;
        /// A pair of both.
        fn pair(client: Self::Bits, other: Self::Bits) -> Self::Pair;
        /// The client's address.
        fn client(pair: &Self::Pair) -> Self::Bits;
        /// The other end's.
        fn other(pair: &Self::Pair) -> Self::Bits;
        /// The other end of a slot with these words, if its key is of this family: the virtual address.
        fn virtual_address(ends: &[u64; 4]) -> Self::Bits;
        /// Whether a slot with these words has both addresses.
        fn is_pair_of(pair: &Self::Pair, ends: &[u64; 4]) -> bool;
        /// Whether a slot with these words has the client's address.
        fn is_client_of(pair: &Self::Pair, ends: &[u64; 4]) -> bool;
        /// The hash of the key with these parts.
        fn hash(pair: &Self::Pair, ports: u32, tag: u8, seed: Seed) -> u32;
        /// Source and destination of a packet.
        fn addresses(source: Self::Bits, destination: Self::Bits) -> Addresses;
    }
}

impl private::Words for V4 {
    type Bits = u32;
    type Pair = u64;

    const TAG: u8 = 0;

    #[inline(always)]
    fn socket_bits(address: &SocketAddr) -> Option<u32> {
        match address {
            SocketAddr::V4(address) => Some(address.ip().to_bits()),
            SocketAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn pair(client: u32, other: u32) -> u64 {
        u64::from(client) << 32 | u64::from(other)
    }

    #[inline(always)]
    fn client(pair: &u64) -> u32 {
        (pair >> 32) as u32
    }

    #[inline(always)]
    fn other(pair: &u64) -> u32 {
        *pair as u32
    }

    #[inline(always)]
    fn virtual_address(ends: &[u64; 4]) -> u32 {
        ends[0] as u32
    }

    #[inline(always)]
    fn is_pair_of(pair: &u64, ends: &[u64; 4]) -> bool {
        *pair == ends[0]
    }

    #[inline(always)]
    fn is_client_of(pair: &u64, ends: &[u64; 4]) -> bool {
        Self::client(pair) == (ends[0] >> 32) as u32
    }

    #[inline(always)]
    fn hash(pair: &u64, ports: u32, tag: u8, seed: Seed) -> u32 {
        Key::hash_v4(*pair, ports, tag, seed)
    }

    #[inline(always)]
    fn addresses(source: u32, destination: u32) -> Addresses {
        Addresses::V4 { source: Ipv4Addr::from_bits(source), destination: Ipv4Addr::from_bits(destination) }
    }
}

impl private::Words for V6 {
    type Bits = u128;
    /// Words rather than two `u128`, whose alignment would leave eight bytes of a key unused.
    type Pair = [u64; 4];

    const TAG: u8 = Key::V6;

    #[inline(always)]
    fn socket_bits(address: &SocketAddr) -> Option<u128> {
        match address {
            SocketAddr::V6(address) => Some(address.ip().to_bits()),
            SocketAddr::V4(_) => None,
        }
    }

    #[inline(always)]
    fn pair(client: u128, other: u128) -> [u64; 4] {
        [(client >> 64) as u64, client as u64, (other >> 64) as u64, other as u64]
    }

    #[inline(always)]
    fn client(pair: &[u64; 4]) -> u128 {
        u128::from(pair[0]) << 64 | u128::from(pair[1])
    }

    #[inline(always)]
    fn other(pair: &[u64; 4]) -> u128 {
        u128::from(pair[2]) << 64 | u128::from(pair[3])
    }

    #[inline(always)]
    fn virtual_address(ends: &[u64; 4]) -> u128 {
        Self::other(ends)
    }

    #[inline(always)]
    fn is_pair_of(pair: &[u64; 4], ends: &[u64; 4]) -> bool {
        // One question about all words: which of them differs does not matter.
        (pair[0] ^ ends[0]) | (pair[1] ^ ends[1]) | (pair[2] ^ ends[2]) | (pair[3] ^ ends[3]) == 0
    }

    #[inline(always)]
    fn is_client_of(pair: &[u64; 4], ends: &[u64; 4]) -> bool {
        (pair[0] ^ ends[0]) | (pair[1] ^ ends[1]) == 0
    }

    #[inline(always)]
    fn hash(pair: &[u64; 4], ports: u32, tag: u8, seed: Seed) -> u32 {
        Key::hash_v6(pair, ports, tag, seed)
    }

    #[inline(always)]
    fn addresses(source: u128, destination: u128) -> Addresses {
        Addresses::V6 { source: Ipv6Addr::from_bits(source), destination: Ipv6Addr::from_bits(destination) }
    }
}
