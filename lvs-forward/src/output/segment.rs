//! A merged frame becomes its segments.
//!
//! Reading list: RFC 9293 §3.1 (sequence numbers), RFC 3168 §6.1.2 (CWR on the first segment only), RFC 6864.

use lvs_core::Family;

use super::cut::Cut;
use super::fragment;
use super::place::Place;
use crate::checksum::Sum;
use crate::frame::{Checksum, Frame, Merged, MergedKind};
use crate::header::edit::write_header_checksum;
use crate::header::layout::{Fragment, Layout};
use crate::header::{array_mut, get16, get32, gre, gue, ipv4, ipv6, protocol, put16, put32, tcp, udp};
use crate::offload::{merged_payload, write_full};
use crate::parse::extensions;
use crate::reason::DropReason;

/// The longest headers that can be repeated: link, outer, inner and transport header, with some options.
const MAX_HEADERS: usize = 256;

/// A merged frame that is being cut into segments, whose headers are kept aside.
#[derive(Debug)]
pub(super) struct Segments {
    /// From the buffer's first byte to the frame.
    start: usize,
    plan: Plan,
    headers: [u8; MAX_HEADERS],
    payload: usize,
    /// Payload bytes in the segments that were made; `None` after the last one.
    done: Option<usize>,
}

impl Segments {
    /// Begins to cut a merged frame whose first IP header is at `network`. From then on the frame is no merged one any
    /// more.
    pub(super) fn of(frame: &mut Frame<'_>, network: usize, cut: Cut) -> Result<Self, DropReason> {
        let merged = frame.offload.merged.ok_or(DropReason::Offload)?;
        let plan = Plan::of(frame, network, merged).ok_or(DropReason::Offload)?;
        let mut headers = [0; MAX_HEADERS];
        let kept = headers.get_mut(..plan.headers).ok_or(DropReason::Offload)?;
        kept.copy_from_slice(frame.bytes().get(..plan.headers).ok_or(DropReason::Offload)?);
        if plan.headers + plan.size > network + usize::from(cut.mtu) {
            // Found out before the first segment is made: a receiver could do nothing with some of them.
            fragment::check(frame.bytes(), network, cut)?;
        }
        frame.offload.merged = None;
        frame.offload.checksum = Checksum::Complete;
        let payload = frame.len() - plan.headers;
        Ok(Self { start: frame.headroom(), plan, headers, payload, done: Some(0) })
    }

    /// Finishes the next segment in place, in the frame that this was made of.
    pub(super) fn next(&mut self, frame: &mut Frame<'_>) -> Result<Option<Place>, DropReason> {
        let Some(done) = self.done else { return Ok(None) };
        let plan = &self.plan;
        let len = plan.size.min(self.payload - done);
        let last = done + len == self.payload;
        let start = self.start + done;
        let place = Place { start, end: start + plan.headers + len };
        let mut piece = frame.window(place.start, place.end).ok_or(DropReason::Offload)?;
        let bytes = piece.bytes_mut();
        let headers = self.headers.get(..plan.headers).ok_or(DropReason::Offload)?;
        bytes.get_mut(..headers.len()).ok_or(DropReason::Offload)?.copy_from_slice(headers);
        let index = (done / plan.size) as u16;
        plan.finish(bytes, index, done, last).ok_or(DropReason::Offload)?;
        self.done = (!last).then_some(done + len);
        Ok(Some(place))
    }
}

/// Where the headers of a merged frame stand.
#[derive(Debug)]
struct Plan {
    /// First IP header, and the header behind it, when the packet is wrapped.
    outer: Option<(usize, usize)>,
    /// The IP header of the segments, and their transport header.
    network: usize,
    transport: usize,
    protocol: u8,
    family: Family,
    /// Length of all headers.
    headers: usize,
    /// Payload of every segment but the last.
    size: usize,
}

impl Plan {
    fn of(frame: &Frame<'_>, network: usize, merged: Merged) -> Option<Self> {
        let bytes = frame.bytes();
        let (first, next) = first_transport(bytes, network)?;
        // Our tunnels leave the inner checksum partial, which so tells where the packet inside begins.
        let wrapped = match frame.offload.checksum {
            Checksum::Complete => false,
            Checksum::Partial { start, .. } => usize::from(start) != first,
        };
        let (outer, network, transport, protocol) = if wrapped {
            let inner = first + shim_len(bytes, first, next)?;
            let (transport, protocol) = first_transport(bytes, inner)?;
            (Some((network, first)), inner, transport, protocol)
        } else {
            (None, network, first, next)
        };
        if let Checksum::Partial { start, .. } = frame.offload.checksum
            && usize::from(start) != transport
        {
            return None;
        }
        let family = family_at(bytes, network)?;
        let expected = match merged.kind {
            MergedKind::TcpV4 => (Family::V4, protocol::TCP),
            MergedKind::TcpV6 => (Family::V6, protocol::TCP),
            MergedKind::Udp => (family, protocol::UDP),
        };
        if expected != (family, protocol) || merged.segment == 0 {
            return None;
        }
        let layout = layout(bytes, network, transport, protocol, family);
        let (headers, _) = merged_payload(bytes, &layout)?;
        Some(Self { outer, network, transport, protocol, family, headers, size: usize::from(merged.segment) })
    }

