//! A merged frame that is longer than IP can say becomes several merged frames that are not.
//!
//! Linux merges TCP segments beyond 64 KiB where an interface allows that (`gso_max_size` and `gro_max_size` of
//! `ip-link(8)`, known as BIG TCP). IPv4's total length is 0 then, and so is IPv6's payload length, behind whose header
//! some versions put a hop-by-hop header with the jumbo payload option (RFC 2675 §2). No such packet is ever on a
//! wire: whoever sends the segments writes ordinary lengths.

use lvs_core::Family;

use super::place::network;
use super::segment::set_length;
use crate::checksum::Sum;
use crate::frame::{Checksum, Frame, Merged, MergedKind, Offload};
use crate::header::layout::{Fragment, Layout};
use crate::header::{array_mut, get16, get32, ipv4, ipv6, protocol, put16, put32, tcp};
use crate::offload::pseudo_header;
use crate::parse::Link;

/// The longest headers that are repeated: a link header with two tags, an IPv4 header with options, and TCP's.
const MAX_HEADERS: usize = 22 + 60 + 60;

/// The longest IP packet whose length can be said, IPv6's header included, so that no link is too short for it.
const MAX_PACKET: usize = u16::MAX as usize;

/// The parts of a merged TCP frame that is longer than IP can say, each a merged frame of whole segments, lent until
/// the next one is asked for.
///
/// A part is made in place, over payload that was handed on before. What was not asked for when this is dropped is lost
/// with the frame's bytes.
#[derive(Debug)]
pub struct Parts<'f, 'b> {
    frame: &'f mut Frame<'b>,
    merged: Merged,
    /// The headers of every part.
    headers: [u8; MAX_HEADERS],
    layout: Layout,
    /// Length of the headers of every part.
    length: usize,
    /// From the buffer's first byte to the payload.
    payload: usize,
    /// From there to the end.
    remaining: usize,
    /// Payload of every part but the last.
    size: usize,
    /// Payload bytes in the parts that were made; `None` after the last one.
    done: Option<usize>,
}

impl<'f, 'b> Parts<'f, 'b> {
    /// Begins to part a frame of a port with such a link; `None` for any other frame than a sound one of that kind.
    pub fn of(frame: &'f mut Frame<'b>, link: Link) -> Option<Self> {
        let merged = frame.offload.merged?;
        if frame.len() <= MAX_PACKET {
            return None;
        }
        let network = network(frame, link)?;
        let found = Found::of(frame.bytes(), network, merged.kind)?;
        let bytes = frame.bytes();
        let length = found.headers - found.extra;
        let mut headers = [0; MAX_HEADERS];
        let kept = headers.get_mut(..length)?;
        let (before, transport) = kept.split_at_mut_checked(found.transport - found.extra)?;
        before.copy_from_slice(bytes.get(..before.len())?);
        transport.copy_from_slice(bytes.get(found.transport..found.headers)?);
        if found.family == Family::V6 {
            // TCP stands at once behind the header, whatever there was.
            *before.get_mut(network + ipv6::NEXT_HEADER)? = protocol::TCP;
        }
        let segment = usize::from(merged.segment);
        let size = (MAX_PACKET - (length - network)).checked_div(segment)? * segment;
        if size == 0 {
            return None;
        }
        let layout = Layout {
            network: u32::try_from(network).ok()?,
            transport: u32::try_from(found.transport - found.extra).ok()?,
            end: 0,
            family: found.family,
            protocol: protocol::TCP,
            fragment: Fragment::Whole,
        };
        let payload = frame.headroom() + found.headers;
        let remaining = frame.len() - found.headers;
        Some(Self { frame, merged, headers, layout, length, payload, remaining, size, done: Some(0) })
    }

    /// The next part, or `None` after the last one.
    #[expect(clippy::should_implement_trait, reason = "an Iterator's items cannot borrow from it")]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        let done = self.done?;
        let segment = usize::from(self.merged.segment);
        let len = self.size.min(self.remaining - done);
        let last = done + len == self.remaining;
        self.done = (!last).then_some(done + len);
        let start = (self.payload + done).checked_sub(self.length)?;
        let mut part = self.frame.window(start, start + self.length + len)?;
        let layout = self.layout.with_end(self.length + len)?;
        let bytes = part.bytes_mut();
        bytes.get_mut(..self.length)?.copy_from_slice(self.headers.get(..self.length)?);
        let transport = layout.transport();
        let sequence = get32(bytes, transport + tcp::SEQUENCE)?;
        put32(bytes, transport + tcp::SEQUENCE, sequence.wrapping_add(done as u32))?;
        let flags: &mut [u8; 1] = array_mut(bytes, transport + tcp::FLAGS)?;
        // As for segments: the end belongs to the last byte, and the window was reduced once (RFC 3168 §6.1.2).
        if !last {
            flags[0] &= !(tcp::FIN | tcp::PSH);
        }
        if done > 0 {
            flags[0] &= !tcp::CWR;
        }
        // Identifications count segments, of which each part has so many.
        set_length(bytes, layout.network(), layout.family, Some((done / segment) as u16))?;
        let sum = pseudo_header(bytes, &layout)?;
        put16(bytes, transport + tcp::CHECKSUM, sum.fold())?;
        let start = u16::try_from(transport).ok()?;
        let merged = Merged { ecn: self.merged.ecn && done == 0, ..self.merged };
        part.offload = Offload {
            checksum: Checksum::Partial { start, offset: tcp::CHECKSUM as u16 },
            // One segment is not merged.
            merged: (len > segment).then_some(merged),
        };
        Some(part)
    }
}

