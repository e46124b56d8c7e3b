//! A host with a small stack of its own: it resolves its neighbours, sends one upload after a handshake and gets it
//! confirmed, or it is the server that confirms. Made without the crate under test.

use core::net::IpAddr;
use std::collections::HashMap;

use etherparse::{IpSlice, PacketBuilder, SlicedPacket, TcpSlice, TransportSlice};

pub(crate) type Mac = [u8; 6];
pub(crate) const BROADCAST: Mac = [0xff; 6];

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Underway,
    /// The upload arrived, and the server said so with its sum.
    Done,
    Unreachable,
}

#[derive(Debug)]
pub(crate) enum Role {
    Client {
        to: IpAddr,
        upload: Vec<u8>,
        port: u16,
        confirmed: bool,
        unreachable: bool,
        shrunk: bool,
    },
    /// What came, by client port; and pieces of packets, by identification.
    Server {
        received: HashMap<u16, Vec<u8>>,
        pieces: HashMap<u16, Vec<u8>>,
    },
}

/// A host on one link.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) mac: Mac,
    /// Addresses that it tells its neighbours of.
    pub(crate) addresses: Vec<IpAddr>,
    /// Addresses that it has but keeps to itself.
    pub(crate) hidden: Vec<IpAddr>,
    /// Where packets go whose destination is not a neighbour; the flag says whether this is one.
    pub(crate) gateway: IpAddr,
    pub(crate) on_link: fn(IpAddr) -> bool,
    pub(crate) neighbours: HashMap<IpAddr, Mac>,
    pub(crate) waiting: Vec<(IpAddr, Vec<u8>)>,
    pub(crate) role: Role,
    pub(crate) mtu: usize,
    pub(crate) dont_fragment: bool,
    /// Sends the upload as one frame that stands for many segments.
    pub(crate) merged: bool,
    /// Says nothing at all.
    pub(crate) silent: bool,
}

/// A frame that a peer sends; the number is the segment size of a merged one.
pub(crate) type Out = (Vec<u8>, Option<u16>);

impl Peer {
    /// Starts the handshake, or does it again when it got no answer.
    pub(crate) fn start(&mut self) -> Vec<Out> {
        let Role::Client { to, port, confirmed: false, unreachable: false, .. } = self.role else {
            return Vec::new();
        };
        let syn = self.segment(to, port, 80, 1_000, SYN, &[]);
        self.send(to, syn)
    }

    /// Takes an Ethernet frame in; the frames that it sends because of it.
    pub(crate) fn frame(&mut self, bytes: &[u8]) -> Vec<Out> {
        let to: Mac = bytes[..6].try_into().unwrap();
        if self.silent || (to != self.mac && to[0] & 1 == 0) {
            return Vec::new();
        }
        match u16::from_be_bytes([bytes[12], bytes[13]]) {
            0x0806 => self.arp(&bytes[14..]),
            _ => self.packet(&bytes[14..]),
        }
    }

    fn arp(&mut self, packet: &[u8]) -> Vec<Out> {
        let mac: Mac = packet[8..14].try_into().unwrap();
        let sender = IpAddr::from(<[u8; 4]>::try_from(&packet[14..18]).unwrap());
        let target = IpAddr::from(<[u8; 4]>::try_from(&packet[24..28]).unwrap());
        let asked = packet[7] == 1 && self.addresses.contains(&target);
        let mut out = self.learn(sender, mac, asked || packet[7] == 2);
        if asked {
            let mut reply = [&mac[..], &self.mac, &[8, 6], &packet[..6], &[0, 2], &self.mac].concat();
            reply.extend([&packet[24..28], &packet[8..18]].concat());
            out.push((reply, None));
        }
        out
    }

    /// Takes a neighbour's address; what waited for it leaves.
    fn learn(&mut self, address: IpAddr, mac: Mac, new: bool) -> Vec<Out> {
        if !new && !self.neighbours.contains_key(&address) {
            return Vec::new();
        }
        self.neighbours.insert(address, mac);
        let (ready, waiting) =
            core::mem::take(&mut self.waiting).into_iter().partition(|(hop, _)| *hop == address);
        self.waiting = waiting;
        let ready: Vec<(IpAddr, Vec<u8>)> = ready;
        ready.into_iter().map(|(_, packet)| (self.ethernet(mac, &packet), None)).collect()
    }

