//! The formats of captures: where a block of a file ends, and what it says.

use core::time::Duration;
use std::io::{self, Read};

use pcap_parser::{Block, PcapHeader, parse_block_be, parse_block_le, parse_pcap_frame, parse_pcap_frame_be};

use super::{LinkType, MAGIC_NANOS};

/// A file whose header was read.
pub(super) enum Format {
    /// Frames alone.
    Classic { big_endian: bool, nanos: bool, kind: Kind },
    /// Blocks, of which some are frames. Interfaces are numbered within a section.
    Blocks { big_endian: bool, interfaces: Vec<Interface> },
}

/// An interface as a section of a pcapng file describes it.
#[derive(Clone, Copy)]
pub(super) struct Interface {
    /// The interface's link type, a `LINKTYPE_` number. An unknown one is refused for the first interface, and for
    /// others when a frame is theirs.
    link: i32,
    /// Longest part of a frame that was kept; 0 for no limit.
    kept: u32,
    /// Units of its clock in a second.
    resolution: u128,
    /// Seconds to add.
    offset: i64,
}

/// What a frame in a file begins with, by `LINKTYPE_` numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain(LinkType),
    /// 16 bytes in place of the link header: Linux's "cooked" captures (113).
    Cooked,
    /// 20 bytes (276).
    Cooked2,
}

/// A frame in the block that was read last.
pub(super) struct Found<'a> {
    pub(super) time: Duration,
    pub(super) bytes: &'a [u8],
    pub(super) original: usize,
    pub(super) kind: Kind,
}

impl Format {
    /// Reads the file's header, and of a pcapng file all up to the first interface, whose kind is told.
    pub(super) fn read(from: &mut impl Read, block: &mut Vec<u8>) -> io::Result<(Self, Kind)> {
        block.clear();
        let short = |error: io::Error| {
            let is_short = error.kind() == io::ErrorKind::UnexpectedEof;
            if is_short { invalid("shorter than a capture's header".to_owned()) } else { error }
        };
        more(from, block, 4).map_err(short)?;
        let magic = number(block, 0, false);
        if magic == SECTION {
            let mut format = Self::Blocks { big_endian: false, interfaces: Vec::new() };
            more(from, block, 4).map_err(short)?;
            format.read_rest(from, block).map_err(short)?;
            format.take_in(block)?;
            loop {
                if let Self::Blocks { interfaces, .. } = &format
                    && let Some(first) = interfaces.first()
                {
                    let kind = Kind::from_number(first.link)?;
                    return Ok((format, kind));
                }
                if !format.next(from, block)? {
                    return Err(invalid("a pcapng file without an interface".to_owned()));
                }
                if format.take_in(block)?.is_some() {
                    return Err(invalid("a frame of an interface that was not described".to_owned()));
                }
            }
        }
        if ![MICROS, MAGIC_NANOS].into_iter().any(|known| magic == known || magic == known.swap_bytes()) {
            return Err(invalid(format!("no pcap or pcapng file: it begins with {magic:#010x}")));
        }
        more(from, block, 20).map_err(short)?;
        let (_, header): (_, PcapHeader) =
            pcap_parser::parse_pcap_header(block).map_err(|_| invalid("no pcap file's header".to_owned()))?;
        // The upper bits may hold the length of a frame check sequence.
        let kind = Kind::from_number(header.network.0 & 0xffff)?;
        let (big_endian, nanos) = (header.is_bigendian(), header.is_nanosecond_precision());
        Ok((Self::Classic { big_endian, nanos, kind }, kind))
    }

