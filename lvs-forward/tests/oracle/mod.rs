//! Whether a finished frame is one that any host would take, as etherparse and plain sums see it: nothing of the crate under test is
//! used here.

use etherparse::{SlicedPacket, TransportSlice};

/// The UDP port on which GUE is expected.
const GUE_PORT: u16 = 6_080;

/// Panics unless the Ethernet frame, and whatever its packet wraps, is well formed and has right checksums.
#[track_caller]
pub fn check_ethernet(bytes: &[u8], trust: Trust) {
    let mut at = 12;
    while matches!(word(bytes, at), 0x8100 | 0x88a8) {
        at += 4;
    }
    match word(bytes, at) {
        0x0800 | 0x86dd => check_packet(&bytes[at + 2..], trust),
        0x0806 => assert_eq!(bytes.len(), at + 2 + 28, "an ARP packet has 28 bytes"),
        other => panic!("no such type: {other:#06x}"),
    }
}

/// How much of a packet must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Everything.
    Checksums,
    /// All but the transport's checksum: it was wrong before, or its packet was cut.
    Headers,
}

/// Panics unless the IP packet, which must fill `bytes`, is well formed.
#[track_caller]
pub fn check_packet(bytes: &[u8], trust: Trust) {
    let packet = SlicedPacket::from_ip(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
    let net = packet.net.as_ref().expect("there is an IP header");
    let (length, header_len, number, fragmented) = match net {
        etherparse::NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(sum(&bytes[..header.slice().len()]), 0xffff, "header checksum of {bytes:02x?}");
            let length = usize::from(header.total_len());
            (length, header.slice().len(), header.protocol().0, header.is_fragmenting_payload())
        }
        etherparse::NetSlice::Ipv6(ip) => {
            let length = 40 + usize::from(ip.header().payload_length());
            let payload = ip.payload();
            (length, length - payload.payload.len(), payload.ip_number.0, payload.fragmented)
        }
        etherparse::NetSlice::Arp(_) => panic!("not an IP packet"),
    };
    assert_eq!(length, bytes.len(), "the packet's length");
    if fragmented {
        return;
    }
    let payload = &bytes[header_len..];
    let pseudo = pseudo_header(bytes, number, payload.len());
    let right = |skip: bool| trust == Trust::Headers || skip || add(pseudo, sum(payload)) == 0xffff;
    match (&packet.transport, number) {
        (Some(TransportSlice::Tcp(_)), _) => assert!(right(false), "TCP checksum of {bytes:02x?}"),
        (Some(TransportSlice::Udp(udp)), _) => {
            assert!(right(udp.checksum() == 0), "UDP checksum of {bytes:02x?}");
            if udp.destination_port() == GUE_PORT
                && payload.len() > 12
                && payload[8..12] == [0, payload[9], 0, 0]
            {
                check_packet(&payload[12..], trust);
            }
        }
        (Some(TransportSlice::Icmpv4(_)), _) => {
            assert!(trust == Trust::Headers || sum(payload) == 0xffff, "ICMP checksum of {bytes:02x?}");
        }
        (Some(TransportSlice::Icmpv6(_)), _) => assert!(right(false), "ICMPv6 checksum of {bytes:02x?}"),
        (None, 4 | 41) => check_packet(payload, trust),
        (None, 47) => {
            let flags = word(payload, 0);
            let shim = if flags & 0x8000 == 0 { 4 } else { 8 };
            assert!(flags == 0 || sum(payload) == 0xffff, "GRE checksum of {bytes:02x?}");
            check_packet(&payload[shim..], trust);
        }
        (Some(TransportSlice::Igmp(_)) | None, _) => {}
    }
}

fn pseudo_header(bytes: &[u8], number: u8, len: usize) -> u16 {
    let addresses = match bytes[0] >> 4 {
        4 => &bytes[12..20],
        _ => &bytes[8..40],
    };
    let rest = [(len >> 24) as u8, (len >> 16) as u8, (len >> 8) as u8, len as u8, 0, number];
    add(sum(addresses), sum(&rest))
}

/// The one's complement sum of big-endian words, the slow and obvious way.
fn sum(bytes: &[u8]) -> u16 {
    bytes
        .chunks(2)
        .fold(0, |total, pair| add(total, u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
}

fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
