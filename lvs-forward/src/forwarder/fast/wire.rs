//! What the fast tier has to know of a family's headers: the trait that [`v4`](super::v4) and [`v6`](super::v6) are.

use lvs_core::Direction;
use lvs_core::batch::{AddressFamily, FastKey};

use crate::forwarder::next_hop_cache::{CacheFamily, LinkHeader};
use crate::header::{ethernet, ipv4, tcp};

/// What the fast tier has to know of a family's headers.
pub(super) trait Wire: CacheFamily {
    /// Length of the IP header, without options or extension headers.
    const HEADER: usize;
    /// What the link header calls the family (IANA ether type).
    const ETHER_TYPE: u16;
    /// The number by which IP names a packet of this family inside of another one.
    const PROTOCOL: u8;

    /// Whether the type of a frame and the first byte of its packet are this family's, without options.
    fn is_plain(head: &[u8; SIGHT]) -> bool;

    /// The key of a frame at whose front this family's headers are, as far as the frame alone tells: whole, plain, not
    /// from or for an address that no host has, and within the frame. Whether it is for this host is not looked at;
    /// with the key come its destination and its TTL.
    fn parse(front: &[u8], frame_len: usize) -> Option<Front<Self>>
    where
        Self: Sized;

    /// The traffic class (TOS) and the TTL of the packet at the front of a frame, and whether it forbids its
    /// fragmentation.
    fn hop_fields(front: &[u8]) -> Option<(u8, u8, bool)>;

    /// Gives a packet the next lower TTL than it has. `None`, and nothing has changed, when there is no whole header.
    fn take_hop(packet: &mut [u8], ttl: u8) -> Option<()>;

    /// Takes one from the TTL and writes the link header. `None`, and nothing has changed, when the TTL is used up.
    fn redirect(front: &mut [u8], link: LinkHeader) -> Option<()>;

    /// Gives a packet another address and port at one end (RFC 3022), brings its checksums in line, takes one from the
    /// TTL and writes the link header. `None`, and nothing has changed, when the TTL is used up or UDP has no checksum.
    fn translate(
        front: &mut [u8],
        is_tcp: bool,
        direction: Direction,
        link: LinkHeader,
        target: (Self::Bits, u16),
    ) -> Option<()>;

    /// Writes an outer IP header for a packet of so many bytes, headers included, as
    /// [`wrap`](crate::method::encap::wrap) does.
    fn write_outer(place: &mut [u8], outer: &OuterFields<Self::Bits>) -> Option<()>;
}

/// What a frame's front says of a packet.
pub(super) struct Front<F: AddressFamily> {
    pub(super) key: FastKey<F>,
    pub(super) destination: F::Bits,
    pub(super) ttl: u8,
}

/// What an outer IP header says.
pub(super) struct OuterFields<B> {
    pub(super) tos: u8,
    pub(super) ttl: u8,
    /// Of the whole packet, this header included.
    pub(super) len: u16,
    pub(super) protocol: u8,
    pub(super) dont_fragment: bool,
    pub(super) identification: u16,
    pub(super) source: B,
    pub(super) destination: B,
}

/// So many bytes from a place on, which is in the array.
#[inline(always)]
pub(super) fn bytes<const LEN: usize, const COUNT: usize>(head: &[u8; LEN], at: usize) -> [u8; COUNT] {
    head.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; COUNT])
}

/// Puts bytes there.
#[inline(always)]
pub(super) fn write<const LEN: usize, const COUNT: usize>(
    head: &mut [u8; LEN],
    at: usize,
    value: [u8; COUNT],
) {
    if let Some(place) = head.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value;
    }
}

#[inline(always)]
pub(super) const fn read16<const LEN: usize>(head: &[u8; LEN], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

/// As much of a frame as tells its family: up to TCP's flags behind the shorter header. A buffer that ends before that
/// has no plain packet.
pub(super) const SIGHT: usize = ethernet::LEN + ipv4::LEN + tcp::FLAGS + 1;
/// Where the IP header begins.
pub(super) const NETWORK: usize = ethernet::LEN;
