//! Frames as they come from devices, made from a few bytes each.

use core::net::{IpAddr, SocketAddr};

use lvs_core::Method;
use lvs_forward::checksum::Sum;
use lvs_forward::{Checksum, Merged, MergedKind, Offload, PortId};

use crate::forward::{ETHERNET, OWN_MAC, WORLD};
use crate::icmp::packet;

/// Clients whose connections are there from the start, of each family and protocol.
pub(crate) const KNOWN: u8 = 2;
/// The firewall mark of a service.
pub(crate) const MARK: u32 = 5;
pub(crate) const FTP: u16 = 21;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// Which connection a packet is of, and in which direction it goes.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    family: usize,
    client: u8,
    udp: bool,
    reply: bool,
    nat: bool,
    /// The virtual port.
    port: u16,
}

impl Flow {
    pub(crate) fn new(who: u8, what: u8, method: Method) -> Self {
        Self {
            family: usize::from(what & 1),
            client: who,
            udp: what & 2 != 0,
            reply: what & 4 != 0,
            nat: matches!(method, Method::Nat),
            port: [80, 80, FTP, 1_000][usize::from(what >> 3 & 3)],
        }
    }

    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let world = &WORLD[self.family];
        let address = match world.vip {
            IpAddr::V4(_) => IpAddr::from([192, 0, 2, self.client]),
            IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(self.client)]),
        };
        let client = SocketAddr::new(address, 40_000);
        let virt = SocketAddr::new(world.vip, self.port);
        match (self.reply, self.nat) {
            (false, _) => (client, virt),
            (true, true) => {
                (SocketAddr::new(world.server, if self.port == 80 { 8_080 } else { self.port }), client)
            }
            (true, false) => (virt, client),
        }
    }

    fn segment(&self, flags: u8, len: u8) -> Vec<u8> {
        let (from, to) = self.ends();
        let mut bytes = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        if self.udp {
            bytes.extend((8 + u16::from(len)).to_be_bytes());
            bytes.extend([0; 2]);
        } else {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        bytes.extend((0..len).map(|at| at ^ self.client));
        let field = if self.udp { 6 } else { 16 };
        let pseudo = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Sum::pseudo_v4(from, to, self.protocol(), bytes.len()),
            (IpAddr::V6(from), IpAddr::V6(to)) => Sum::pseudo_v6(from, to, self.protocol(), bytes.len()),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => Sum::ZERO,
        };
        let checksum = pseudo.bytes(&bytes).checksum();
        bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    const fn protocol(&self) -> u8 {
        if self.udp { 17 } else { 6 }
    }

    pub(crate) fn frame(&self, flags: u8, len: u8, ttl: u8) -> Vec<u8> {
        let (from, to) = self.ends();
        let mut packet = packet(from.ip(), to.ip(), self.protocol(), &self.segment(flags, len));
        set_ttl(&mut packet, ttl);
        framed(&packet)
    }

    /// One of the three fragments of a datagram with this number, two of them in one, or all of it.
    pub(crate) fn fragment(&self, number: u8, part: u8) -> Vec<u8> {
        let flow = Self { udp: true, ..*self };
        let (from, to) = flow.ends();
        let datagram = flow.segment(0, 40);
        let (start, end) =
            [(0_u16, 16_u16), (16, 32), (32, 48), (0, 32), (16, 48), (0, 48)][usize::from(part) % 6];
        let more = usize::from(end) < datagram.len();
        let part = datagram.get(usize::from(start)..usize::from(end)).unwrap_or_default();
        let packet = if self.family == 0 {
            let mut packet = packet(from.ip(), to.ip(), 17, part);
            let word: u16 = (start / 8) | if more { 0x2000 } else { 0 };
            packet[4..6].copy_from_slice(&u16::from(number).to_be_bytes());
            packet[6..8].copy_from_slice(&word.to_be_bytes());
            set_ttl(&mut packet, 64);
            packet
        } else {
            let word = start | u16::from(more);
            let header = [&[17, 0][..], &word.to_be_bytes(), &[0, 0, 0, number], part].concat();
            packet(from.ip(), to.ip(), 44, &header)
        };
        framed(&packet)
    }

    /// A ping for the virtual address, or an error about a packet of the flow.
    pub(crate) fn icmp(&self, echo: bool) -> Vec<u8> {
        let (from, to) = self.ends();
        let quoted = packet(from.ip(), to.ip(), self.protocol(), &self.segment(ACK, 0));
        let (kind, code) = match (self.family, echo) {
            (0, true) => (8, 0),
            (_, true) => (128, 0),
            (0, false) => (3, 1),
            (_, false) => (1, 3),
        };
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        message.extend(quoted);
        let (from, to) = if echo { (from.ip(), to.ip()) } else { (to.ip(), from.ip()) };
        let pseudo = match (from, to) {
            (IpAddr::V6(from), IpAddr::V6(to)) => Sum::pseudo_v6(from, to, 58, message.len()),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => Sum::ZERO,
        };
        let checksum = pseudo.bytes(&message).checksum();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        framed(&packet(from, to, if self.family == 0 { 1 } else { 58 }, &message))
    }
}

