//! Any bytes as what one end of an FTP control connection says.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use lvs_core::Family;
use lvs_forward::alg::ftp::parse::{
    Command, Search, client_command, extended_passive_reply, extended_passive_text, passive_reply,
    passive_text,
};

/// Looks for commands and replies in `data`, and rewrites the replies that are found.
///
/// # Panics
///
/// When a place lies outside of the payload, or what was written in its place is not found there again.
pub fn ftp(data: &[u8]) {
    let virt = Ipv4Addr::new(10, 99, 0, 1);
    if let Search::Found(place) = passive_reply(data) {
        let address = SocketAddrV4::new(virt, place.address.port());
        let (again, end) = replaced(data, place.start, place.end, passive_text(address).as_bytes());
        let Search::Found(found) = passive_reply(&again) else { panic!("lost: {:?}", again.escape_ascii()) };
        assert_eq!((found.address, found.start, found.end), (address.into(), place.start, end));
    }
    for server in [IpAddr::V4(virt), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let family = Family::of(server);
        if let Search::Found(place) = extended_passive_reply(data, server) {
            assert_eq!(Family::of(place.address.ip()), family);
            let text = extended_passive_text(place.address.port());
            let (again, end) = replaced(data, place.start, place.end, text.as_bytes());
            let Search::Found(found) = extended_passive_reply(&again, server) else {
                panic!("lost: {:?}", again.escape_ascii())
            };
            let address = SocketAddr::new(server, place.address.port());
            assert_eq!((found.address, found.start, found.end), (address, place.start, end));
        }
        match client_command(data, family) {
            Some(Command::Active(address)) => assert_eq!(Family::of(address.ip()), family),
            Some(Command::Passive) => assert_eq!(family, Family::V4),
            Some(Command::ExtendedPassive) | None => {}
        }
    }
}

/// The payload with other bytes at a place, and where they end.
fn replaced(payload: &[u8], start: usize, end: usize, with: &[u8]) -> (Vec<u8>, usize) {
    assert!(start < end);
    let again = [&payload[..start], with, &payload[end..]].concat();
    (again, start + with.len())
}
