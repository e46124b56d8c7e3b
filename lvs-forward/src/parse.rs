//! From bytes to offsets and facts, once per frame.
//!
//! Plain headers are read by hand: this runs for every packet. IPv6 extension headers, which are rare, are
//! etherparse's. Reading list: RFC 791 §3.1, RFC 8200 §3-4, RFC 2675 (jumbograms), RFC 792, RFC 4443.

use core::fmt;

use etherparse::{IpAuthHeaderSlice, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};
use lvs_core::{Addresses, Chunk, Content, Family, Flow, Packet, Protocol, TcpFlags};

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::icmp::Embedded;
use crate::layout::{Fragment, Layout, addresses_at};
use crate::wire::{array, ethernet, get16, icmp, ipv4, ipv6, protocol, sctp, tcp, udp};

/// How the frames of a port begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every place that writes a link header must handle each")]
pub enum Link {
    /// With the IP header at once (TUN devices).
    Bare,
    /// With an Ethernet II header and up to two VLAN tags.
    Ethernet,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever handles frames must handle each")]
pub enum Parsed {
    /// An ARP packet, from this offset.
    Arp(usize),
    /// Of an Ethernet type that is neither IPv4, IPv6 nor ARP.
    Foreign,
    /// An IP packet.
    Ip(Layout, Meaning),
}

/// What an IP packet is to the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever handles packets must handle each")]
pub enum Meaning {
    /// An ICMP or `ICMPv6` message of this type that is about no connection.
    Control(u8),
    /// An ICMP or `ICMPv6` error about a packet of a protocol that can be balanced. Its [`Packet::flow`] is the embedded
    /// packet's, reversed.
    Error(Packet, Embedded),
    /// A packet of a protocol that can be balanced.
    Flow(Packet),
    /// Any other protocol.
    Other,
    /// An ICMP error about an IP in IP or GRE packet, perhaps one of our own tunnels.
    Wrapped(Embedded),
}

/// What is wrong with a frame that cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each is a counted reason")]
pub enum Malformed {
    /// The IPv4 header checksum is wrong.
    Checksum,
    /// The frame ends inside a header, or before the length that its IP header states.
    Cut,
    /// An impossible version, header length or order of extension headers.
    Header,
    /// Longer than 65,535 bytes: a jumbogram (RFC 2675) or what Linux calls BIG TCP. Lower the sending interface's
    /// `gso_max_size` and `gro_max_size` (`gso_ipv4_max_size`, `gro_ipv4_max_size`) to 65,535 or less.
    Jumbo,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "the IPv4 header checksum is wrong",
            Self::Cut => "the frame ends before its headers say so",
            Self::Header => "a header field has an impossible value",
            Self::Jumbo => "the packet is longer than 65535 bytes",
        })
    }
}

impl core::error::Error for Malformed {}

/// Finds the parts of `frame` and what it says. Padding after the IP packet is left out of the layout.
///
/// The [`Packet`] says [`Path::Local`](lvs_core::Path::Local); who knows the own addresses corrects that.
///
/// # Errors
///
/// [`Malformed`], when following the headers would leave the frame.
///
/// ```
/// use lvs_forward::parse::{Link, Malformed, parse};
/// use lvs_forward::{Frame, PortId};
/// let mut bytes = [0; 60];
/// let frame = Frame::new(&mut bytes, 0, 13, PortId(0)).unwrap();
/// assert_eq!(parse(&frame, Link::Ethernet), Err(Malformed::Cut));
/// ```
pub fn parse(frame: &Frame<'_>, link: Link) -> Result<Parsed, Malformed> {
    match locate(frame, link)? {
        Located::Arp(at) => Ok(Parsed::Arp(at)),
        Located::Foreign => Ok(Parsed::Foreign),
        Located::Ip(layout) => {
            let meaning = match Protocol::from_number(layout.protocol) {
                Some(balanced) => Meaning::Flow(flow(frame, &layout, balanced)?),
                None => match ipsec(frame, &layout) {
                    Some(packet) => Meaning::Flow(packet),
                    None => control(frame, &layout)?,
                },
            };
            Ok(Parsed::Ip(layout, meaning))
        }
    }
}

/// What [`parse`] finds before it looks into the transport.
pub(crate) enum Located {
    Arp(usize),
    Foreign,
    Ip(Layout),
}

/// The first half of [`parse`]: where things are.
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

/// Where the network header starts, and the Ethernet type behind all tags.
pub(crate) fn ether_type(bytes: &[u8]) -> Option<(usize, u16)> {
    let mut at = ethernet::TYPE;
    let mut found = get16(bytes, at)?;
    for _ in 0..ethernet::MAX_TAGS {
        match found {
            ethernet::TYPE_TAG | ethernet::TYPE_SERVICE_TAG => {
                at += ethernet::TAG_LEN;
                found = get16(bytes, at)?;
            }
            _ => break,
        }
    }
    Some((at + 2, found))
}

