//! What the tests of both programs steer: frames, and ways to steer.

use core::net::IpAddr;

use etherparse::PacketBuilder;
use lvs_core::Seed;

use super::{By, Steer};

/// A packet of TCP or UDP with some bytes, behind so many VLAN tags.
pub(super) fn frame(
    source: IpAddr,
    destination: IpAddr,
    ports: (u16, u16),
    tcp: bool,
    tags: usize,
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let builder = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            builder.ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            builder.ipv6(source.octets(), destination.octets(), 64)
        }
        _ => panic!("two families"),
    };
    let mut bytes = Vec::new();
    if tcp {
        builder.tcp(ports.0, ports.1, 1, 1_000).write(&mut bytes, &[0; 20]).unwrap();
    } else {
        builder.udp(ports.0, ports.1).write(&mut bytes, &[0; 20]).unwrap();
    }
    [&bytes[..12], &[0x81, 0, 0, 5].repeat(tags), &bytes[12..]].concat()
}

/// Every way to find a worker, for one worker and for several.
pub(super) fn steers() -> impl Iterator<Item = Steer> {
    let ways = [By::Endpoint, By::ADDRESS, By::Address { v4: [255, 255, 240, 0].into(), v6: 40 }];
    ways.into_iter().flat_map(|by| {
        [1, 2, 3, 64].map(|workers| Steer::new(Seed::from_bytes(*b"a seed for tests"), workers, by))
    })
}
