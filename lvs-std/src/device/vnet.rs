//! The header in which the kernel says, and is told, what is unfinished about a frame.
//!
//! `struct virtio_net_hdr` of `linux/virtio_net.h`, in the machine's byte order as packet sockets and TUN devices
//! use it; its meaning is that of the Virtual I/O Device specification 1.2 §5.1.6.

use core::fmt;

use lvs_forward::{Checksum, Frame, Merged, MergedKind, Offload};

/// Length of the header in bytes.
pub const VNET_LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What the header before a frame of `length` bytes says about it.
///
/// # Errors
/// When it cannot be said with [`Offload`]: such a frame must be discarded, since sending it on as something else
/// would corrupt it.
pub fn read(header: [u8; VNET_LEN], length: usize) -> Result<Offload, VnetError> {
    let [flags, gso_type, ..] = header;
    let field = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let (segment, start, offset) = (field(4), field(6), field(8));
    let checksum = if flags & NEEDS_CSUM == 0 {
        Checksum::Complete
    } else if usize::from(start) + usize::from(offset) + 2 <= length {
        Checksum::Partial { start, offset }
    } else {
        return Err(VnetError::Checksum { start, offset });
    };
    let kind = match gso_type & !GSO_ECN {
        GSO_NONE => return Ok(Offload { checksum, merged: None }),
        GSO_TCPV4 => MergedKind::TcpV4,
        GSO_TCPV6 => MergedKind::TcpV6,
        GSO_UDP_L4 => MergedKind::Udp,
        _ => return Err(VnetError::Kind(gso_type)),
    };
    if segment == 0 {
        return Err(VnetError::Segment);
    }
    Ok(Offload { checksum, merged: Some(Merged { kind, segment, ecn: gso_type & GSO_ECN != 0 }) })
}

/// The header that tells what is unfinished about a frame.
///
/// # Errors
/// When the frame is shorter than its partial checksum's place.
pub fn write(frame: &Frame<'_>) -> Result<[u8; VNET_LEN], VnetError> {
    let mut header = [0; VNET_LEN];
    let mut put = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    let mut transport = None;
    let mut flags = 0;
    match frame.offload.checksum {
        Checksum::Complete => {}
        Checksum::Partial { start, offset } => {
            if usize::from(start) + usize::from(offset) + 2 > frame.len() {
                return Err(VnetError::Checksum { start, offset });
            }
            flags = NEEDS_CSUM;
            put(6, start);
            put(8, offset);
            transport = Some(start);
        }
    }
    let mut gso_type = GSO_NONE;
    if let Some(merged) = frame.offload.merged {
        if merged.segment == 0 {
            return Err(VnetError::Segment);
        }
        gso_type = match merged.kind {
            MergedKind::TcpV4 => GSO_TCPV4,
            MergedKind::TcpV6 => GSO_TCPV6,
            MergedKind::Udp => GSO_UDP_L4,
        };
        if merged.ecn {
            gso_type |= GSO_ECN;
        }
        put(4, merged.segment);
        // A hint of how much to copy into the first piece; the kernel looks for the headers itself where it is 0.
        put(2, transport.map_or(0, |start| headers(frame, merged.kind, start)));
    }
    header[0] = flags;
    header[1] = gso_type;
    Ok(header)
}

/// As [`write()`], where `front` bytes will stand before the frame's first one.
#[cfg(feature = "runtime")]
pub(crate) fn write_behind(frame: &Frame<'_>, front: usize) -> Result<[u8; VNET_LEN], VnetError> {
    let mut header = write(frame)?;
    let mut shift = |at: usize| {
        let place = header.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>);
        if let Some(place) = place {
            let value = usize::from(u16::from_ne_bytes(*place)) + front;
            *place = u16::try_from(value).unwrap_or(u16::MAX).to_ne_bytes();
        }
    };
    if let Checksum::Partial { .. } = frame.offload.checksum {
        shift(6);
        // No hint needs no place.
        if frame.offload.merged.is_some() {
            shift(2);
        }
    }
    Ok(header)
}

/// Whether a header says that its frame is a merged one.
pub(crate) const fn is_merged(header: &[u8; VNET_LEN]) -> bool {
    header[1] != GSO_NONE
}

/// Length of all headers of a merged frame whose transport header begins at `start`.
fn headers(frame: &Frame<'_>, kind: MergedKind, start: u16) -> u16 {
    let length = match kind {
        MergedKind::TcpV4 | MergedKind::TcpV6 => {
            frame.bytes().get(usize::from(start) + 12).map_or(20, |byte| u16::from(byte >> 4) * 4)
        }
        MergedKind::Udp => 8,
    };
    let end = start.saturating_add(length);
    if usize::from(end) <= frame.len() { end } else { 0 }
}

