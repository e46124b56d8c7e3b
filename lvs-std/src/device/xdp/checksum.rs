//! Checksums that a sender's kernel has left for the interface to finish, told from those that are finished.

use core::net::IpAddr;

use lvs_forward::checksum::Sum;
use lvs_forward::parse::{Link, Parsed, parse};
use lvs_forward::{Checksum, Fragment, Frame, Layout};

/// Marks a frame whose checksum looks as a kernel leaves it: the field holds the sum of the pseudo-header, which by
/// chance only one in 65,536 packets' would, and does not fit as a whole. Such a frame loses its padding, if it has
/// any.
pub(super) fn detect(frame: &mut Frame<'_>) {
    let Ok(Parsed::Ip(layout, _)) = parse(frame, Link::Ethernet) else { return };
    // The checksum of a datagram in fragments covers bytes that are not in this frame.
    if layout.fragment() != Fragment::Whole {
        return;
    }
    let Some(offset) = unfinished(frame.bytes(), &layout) else { return };
    let Ok(start) = u16::try_from(layout.transport()) else { return };
    // A kernel that finishes a partial checksum sums up to the frame's end, padding included.
    if frame.set_len(layout.end()).is_some() {
        frame.offload.checksum = Checksum::Partial { start, offset };
    }
}

/// Where from the transport header's start the unfinished checksum is.
fn unfinished(bytes: &[u8], layout: &Layout) -> Option<u16> {
    let segment = bytes.get(layout.transport()..layout.end())?;
    let at = match layout.protocol() {
        TCP => 16,
        UDP => 6,
        // Its sum has no pseudo-header; the kernel leaves 0 (RFC 9260 §6.8 has a CRC there, which is 0 once in 2^32).
        SCTP => return (segment.get(8..12)? == [0; 4]).then_some(8),
        _ => return None,
    };
    let field = u16::from_be_bytes(*segment.get(at..)?.first_chunk()?);
    let addresses = layout.addresses(bytes)?;
    let pseudo = match (addresses.source(), addresses.destination()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Sum::pseudo_v4(from, to, layout.protocol(), segment.len()),
        (IpAddr::V6(from), IpAddr::V6(to)) => Sum::pseudo_v6(from, to, layout.protocol(), segment.len()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    // 0 stands for a UDP datagram without a checksum; no pseudo-header sums up to it.
    if field == 0 || field != pseudo.fold() {
        return None;
    }
    // Over everything with its field, a checksum that fits gives 0.
    (pseudo.bytes(segment).checksum() != 0).then_some(at as u16)
}

/// Protocol numbers of IANA's registry.
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use lvs_forward::{Offload, PortId};

    use super::*;

    /// A UDP datagram over IPv4 with a checksum that fits, with padding behind it.
    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 7], [192, 0, 2, 100], 64)
            .udp(4_000, 53)
            .write(&mut bytes, payload)
            .unwrap();
        bytes.resize(bytes.len().max(60), 0);
        bytes
    }

    fn detected(bytes: &mut [u8]) -> (Checksum, usize) {
        let length = bytes.len();
        let mut frame = Frame::new(bytes, 0, length, PortId(0)).unwrap();
        detect(&mut frame);
        (frame.offload.checksum, frame.len())
    }

    #[test]
    fn what_a_kernel_left_unfinished_is_finished_to_what_it_would_have_been() {
        let finished = datagram(b"question");
        let mut bytes = finished.clone();
        let pseudo = Sum::pseudo_v4([192, 0, 2, 7].into(), [192, 0, 2, 100].into(), 17, 16).fold();
        bytes[40..42].copy_from_slice(&pseudo.to_be_bytes());
        assert_eq!(detected(&mut bytes.clone()), (Checksum::Partial { start: 34, offset: 6 }, 50));

        let mut frame = Frame::new(&mut bytes, 0, 60, PortId(0)).unwrap();
        detect(&mut frame);
        let Ok(Parsed::Ip(layout, _)) = parse(&frame, Link::Ethernet) else { panic!("it is IP") };
        lvs_forward::complete_checksum(&mut frame, &layout).unwrap();
        assert_eq!(frame.bytes(), &finished[..50]);
        assert_eq!(frame.offload, Offload::NONE);
    }

    #[test]
    fn finished_and_broken_checksums_are_left_alone() {
        let mut finished = datagram(b"question");
        assert_eq!(detected(&mut finished), (Checksum::Complete, 60));
        finished[44] ^= 1;
        assert_eq!(detected(&mut finished), (Checksum::Complete, 60));
        finished[40..42].fill(0);
        assert_eq!(detected(&mut finished), (Checksum::Complete, 60), "a datagram without a checksum");
    }

    #[test]
    fn a_checksum_that_fits_and_looks_unfinished_is_finished() {
        // Two bytes of payload that make the rest sum up to nothing.
        let pseudo = Sum::pseudo_v4([192, 0, 2, 7].into(), [192, 0, 2, 100].into(), 17, 10).fold();
        for word in 0..=u16::MAX {
            let bytes = datagram(&word.to_be_bytes());
            if bytes[40..42] == pseudo.to_be_bytes() {
                assert_eq!(detected(&mut bytes.clone()), (Checksum::Complete, 60));
                return;
            }
        }
        panic!("some payload leads to the same field");
    }
}
