//! The packet that an ICMP error quotes.

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use lvs_core::{Family, Flow, Protocol};

use super::locate::extensions;
use super::packet::{ipsec_flow, is_ipsec};
use crate::header::layout::{Fragment, Layout, addresses_at};
use crate::header::{get16, icmp};

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

    /// The five-tuple of the quoted packet as it was sent. `None` when its protocol is not balanced, or its ports are
    /// not quoted, as in a later fragment. AH and ESP need none.
    pub(crate) fn flow(&self, bytes: &[u8]) -> Option<Flow> {
        if is_ipsec(self.protocol) {
            return addresses_at(bytes, self.network(), self.family).map(ipsec_flow);
        }
        let protocol = Protocol::from_number(self.protocol)?;
        // A later fragment quotes payload where ports would stand.
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

    /// The quoted packet's place after the frame has lost its first `count` bytes.
    pub(crate) fn without_front(mut self, count: usize) -> Option<Self> {
        let count = u32::try_from(count).ok()?;
        self.network = self.network.checked_sub(count)?;
        self.transport = self.transport.checked_sub(count)?;
        Some(self)
    }
}
