//! ICMP and `ICMPv6`: errors about forwarded packets, errors of our own, and pings.
//!
//! Reading list: RFC 792, RFC 1122 §3.2.2, RFC 1191, RFC 4443, RFC 5508 §7 (what a translator does with errors).

pub(crate) mod answer;
pub(crate) mod error;
mod translate;
pub(crate) mod tunnel;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use lvs_core::{Family, Flow, Protocol};

use crate::layout::{Fragment, Layout, addresses_at};
use crate::parse::{extensions, ipsec_flow, is_ipsec};
use crate::wire::{get16, icmp};

pub use error::Complaint;
pub use translate::translate;

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

/// The client's request in the tunnel that an ICMP error may be about: its flow points from the client to the virtual service. `bytes` are
/// those of the frame with the error. `None` when what is quoted is not wrapped as tunnels here wrap IPv4.
#[must_use]
pub fn tunnelled_flow(bytes: &[u8], layout: &Layout, embedded: &Embedded) -> Option<Flow> {
    tunnel::TunnelError::find(bytes, layout, embedded).map(|(packet, _)| packet.flow)
}

/// Where the packet that an ICMP error quotes stands. Its IP header is quoted whole; of its transport there may be
/// as little as four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    pub(crate) network: u32,
    pub(crate) transport: u32,
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
}

impl Embedded {
    /// Looks at what the message of `layout` quotes. `None` when that does not begin with a whole IP header of the same
    /// family.
    pub(crate) fn find(quoted: &[u8], layout: &Layout) -> Option<Self> {
        let network = layout.transport.checked_add(icmp::LEN as u32)?;
        Self::at(quoted, network, layout.family)
    }

    /// Looks at the packet in `quoted`, which stands at `network` in its frame.
    pub(crate) fn at(quoted: &[u8], network: u32, family: Family) -> Option<Self> {
        let (header_len, protocol, fragment) = match family {
            Family::V4 => {
                let header = Ipv4HeaderSlice::from_slice(quoted).ok()?;
                let fragment = match (header.fragments_offset().value(), header.more_fragments()) {
                    (0, false) => Fragment::Whole,
                    (0, true) => Fragment::First,
                    (1.., _) => Fragment::Later,
                };
                (header.slice().len(), header.protocol().0, fragment)
            }
            Family::V6 => {
                let header = Ipv6HeaderSlice::from_slice(quoted).ok()?;
                let chain = extensions(header.next_header().0, quoted.get(header.slice().len()..)?).ok()?;
                (header.slice().len() + chain.len, chain.protocol, chain.fragment)
            }
        };
        let transport = network.checked_add(u32::try_from(header_len).ok()?)?;
        Some(Self { network, transport, family, protocol, fragment })
    }

    /// From the frame's first byte to the quoted IP header.
    #[must_use]
    pub const fn network(&self) -> usize {
        self.network as usize
    }

    /// From the frame's first byte to the quoted transport header.
    #[must_use]
    pub const fn transport(&self) -> usize {
        self.transport as usize
    }

    /// The five-tuple of the quoted packet as it was sent. `None` when its protocol is not balanced, or its ports are not
    /// quoted, as in a later fragment. AH and ESP need none.
    pub(crate) fn flow(&self, bytes: &[u8]) -> Option<Flow> {
        if is_ipsec(self.protocol) {
            return addresses_at(bytes, self.network(), self.family).map(ipsec_flow);
        }
        let protocol = Protocol::from_number(self.protocol)?;
        if self.fragment == Fragment::Later {
            return None;
        }
        Some(Flow {
            protocol,
            addresses: addresses_at(bytes, self.network(), self.family)?,
            source_port: get16(bytes, self.transport())?,
            destination_port: get16(bytes, self.transport() + 2)?,
        })
    }

    /// The same offsets after the frame has lost its first `count` bytes.
    pub(crate) fn without_front(mut self, count: usize) -> Option<Self> {
        let count = u32::try_from(count).ok()?;
        self.network = self.network.checked_sub(count)?;
        self.transport = self.transport.checked_sub(count)?;
        Some(self)
    }
}
