//! The links of the world, its clock, and the director on them.

use core::net::{IpAddr, SocketAddr};
use std::collections::{HashMap, VecDeque};

use lvs_core::{
    Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick,
};
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_forward::output::{Cut, pieces};
use lvs_forward::parse::Link;
use lvs_forward::reassembly::Fragments;
use lvs_forward::{
    Checksum, Decapsulator, DropReason, Forwarder, Frame, GUE_PORT, HEADROOM, Merged, MergedKind, Offload,
    Options, Outcome, PassReason, PortId, Unwrapped,
};

use crate::oracle::{Trust, check_ethernet, check_packet};
use crate::peer::{Mac, Peer, Progress, Role};
use crate::virtual_address;

/// What a world is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) method: Method,
    pub v6: bool,
    /// The family of the servers' own addresses, when it is another one.
    pub servers_v6: Option<bool>,
    pub(crate) upload: usize,
    pub(crate) server_mtu: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) merged: bool,
    pub(crate) silent_server: bool,
    /// The client still has the link-layer address of a director that is gone.
    pub(crate) stale_client: bool,
}

impl Plan {
    pub(crate) fn of(method: Method) -> Self {
        Self {
            method,
            v6: false,
            servers_v6: None,
            upload: 3_000,
            server_mtu: 1_500,
            dont_fragment: true,
            merged: false,
            silent_server: false,
            stale_client: false,
        }
    }
}

const CLIENT: usize = 0;
const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 7];
const SERVER_MAC: Mac = [2, 0, 0, 0, 1, 0x11];
const DIRECTOR_MACS: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 1, 1]];
const OLD_DIRECTOR: Mac = [2, 0, 0, 0, 0, 0xdd];

/// Link 0 has the client and the director's port 0, link 1 its port 1 and the server. A server that answers the client
/// itself (DR, TUN) has a leg on link 0 for that.
pub(crate) struct World {
    now: Tick,
    director: Director<Heap>,
    forwarder: Box<Forwarder>,
    peers: [Peer; 2],
    decapsulator: Option<Box<Decapsulator>>,
    /// Frames under way: the link, and who sent it.
    flying: VecDeque<(usize, Mac, Vec<u8>, Option<u16>)>,
    direct_answers: bool,
    fragments: usize,
    questions: usize,
    books: Books,
}

/// What became of the frames that came to the director, by their outcomes.
#[derive(Default)]
struct Books {
    left: u64,
    consumed: u64,
    dropped: u64,
    passed: u64,
    /// Packets that left after they had waited.
    waited: u64,
}

fn on_client_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [192, 0, 2],
        IpAddr::V6(address) => address.segments()[..3] == [0x2001, 0xdb8, 0xc],
    }
}

