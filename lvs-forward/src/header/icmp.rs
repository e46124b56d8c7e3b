//! ICMP (RFC 792) and `ICMPv6` (RFC 4443): the first eight bytes are alike.

use lvs_core::Family;

pub(crate) const CHECKSUM: usize = 2;
pub(crate) const LEN: usize = 8;

/// Message types of ICMP.
pub(crate) mod v4 {
    pub(crate) const ECHO_REPLY: u8 = 0;
    pub(crate) const UNREACHABLE: u8 = 3;
    pub(crate) const SOURCE_QUENCH: u8 = 4;
    pub(crate) const ECHO_REQUEST: u8 = 8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(crate) const PARAMETER_PROBLEM: u8 = 12;
    pub(crate) const TIMESTAMP_REQUEST: u8 = 13;
    pub(crate) const TIMESTAMP_REPLY: u8 = 14;

    /// Codes of "unreachable".
    pub(crate) const NETWORK: u8 = 0;
    pub(crate) const HOST: u8 = 1;
    pub(crate) const PROTOCOL: u8 = 2;
    pub(crate) const PORT: u8 = 3;
    pub(crate) const FRAGMENTATION_NEEDED: u8 = 4;
}

/// Message types of `ICMPv6`.
pub(crate) mod v6 {
    pub(crate) const UNREACHABLE: u8 = 1;
    pub(crate) const TOO_BIG: u8 = 2;
    pub(crate) const TIME_EXCEEDED: u8 = 3;
    pub(crate) const PARAMETER_PROBLEM: u8 = 4;
    pub(crate) const ECHO_REQUEST: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
    pub(crate) const SOLICITATION: u8 = 135;
    pub(crate) const ADVERTISEMENT: u8 = 136;
    pub(crate) const REDIRECT: u8 = 137;

    /// Codes of "unreachable".
    pub(crate) const NO_ROUTE: u8 = 0;
    pub(crate) const ADDRESS: u8 = 3;
    pub(crate) const PORT: u8 = 4;

    /// Code of "parameter problem".
    pub(crate) const NEXT_HEADER: u8 = 1;
}

/// Whether messages of this type are errors that IPVS relates to connections: of ICMP destination unreachable, source
/// quench and time exceeded, of `ICMPv6` every error type.
pub(crate) const fn is_error(family: Family, kind: u8) -> bool {
    match family {
        Family::V4 => matches!(kind, v4::UNREACHABLE | v4::SOURCE_QUENCH | v4::TIME_EXCEEDED),
        Family::V6 => kind < 128,
    }
}