/// Where the headers of such a frame stand.
struct Found {
    family: Family,
    transport: usize,
    /// Length of all headers, and of those between IP and TCP that say how long the packet is.
    headers: usize,
    extra: usize,
}

impl Found {
    fn of(bytes: &[u8], network: usize, kind: MergedKind) -> Option<Self> {
        let packet = bytes.get(network..)?;
        let (family, transport, extra) = match (kind, packet.first()? >> 4) {
            (MergedKind::TcpV4, 4) => (Family::V4, network + v4_header(packet)?, 0),
            (MergedKind::TcpV6, 6) => {
                let extra = v6_extra(packet)?;
                (Family::V6, network + ipv6::LEN + extra, extra)
            }
            _ => return None,
        };
        let offset = usize::from(bytes.get(transport + tcp::DATA_OFFSET)? >> 4) * 4;
        let headers = transport + offset;
        (offset >= tcp::LEN && headers < bytes.len()).then_some(Self { family, transport, headers, extra })
    }
}

/// The length of the IPv4 header of a whole TCP packet that does not say how long it is.
fn v4_header(packet: &[u8]) -> Option<usize> {
    let len = usize::from(packet.first()? & 0x0f) * 4;
    let header = packet.get(..len)?;
    let said = get16(header, ipv4::TOTAL_LEN)?;
    let whole = get16(header, ipv4::FRAGMENT)? & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET_MASK) == 0;
    // Parts get checksums of their own, which would hide a fault.
    let sound = Sum::ZERO.bytes(header).fold() == 0xffff;
    (said == 0 && whole && sound && header.get(ipv4::PROTOCOL) == Some(&protocol::TCP)).then_some(len)
}

/// The length of what stands between the IPv6 header and TCP in a packet that does not say how long it is.
fn v6_extra(packet: &[u8]) -> Option<usize> {
    let (header, rest) = packet.split_first_chunk::<{ ipv6::LEN }>()?;
    if get16(header, ipv6::PAYLOAD_LEN)? != 0 {
        return None;
    }
    match header[ipv6::NEXT_HEADER] {
        protocol::TCP => Some(0),
        protocol::HOP_BY_HOP => {
            let &[next, length, option, option_len, ..] = rest.first_chunk::<JUMBO_LEN>()?;
            let said = get32(rest, 4)? as usize;
            let is_jumbo = (next, length, option, option_len) == (protocol::TCP, 0, JUMBO_OPTION, 4);
            (is_jumbo && said == rest.len()).then_some(JUMBO_LEN)
        }
        _ => None,
    }
}

