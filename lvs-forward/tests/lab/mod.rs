//! A director with a service of every method, to throw frames at.

use core::net::{IpAddr, SocketAddr};

use lvs_core::{
    Config, Director, Family, Heap, Method, Protocol, Scheduler, Seed, ServerConfig, ServiceConfig,
    ServiceKey, Tick, Tunnel,
};
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::output::pieces;
use lvs_forward::parse::Link;
use lvs_forward::reassembly::Fragments;
use lvs_forward::{Forwarder, HEADROOM, Offload, Options, Outcome, PortId};

use crate::sample::{Bed, Sample};

/// The methods, one per virtual address.
pub(crate) const METHODS: [Method; 7] = [
    Method::Nat,
    Method::Direct,
    Method::Tunnel(Tunnel::IpIp),
    Method::Tunnel(Tunnel::Gre { checksum: false }),
    Method::Tunnel(Tunnel::Gre { checksum: true }),
    Method::Tunnel(Tunnel::Gue { port: 6_080, checksum: false }),
    Method::Tunnel(Tunnel::Gue { port: 6_080, checksum: true }),
];

/// The port of every service, and of every server.
pub(crate) const SERVICE_PORT: u16 = 80;
pub(crate) const SERVER_PORT: u16 = 8_080;

pub(crate) const OUTSIDE: u8 = 0;
pub(crate) const INSIDE: u8 = 1;
pub(crate) const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 1, 1])];
const GATEWAY: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xaa]);
const MTU: u16 = 1_400;

pub(crate) struct Lab {
    pub(crate) director: Director<Heap>,
    pub(crate) forwarder: Box<Forwarder>,
}

/// The virtual address of the service with `METHODS[method]`.
pub(crate) fn virtual_address(method: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 99, 0, 1 + method as u8]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1 + method as u16]),
    }
}

/// The real server of the service with `METHODS[method]`.
pub(crate) fn server(method: usize, family: Family) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::from([10, 0, 1, 11 + method as u8]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, 11 + method as u16]),
    };
    SocketAddr::new(address, SERVER_PORT)
}

impl Lab {
    pub(crate) fn new(options: Options) -> Self {
        let mut host: Host = Host::new(Seed::from_bytes([7; 16]));
        let outside = host.add_port(Port::ethernet(MACS[0], 1_500)).unwrap();
        let inside = host.add_port(Port::ethernet(MACS[1], MTU)).unwrap();
        let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::with_capacity(1_000));
        for family in [Family::V4, Family::V6] {
            let pick = |v4: &str, v6: &str| -> IpAddr {
                match family {
                    Family::V4 => v4.parse().unwrap(),
                    Family::V6 => v6.parse().unwrap(),
                }
            };
            let len = if family == Family::V4 { 24 } else { 64 };
            host.add_address(outside, pick("10.0.0.254", "2001:db8::fe"), len).unwrap();
            host.add_address(inside, pick("10.0.1.254", "2001:db8:1::fe"), len).unwrap();
            let gateway = pick("10.0.0.1", "2001:db8::1");
            host.add_route(Prefix::new(pick("0.0.0.0", "::"), 0).unwrap(), Some(gateway), outside).unwrap();
            host.add_neighbour(outside, gateway, GATEWAY).unwrap();
            for (index, method) in METHODS.into_iter().enumerate() {
                let address = virtual_address(index, family);
                host.add_virtual_address(address).unwrap();
                let server = server(index, family);
                host.add_neighbour(inside, server.ip(), MacAddress([2, 0, 0, 0, 1, 11 + index as u8]))
                    .unwrap();
                for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                    let key = ServiceKey::Address { protocol, address, port: SERVICE_PORT };
                    let scheduler = Scheduler::from_name("rr").unwrap();
                    director.add_service(key, ServiceConfig::new(scheduler)).unwrap();
                    director.add_server(key, ServerConfig::new(server, method)).unwrap();
                }
            }
        }
        Self {
            director,
            forwarder: Box::new(Forwarder::new(host, options).with_fragments(Fragments::with_room(4))),
        }
    }

    /// Puts a frame on a port; what became of it, and what left.
    pub(crate) fn frame(
        &mut self,
        now: Tick,
        port: u8,
        bytes: &[u8],
        offload: Offload,
    ) -> (Outcome, Vec<(PortId, Vec<u8>)>) {
        let mut bed = Bed::new(bytes);
        let mut frame = bed.frame(port).with_offload(offload);
        let outcome = self.forwarder.process(&mut self.director, now, &mut frame);
        let mut out = Vec::new();
        // A frame may still be unfinished: as one that no device takes as it is, it is finished here.
        let mut keep = |piece: lvs_forward::Frame<'_>| {
            let mut copy = Bed::new(piece.bytes());
            let mut copied = copy.frame(piece.port.0).with_offload(piece.offload);
            finish(&mut copied);
            out.push((copied.port, copied.bytes().to_vec()));
        };
        let mut outcome = outcome;
        match outcome {
            Outcome::Send | Outcome::SendPieces(_) => {
                pieces(&mut frame, Link::Ethernet, outcome.cut(), &mut keep).unwrap();
            }
            Outcome::Assembled(datagram) => {
                let mut taken = self.forwarder.take(datagram).expect("it was not taken yet");
                outcome = taken.outcome;
                if matches!(outcome, Outcome::Send | Outcome::SendPieces(_)) {
                    pieces(&mut taken.frame, Link::Ethernet, outcome.cut(), &mut keep).unwrap();
                }
                assert!(self.forwarder.take(datagram).is_none(), "it is handed out once");
            }
            Outcome::Consumed | Outcome::Drop(_) | Outcome::Pass(_) => {}
        }
        bed.check_fences();
        let mut spare = vec![0; HEADROOM + 2_048];
        while let Some(frame) = self.forwarder.poll_transmit(now, &mut spare) {
            out.push((frame.port, frame.bytes().to_vec()));
        }
        (outcome, out)
    }
}

/// Completes a partial checksum as a device does.
fn finish(frame: &mut lvs_forward::Frame<'_>) {
    if let lvs_forward::Checksum::Partial { start, offset } = frame.offload.checksum {
        let (start, offset) = (usize::from(start), usize::from(offset));
        let checksum = !crate::sample::sum(&frame.bytes()[start..]);
        let checksum = if checksum == 0 { 0xffff } else { checksum };
        frame.bytes_mut()[start + offset..start + offset + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A packet of `METHODS[method]`'s service, from a client.
pub(crate) fn request(sample: &Sample, method: usize) -> Sample {
    let destination = SocketAddr::new(virtual_address(method, sample.family()), SERVICE_PORT);
    Sample { destination, ..sample.clone() }
}

/// The answer to it, from that service's server.
pub(crate) fn answer(request: &Sample, method: usize) -> Sample {
    let source = match METHODS[method] {
        Method::Nat => server(method, request.family()),
        Method::Bypass | Method::Direct | Method::Local | Method::Tunnel(_) => request.destination,
    };
    Sample { source, destination: request.source, tcp_flags: 0x12, ..request.clone() }
}

/// A frame with an Ethernet header, and VLAN tags if wanted, for the director's port.
pub(crate) fn ethernet(port: u8, tags: usize, packet: &[u8]) -> Vec<u8> {
    let mut frame = [MACS[usize::from(port)].0, GATEWAY.0].concat();
    for tag in 0..tags {
        frame.extend([0x81, 0, 0, 7 + tag as u8]);
    }
    frame.extend(if packet.first().is_some_and(|byte| byte >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] });
    frame.extend(packet);
    frame
}