fn on_server_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [10, 0, 1],
        IpAddr::V6(address) => address.segments()[..3] == [0x2001, 0xdb8, 1],
    }
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let address =
            |v4: &str, v6: &str, is_v6: bool| -> IpAddr { if is_v6 { v6 } else { v4 }.parse().unwrap() };
        let servers_v6 = plan.servers_v6.unwrap_or(plan.v6);
        let server = address("10.0.1.11", "2001:db8:1::11", servers_v6);
        let vip = virtual_address(plan.v6);

        let mut host: Host = Host::new(Seed::from_bytes([9; 16]));
        let outside = host.add_port(Port::ethernet(MacAddress(DIRECTOR_MACS[0]), 1_500)).unwrap();
        let inside = host.add_port(Port::ethernet(MacAddress(DIRECTOR_MACS[1]), plan.server_mtu)).unwrap();
        for is_v6 in [false, true] {
            let len = if is_v6 { 64 } else { 24 };
            host.add_address(outside, address("192.0.2.254", "2001:db8:c::fe", is_v6), len).unwrap();
            host.add_address(inside, address("10.0.1.254", "2001:db8:1::fe", is_v6), len).unwrap();
            let any = Prefix::new(address("0.0.0.0", "::", is_v6), 0).unwrap();
            host.add_route(any, Some(address("192.0.2.1", "2001:db8:c::1", is_v6)), outside).unwrap();
        }
        host.add_virtual_address(vip).unwrap();

        let mut director = Director::new(Config::new(Seed::from_bytes([9; 16])), Heap::with_capacity(100));
        let key = ServiceKey::tcp(vip, 80);
        director.add_service(key, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
        let port = if plan.method == Method::Nat { 8_080 } else { 80 };
        director.add_server(key, ServerConfig::new(SocketAddr::new(server, port), plan.method)).unwrap();

        let direct_answers = !plan.method.sees_replies();
        let client_address = address("192.0.2.7", "2001:db8:c::7", plan.v6);
        let peer = |mac, addresses: Vec<IpAddr>, role| Peer {
            mac,
            addresses,
            hidden: Vec::new(),
            gateway: address("192.0.2.254", "2001:db8:c::fe", plan.v6),
            on_link: on_client_link,
            neighbours: HashMap::new(),
            waiting: Vec::new(),
            role,
            mtu: 1_500,
            dont_fragment: plan.dont_fragment,
            merged: false,
            silent: false,
        };
        let upload: Vec<u8> = (0..plan.upload).map(|at| (at * 7 + at / 256) as u8).collect();
        let role = Role::Client {
            to: vip,
            upload,
            port: 40_000,
            confirmed: false,
            unreachable: false,
            shrunk: false,
        };
        let mut client = peer(CLIENT_MAC, vec![client_address], role);
        client.merged = plan.merged;
        if plan.stale_client {
            // It believes that the virtual address is its neighbour, at a host that is gone.
            client.on_link = |_| true;
            client.neighbours.insert(vip, OLD_DIRECTOR);
        }
        let role = Role::Server { received: HashMap::new(), pieces: HashMap::new() };
        let mut real = peer(SERVER_MAC, vec![server], role);
        real.silent = plan.silent_server;
        let mut decapsulator = None;
        if direct_answers {
            real.hidden = vec![vip];
            // For its answers it has an address on the client's link.
            real.addresses.push(address("192.0.2.11", "2001:db8:c::11", plan.v6));
        } else {
            real.gateway = address("10.0.1.254", "2001:db8:1::fe", plan.v6);
            real.on_link = on_server_link;
        }
        if let Method::Tunnel(_) = plan.method {
            let mut host: Host = Host::new(Seed::from_bytes([8; 16]));
            let port = host.add_port(Port::ethernet(MacAddress(SERVER_MAC), plan.server_mtu)).unwrap();
            host.add_address(port, server, if servers_v6 { 64 } else { 24 }).unwrap();
            let fragments = Fragments::with_room(16);
            decapsulator = Some(Box::new(Decapsulator::new(host, GUE_PORT).with_fragments(fragments)));
        }
        let mut world = Self {
            now: Tick::from_millis(50_000),
            director,
            forwarder: Box::new(
                Forwarder::new(host, Options::new()).with_fragments(Fragments::with_room(16)),
            ),
            peers: [client, real],
            decapsulator,
            flying: VecDeque::new(),
            direct_answers,
            fragments: 0,
            questions: 0,
            books: Books::default(),
        };
        world.poll_director();
        world
    }

    /// Gives the director's port on the servers' link another MTU, as when its interface gets one.
    pub(crate) fn set_server_mtu(&mut self, mtu: u16) {
        let port = Port::ethernet(MacAddress(DIRECTOR_MACS[1]), mtu);
        assert_eq!(self.forwarder.host_mut().set_port(PortId(1), port), Ok(true));
    }

    pub(crate) fn announce(&mut self) {
        self.forwarder.host_mut().announce_all(self.now);
    }

    /// Lets `secs` seconds pass, in steps of 100 ms. The client tries again each second.
    pub(crate) fn run(&mut self, secs: u64) {
        for step in 0..secs * 10 {
            if step % 10 == 5 {
                let out = self.peers[CLIENT].start();
                self.launch(0, CLIENT_MAC, out);
            }
            self.poll_director();
            while let Some((link, from, bytes, merged)) = self.flying.pop_front() {
                self.deliver(link, from, &bytes, merged);
            }
            self.now = self.now.plus_millis(100);
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        match self.peers[CLIENT].role {
            Role::Client { confirmed: true, .. } => Progress::Done,
            Role::Client { unreachable: true, .. } => Progress::Unreachable,
            Role::Client { .. } | Role::Server { .. } => Progress::Underway,
        }
    }

    pub(crate) fn restart_client(&mut self) {
        if let Role::Client { port, confirmed, .. } = &mut self.peers[CLIENT].role {
            *port += 1;
            *confirmed = false;
        }
    }

    pub(crate) fn client_was_told_to_shrink(&self) -> bool {
        matches!(self.peers[CLIENT].role, Role::Client { shrunk: true, .. })
    }

    /// Fragments that the director sent.
    pub(crate) fn fragments(&self) -> usize {
        self.fragments
    }

    /// ARP requests that the director sent.
    pub(crate) fn questions(&self) -> usize {
        self.questions
    }

    fn launch(&mut self, link: usize, from: Mac, out: Vec<(Vec<u8>, Option<u16>)>) {
        self.flying.extend(out.into_iter().map(|(bytes, merged)| (link, from, bytes, merged)));
    }

    fn deliver(&mut self, link: usize, from: Mac, bytes: &[u8], merged: Option<u16>) {
        if from != DIRECTOR_MACS[link] {
            self.reach_director(link, bytes, merged);
        }
        if link == 0 && from != CLIENT_MAC {
            let out = self.peers[CLIENT].frame(bytes);
            self.launch(0, CLIENT_MAC, out);
        }
        // The server's leg on the client's link is for its answers, and for finding the client.
        if from != SERVER_MAC && (link == 1 || self.direct_answers) {
            self.reach_server(link, bytes);
        }
    }

    fn reach_server(&mut self, link: usize, bytes: &[u8]) {
        let answers = if self.direct_answers { 0 } else { 1 };
        let server = &mut self.peers[1];
        let Some(decapsulator) = self.decapsulator.as_mut().filter(|_| link == 1) else {
            let out = server.frame(bytes);
            // A question is answered where it was asked; all else goes to the client.
            let questions = matches!(bytes[12..14], [8, 6])
                || (bytes[12..14] == [0x86, 0xdd] && bytes[20] == 58 && matches!(bytes[54], 135 | 136));
            let link = if questions { link } else { answers };
            return self.launch(link, SERVER_MAC, out);
        };
        let mut buffer = [&[0; HEADROOM][..], bytes].concat();
        let end = buffer.len();
        let mut frame = Frame::new(&mut buffer, HEADROOM, end, PortId(0)).unwrap();
        let mut outcome = decapsulator.process(self.now, &mut frame);
        if outcome == Unwrapped::Assembled {
            (frame, outcome) = decapsulator.take().unwrap();
        }
        match outcome {
            Unwrapped::Inner => {
                check_packet(frame.bytes(), Trust::Checksums);
                let out = server.packet(frame.bytes());
                self.launch(answers, SERVER_MAC, out);
            }
            Unwrapped::Send => {
                let out = vec![(frame.bytes().to_vec(), None)];
                self.launch(link, SERVER_MAC, out);
            }
            Unwrapped::Assembled | Unwrapped::Consumed | Unwrapped::Drop(_) | Unwrapped::Pass => {}
        }
    }

    fn reach_director(&mut self, link: usize, bytes: &[u8], merged: Option<u16>) {
        let mut buffer = [&[0; HEADROOM][..], bytes].concat();
        let end = buffer.len();
        let mut frame = Frame::new(&mut buffer, HEADROOM, end, PortId(link as u8)).unwrap();
        if let Some(segment) = merged {
            frame.offload = merge(frame.bytes_mut(), segment);
        }
        let outcome = self.forwarder.process(&mut self.director, self.now, &mut frame);
        match outcome {
            Outcome::Send | Outcome::SendPieces(_) | Outcome::Assembled(_) => self.books.left += 1,
            Outcome::Consumed => self.books.consumed += 1,
            Outcome::Drop(_) => self.books.dropped += 1,
            Outcome::Pass(_) => self.books.passed += 1,
        }
        let cut = match outcome {
            Outcome::Send => Cut::SEGMENTS,
            Outcome::SendPieces(cut) => cut,
            Outcome::Assembled(datagram) => {
                let mut out = Vec::new();
                if let Some(mut taken) = self.forwarder.take(datagram) {
                    let (port, cut) = (usize::from(taken.frame.port.0), taken.outcome.cut());
                    let mut keep = |piece: Frame<'_>| out.push((port, piece.bytes().to_vec()));
                    pieces(&mut taken.frame, Link::Ethernet, cut, &mut keep).unwrap();
                }
                for (port, bytes) in out {
                    self.leave_director(port, bytes);
                }
                return self.poll_director();
            }
            Outcome::Consumed | Outcome::Drop(_) | Outcome::Pass(_) => return self.poll_director(),
        };
        let port = usize::from(frame.port.0);
        let mut out = Vec::new();
        pieces(&mut frame, Link::Ethernet, cut, &mut |piece| out.push(piece.bytes().to_vec())).unwrap();
        for bytes in out {
            self.leave_director(port, bytes);
        }
        self.poll_director();
    }

    fn leave_director(&mut self, link: usize, bytes: Vec<u8>) {
        check_ethernet(&bytes, Trust::Checksums);
        self.fragments += usize::from(bytes[12..14] == [8, 0] && bytes[20] & 0x3f != 0);
        self.questions += usize::from(bytes[12..14] == [8, 6] && bytes[21] == 1);
        self.flying.push_back((link, DIRECTOR_MACS[link], bytes, None));
    }

    fn poll_director(&mut self) {
        let mut buffer = vec![0; HEADROOM + 2_048];
        while let Some(frame) = self.forwarder.poll_transmit(self.now, &mut buffer) {
            let (port, bytes) = (usize::from(frame.port.0), frame.bytes().to_vec());
            let discovery =
                bytes[12..14] == [0x86, 0xdd] && bytes[20] == 58 && matches!(bytes[54], 135 | 136);
            self.books.waited += u64::from(bytes[12..14] != [8, 6] && !discovery);
            self.leave_director(port, bytes);
        }
    }

    /// The law that holds once nothing waits any more: each frame that came is accounted for, and once.
    fn check_books(&mut self) {
        for _ in 0..200 {
            self.now = self.now.plus_millis(100);
            self.poll_director();
        }
        let counters = self.forwarder.counters();
        let drops: u64 = DropReason::ALL.iter().map(|&reason| counters.drops(reason)).sum();
        let passes: u64 = PassReason::ALL.iter().map(|&reason| counters.passes(reason)).sum();
        let Books { left, consumed, dropped, passed, waited } = self.books;
        // A drop that was answered has left as that answer.
        let lost = drops - dropped - counters.icmp_errors;
        assert_eq!(counters.waited, waited + lost, "what waited has left, or is a counted drop");
        assert_eq!(passes, passed);
        assert!(counters.waited <= consumed);
        let made =
            counters.requests + counters.replies + counters.routed + counters.icmp_errors + counters.answers;
        let unsent = counters.drops(DropReason::HopPending) + counters.drops(DropReason::NeighboursFull);
        assert!((left + counters.waited..=left + counters.waited + unsent).contains(&made), "{counters:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_books();
        }
    }
}

/// Makes a long TCP segment what a device hands over: its checksum field holds the sum of the pseudo-header.
fn merge(bytes: &mut [u8], segment: u16) -> Offload {
    let (header, addresses, kind) = match bytes[14] >> 4 {
        4 => (20, 26..34, MergedKind::TcpV4),
        _ => (40, 22..54, MergedKind::TcpV6),
    };
    let start = 14 + header;
    let len = (bytes.len() - start) as u16;
    let pseudo = [&bytes[addresses], &[0, 6][..], &len.to_be_bytes()].concat();
    let sum = sum(&pseudo);
    bytes[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    Offload {
        checksum: Checksum::Partial { start: start as u16, offset: 16 },
        merged: Some(Merged { kind, segment, ecn: false }),
    }
}

pub(crate) fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |total: u16, pair| {
        let (sum, carry) = total.overflowing_add(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum + u16::from(carry)
    })
}
