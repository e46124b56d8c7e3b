//! Two networks with a director between them: clients on one side, real servers on the other.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::{
    Director, Fixed, Method, Protocol, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Tick, Tunnel,
};
use lvs_forward::engine::{Engine, OWN_BUFFER};
use lvs_forward::host::{Host, Port};
use lvs_forward::{DropReason, Forwarder, Frame, HEADROOM, Outcome, PortId};

use crate::traffic::{ACK, GATEWAY, INSIDE, OUTSIDE, SERVER, SYN, write};
use crate::wire::Wire;

/// 256 connections, 5 services, 8 real servers, 16 events that wait, and cells for the tables of `sh`, `dh` and others.
pub type Store = Fixed<256, 5, 8, 16, 256>;

const VIRTUAL: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1))];
const REAL: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 0, 1, 11)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 11))];
const CLIENT: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7))];
const OWN: [[IpAddr; 2]; 2] = [
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe))],
    [IpAddr::V4(Ipv4Addr::new(10, 0, 1, 254)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe))],
];

/// The port of every service, and of every server.
const SERVICE: u16 = 53;
const TARGET: u16 = 5_353;
/// Connections of each kind.
const CLIENTS: u16 = 60;

/// A service by TCP and one by UDP for both families, with a real server each. `None` when there is no room.
#[inline(never)]
pub fn set_up(director: &mut Director<&'static mut Store>, host: &mut Host) -> Option<()> {
    for (port, mac) in [OUTSIDE, INSIDE].into_iter().enumerate() {
        let id = host.add_port(Port::ethernet(mac, 1_500)).ok()?;
        for (family, len) in [24, 64].into_iter().enumerate() {
            host.add_address(id, OWN[port][family], len).ok()?;
        }
    }
    for family in 0..2 {
        host.add_virtual_address(VIRTUAL[family]).ok()?;
        host.add_neighbour(PortId(0), CLIENT[family], GATEWAY).ok()?;
        host.add_neighbour(PortId(1), REAL[family], SERVER).ok()?;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let key = ServiceKey::Address { protocol, address: VIRTUAL[family], port: SERVICE };
            // By name, so that the program has all of them.
            let scheduler = Scheduler::from_name(if family == 0 { "wlc" } else { "sh" })?;
            director.add_service(key, ServiceConfig::new(scheduler)).ok()?;
            let server = SocketAddr::new(REAL[family], TARGET);
            director.add_server(key, ServerConfig::new(server, Method::Nat)).ok()?;
        }
    }
    Some(())
}

/// Lets connections be opened and answered through a `buffer` for one frame; says how many frames did not leave as they
/// should.
#[inline(never)]
pub fn run(
    director: &mut Director<&'static mut Store>,
    forwarder: &mut Forwarder,
    buffer: &mut [u8; OWN_BUFFER],
    wire: &mut Wire,
) -> u32 {
    let mut engine = Engine::new();
    let mut now = Tick::ZERO;
    let mut wrong = 0;
    for number in 0..CLIENTS {
        for family in 0..2 {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let client = SocketAddr::new(CLIENT[family], 40_000 + number);
                let service = SocketAddr::new(VIRTUAL[family], SERVICE);
                let server = SocketAddr::new(REAL[family], TARGET);
                let request = ((client, service), (client, server));
                let reply = ((server, client), (service, client));
                for (port, (sent, leaves), flags) in
                    [(0, request, SYN), (1, reply, SYN | ACK), (0, request, ACK)]
                {
                    let (to, from) = if port == 0 { (OUTSIDE, GATEWAY) } else { (INSIDE, SERVER) };
                    let len = write(&mut buffer[HEADROOM..HEADROOM + 96], (to, from), protocol, sent, flags);
                    let Some(mut frame) = Frame::new(buffer, HEADROOM, HEADROOM + len, PortId(port)) else {
                        continue;
                    };
                    let mut outcomes = [Outcome::Consumed];
                    let frames = core::slice::from_mut(&mut frame);
                    engine.process(director, forwarder, now, frames, &mut outcomes, wire);

                    let mut expected = [0; 96];
                    let (to, from) = if port == 0 { (SERVER, INSIDE) } else { (GATEWAY, OUTSIDE) };
                    let len = write(&mut expected, (to, from), protocol, leaves, flags);
                    let (by, bytes) = wire.last();
                    wrong += u32::from(by != PortId(1 - port) || !is_equal(bytes, &expected[..len]));
                }
                now = now.plus_millis(1);
                engine.transmit_own(forwarder, now, buffer, wire);
                engine.sweep(director, now);
                while director.poll_event().is_some() {}
            }
        }
    }
    wrong
}

/// How many drop reasons are counted as they should where the code for it was left out: for a packet to a real server
/// behind a tunnel, and for a fragment.
pub fn left_out(
    director: &mut Director<&'static mut Store>,
    forwarder: &mut Forwarder,
    buffer: &mut [u8; OWN_BUFFER],
) -> Option<u64> {
    let key = ServiceKey::udp(VIRTUAL[0], SERVICE + 1);
    director.add_service(key, ServiceConfig::new(Scheduler::default())).ok()?;
    let server = SocketAddr::new(REAL[0], SERVICE + 1);
    director.add_server(key, ServerConfig::new(server, Method::Tunnel(Tunnel::IpIp))).ok()?;
    let (client, service) = (SocketAddr::new(CLIENT[0], 50_000), SocketAddr::new(VIRTUAL[0], SERVICE + 1));
    for is_fragment in [false, true] {
        let place = &mut buffer[HEADROOM..HEADROOM + 96];
        let len = write(place, (OUTSIDE, GATEWAY), Protocol::Udp, (client, service), 0);
        if is_fragment {
            // More follow; the header's checksum goes down by as much as the field goes up.
            place[20] = 0x20;
            place[24] = place[24].wrapping_sub(0x20);
        }
        let mut frame = Frame::new(buffer, HEADROOM, HEADROOM + len, PortId(0))?;
        forwarder.process(director, Tick::ZERO, &mut frame);
    }
    Some(forwarder.counters().drops(DropReason::LeftOut))
}

/// Whether a frame is the expected one with a hop less to go: in IPv4 the header's checksum differs as well.
fn is_equal(bytes: &[u8], expected: &[u8]) -> bool {
    let hop = |at: usize| match bytes.get(12) {
        Some(8) => at == 14 + 8 || at == 14 + 10 || at == 14 + 11,
        _ => at == 14 + 7,
    };
    bytes.len() == expected.len()
        && bytes.iter().zip(expected).enumerate().all(|(at, (one, other))| one == other || hop(at))
}
