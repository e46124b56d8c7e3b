//! What the tests of this crate share: a small world of addresses, and one test body for every store.

#![allow(dead_code, unused_macros, unused_imports, reason = "every test file uses a part of it")]

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::{
    Config, Content, Director, Flow, Forward, Inspected, Method, Packet, Protocol, Scheduler, Seed,
    ServerConfig, ServerId, ServiceConfig, ServiceKey, Store, TcpFlags, Tick, Verdict, Weight,
};

/// The virtual address of most tests.
pub(crate) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));

/// The service at port 80 of it.
pub(crate) const WEB: ServiceKey = ServiceKey::tcp(VIP, 80);

/// The service for UDP at port 53 of it.
pub(crate) const DNS: ServiceKey = ServiceKey::udp(VIP, 53);

pub(crate) const SYN: Content = Content::Tcp(TcpFlags::SYN);
pub(crate) const ACK: Content = Content::Tcp(TcpFlags::ACK);
pub(crate) const FIN: Content = Content::Tcp(TcpFlags::FIN.with(TcpFlags::ACK));
pub(crate) const RST: Content = Content::Tcp(TcpFlags::RST);

pub(crate) fn config() -> Config {
    Config::new(Seed::from_bytes(*b"a seed for tests"))
}

pub(crate) fn scheduler(name: &str) -> ServiceConfig {
    ServiceConfig::new(Scheduler::from_name(name).unwrap())
}

/// Real server number `number`.
pub(crate) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 10 + number], 80))
}

pub(crate) fn server(number: u8, method: Method, weight: u16) -> ServerConfig {
    ServerConfig::new(address(number), method).with_weight(Weight::from(weight))
}

/// A packet from a client to the virtual address.
pub(crate) fn request(
    key: ServiceKey,
    client: impl Into<IpAddr>,
    client_port: u16,
    content: Content,
) -> Packet {
    let ServiceKey::Address { protocol, address, port } = key else { panic!("no address") };
    let flow =
        Flow::new(protocol, SocketAddr::new(client.into(), client_port), SocketAddr::new(address, port));
    Packet::new(flow.unwrap(), content, 60)
}

/// A packet from real server `number` to a client.
pub(crate) fn answer(
    protocol: Protocol,
    number: u8,
    client: impl Into<IpAddr>,
    client_port: u16,
    content: Content,
) -> Packet {
    let flow = Flow::new(protocol, address(number), SocketAddr::new(client.into(), client_port));
    Packet::new(flow.unwrap(), content, 60).passing()
}

/// Where a packet went, if it was forwarded.
pub(crate) fn forwarded(verdict: Verdict) -> Option<Forward> {
    match verdict {
        Verdict::Forward(forward) => Some(forward),
        Verdict::Drop(_) | Verdict::Inspect | Verdict::Pass(_) | Verdict::Reject(_) => None,
    }
}

/// The server that a new client's SYN goes to.
pub(crate) fn syn<S: Store>(director: &mut Director<S>, client: [u8; 4], port: u16) -> Option<ServerId> {
    let packet = request(WEB, client, port, SYN);
    forwarded(director.decide(Tick::ZERO, &packet, Inspected::Nothing)).map(|forward| forward.server)
}

/// Runs a test body on every store: without an allocator (owned and borrowed) and with one.
macro_rules! on_every_store {
    ($($name:ident)+) => {$(
        mod $name {
            #[test]
            fn fixed() {
                let store: Box<lvs_core::Fixed<256, 4, 16, 64, 4_093>> = Box::new(lvs_core::Fixed::new());
                super::$name(|config| lvs_core::Director::new(config, *store));
            }

            #[test]
            fn fixed_elsewhere() {
                let mut store: Box<lvs_core::Fixed<256, 4, 16, 64, 4_093>> = Box::new(lvs_core::Fixed::new());
                super::$name(|config| lvs_core::Director::new(config, &mut *store));
            }

            #[test]
            fn heap() {
                super::$name(|config| lvs_core::Director::new(config, lvs_core::Heap::with_capacity(256)));
            }
        }
    )+};
}
pub(crate) use on_every_store;
