//! What clients and real servers send, as frames.

use core::net::{IpAddr, SocketAddr};

use lvs_core::Protocol;
use lvs_forward::checksum::Sum;
use lvs_forward::host::MacAddress;

pub const OUTSIDE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub const INSIDE: MacAddress = MacAddress([2, 0, 0, 0, 1, 1]);
pub const GATEWAY: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xaa]);
pub const SERVER: MacAddress = MacAddress([2, 0, 0, 0, 1, 0x11]);

/// TCP's flag for the first segment of a connection, and for all later ones.
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// Writes a frame with these addresses and so many bytes of payload, and says how long it is.
pub fn write(
    place: &mut [u8],
    (to, from): (MacAddress, MacAddress),
    protocol: Protocol,
    (source, destination): (SocketAddr, SocketAddr),
    flags: u8,
) -> usize {
    place.fill(0);
    place[..6].copy_from_slice(&to.0);
    place[6..12].copy_from_slice(&from.0);
    let (number, len) = if protocol == Protocol::Tcp { (6, 20) } else { (17, 8) };
    let payload = 14
        + match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                place[12..14].copy_from_slice(&[8, 0]);
                let header = &mut place[14..34];
                (header[0], header[3], header[8], header[9]) = (0x45, 20 + len, 64, number);
                header[12..16].copy_from_slice(&source.octets());
                header[16..20].copy_from_slice(&destination.octets());
                let sum = Sum::ZERO.bytes(header).checksum();
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                20
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                place[12..14].copy_from_slice(&[0x86, 0xdd]);
                let header = &mut place[14..54];
                (header[0], header[5], header[6], header[7]) = (0x60, len, number, 64);
                header[8..24].copy_from_slice(&source.octets());
                header[24..40].copy_from_slice(&destination.octets());
                40
            }
            _ => 0,
        };
    let end = payload + usize::from(len);
    let transport = &mut place[payload..end];
    transport[..2].copy_from_slice(&source.port().to_be_bytes());
    transport[2..4].copy_from_slice(&destination.port().to_be_bytes());
    let field = if protocol == Protocol::Tcp {
        (transport[12], transport[13]) = (0x50, flags);
        16
    } else {
        transport[5] = len;
        6
    };
    let sum = transport_sum(source.ip(), destination.ip(), number, transport);
    place[payload + field..payload + field + 2].copy_from_slice(&sum.to_be_bytes());
    end
}

fn transport_sum(source: IpAddr, destination: IpAddr, number: u8, transport: &[u8]) -> u16 {
    let pseudo = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Sum::pseudo_v4(source, destination, number, transport.len())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Sum::pseudo_v6(source, destination, number, transport.len())
        }
        _ => Sum::ZERO,
    };
    pseudo.bytes(transport).checksum()
}
