//! TCP segments without data (RFC 9293), in packets of their own.

use core::net::SocketAddr;

use crate::ip_packet;

/// What a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) flags: u8,
    pub(super) sequence: u32,
    pub(super) acknowledges: u32,
}

pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

impl Segment {
    /// The packet that has it. `None` when the two addresses are of different families.
    pub(super) fn packet(&self, from: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
        let mut tcp = Vec::with_capacity(20);
        tcp.extend(from.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledges.to_be_bytes());
        tcp.extend([5 << 4, self.flags]);
        tcp.extend(WINDOW.to_be_bytes());
        tcp.extend([0; 4]);
        let sum = ip_packet::pseudo(from.ip(), to.ip(), TCP, tcp.len())?.bytes(&tcp).checksum();
        tcp.get_mut(16..18)?.copy_from_slice(&sum.to_be_bytes());
        ip_packet::packet(from.ip(), to.ip(), TCP, &tcp)
    }

    /// The segment in what a raw socket received, if it goes from `from` to the port `to`. Its checksum was the
    /// kernel's to check, its source address is the one that the socket is connected to.
    pub(super) fn read(received: &[u8], from: SocketAddr, to: u16) -> Option<Self> {
        // Raw sockets of IPv4 see the IP header, those of IPv6 do not.
        let header = if from.is_ipv4() { usize::from(received.first()? & 0xf) * 4 } else { 0 };
        let (tcp, _) = received.get(header..)?.split_first_chunk::<20>()?;
        let [p1, p2, q1, q2, s1, s2, s3, s4, a1, a2, a3, a4, _, flags, ..] = *tcp;
        let ports = (u16::from_be_bytes([p1, p2]), u16::from_be_bytes([q1, q2]));
        (ports == (from.port(), to)).then_some(Self {
            flags,
            sequence: u32::from_be_bytes([s1, s2, s3, s4]),
            acknowledges: u32::from_be_bytes([a1, a2, a3, a4]),
        })
    }
}

/// What is offered to receive: nothing will be.
const WINDOW: u16 = 1_024;
const TCP: u8 = 6;

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use etherparse::{SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn another_implementation_reads_what_this_one_writes() {
        for (from, to) in
            [("10.0.1.253:40000", "192.0.2.100:80"), ("[2001:db8::1]:40000", "[2001:db8::100]:80")]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let segment = Segment { flags: SYN | ACK, sequence: 0x0102_0304, acknowledges: 0xfffe_fdfc };
            let packet = segment.packet(from, to).unwrap();
            let sliced = SlicedPacket::from_ip(&packet).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("TCP") };
            assert_eq!((tcp.source_port(), tcp.destination_port()), (from.port(), to.port()));
            assert!(tcp.syn() && tcp.ack() && !tcp.rst());
            let header = tcp.to_header();
            let sum = match (from.ip(), to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]).unwrap()
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[]).unwrap()
                }
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => unreachable!("one family"),
            };
            assert_eq!(tcp.checksum(), sum);
            let received = if from.is_ipv4() { &packet[..] } else { &packet[40..] };
            assert_eq!(Segment::read(received, from, 80), Some(segment));
            assert_eq!(Segment::read(received, from, 81), None);
            for length in 0..received.len() {
                assert_eq!(Segment::read(&received[..length], from, 80), None, "{length}");
            }
        }
    }
}