/// Writes an IP packet's TTL, and the checksum that follows from it and from whatever else was changed.
fn set_ttl(packet: &mut [u8], ttl: u8) {
    if packet[0] >> 4 == 6 {
        packet[7] = ttl;
        return;
    }
    packet[8] = ttl;
    packet[10..12].fill(0);
    let checksum = Sum::ZERO.bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn framed(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&OWN_MAC[..], &[2, 0, 0, 0, 0, 0xaa], &kind, packet].concat()
}

/// The gateway asks who the virtual address is, or says that its link-layer address is another one.
pub(crate) fn arp(answers: bool) -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, 0xbb];
    let (to, target, operation) =
        if answers { (OWN_MAC, [10, 0, 0, 254], 2) } else { ([0xff; 6], [10, 99, 0, 1], 1) };
    let frame = [&to[..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation], &mac, &[10, 0, 0, 1]].concat();
    [&frame[..], &OWN_MAC, &target].concat()
}

/// A frame as it comes from a device.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) bytes: Vec<u8>,
    pub(crate) port: PortId,
    pub(crate) offload: Offload,
    pub(crate) mark: u32,
}

impl Arrival {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, port: ETHERNET, offload: Offload::NONE, mark: 0 }
    }

    /// A packet of any flow with any flags, unfinished, merged, marked, at the end of its hops or on the other port.
    pub(crate) fn odd(flow: &Flow, kind: u8, what: u8, count: u8) -> Self {
        let (flags, len) =
            if kind % 8 == 3 { (count, 0) } else { ([SYN, ACK][usize::from(count & 1)], count) };
        let ttl = if kind & 0x10 != 0 { 1 } else { 64 };
        let mut arrival = Self::new(flow.frame(flags, len, ttl));
        let header = [20, 40][flow.family];
        if what & 0x20 != 0 {
            let offset = if flow.udp { 6 } else { 16 };
            arrival.offload.checksum = Checksum::Partial { start: 14 + header, offset };
        }
        if what & 0x40 != 0 {
            let kind = match (flow.udp, flow.family) {
                (true, _) => MergedKind::Udp,
                (false, 0) => MergedKind::TcpV4,
                (false, _) => MergedKind::TcpV6,
            };
            arrival.offload.merged = Some(Merged { kind, segment: 1 + u16::from(count) / 3, ecn: false });
        }
        if what & 0x80 != 0 {
            arrival.mark = MARK;
        }
        if kind & 0x20 != 0 {
            (arrival.port, arrival.offload) = (PortId(1), Offload::NONE);
            arrival.bytes.drain(..14);
        }
        arrival
    }
}

/// Plain frames of known connections: of one family, of the other, or of both in turn.
pub(crate) fn plain_run(arrivals: &mut Vec<Arrival>, families: u8, flow: Flow, who: u8, what: u8, count: u8) {
    for at in 0..=count % 80 {
        let family = if families == 2 { at & 1 } else { families };
        let client = who.wrapping_add(at & who >> 4) % KNOWN;
        // In some runs every second or fourth frame is UDP's.
        let udp = flow.udp ^ (at & what >> 6 != 0);
        let flow = Flow { family: usize::from(family), client, udp, port: 80, ..flow };
        arrivals.push(Arrival::new(flow.frame(ACK, at % 24, 64)));
    }
}