    /// Makes the copied headers true for the segment in `bytes`: the `index`th, whose payload starts `done` bytes into
    /// the whole.
    fn finish(&self, bytes: &mut [u8], index: u16, done: usize, last: bool) -> Option<()> {
        match self.protocol {
            protocol::TCP => {
                let sequence = get32(bytes, self.transport + tcp::SEQUENCE)?;
                put32(bytes, self.transport + tcp::SEQUENCE, sequence.wrapping_add(done as u32))?;
                let flags: &mut [u8; 1] = array_mut(bytes, self.transport + tcp::FLAGS)?;
                // The end belongs to the last byte, and the window was reduced once (RFC 3168 §6.1.2).
                if !last {
                    flags[0] &= !(tcp::FIN | tcp::PSH);
                }
                if index > 0 {
                    flags[0] &= !tcp::CWR;
                }
            }
            _ => {
                let len = u16::try_from(bytes.len() - self.transport).ok()?;
                put16(bytes, self.transport + udp::LENGTH, len)?;
            }
        }
        // Identifications have to differ where a segment may be fragmented on its way (RFC 6864 §4.3).
        set_length(bytes, self.network, self.family, Some(index))?;
        let inner = layout(bytes, self.network, self.transport, self.protocol, self.family);
        write_full(bytes, &inner)?;
        match self.outer {
            Some((network, transport)) => finish_outer(bytes, network, transport, index),
            None => Some(()),
        }
    }
}

fn finish_outer(bytes: &mut [u8], network: usize, transport: usize, index: u16) -> Option<()> {
    let family = family_at(bytes, network)?;
    let (_, next) = first_transport(bytes, network)?;
    match next {
        protocol::UDP => {
            let len = u16::try_from(bytes.len() - transport).ok()?;
            put16(bytes, transport + udp::LENGTH, len)?;
            // Not 0 is the wrapper's mark that a checksum is wanted.
            if get16(bytes, transport + udp::CHECKSUM)? != 0 {
                let outer = layout(bytes, network, transport, protocol::UDP, family);
                write_full(bytes, &outer)?;
            }
        }
        protocol::GRE if get16(bytes, transport)? & gre::HAS_CHECKSUM != 0 => {
            put16(bytes, transport + gre::LEN, 0)?;
            let checksum = Sum::ZERO.bytes(bytes.get(transport..)?).checksum();
            put16(bytes, transport + gre::LEN, checksum)?;
        }
        _ => {}
    }
    // With DF the identification means nothing and stays 0 (RFC 6864 §4.1).
    let free = family == Family::V4 && get16(bytes, network + ipv4::FRAGMENT)? & ipv4::DONT_FRAGMENT == 0;
    set_length(bytes, network, family, free.then_some(index))
}

/// Writes the length of the packet that starts at `network` and ends with `bytes`; counts the IPv4 identification up.
pub(super) fn set_length(bytes: &mut [u8], network: usize, family: Family, index: Option<u16>) -> Option<()> {
    let len = bytes.len().checked_sub(network)?;
    match family {
        Family::V4 => {
            put16(bytes, network + ipv4::TOTAL_LEN, u16::try_from(len).ok()?)?;
            let identification = get16(bytes, network + ipv4::ID)?;
            put16(bytes, network + ipv4::ID, identification.wrapping_add(index.unwrap_or(0)))?;
            let header_len = usize::from(bytes.get(network)? & 0x0f) * 4;
            write_header_checksum(bytes, network, header_len)
        }
        Family::V6 => {
            put16(bytes, network + ipv6::PAYLOAD_LEN, u16::try_from(len.checked_sub(ipv6::LEN)?).ok()?)
        }
    }
}

/// The transport header behind the IP header at `network`, and its protocol. Lengths are not looked at: those of a
/// merged frame may be too large to be said.
pub(super) fn first_transport(bytes: &[u8], network: usize) -> Option<(usize, u8)> {
    match family_at(bytes, network)? {
        Family::V4 => {
            let header = bytes.get(network..)?.first_chunk::<{ ipv4::LEN }>()?;
            let len = usize::from(header[0] & 0x0f) * 4;
            (len >= ipv4::LEN).then_some((network + len, header[ipv4::PROTOCOL]))
        }
        Family::V6 => {
            let (header, rest) = bytes.get(network..)?.split_first_chunk::<{ ipv6::LEN }>()?;
            let chain = extensions(header[ipv6::NEXT_HEADER], rest).ok()?;
            Some((network + ipv6::LEN + chain.len, chain.protocol))
        }
    }
}

/// Length of what stands between an outer IP header and the packet inside.
fn shim_len(bytes: &[u8], at: usize, next: u8) -> Option<usize> {
    match next {
        protocol::IPIP | protocol::IPV6 => Some(0),
        protocol::GRE => {
            let checksum = get16(bytes, at)? & gre::HAS_CHECKSUM != 0;
            Some(if checksum { gre::LEN + gre::CHECKSUM_LEN } else { gre::LEN })
        }
        protocol::UDP => Some(udp::LEN + gue::LEN),
        _ => None,
    }
}

fn family_at(bytes: &[u8], network: usize) -> Option<Family> {
    match bytes.get(network)? >> 4 {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        _ => None,
    }
}

fn layout(bytes: &[u8], network: usize, transport: usize, protocol: u8, family: Family) -> Layout {
    Layout {
        network: network as u32,
        transport: transport as u32,
        end: bytes.len() as u32,
        family,
        protocol,
        fragment: Fragment::Whole,
    }
}