/// Why a header and an [`Offload`] do not correspond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
pub enum VnetError {
    /// The checksum's place is not inside the frame.
    Checksum {
        /// Where the sum begins, from the frame's first byte.
        start: u16,
        /// From there to the checksum field.
        offset: u16,
    },
    /// A kind of merging (`gso_type`) that [`MergedKind`] has no word for, such as UDP fragmentation.
    Kind(u8),
    /// Merged, of segments without a length.
    Segment,
}

impl fmt::Display for VnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum { start, offset } => {
                write!(f, "the checksum at {start} + {offset} is not inside the frame")
            }
            Self::Kind(kind) => write!(f, "merged frames of type {kind:#04x} are not known"),
            Self::Segment => f.write_str("a merged frame has segments of length 0"),
        }
    }
}

impl core::error::Error for VnetError {}

#[cfg(test)]
mod tests {
    use lvs_forward::PortId;

    use super::*;

    fn frame(buffer: &mut [u8], offload: Offload) -> Frame<'_> {
        let end = buffer.len();
        Frame::new(buffer, 0, end, PortId(0)).unwrap().with_offload(offload)
    }

    #[test]
    fn every_offload_survives_the_way_there_and_back() {
        let partial = Checksum::Partial { start: 34, offset: 16 };
        for checksum in [Checksum::Complete, partial] {
            for kind in [None, Some(MergedKind::TcpV4), Some(MergedKind::TcpV6), Some(MergedKind::Udp)] {
                for ecn in [false, true] {
                    let merged = kind.map(|kind| Merged { kind, segment: 1_448, ecn });
                    let offload = Offload { checksum, merged };
                    let mut buffer = [0; 200];
                    let header = write(&frame(&mut buffer, offload)).unwrap();
                    assert_eq!(read(header, 200), Ok(offload));
                }
            }
        }
    }

    #[test]
    fn header_length_of_a_merged_frame_ends_behind_the_tcp_options() {
        let mut buffer = [0; 200];
        buffer[34 + 12] = 0x80;
        let offload = Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            merged: Some(Merged { kind: MergedKind::TcpV4, segment: 100, ecn: false }),
        };
        let header = write(&frame(&mut buffer, offload)).unwrap();
        assert_eq!(u16::from_ne_bytes([header[2], header[3]]), 34 + 32);
    }

    #[cfg(feature = "runtime")]
    #[test]
    fn places_count_from_what_stands_before_the_frame() {
        let offload = Offload {
            checksum: Checksum::Partial { start: 40, offset: 16 },
            merged: Some(Merged { kind: MergedKind::TcpV6, segment: 100, ecn: false }),
        };
        let mut buffer = [0; 200];
        let frame = frame(&mut buffer, offload);
        let (plain, behind) = (write(&frame).unwrap(), write_behind(&frame, 14).unwrap());
        let read = |header: [u8; VNET_LEN]| read(header, 214).unwrap().checksum;
        assert_eq!(read(behind), Checksum::Partial { start: 54, offset: 16 });
        let length = |header: [u8; VNET_LEN]| u16::from_ne_bytes([header[2], header[3]]);
        assert_eq!(length(behind), length(plain) + 14);
        let mut finished = [0; 200];
        let finished = self::frame(&mut finished, Offload::NONE);
        assert_eq!(write_behind(&finished, 14), write(&finished), "what is finished has no places");
    }

    #[test]
    fn checksum_outside_of_the_frame_is_refused_both_ways() {
        let offload = Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, merged: None };
        let mut buffer = [0; 51];
        let error = VnetError::Checksum { start: 34, offset: 16 };
        assert_eq!(write(&frame(&mut buffer, offload)), Err(error));
        let mut long = [0; 52];
        let header = write(&frame(&mut long, offload)).unwrap();
        assert_eq!(read(header, 52), Ok(offload));
        assert_eq!(read(header, 51), Err(error));
    }

    #[test]
    fn unknown_merging_is_refused() {
        assert_eq!(read([0, 3, 0, 0, 1, 1, 0, 0, 0, 0], 100), Err(VnetError::Kind(3)));
        assert_eq!(read([0, GSO_TCPV4, 0, 0, 0, 0, 0, 0, 0, 0], 100), Err(VnetError::Segment));
    }

    #[test]
    fn valid_data_is_complete() {
        assert_eq!(read([2, 0, 0, 0, 0, 0, 9, 0, 9, 0], 0), Ok(Offload::default()));
    }
}