    /// Takes an IP packet in.
    pub(crate) fn packet(&mut self, bytes: &[u8]) -> Vec<Out> {
        let parsed = SlicedPacket::from_ip(bytes).unwrap();
        let net = parsed.net.as_ref().unwrap();
        let ip = match net {
            etherparse::NetSlice::Ipv4(ip) => IpSlice::Ipv4(ip.clone()),
            etherparse::NetSlice::Ipv6(ip) => IpSlice::Ipv6(ip.clone()),
            etherparse::NetSlice::Arp(_) => panic!("not IP"),
        };
        let (from, to) = (ip.source_addr(), ip.destination_addr());
        if let Some(TransportSlice::Icmpv6(message)) = &parsed.transport
            && matches!(message.type_u8(), 135 | 136)
        {
            return self.discovery(from, message.slice());
        }
        if !self.addresses.contains(&to) && !self.hidden.contains(&to) {
            return Vec::new();
        }
        if ip.is_fragmenting_payload() {
            return self.piece(bytes);
        }
        match parsed.transport {
            Some(TransportSlice::Tcp(segment)) => self.tcp(from, to, &segment),
            Some(TransportSlice::Icmpv4(message)) => {
                let mtu = u16::from_be_bytes(message.slice()[6..8].try_into().unwrap());
                self.error((message.type_u8(), message.code_u8()) == (3, 4), usize::from(mtu))
            }
            Some(TransportSlice::Icmpv6(message)) => {
                let mtu = u32::from_be_bytes(message.slice()[4..8].try_into().unwrap());
                self.error(message.type_u8() == 2, mtu as usize)
            }
            Some(TransportSlice::Udp(_) | TransportSlice::Igmp(_)) | None => Vec::new(),
        }
    }

    /// Puts two or more IPv4 fragments together that come in order.
    fn piece(&mut self, bytes: &[u8]) -> Vec<Out> {
        let Role::Server { pieces, .. } = &mut self.role else { return Vec::new() };
        let identification = u16::from_be_bytes([bytes[4], bytes[5]]);
        let whole = pieces.entry(identification).or_default();
        if whole.is_empty() {
            whole.extend(&bytes[..20]);
        }
        whole.extend(&bytes[20..]);
        if bytes[6] & 0x20 != 0 {
            return Vec::new();
        }
        let mut whole = pieces.remove(&identification).unwrap();
        let len = whole.len() as u16;
        whole[2..4].copy_from_slice(&len.to_be_bytes());
        whole[6..8].fill(0);
        self.packet(&whole)
    }

    fn discovery(&mut self, from: IpAddr, message: &[u8]) -> Vec<Out> {
        let target = IpAddr::from(<[u8; 16]>::try_from(&message[8..24]).unwrap());
        // Whoever asks whether an address is taken has none to be answered at (RFC 4862 §5.4.2).
        let Some(mac) = message.get(26..32) else {
            assert!(from.is_unspecified() && !self.addresses.contains(&target), "{target} is taken");
            return Vec::new();
        };
        let mac: Mac = mac.try_into().unwrap();
        if message[0] == 136 {
            return self.learn(target, mac, message[4] & 0x40 != 0);
        }
        if !self.addresses.contains(&target) {
            return Vec::new();
        }
        let mut out = self.learn(from, mac, true);
        let mut advertisement = [136, 0, 0, 0, 0x60, 0, 0, 0].to_vec();
        advertisement.extend(&message[8..24]);
        advertisement.extend([2, 1]);
        advertisement.extend(self.mac);
        let packet = neighbour_message(target, from, &advertisement);
        out.push((self.ethernet(mac, &packet), None));
        out
    }

    fn error(&mut self, too_big: bool, stated: usize) -> Vec<Out> {
        let Role::Client { to, unreachable, shrunk, port, .. } = &mut self.role else {
            return Vec::new();
        };
        if !too_big {
            *unreachable = true;
            return Vec::new();
        }
        assert!(stated <= self.mtu, "an error that asks for {stated} instead of {}", self.mtu);
        if stated == self.mtu {
            // About another packet of the same flight.
            return Vec::new();
        }
        *shrunk = true;
        let (to, port) = (*to, *port);
        self.mtu = stated;
        self.upload(to, port)
    }

    fn tcp(&mut self, from: IpAddr, to: IpAddr, segment: &TcpSlice<'_>) -> Vec<Out> {
        let flags = segment.slice()[13];
        let sequence = segment.sequence_number();
        let payload = segment.payload().to_vec();
        match &mut self.role {
            Role::Client { to: server, port, upload, confirmed, .. } => {
                assert_eq!(
                    (from, segment.source_port()),
                    (*server, 80),
                    "the answer comes from the virtual service"
                );
                assert_eq!(segment.destination_port(), *port);
                if flags & SYN != 0 {
                    let (server, port) = (*server, *port);
                    return self.upload(server, port);
                }
                *confirmed |= payload == confirmation(upload);
                Vec::new()
            }
            Role::Server { received, .. } => {
                let client = segment.source_port();
                let (port, own) = (segment.destination_port(), to);
                if flags & SYN != 0 {
                    received.insert(client, Vec::new());
                    let answer = self.segment_from(own, from, (port, client), 5_000, SYN | ACK, &[]);
                    return self.send(from, answer);
                }
                let so_far = received.entry(client).or_default();
                if sequence as usize == 1_001 + so_far.len() {
                    so_far.extend(&payload);
                }
                if flags & FIN == 0 || sequence as usize + payload.len() != 1_001 + so_far.len() {
                    return Vec::new();
                }
                let text = confirmation(so_far);
                let answer = self.segment_from(own, from, (port, client), 5_001, ACK | FIN, &text);
                self.send(from, answer)
            }
        }
    }