fn ipv4_layout(bytes: &[u8], network: usize, merged: bool) -> Result<Layout, Malformed> {
    let packet = bytes.get(network..).ok_or(Malformed::Cut)?;
    let header: &[u8; ipv4::LEN] = packet.first_chunk().ok_or(Malformed::Cut)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < ipv4::LEN {
        return Err(Malformed::Header);
    }
    let total = usize::from(u16::from_be_bytes([header[ipv4::TOTAL_LEN], header[ipv4::TOTAL_LEN + 1]]));
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

/// The packet of a protocol that can be balanced.
#[inline(always)]
pub(crate) fn flow(frame: &Frame<'_>, layout: &Layout, balanced: Protocol) -> Result<Packet, Malformed> {
    let bytes = frame.bytes();
    let (source_port, destination_port, content) = if layout.fragment == Fragment::Later {
        (0, 0, Content::Fragment)
    } else {
        transport(bytes, layout, balanced).ok_or(Malformed::Cut)?
    };
    let addresses = addresses_at(bytes, layout.network(), layout.family).ok_or(Malformed::Cut)?;
    let flow = Flow { protocol: balanced, addresses, source_port, destination_port };
    let length = layout.end - layout.network;
    Ok(Packet::new(flow, content, length).marked(frame.mark))
}

/// AH and ESP, which follow a key exchange between the same hosts.
pub(crate) const fn is_ipsec(protocol: u8) -> bool {
    matches!(protocol, protocol::AUTHENTICATION | protocol::ESP)
}

/// The flow that AH and ESP packets between these addresses belong to: the key exchange's (RFC 7296 §2).
pub(crate) const fn ipsec_flow(addresses: Addresses) -> Flow {
    Flow { protocol: Protocol::Udp, addresses, source_port: KEY_EXCHANGE, destination_port: KEY_EXCHANGE }
}

/// An AH or ESP packet, in fragments or not. Behind an IPv6 AH stands the packet that it belongs to, which is the one that counts.
pub(crate) fn ipsec(frame: &Frame<'_>, layout: &Layout) -> Option<Packet> {
    if !is_ipsec(layout.protocol) {
        return None;
    }
    let flow = ipsec_flow(layout.addresses(frame.bytes())?);
    Some(Packet::new(flow, Content::Ipsec, layout.end - layout.network).marked(frame.mark))
}

/// The port of the Internet key exchange.
const KEY_EXCHANGE: u16 = 500;

/// What a packet of another protocol is.
pub(crate) fn control(frame: &Frame<'_>, layout: &Layout) -> Result<Meaning, Malformed> {
    let bytes = frame.bytes();
    let control = match layout.family {
        Family::V4 => layout.protocol == protocol::ICMP,
        Family::V6 => layout.protocol == protocol::ICMPV6,
    };
    // An ICMP message in fragments can be neither verified nor translated.
    if !control || layout.fragment != Fragment::Whole {
        return Ok(Meaning::Other);
    }
    let message = bytes.get(layout.transport()..layout.end()).ok_or(Malformed::Cut)?;
    let header: &[u8; icmp::LEN] = message.first_chunk().ok_or(Malformed::Cut)?;
    let kind = header[0];
    if !crate::icmp::is_error(layout.family, kind) {
        return Ok(Meaning::Control(kind));
    }
    let Some(embedded) = Embedded::find(message.get(icmp::LEN..).unwrap_or_default(), layout) else {
        return Ok(Meaning::Control(kind));
    };
    Ok(match embedded.flow(bytes) {
        Some(flow) => {
            let length = layout.end - layout.network;
            Meaning::Error(Packet::new(flow.reversed(), Content::Error, length).marked(frame.mark), embedded)
        }
        None => match embedded.protocol {
            protocol::IPIP | protocol::GRE => Meaning::Wrapped(embedded),
            _ => Meaning::Control(kind),
        },
    })
}

/// Ports and content of a whole or first fragment.
#[inline(always)]
fn transport(bytes: &[u8], layout: &Layout, balanced: Protocol) -> Option<(u16, u16, Content)> {
    let segment = bytes.get(layout.transport()..layout.end())?;
    let ports = |header: &[u8]| Some((get16(header, 0)?, get16(header, 2)?));
    let (header_len, content) = match balanced {
        Protocol::Tcp => {
            (tcp::LEN, Content::Tcp(TcpFlags::from_byte(segment.first_chunk::<{ tcp::LEN }>()?[tcp::FLAGS])))
        }
        Protocol::Udp => (udp::LEN, Content::Udp),
        Protocol::Sctp => {
            let &[kind, ..] = array::<4>(segment, sctp::LEN)?;
            (sctp::LEN, Content::Sctp(Chunk::from_type(kind)))
        }
    };
    let (source, destination) = ports(segment.get(..header_len)?)?;
    Some((source, destination, content))
}
