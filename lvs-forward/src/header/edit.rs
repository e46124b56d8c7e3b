//! Small edits that all methods share: hop counts, new IP headers, the link header.

use core::net::{Ipv4Addr, Ipv6Addr};

use lvs_core::Family;

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::header::layout::Layout;
use crate::header::{array_mut, ethernet, ipv4, ipv6};

/// Takes one from TTL or hop limit (RFC 1812 §5.3.1); `None`, and nothing changes, when it is used up.
#[inline]
#[must_use]
pub fn decrement_ttl(frame: &mut Frame<'_>, layout: &Layout) -> Option<()> {
    match layout.family() {
        Family::V4 => {
            let header: &mut [u8; ipv4::LEN] = array_mut(frame.bytes_mut(), layout.network())?;
            let ttl = header[ipv4::TTL];
            if ttl <= 1 {
                return None;
            }
            header[ipv4::TTL] = ttl - 1;
            let checksum = u16::from_be_bytes([header[ipv4::CHECKSUM], header[ipv4::CHECKSUM + 1]]);
            // RFC 1624 §3, equation 3: ~m + m' of a word whose upper half goes down by one is 0xfeff, whatever it was.
            // The TTL is the upper half of its word, so that the sum falls by 0x0100 whatever stood there: adding the
            // complement of that is the whole update (RFC 1624 §3).
            let sum = u32::from(!checksum) + 0xfeff;
            let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
            [header[ipv4::CHECKSUM], header[ipv4::CHECKSUM + 1]] = checksum.to_be_bytes();
        }
        Family::V6 => {
            let header: &mut [u8; ipv6::LEN] = array_mut(frame.bytes_mut(), layout.network())?;
            if header[ipv6::HOP_LIMIT] <= 1 {
                return None;
            }
            header[ipv6::HOP_LIMIT] -= 1;
        }
    }
    Some(())
}

/// Writes the header checksum of the IPv4 header at `network`, which is `len` bytes long.
pub(crate) fn write_header_checksum(bytes: &mut [u8], network: usize, len: usize) -> Option<()> {
    let header = bytes.get_mut(network..)?.get_mut(..len)?;
    let (_, rest) = header.split_at_mut_checked(ipv4::CHECKSUM)?;
    // The field counts as zero while it is computed (RFC 791 p. 14).
    *rest.first_chunk_mut()? = [0; 2];
    let checksum = Sum::ZERO.bytes(header).checksum();
    *array_mut(header, ipv4::CHECKSUM)? = checksum.to_be_bytes();
    Some(())
}

/// An IPv4 header without options, of a packet that is not a fragment.
pub(crate) struct Ipv4 {
    pub(crate) tos: u8,
    pub(crate) total_len: u16,
    pub(crate) identification: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
}

impl Ipv4 {
    #[inline]
    pub(crate) fn to_bytes(&self) -> [u8; ipv4::LEN] {
        let [len_high, len_low] = self.total_len.to_be_bytes();
        let [id_high, id_low] = self.identification.to_be_bytes();
        let [flags, _] = if self.dont_fragment { ipv4::DONT_FRAGMENT.to_be_bytes() } else { [0; 2] };
        let [s0, s1, s2, s3] = self.source.octets();
        let [d0, d1, d2, d3] = self.destination.octets();
        let mut header = [
            0x45,
            self.tos,
            len_high,
            len_low,
            id_high,
            id_low,
            flags,
            0,
            self.ttl,
            self.protocol,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ];
        let [high, low] = Sum::ZERO.header(&header).checksum().to_be_bytes();
        header[ipv4::CHECKSUM] = high;
        header[ipv4::CHECKSUM + 1] = low;
        header
    }
}

/// An IPv6 header with flow label 0.
pub(crate) struct Ipv6 {
    pub(crate) traffic_class: u8,
    pub(crate) payload_len: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
}

impl Ipv6 {
    pub(crate) fn to_bytes(&self) -> [u8; ipv6::LEN] {
        let mut header = [0; ipv6::LEN];
        header[0] = 0x60 | self.traffic_class >> 4;
        header[1] = self.traffic_class << 4;
        [header[ipv6::PAYLOAD_LEN], header[ipv6::PAYLOAD_LEN + 1]] = self.payload_len.to_be_bytes();
        header[ipv6::NEXT_HEADER] = self.next_header;
        header[ipv6::HOP_LIMIT] = self.hop_limit;
        for (at, octet) in self.source.octets().into_iter().enumerate() {
            header[ipv6::SOURCE + at] = octet;
        }
        for (at, octet) in self.destination.octets().into_iter().enumerate() {
            header[ipv6::DESTINATION + at] = octet;
        }
        header
    }
}

/// Puts an Ethernet header before a frame that begins with its network header; with the tag of a VLAN (IEEE 802.1Q
/// §9.6) where the frame is to have one.
pub(crate) fn write_ethernet(
    frame: &mut Frame<'_>,
    destination: [u8; 6],
    source: [u8; 6],
    vlan: Option<u16>,
    ether_type: u16,
) -> Option<()> {
    let tag = vlan.map_or(0, |_| ethernet::TAG_LEN);
    let header = frame.grow_front(ethernet::LEN + tag)?;
    let (addresses, rest) = header.split_at_mut_checked(ethernet::TYPE)?;
    let (to, from) = addresses.split_at_mut_checked(ethernet::SOURCE)?;
    to.copy_from_slice(&destination);
    from.copy_from_slice(&source);
    let (tag, kind) = rest.split_at_mut_checked(tag)?;
    if let (Some(vlan), Some(tag)) = (vlan, tag.first_chunk_mut()) {
        let ([a, b], [c, d]) = (ethernet::TYPE_TAG.to_be_bytes(), vlan.to_be_bytes());
        *tag = [a, b, c, d];
    }
    kind.copy_from_slice(&ether_type.to_be_bytes());
    Some(())
}

/// The Ethernet type of an IP family.
pub(crate) const fn ether_type(family: Family) -> u16 {
    match family {
        Family::V4 => ethernet::TYPE_IPV4,
        Family::V6 => ethernet::TYPE_IPV6,
    }
}
