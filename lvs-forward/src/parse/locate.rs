//! Where the headers of a frame stand.

use etherparse::{IpAuthHeaderSlice, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};
use lvs_core::Family;

use super::link::{Link, Malformed, ether_type};
use crate::checksum::Sum;
use crate::frame::Frame;
use crate::header::layout::{Fragment, Layout};
use crate::header::{ethernet, ipv4, ipv6, protocol};

/// What [`parse`](super::parse) finds before it looks into the transport.
pub(crate) enum Located {
    Arp(usize),
    Foreign,
    Ip(Layout),
}

/// The first half of [`parse`](super::parse): where things are.
#[inline]
pub(crate) fn locate(frame: &Frame<'_>, link: Link) -> Result<Located, Malformed> {
    let bytes = frame.bytes();
    let (network, ether_type) = match link {
        Link::Bare => match bytes.first().map(|byte| byte >> 4) {
            Some(4) => (0, ethernet::TYPE_IPV4),
            Some(6) => (0, ethernet::TYPE_IPV6),
            Some(_) => return Err(Malformed::Header),
            None => return Err(Malformed::Cut),
        },
        Link::Ethernet => ether_type(bytes).ok_or(Malformed::Cut)?,
    };
    let merged = frame.offload.merged.is_some();
    match ether_type {
        ethernet::TYPE_IPV4 => ipv4_layout(bytes, network, merged).map(Located::Ip),
        ethernet::TYPE_IPV6 => ipv6_layout(bytes, network, merged).map(Located::Ip),
        ethernet::TYPE_ARP => Ok(Located::Arp(network)),
        _ => Ok(Located::Foreign),
    }
}

fn ipv4_layout(bytes: &[u8], network: usize, merged: bool) -> Result<Layout, Malformed> {
    let packet = bytes.get(network..).ok_or(Malformed::Cut)?;
    let header: &[u8; ipv4::LEN] = packet.first_chunk().ok_or(Malformed::Cut)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < ipv4::LEN {
        return Err(Malformed::Header);
    }
    let total = usize::from(u16::from_be_bytes([header[ipv4::TOTAL_LEN], header[ipv4::TOTAL_LEN + 1]]));
    // Linux's BIG TCP writes 0 for lengths that the field cannot say, in merged frames only.
    if total == 0 && merged {
        return Err(Malformed::Jumbo);
    }
    if total < header_len {
        return Err(Malformed::Header);
    }
    if total > packet.len() {
        return Err(Malformed::Cut);
    }
    let sum = if header_len == ipv4::LEN {
        Sum::ZERO.bytes(header)
    } else {
        Sum::ZERO.bytes(packet.get(..header_len).ok_or(Malformed::Cut)?)
    };
    // Verified although hardware did so before: edits update the sum, and would carry a fault on.
    if sum.fold() != 0xffff {
        return Err(Malformed::Checksum);
    }
    let word = u16::from_be_bytes([header[ipv4::FRAGMENT], header[ipv4::FRAGMENT + 1]]);
    let fragment = fragment(word & ipv4::OFFSET_MASK != 0, word & ipv4::MORE_FRAGMENTS != 0);
    layout(network, network + header_len, network + total, Family::V4, header[ipv4::PROTOCOL], fragment)
}

fn ipv6_layout(bytes: &[u8], network: usize, merged: bool) -> Result<Layout, Malformed> {
    let packet = bytes.get(network..).ok_or(Malformed::Cut)?;
    let header: &[u8; ipv6::LEN] = packet.first_chunk().ok_or(Malformed::Cut)?;
    if header[0] >> 4 != 6 {
        return Err(Malformed::Header);
    }
    let next = header[ipv6::NEXT_HEADER];
    let payload = usize::from(u16::from_be_bytes([header[ipv6::PAYLOAD_LEN], header[ipv6::PAYLOAD_LEN + 1]]));
    if payload == 0 && (merged || next == protocol::HOP_BY_HOP) {
        return Err(Malformed::Jumbo);
    }
    let end = ipv6::LEN + payload;
    if end > packet.len() {
        return Err(Malformed::Cut);
    }
    let chain = match next {
        // Without extension headers, as nearly always, the general parser is not called.
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => {
            Chain { len: 0, protocol: next, fragment: Fragment::Whole }
        }
        _ => extensions(next, packet.get(ipv6::LEN..end).ok_or(Malformed::Cut)?)?,
    };
    layout(
        network,
        network + ipv6::LEN + chain.len,
        network + end,
        Family::V6,
        chain.protocol,
        chain.fragment,
    )
}

fn layout(
    network: usize,
    transport: usize,
    end: usize,
    family: Family,
    protocol: u8,
    fragment: Fragment,
) -> Result<Layout, Malformed> {
    let narrow = |offset: usize| u32::try_from(offset).map_err(|_| Malformed::Header);
    Ok(Layout {
        network: narrow(network)?,
        transport: narrow(transport)?,
        end: narrow(end)?,
        family,
        protocol,
        fragment,
    })
}

const fn fragment(offset: bool, more: bool) -> Fragment {
    match (offset, more) {
        (true, _) => Fragment::Later,
        (false, true) => Fragment::First,
        (false, false) => Fragment::Whole,
    }
}

/// What stands between an IPv6 header and its transport.
pub(crate) struct Chain {
    pub(crate) len: usize,
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
}

/// Follows IPv6 extension headers from `first` on. It ends at a later fragment: what stands there is payload.
pub(crate) fn extensions(first: u8, bytes: &[u8]) -> Result<Chain, Malformed> {
    let mut chain = Chain { len: 0, protocol: first, fragment: Fragment::Whole };
    loop {
        let rest = bytes.get(chain.len..).ok_or(Malformed::Cut)?;
        match chain.protocol {
            // RFC 8200 §4.1: only directly after the IPv6 header.
            protocol::HOP_BY_HOP if chain.len > 0 => return Err(Malformed::Header),
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| Malformed::Cut)?;
                chain.len += header.slice().len();
                chain.protocol = header.next_header().0;
            }
            protocol::FRAGMENT => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| Malformed::Cut)?;
                chain.len += header.slice().len();
                chain.protocol = header.next_header().0;
                chain.fragment = fragment(header.fragment_offset().value() != 0, header.more_fragments());
                // What stands behind is payload, whatever it looks like.
                if chain.fragment == Fragment::Later {
                    return Ok(chain);
                }
            }
            protocol::AUTHENTICATION => {
                let header = IpAuthHeaderSlice::from_slice(rest).map_err(|_| Malformed::Cut)?;
                chain.len += header.slice().len();
                chain.protocol = header.next_header().0;
            }
            _ => return Ok(chain),
        }
    }
}
