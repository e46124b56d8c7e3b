//! Frames of the bench: TCP segments of numbered clients to one service, and its servers' answers, over IPv4 or IPv6.
//!
//! Over IPv4 they are the shortest on a wire, 64 bytes with their checksum and 60 in memory. Over IPv6 the headers
//! alone take 74 bytes in memory.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::Family;
use lvs_forward::checksum::Sum;
use lvs_forward::{Frame, HEADROOM, PortId};

pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;
pub(super) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];

/// A frame in its buffer; one of IPv4 leaves the end of it empty.
pub(super) type Buffer = [u8; HEADROOM + LENGTH_V6];

/// The frame in a buffer.
pub(super) fn frame(buffer: &mut Buffer) -> Option<Frame<'_>> {
    let length = if is_v6(buffer) { LENGTH_V6 } else { LENGTH_V4 };
    Frame::new(buffer, HEADROOM, HEADROOM + length, PortId(0))
}

/// To whom a frame goes.
pub(super) fn destination(buffer: &Buffer) -> IpAddr {
    let ip = &buffer[HEADROOM + ETHERNET..];
    if is_v6(buffer) {
        ip[24..40].first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |&octets| octets.into()).into()
    } else {
        ip[16..20].first_chunk::<4>().map_or(Ipv4Addr::UNSPECIFIED, |&octets| octets.into()).into()
    }
}

/// A segment of client number `number`.
pub(super) fn request(family: Family, number: u32, flags: u8) -> Buffer {
    build(client(family, number), service(family), flags)
}

/// A segment of a real server to client number `number`.
pub(super) fn answer(server: IpAddr, number: u32) -> Buffer {
    build(SocketAddr::new(server, PORT), client(Family::of(server), number), ACK)
}

/// Address and port of client number `number`; 16 ports for each address.
pub(super) const fn client(family: Family, number: u32) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + number / 16)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(CLIENTS_V6 + (number / 16) as u128)),
    };
    SocketAddr::new(address, 1_024 + (number % 16) as u16)
}

/// Address and port of the service.
pub(super) const fn service(family: Family) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1)),
    };
    SocketAddr::new(address, PORT)
}

/// The address of real server number `number`.
pub(super) const fn server(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0110 + number)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(SERVERS_V6 + number as u128)),
    }
}

fn is_v6(buffer: &Buffer) -> bool {
    buffer[HEADROOM + 12..][..2] == [0x86, 0xdd]
}

/// A segment without a byte of its own; the end of the shortest IPv4 packet is filled with six.
fn build(source: SocketAddr, destination: SocketAddr, flags: u8) -> Buffer {
    let mut buffer = [0; HEADROOM + LENGTH_V6];
    let frame = &mut buffer[HEADROOM..];
    frame[..6].copy_from_slice(&OWN_MAC);
    frame[6..12].copy_from_slice(&GATEWAY_MAC);
    let ip = &mut frame[ETHERNET..];
    let (segment, sum) = match (source.ip(), destination.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, SEGMENT_V6 as u8, 6, 64]);
            ip[8..24].copy_from_slice(&from.octets());
            ip[24..40].copy_from_slice(&to.octets());
            (&mut ip[40..40 + SEGMENT_V6], Sum::pseudo_v6(from, to, 6, SEGMENT_V6))
        }
        (from, to) => {
            let octets = |address| match address {
                IpAddr::V4(address) => address,
                // A bench of mixed families would say so here, loudly: nothing arrives.
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            let (from, to) = (octets(from), octets(to));
            ip[..12].copy_from_slice(&[0x45, 0, 0, 20 + SEGMENT_V4 as u8, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            ip[12..16].copy_from_slice(&from.octets());
            ip[16..20].copy_from_slice(&to.octets());
            let checksum = Sum::default().bytes(&ip[..20]).checksum();
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            (&mut ip[20..20 + SEGMENT_V4], Sum::pseudo_v4(from, to, 6, SEGMENT_V4))
        }
    };
    segment[..2].copy_from_slice(&source.port().to_be_bytes());
    segment[2..4].copy_from_slice(&destination.port().to_be_bytes());
    (segment[12], segment[13]) = (0x50, flags);
    let checksum = sum.bytes(segment).checksum();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    let kind: [u8; 2] = if source.is_ipv6() { [0x86, 0xdd] } else { [8, 0] };
    frame[12..14].copy_from_slice(&kind);
    buffer
}

const PORT: u16 = 80;
const ETHERNET: usize = 14;
/// A TCP header, and over IPv4 the bytes that fill the shortest frame.
const SEGMENT_V4: usize = 26;
const SEGMENT_V6: usize = 20;
const LENGTH_V4: usize = ETHERNET + 20 + SEGMENT_V4;
const LENGTH_V6: usize = ETHERNET + 40 + SEGMENT_V6;
/// The first addresses: `2001:db8:c::` of the clients, `2001:db8:1::110` of the servers.
const CLIENTS_V6: u128 = 0x2001_0db8_000c << 80;
const SERVERS_V6: u128 = (0x2001_0db8_0001 << 80) + 0x110;

#[cfg(test)]
mod tests {
    use lvs_forward::parse::{Link, Parsed, parse};

    use super::*;

    #[test]
    fn frames_of_both_families_are_what_they_say() {
        for family in [Family::V4, Family::V6] {
            let mut buffer = request(family, 33, SYN);
            assert_eq!(destination(&buffer), service(family).ip());
            let frame = frame(&mut buffer).unwrap();
            let Ok(Parsed::Ip(layout, packet)) = parse(&frame, Link::Ethernet) else { panic!("{family:?}") };
            assert_eq!(layout.addresses(frame.bytes()).unwrap().source(), client(family, 33).ip());
            let _ = packet;
        }
    }
}
