//! Frames of clients and servers.

use core::net::{IpAddr, SocketAddr};

use lvs_forward::checksum::{self, Sum};

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const FIN: u8 = 0x01;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;

/// A segment. A SYN says the longest that it wants.
pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, flags: u8, payload: usize) -> Vec<u8> {
    let options: &[u8] = if flags & SYN == 0 { &[] } else { &[2, 4, 5, 0xb4] };
    let mut segment = ports(from, to);
    segment.extend(1_000_u32.to_be_bytes());
    segment.extend(if flags & ACK == 0 { 0_u32 } else { 1_001 }.to_be_bytes());
    segment.extend([(5 + options.len() as u8 / 4) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.resize(segment.len() + payload, b'x');
    let sum = pseudo(from.ip(), to.ip(), TCP, segment.len()).bytes(&segment).checksum();
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), TCP, &segment)
}

/// A datagram.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, payload: usize) -> Vec<u8> {
    let mut datagram = ports(from, to);
    datagram.extend((8 + payload as u16).to_be_bytes());
    datagram.resize(8 + payload, b'x');
    datagram[6..8].fill(0);
    let sum = pseudo(from.ip(), to.ip(), UDP, datagram.len()).bytes(&datagram).udp_checksum();
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), UDP, &datagram)
}

/// An INIT (RFC 9260, section 3.3.2).
pub(crate) fn sctp_init(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut packet = ports(from, to);
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend(0x1234_5678_u32.to_be_bytes());
    packet.extend(65_536_u32.to_be_bytes());
    packet.extend([0, 10, 0, 10]);
    packet.extend(1_u32.to_be_bytes());
    let sum = checksum::sctp(&packet);
    packet[8..12].copy_from_slice(&sum);
    ip(from.ip(), to.ip(), SCTP, &packet)
}

/// A ping by IPv4.
pub(crate) fn ping(from: IpAddr, to: IpAddr, number: u16) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x4c, 0x56];
    message.extend(number.to_be_bytes());
    let sum = Sum::ZERO.bytes(&message).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(from, to, ICMP, &message)
}

/// The number of the ping that this frame answers.
pub(crate) fn pong(frame: &[u8]) -> Option<u16> {
    let answer =
        frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&ICMP) && frame.get(34) == Some(&0);
    let number = frame.get(40..42).filter(|_| answer)?;
    Some(u16::from_be_bytes([number[0], number[1]]))
}

/// Where a frame with this payload protocol goes, if its source is this.
pub(crate) fn destination(frame: &[u8], source: SocketAddr, protocol: u8) -> Option<SocketAddr> {
    let v6 = frame.get(12..14)? == [0x86, 0xdd];
    let (addresses, transport, its) = if v6 {
        (frame.get(22..54)?, frame.get(54..58)?, *frame.get(20)?)
    } else {
        (frame.get(26..34)?, frame.get(34..38)?, *frame.get(23)?)
    };
    let (from, to) = addresses.split_at(addresses.len() / 2);
    let socket = |address: &[u8], port: &[u8]| {
        let address: IpAddr = if v6 {
            <[u8; 16]>::try_from(address).ok()?.into()
        } else {
            <[u8; 4]>::try_from(address).ok()?.into()
        };
        Some(SocketAddr::new(address, u16::from_be_bytes([port[0], port[1]])))
    };
    let from = socket(from, &transport[..2])?;
    (its == protocol && from == source).then(|| socket(to, &transport[2..])).flatten()
}

/// A frame from one station to another.
pub(crate) fn frame(from: [u8; 6], to: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&to[..], &from, &kind, packet].concat()
}

fn ports(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    [from.port().to_be_bytes(), to.port().to_be_bytes()].concat()
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend((20 + payload.len() as u16).to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = Sum::ZERO.bytes(&header).checksum();
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&header, payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((payload.len() as u16).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(from.octets());
            header.extend(to.octets());
            [&header, payload].concat()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Sum {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Sum::pseudo_v4(from, to, protocol, length),
        (IpAddr::V6(from), IpAddr::V6(to)) => Sum::pseudo_v6(from, to, protocol, length),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Sum::ZERO,
    }
}

const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
