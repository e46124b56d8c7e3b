//! IP packets of this program's own, for checks, examinations and made-up packets.

use core::net::IpAddr;

use lvs_forward::checksum::Sum;

/// A packet (RFC 791, RFC 8200) that carries this content, whole and not to be fragmented. `None` when the addresses
/// are of different families, or the content is longer than a packet.
pub(crate) fn packet(from: IpAddr, to: IpAddr, protocol: u8, content: &[u8]) -> Option<Vec<u8>> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(content.len() + HEADER_V4).ok()?.to_be_bytes();
            let mut header = [&[0x45, 0], &length[..], &[0, 0, 0x40, 0, HOPS, protocol, 0, 0]].concat();
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = Sum::ZERO.bytes(&header).checksum().to_be_bytes();
            header.get_mut(10..12)?.copy_from_slice(&sum);
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(content.len()).ok()?.to_be_bytes();
            [&[0x60, 0, 0, 0], &length[..], &[protocol, HOPS], &from.octets(), &to.octets()].concat()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    packet.extend(content);
    Some(packet)
}

/// The sum of the pseudo-header in front of so many bytes of a transport's. `None` when the addresses are of different
/// families.
pub(crate) fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Option<Sum> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Some(Sum::pseudo_v4(from, to, protocol, length)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Some(Sum::pseudo_v6(from, to, protocol, length)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

const HEADER_V4: usize = 20;
const HOPS: u8 = 64;

#[cfg(test)]
mod tests {
    use etherparse::SlicedPacket;

    use super::*;

    #[test]
    fn another_implementation_reads_what_this_one_writes() {
        for [from, to] in [["10.0.1.1", "192.0.2.100"], ["2001:db8::1", "2001:db8::100"]] {
            let (from, to) = (from.parse::<IpAddr>().unwrap(), to.parse::<IpAddr>().unwrap());
            let packet = packet(from, to, 253, b"content").unwrap();
            // It checks lengths, and the header's checksum.
            let sliced = SlicedPacket::from_ip(&packet).unwrap();
            let payload = sliced.ip_payload().unwrap();
            assert_eq!((payload.ip_number.0, payload.payload), (253, &b"content"[..]));
            if let Some(etherparse::NetSlice::Ipv4(of)) = sliced.net {
                assert_eq!(of.header().to_header().calc_header_checksum(), of.header().header_checksum());
            }
        }
        assert_eq!(packet("10.0.1.1".parse().unwrap(), "::1".parse().unwrap(), 6, &[]), None);
        assert_eq!(packet([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, &[0; 65_516]), None);
    }
}