    /// The whole upload, from its first byte, in segments that fit.
    fn upload(&mut self, to: IpAddr, port: u16) -> Vec<Out> {
        let Role::Client { upload, .. } = &self.role else { return Vec::new() };
        let upload = upload.clone();
        let header = if to.is_ipv4() { 40 } else { 60 };
        let size = self.mtu - header;
        let step = if self.merged { upload.len().max(1) } else { size };
        let mut out = Vec::new();
        for (index, part) in upload.chunks(step).enumerate() {
            let at = index * step;
            let last = at + part.len() == upload.len();
            let flags = if last { ACK | FIN } else { ACK };
            let packet = self.segment(to, port, 80, 1_001 + at as u32, flags, part);
            out.extend(self.send(to, packet));
        }
        if self.merged {
            for frame in &mut out {
                frame.1 = Some(size as u16);
            }
        }
        out
    }

    fn segment(
        &self,
        to: IpAddr,
        port: u16,
        service: u16,
        sequence: u32,
        flags: u8,
        payload: &[u8],
    ) -> Vec<u8> {
        let own = *self.addresses.iter().find(|own| own.is_ipv4() == to.is_ipv4()).unwrap();
        self.segment_from(own, to, (port, service), sequence, flags, payload)
    }

    fn segment_from(
        &self,
        own: IpAddr,
        to: IpAddr,
        (port, service): (u16, u16),
        sequence: u32,
        flags: u8,
        payload: &[u8],
    ) -> Vec<u8> {
        let builder = match (own, to) {
            (IpAddr::V4(own), IpAddr::V4(to)) => PacketBuilder::ipv4(own.octets(), to.octets(), 64),
            (IpAddr::V6(own), IpAddr::V6(to)) => PacketBuilder::ipv6(own.octets(), to.octets(), 64),
            _ => panic!("mixed families"),
        };
        let mut builder = builder.tcp(port, service, sequence, 60_000);
        for (flag, set) in [
            (FIN, etherparse::PacketBuilderStep::fin as fn(_) -> _),
            (SYN, etherparse::PacketBuilderStep::syn),
        ] {
            if flags & flag != 0 {
                builder = set(builder);
            }
        }
        if flags & ACK != 0 {
            builder = builder.ack(1);
        }
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        if to.is_ipv4() {
            // An identification of its own for every packet, and DF as wanted.
            packet[4..6].copy_from_slice(&(sequence as u16 ^ port).to_be_bytes());
            packet[6] = if self.dont_fragment { 0x40 } else { 0 };
            packet[10..12].fill(0);
            let checksum = !crate::net::sum(&packet[..20]);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        packet
    }

    /// Addresses a packet to its next hop, or asks for that first.
    fn send(&mut self, to: IpAddr, packet: Vec<u8>) -> Vec<Out> {
        let hop = if (self.on_link)(to) { to } else { self.gateway };
        if let Some(&mac) = self.neighbours.get(&hop) {
            return vec![(self.ethernet(mac, &packet), None)];
        }
        self.waiting.push((hop, packet));
        vec![(self.question(hop), None)]
    }

    fn question(&self, target: IpAddr) -> Vec<u8> {
        let own = self.addresses.iter().find(|own| own.is_ipv4() == target.is_ipv4()).unwrap();
        match (own, target) {
            (IpAddr::V4(own), IpAddr::V4(target)) => {
                let mut frame =
                    [&BROADCAST[..], &self.mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &self.mac].concat();
                frame.extend([&own.octets()[..], &[0; 6], &target.octets()].concat());
                frame
            }
            (IpAddr::V6(_), IpAddr::V6(target)) => {
                let mut message = [135, 0, 0, 0, 0, 0, 0, 0].to_vec();
                message.extend(target.octets());
                message.extend([1, 1]);
                message.extend(self.mac);
                let [.., a, b, c] = target.octets();
                let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
                let packet = neighbour_message(*own, IpAddr::from(group), &message);
                self.ethernet([0x33, 0x33, 0xff, a, b, c], &packet)
            }
            _ => panic!("mixed families"),
        }
    }

    fn ethernet(&self, to: Mac, packet: &[u8]) -> Vec<u8> {
        let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        [&to[..], &self.mac, &kind, packet].concat()
    }
}

/// An `ICMPv6` packet with hop limit 255 and a right checksum.
fn neighbour_message(from: IpAddr, to: IpAddr, message: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) else { panic!("not IPv6") };
    let mut packet = Vec::new();
    let kind = etherparse::Icmpv6Type::Unknown {
        type_u8: message[0],
        code_u8: message[1],
        bytes5to8: message[4..8].try_into().unwrap(),
    };
    PacketBuilder::ipv6(from.octets(), to.octets(), 255)
        .icmpv6(kind)
        .write(&mut packet, &message[8..])
        .unwrap();
    packet
}

/// What a server says of what it got.
fn confirmation(received: &[u8]) -> Vec<u8> {
    let sum = received.iter().fold(17u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("{} bytes, sum {sum:016x}", received.len()).into_bytes()
}