/// RFC 2675 §2: a hop-by-hop header with nothing but this option.
const JUMBO_LEN: usize = 8;
const JUMBO_OPTION: u8 = 0xc2;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::frame::{HEADROOM, PortId};
    use crate::output::{Cut, pieces};
    use crate::parse::{Parsed, parse};

    const TCP_HEADER: usize = 32;

    /// A TCP frame with tags, whose IP header says `said` for its length; IPv6's with the jumbo header if asked for.
    fn bytes(v6: bool, tags: usize, jumbo: bool, payload: usize, said: u16) -> Vec<u8> {
        let mut bytes: Vec<u8> = [[2; 6], [4; 6]].concat();
        (0..tags).for_each(|_| bytes.extend([0x81, 0, 0, 5]));
        let transport = TCP_HEADER + payload;
        if v6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend(said.to_be_bytes());
            bytes.extend([if jumbo { 0 } else { 6 }, 64]);
            bytes.extend([[0x20; 16], [0x30; 16]].concat());
            if jumbo {
                bytes.extend([6, 0, 0xc2, 4]);
                bytes.extend((8 + transport as u32).to_be_bytes());
            }
        } else {
            bytes.extend([8, 0]);
            let network = bytes.len();
            bytes.extend([0x45, 0]);
            bytes.extend(said.to_be_bytes());
            bytes.extend([0xff, 0xf0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 7, 10, 99, 0, 1]);
            let checksum = Sum::ZERO.bytes(&bytes[network..]).checksum();
            bytes[network + 10..network + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        // ACK, PSH, FIN and CWR, with 12 bytes of options.
        bytes.extend([0x9c, 0x40, 0, 80, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 1, 0x80, 0x99, 1, 0]);
        bytes.extend([0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 3]);
        bytes.extend((0..payload).map(|at| ((at * 31) >> 3) as u8));
        bytes
    }

    fn with_frame<R>(bytes: &[u8], v6: bool, segment: u16, work: impl FnOnce(&mut Frame<'_>) -> R) -> R {
        let kind = if v6 { MergedKind::TcpV6 } else { MergedKind::TcpV4 };
        let mut buffer = [&[0; HEADROOM], bytes].concat();
        let end = buffer.len();
        let mut frame = Frame::new(&mut buffer, HEADROOM, end, PortId(3)).unwrap();
        frame.mark = 9;
        frame.offload.merged = Some(Merged { kind, segment, ecn: true });
        work(&mut frame)
    }

    fn segments(frame: &mut Frame<'_>, all: &mut Vec<Vec<u8>>) {
        if frame.offload.merged.is_none() {
            let Ok(Parsed::Ip(layout, _)) = parse(frame, Link::Ethernet) else { panic!() };
            crate::offload::complete_checksum(frame, &layout).unwrap();
        }
        let cut = pieces(frame, Link::Ethernet, Cut::SEGMENTS, &mut |piece| all.push(piece.bytes().to_vec()));
        cut.unwrap();
    }

    #[test]
    fn the_segments_of_the_parts_are_those_of_the_whole() {
        for (v6, jumbo) in [(false, false), (true, false), (true, true)] {
            for (tags, payload, segment) in [
                (0, 185_000, 1_448),
                (1, 65_536, 1_448),
                (2, 524_000, 9_000),
                (0, 131_000, 3),
                (1, 90_000, 45_001),
            ] {
                // How it would be cut is known without its length, and without the header that says that.
                let mut expected = Vec::new();
                with_frame(&bytes(v6, tags, false, payload, 0), v6, segment, |frame| {
                    segments(frame, &mut expected);
                });
                let mut made = Vec::new();
                let mut parts = 0;
                with_frame(&bytes(v6, tags, jumbo, payload, 0), v6, segment, |frame| {
                    let mut all = Parts::of(frame, Link::Ethernet).unwrap();
                    while let Some(mut part) = all.next() {
                        assert!(part.headroom() >= HEADROOM && part.len() <= MAX_PACKET + 22);
                        assert_eq!((part.port, part.mark), (PortId(3), 9));
                        assert!(matches!(parse(&part, Link::Ethernet), Ok(Parsed::Ip(..))), "with a length");
                        parts += 1;
                        segments(&mut part, &mut made);
                    }
                });
                assert!(parts >= 2, "{parts}");
                assert!(made == expected, "IPv6 {v6}, {tags} tags, {payload} bytes by {segment}");
            }
        }
    }

    #[test]
    fn frames_that_say_how_long_they_are_or_are_not_sound_are_left_as_they_are() {
        let untouched = |bytes: &[u8], v6: bool, segment: u16| {
            with_frame(bytes, v6, segment, |frame| {
                assert!(Parts::of(frame, Link::Ethernet).is_none());
                assert_eq!(frame.bytes(), bytes);
            });
        };
        let long = 80_000;
        untouched(&bytes(false, 0, false, 65_000, 0), false, 1_448);
        untouched(&bytes(false, 0, false, long, 60_000), false, 1_448);
        untouched(&bytes(true, 0, false, long, 60_000), true, 1_448);
        untouched(&bytes(false, 0, false, long, 0), true, 1_448);
        untouched(&bytes(true, 0, true, long, 0), false, 1_448);
        untouched(&bytes(false, 0, false, long, 0), false, 0);
        untouched(&bytes(false, 0, false, long, 0), false, u16::MAX);
        let spoilt = |at: usize, v6: bool| {
            let mut bytes = bytes(v6, 0, v6, long, 0);
            bytes[at] ^= 0x20;
            untouched(&bytes, v6, 1_448);
        };
        // Version, a checksum, fragments, the protocol; the kind of the option and the length that it says.
        [14, 15, 20, 23].into_iter().for_each(|at| spoilt(at, false));
        [14, 20, 54, 55, 56, 57, 61].into_iter().for_each(|at| spoilt(at, true));
        with_frame(&bytes(false, 0, false, long, 0), false, 1_448, |frame| {
            frame.offload.merged = None;
            assert!(Parts::of(frame, Link::Ethernet).is_none(), "not a merged one");
        });
    }
}
