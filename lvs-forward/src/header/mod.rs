//! Where header fields stand, counted from the header's first byte, and checked access to them.

pub(crate) mod address;
pub(crate) mod edit;
pub(crate) mod icmp;
pub(crate) mod layout;
pub(crate) mod options;

/// `N` bytes from `at`, if they are there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// `N` bytes from `at` for editing, if they are there.
pub(crate) fn array_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

/// The big-endian 16-bit field at `at`.
pub(crate) fn get16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(|&field| u16::from_be_bytes(field))
}

/// The big-endian 32-bit field at `at`.
pub(crate) fn get32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(|&field| u32::from_be_bytes(field))
}

/// Writes the big-endian 16-bit field at `at`.
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    *array_mut(bytes, at)? = value.to_be_bytes();
    Some(())
}

/// Writes the big-endian 32-bit field at `at`.
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) -> Option<()> {
    *array_mut(bytes, at)? = value.to_be_bytes();
    Some(())
}

/// Ethernet II (IEEE 802.3 §3.2.6) and 802.1Q tags.
pub(crate) mod ethernet {
    pub(crate) const DESTINATION: usize = 0;
    pub(crate) const SOURCE: usize = 6;
    pub(crate) const TYPE: usize = 12;
    pub(crate) const LEN: usize = 14;
    /// Length of one 802.1Q tag.
    pub(crate) const TAG_LEN: usize = 4;
    /// Tags that are looked through: a service tag and a customer tag.
    pub(crate) const MAX_TAGS: usize = 2;

    pub(crate) const TYPE_IPV4: u16 = 0x0800;
    pub(crate) const TYPE_ARP: u16 = 0x0806;
    pub(crate) const TYPE_TAG: u16 = 0x8100;
    pub(crate) const TYPE_IPV6: u16 = 0x86dd;
    pub(crate) const TYPE_SERVICE_TAG: u16 = 0x88a8;
}

/// IPv4 (RFC 791 §3.1).
pub(crate) mod ipv4 {
    pub(crate) const TOS: usize = 1;
    pub(crate) const TOTAL_LEN: usize = 2;
    pub(crate) const ID: usize = 4;
    pub(crate) const FRAGMENT: usize = 6;
    pub(crate) const TTL: usize = 8;
    pub(crate) const PROTOCOL: usize = 9;
    pub(crate) const CHECKSUM: usize = 10;
    pub(crate) const SOURCE: usize = 12;
    pub(crate) const DESTINATION: usize = 16;
    pub(crate) const LEN: usize = 20;

    pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
    pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
    pub(crate) const OFFSET_MASK: u16 = 0x1fff;
}

/// IPv6 (RFC 8200 §3 and §4.5).
pub(crate) mod ipv6 {
    pub(crate) const PAYLOAD_LEN: usize = 4;
    pub(crate) const NEXT_HEADER: usize = 6;
    pub(crate) const HOP_LIMIT: usize = 7;
    pub(crate) const SOURCE: usize = 8;
    pub(crate) const DESTINATION: usize = 24;
    pub(crate) const LEN: usize = 40;
    /// Length of the fragment extension header.
    pub(crate) const FRAGMENT_LEN: usize = 8;
}

/// TCP (RFC 9293 §3.1).
pub(crate) mod tcp {
    pub(crate) const SEQUENCE: usize = 4;
    pub(crate) const ACKNOWLEDGEMENT: usize = 8;
    pub(crate) const DATA_OFFSET: usize = 12;
    pub(crate) const FLAGS: usize = 13;
    pub(crate) const CHECKSUM: usize = 16;
    pub(crate) const LEN: usize = 20;

    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const CWR: u8 = 0x80;
}

/// UDP (RFC 768).
pub(crate) mod udp {
    pub(crate) const LENGTH: usize = 4;
    pub(crate) const CHECKSUM: usize = 6;
    pub(crate) const LEN: usize = 8;
}

/// SCTP (RFC 9260 §3.1).
pub(crate) mod sctp {
    pub(crate) const CHECKSUM: usize = 8;
    pub(crate) const LEN: usize = 12;
}

/// GRE (RFC 2784 §2).
pub(crate) mod gre {
    /// Length without a checksum.
    pub(crate) const LEN: usize = 4;
    /// Length of the checksum with the reserved half-word.
    pub(crate) const CHECKSUM_LEN: usize = 4;
    /// The flag "checksum present".
    pub(crate) const HAS_CHECKSUM: u16 = 0x8000;
}

/// GUE (draft-ietf-intarea-gue-09 §3), variant 0 without options.
pub(crate) mod gue {
    pub(crate) const LEN: usize = 4;
}

/// IANA protocol numbers.
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IPIP: u8 = 4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const ESP: u8 = 50;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const NO_NEXT_HEADER: u8 = 59;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
    pub(crate) const SCTP: u8 = 132;
}
