//! Whether a finished frame is one that any host would take, as etherparse and plain sums see it: nothing of the crate
//! under test is used here.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// The UDP port on which GUE is expected.
const GUE_PORT: u16 = 6_080;

/// How much of a packet must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Everything.
    Checksums,
    /// All but the transport's checksum: it was wrong before, or its packet was cut.
    Headers,
}

/// Panics unless the Ethernet frame, and whatever its packet wraps, is well formed and has right checksums.
#[track_caller]
pub(crate) fn check_ethernet(bytes: &[u8], trust: Trust) {
    if let Err(fault) = inspect_ethernet(bytes, trust) {
        panic!("{fault} in {bytes:02x?}");
    }
}

/// Panics unless the IP packet, which must fill `bytes`, is well formed.
#[track_caller]
pub(crate) fn check_packet(bytes: &[u8], trust: Trust) {
    if let Err(fault) = inspect_packet(bytes, trust) {
        panic!("{fault} in {bytes:02x?}");
    }
}

fn inspect_ethernet(bytes: &[u8], trust: Trust) -> Result<(), String> {
    let mut at = 12;
    while matches!(word(bytes, at), 0x8100 | 0x88a8) {
        at += 4;
    }
    match word(bytes, at) {
        0x0800 | 0x86dd => inspect_packet(&bytes[at + 2..], trust),
        0x0806 => demand(bytes.len() == at + 2 + 28, "the length of an ARP packet"),
        other => Err(format!("Ethernet type {other:#06x}")),
    }
}

fn inspect_packet(bytes: &[u8], trust: Trust) -> Result<(), String> {
    let packet = SlicedPacket::from_ip(bytes).map_err(|error| error.to_string())?;
    let net = packet.net.as_ref().ok_or("no IP header")?;
    let (length, header_len, number, fragmented) = match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            demand(sum(header.slice()) == 0xffff, "the header checksum")?;
            let length = usize::from(header.total_len());
            (length, header.slice().len(), header.protocol().0, header.is_fragmenting_payload())
        }
        NetSlice::Ipv6(ip) => {
            let length = 40 + usize::from(ip.header().payload_length());
            let payload = ip.payload();
            (length, length - payload.payload.len(), payload.ip_number.0, payload.fragmented)
        }
        NetSlice::Arp(_) => return Err("not IP".into()),
    };
    demand(length == bytes.len(), "the packet's length")?;
    if fragmented {
        return Ok(());
    }
    let payload = &bytes[header_len..];
    let right = |condition: bool, what: &str| demand(trust == Trust::Headers || condition, what);
    let whole = || add(pseudo_header(bytes, number, payload.len()), sum(payload)) == 0xffff;
    match (&packet.transport, number) {
        (Some(TransportSlice::Tcp(_)), _) => right(whole(), "the TCP checksum"),
        (Some(TransportSlice::Udp(udp)), _) => {
            right(udp.checksum() == 0 || whole(), "the UDP checksum")?;
            let gue = udp.destination_port() == GUE_PORT && payload.len() > 12;
            if gue && payload[8] == 0 && matches!(payload[9], 4 | 41) && payload[10..12] == [0, 0] {
                return inspect_packet(&payload[12..], trust);
            }
            Ok(())
        }
        (Some(TransportSlice::Icmpv4(_)), _) => right(sum(payload) == 0xffff, "the ICMP checksum"),
        (Some(TransportSlice::Icmpv6(_)), _) => right(whole(), "the ICMPv6 checksum"),
        (None, 4 | 41) => inspect_packet(payload, trust),
        (None, 47) => {
            let flags = word(payload, 0);
            let shim = if flags & 0x8000 == 0 { 4 } else { 8 };
            demand(flags == 0 || sum(payload) == 0xffff, "the GRE checksum")?;
            inspect_packet(&payload[shim..], trust)
        }
        (Some(TransportSlice::Igmp(_)) | None, _) => Ok(()),
    }
}

fn demand(condition: bool, what: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(format!("wrong: {what}")) }
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