    /// Reads the next block; `false` at the end of the file.
    pub(super) fn next(&mut self, from: &mut impl Read, block: &mut Vec<u8>) -> io::Result<bool> {
        block.clear();
        // A file may end before a block, but not inside of one, so only the first byte may be missing.
        let mut first = [0];
        loop {
            match from.read(&mut first) {
                Ok(0) => return Ok(false),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        block.extend(first);
        let rest = match self {
            Self::Classic { .. } => 15,
            Self::Blocks { .. } => 7,
        };
        more(from, block, rest).and_then(|()| self.read_rest(from, block)).map_err(|error| {
            let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
            let said = "the file was cut: it ends inside a frame or block";
            if is_cut { io::Error::new(error.kind(), said) } else { error }
        })?;
        Ok(true)
    }

    /// Reads the rest of a block of which the length is there.
    fn read_rest(&mut self, from: &mut impl Read, block: &mut Vec<u8>) -> io::Result<()> {
        let rest = match self {
            Self::Classic { big_endian, .. } => number(block, 8, *big_endian),
            Self::Blocks { big_endian, .. } => {
                // A section has a byte order of its own, which its third word tells.
                let mut there = 8;
                if number(block, 0, false) == SECTION {
                    more(from, block, 4)?;
                    *big_endian = number(block, 8, true) == BYTE_ORDER;
                    there = 12;
                }
                let length = number(block, 4, *big_endian);
                let rest = length.checked_sub(there).filter(|_| length.is_multiple_of(4) && length >= 12);
                rest.ok_or_else(|| invalid(format!("a block of {length} bytes: the file is damaged")))?
            }
        };
        if rest > super::LONGEST_RECORD {
            return Err(invalid(format!("a frame or block of {rest} bytes: the file is damaged")));
        }
        more(from, block, rest as usize)
    }

    /// Takes in what a block says. The frame, if it has one.
    pub(super) fn take_in<'a>(&mut self, block: &'a [u8]) -> io::Result<Option<Found<'a>>> {
        let damaged = || invalid("a frame or block that contradicts itself: the file is damaged".to_owned());
        match self {
            Self::Classic { big_endian, nanos, kind } => {
                let parse = if *big_endian { parse_pcap_frame_be } else { parse_pcap_frame };
                let (_, frame) = parse(block).map_err(|_| damaged())?;
                let fraction = if *nanos { frame.ts_usec } else { frame.ts_usec.saturating_mul(1_000) };
                let time = Duration::from_secs(frame.ts_sec.into()) + Duration::from_nanos(fraction.into());
                let original = (frame.origlen as usize).max(frame.data.len());
                Ok(Some(Found { time, bytes: frame.data, original, kind: *kind }))
            }
            Self::Blocks { big_endian, interfaces } => {
                match number(block, 0, *big_endian) {
                    SECTION | INTERFACE | ENHANCED | SIMPLE => {}
                    OBSOLETE => {
                        return Err(invalid(
                            "a frame in a form of before 2012: `editcap` makes others".to_owned(),
                        ));
                    }
                    // Names, statistics, secrets and whatever else says nothing of frames.
                    _ => return Ok(None),
                }
                let parse = if *big_endian { parse_block_be } else { parse_block_le };
                let (_, parsed) = parse(block).map_err(|_| damaged())?;
                let of = |number: u32| {
                    interfaces.get(number as usize).copied().ok_or_else(|| {
                        invalid(format!("a frame of interface {number}, which was not described"))
                    })
                };
                let (interface, time, bytes, original) = if let Block::EnhancedPacket(frame) = parsed {
                    let interface = of(frame.if_id)?;
                    let time = interface.time(u64::from(frame.ts_high) << 32 | u64::from(frame.ts_low));
                    let bytes = frame.data.get(..frame.caplen as usize).ok_or_else(damaged)?;
                    (interface, time, bytes, (frame.origlen as usize).max(bytes.len()))
                } else if let Block::SimplePacket(frame) = parsed {
                    let interface = of(0)?;
                    let kept = if interface.kept == 0 { u32::MAX } else { interface.kept };
                    let bytes = frame.data.get(..frame.origlen.min(kept) as usize).ok_or_else(damaged)?;
                    // Such a frame has no time.
                    (interface, Duration::ZERO, bytes, frame.origlen as usize)
                } else {
                    describe(&parsed, interfaces)?;
                    return Ok(None);
                };
                Ok(Some(Found { time, bytes, original, kind: Kind::from_number(interface.link)? }))
            }
        }
    }
}

/// Takes in what a block says of a section or an interface.
fn describe(block: &Block<'_>, interfaces: &mut Vec<Interface>) -> io::Result<()> {
    if let Block::SectionHeader(_) = block {
        interfaces.clear();
    }
    let Block::InterfaceDescription(description) = block else { return Ok(()) };
    // Each takes memory, and a file may go on for ever.
    if interfaces.len() >= MOST_INTERFACES {
        return Err(invalid(format!("more than {MOST_INTERFACES} interfaces in a section")));
    }
    let units = match description.if_tsresol {
        power @ 0x80.. => Some(1_u128 << (power & 0x7f)),
        power => 10_u128.checked_pow(power.into()),
    };
    let units = units.filter(|units| *units < 1 << 96);
    interfaces.push(Interface {
        link: description.linktype.0,
        kept: description.snaplen,
        resolution: units.ok_or_else(|| invalid("an interface with an impossible clock".to_owned()))?,
        offset: description.if_tsoffset,
    });
    Ok(())
}

impl Interface {
    /// The time since 1970 by the interface's clock; 0 for what lies before, or beyond what can be said.
    fn time(&self, units: u64) -> Duration {
        let nanos = u128::from(units).saturating_mul(1_000_000_000) / self.resolution.max(1);
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        let seconds = seconds.checked_add_signed(self.offset).unwrap_or_default();
        Duration::new(seconds, (nanos % 1_000_000_000) as u32)
    }
}

impl Kind {
    fn from_number(number: i32) -> io::Result<Self> {
        match number {
            1 => Ok(Self::Plain(LinkType::Ethernet)),
            101 | 228 | 229 => Ok(Self::Plain(LinkType::Ip)),
            113 => Ok(Self::Cooked),
            276 => Ok(Self::Cooked2),
            _ => Err(invalid(format!(
                "link type {number}: known are Ethernet (1), IP (101, 228, 229) and cooked captures (113, 276)"
            ))),
        }
    }

    /// What is left of its frames when they are read.
    pub(super) const fn link_type(self) -> LinkType {
        match self {
            Self::Plain(link) => link,
            Self::Cooked | Self::Cooked2 => LinkType::Ip,
        }
    }

    /// Length of what stands in front of a frame, the protocol behind it (an Ethernet type), and whether the machine
    /// that captured it had sent it. `None` where the link header is the frame's own, and where that was not captured.
    pub(super) fn cooked(self, bytes: &[u8]) -> Option<(usize, u16, bool)> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
        match self {
            Self::Plain(_) => None,
            Self::Cooked => Some((16, word(14)?, word(0)? == SENT)),
            Self::Cooked2 => bytes.get(19).and(Some((20, word(0)?, u16::from(*bytes.get(10)?) == SENT))),
        }
    }
}

/// Adds so many bytes of the file.
fn more(from: &mut impl Read, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
    let there = to.len();
    to.resize(there + count, 0);
    from.read_exact(to.get_mut(there..).unwrap_or_default())
}

fn number(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

pub(super) fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Magic numbers of the classic format.
const MICROS: u32 = 0xa1b2_c3d4;
/// Types of blocks (draft-ietf-opsawg-pcapng, 4). The first reads the same in both byte orders.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE: u32 = 2;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Interfaces that a section may have.
const MOST_INTERFACES: usize = 1 << 16;
/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const SENT: u16 = 4;
