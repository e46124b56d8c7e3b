//! Names of hosts and ports, as this system knows them.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::fs;

use dns_lookup::{AddrInfoHints, getaddrinfo, getnameinfo};
use lvs_core::Protocol;

use super::Names;

/// The system's resolver (`/etc/hosts`, DNS, ..) and `/etc/services`.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing in it")]
pub struct System;

impl Names for System {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        if name.is_empty() {
            return None;
        }
        let hints = AddrInfoHints { address: AF_INET, socktype: SOCK_STREAM, ..AddrInfoHints::default() };
        let found = getaddrinfo(Some(name), None, Some(hints)).ok()?;
        found.flatten().find_map(|info| match info.sockaddr.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        // The resolver would also read numbers, more kinds of them than there are here.
        if !name.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            return None;
        }
        let socktype = match protocol {
            Protocol::Tcp => SOCK_STREAM,
            Protocol::Udp => SOCK_DGRAM,
            Protocol::Sctp => {
                return services(SERVICES, "sctp").find(|(_, its)| its == name).map(|(port, _)| port);
            }
        };
        let hints = AddrInfoHints { address: AF_INET, socktype, ..AddrInfoHints::default() };
        let mut found = getaddrinfo(None, Some(name), Some(hints)).ok()?.flatten();
        found.next().map(|info| info.sockaddr.port())
    }

    fn host_of(&self, address: IpAddr) -> Option<String> {
        let flags = NI_NAMEREQD | NI_NUMERICSERV;
        getnameinfo(&SocketAddr::new(address, 0), flags).ok().map(|(host, _)| host)
    }

    fn port_of(&self, port: u16, protocol: u16) -> Option<String> {
        let flags = match protocol {
            TCP => NI_NUMERICHOST,
            UDP => NI_NUMERICHOST | NI_DGRAM,
            SCTP => return services(SERVICES, "sctp").find(|(its, _)| *its == port).map(|(_, name)| name),
            _ => return None,
        };
        // Port 0 is no service.
        let number = Some(port).filter(|&port| port != 0)?;
        let (_, name) = getnameinfo(&SocketAddr::from(([127, 0, 0, 1], number)), flags).ok()?;
        (name != number.to_string()).then_some(name)
    }
}

/// The ports and names of a protocol in a file like `/etc/services`: the C library's functions know no SCTP.
fn services(file: &str, protocol: &str) -> impl Iterator<Item = (u16, String)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter_map(|line| service(line, protocol)).collect();
    lines.into_iter().flatten()
}

/// A line's port with its name, and with each other name.
fn service(line: &str, protocol: &str) -> Option<impl Iterator<Item = (u16, String)> + use<>> {
    let mut words = line.split('#').next()?.split_whitespace();
    let name = words.next()?;
    let (port, its) = words.next()?.split_once('/')?;
    let port: u16 = port.parse().ok()?;
    let names: Vec<_> = core::iter::once(name).chain(words).map(|name| (port, name.to_owned())).collect();
    (its == protocol).then(|| names.into_iter())
}

const SERVICES: &str = "/etc/services";
const TCP: u16 = 6;
const UDP: u16 = 17;
const SCTP: u16 = 132;
/// `sys/socket.h` and `netdb.h` of Linux.
const AF_INET: i32 = 2;
const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
const NI_NUMERICHOST: i32 = 1;
const NI_NUMERICSERV: i32 = 2;
const NI_NAMEREQD: i32 = 8;
const NI_DGRAM: i32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_services_has_a_port_and_names() {
        let read = |line| service(line, "sctp").map(|names| names.collect::<Vec<_>>());
        assert_eq!(
            read("amqp\t5672/sctp  broker # of messages"),
            Some(vec![(5672, "amqp".to_owned()), (5672, "broker".to_owned())])
        );
        assert_eq!(read("http 80/tcp www"), None);
        assert_eq!(read("# comment"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn the_system_knows_loopback() {
        assert_eq!(System.host("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(System.host(""), None);
        assert_eq!(System.port("99999", Protocol::Tcp), None);
        assert_eq!(System.port_of(0, TCP), None);
    }
}
