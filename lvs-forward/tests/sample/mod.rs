//! Packets to try things on, made without the crate under test.

use core::net::{IpAddr, SocketAddr};

use lvs_core::packet::Addresses;
use lvs_core::{Family, Protocol};
use lvs_forward::parse::{Link, Parsed, parse};
use lvs_forward::{Checksum, Frame, HEADROOM, Layout, Merged, MergedKind, PortId};

/// A packet as its sender meant it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) protocol: Protocol,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) class: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) identification: u16,
    /// IPv4 options, or an IPv6 destination options header: padding only.
    pub(crate) options: bool,
    pub(crate) tcp_flags: u8,
    pub(crate) sequence: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) sum: SumState,
}

/// How the transport checksum stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SumState {
    Right,
    /// Wrong by this much, in one's complement.
    Wrong(u16),
    /// UDP without a checksum; right for the others.
    Absent,
    Partial,
}

impl Sample {
    /// A plain TCP segment between two hosts, without a payload.
    pub(crate) fn tcp(source: SocketAddr, destination: SocketAddr, tcp_flags: u8) -> Self {
        Self {
            protocol: Protocol::Tcp,
            source,
            destination,
            ttl: 64,
            class: 0,
            dont_fragment: true,
            identification: 1,
            options: false,
            tcp_flags,
            sequence: 1_000,
            payload: Vec::new(),
            sum: SumState::Right,
        }
    }

    pub(crate) fn family(&self) -> Family {
        Family::of(self.source.ip())
    }

    fn number(&self) -> u8 {
        self.protocol.number()
    }

    /// The transport's checksum field, from the transport header.
    pub(crate) fn field(&self) -> usize {
        match self.protocol {
            Protocol::Tcp => 16,
            Protocol::Udp => 6,
            Protocol::Sctp => 8,
        }
    }

    pub(crate) fn header_len(&self) -> usize {
        match (self.family(), self.options) {
            (Family::V4, false) => 20,
            (Family::V4, true) => 28,
            (Family::V6, false) => 40,
            (Family::V6, true) => 48,
        }
    }

    /// The packet's bytes, from the IP header on.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let segment = self.segment();
        let len = self.header_len() + segment.len();
        let mut packet = Vec::with_capacity(len);
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                packet.extend([0x40 | (self.header_len() / 4) as u8, self.class]);
                packet.extend((len as u16).to_be_bytes());
                packet.extend(self.identification.to_be_bytes());
                packet.extend([if self.dont_fragment { 0x40 } else { 0 }, 0, self.ttl, self.number(), 0, 0]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(vec![1; self.header_len() - 20]);
                let checksum = !sum(&packet);
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                packet.extend([0x60 | self.class >> 4, self.class << 4, 0, 0]);
                packet.extend(((len - 40) as u16).to_be_bytes());
                packet.extend([if self.options { 60 } else { self.number() }, self.ttl]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                if self.options {
                    packet.extend([self.number(), 0, 1, 4, 0, 0, 0, 0]);
                }
            }
            _ => panic!("mixed families"),
        }
        packet.extend(segment);
        packet
    }

    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.source.port().to_be_bytes());
        segment.extend(self.destination.port().to_be_bytes());
        match self.protocol {
            Protocol::Tcp => {
                segment.extend(self.sequence.to_be_bytes());
                segment.extend([0, 0, 0, 9, 0x60, self.tcp_flags, 0xfa, 0xf0, 0, 0, 0, 0]);
                segment.extend([1, 1, 1, 1]);
            }
            Protocol::Udp => {
                segment.extend((8 + self.payload.len() as u16).to_be_bytes());
                segment.extend([0, 0]);
            }
            Protocol::Sctp => segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 16]),
        }
        segment.extend(&self.payload);
        if self.protocol == Protocol::Sctp {
            let checksum = lvs_forward::checksum::sctp(&segment);
            segment[8..12].copy_from_slice(&checksum);
            return segment;
        }
        let mut pseudo = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
            (IpAddr::V6(source), IpAddr::V6(destination)) => [source.octets(), destination.octets()].concat(),
            _ => panic!("mixed families"),
        };
        pseudo.extend([0, self.number()]);
        pseudo.extend((segment.len() as u16).to_be_bytes());
        let pseudo = sum(&pseudo);
        let whole = add(pseudo, sum(&segment));
        let right = if !whole == 0 && self.protocol == Protocol::Udp { 0xffff } else { !whole };
        let checksum = match self.sum {
            SumState::Right => right,
            SumState::Wrong(by) => add(right, by),
            SumState::Absent if self.protocol == Protocol::Udp => 0,
            SumState::Absent => right,
            SumState::Partial => pseudo,
        };
        let field = self.field();
        segment[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        segment
    }

    /// What a device says about the packet, when `link` bytes stand before it.
    pub(crate) fn checksum(&self, link: usize) -> Checksum {
        if self.sum == SumState::Partial && self.protocol != Protocol::Sctp {
            Checksum::Partial { start: (link + self.header_len()) as u16, offset: self.field() as u16 }
        } else {
            Checksum::Complete
        }
    }

    /// The offload that says of the packet that it is several of `segment` payload bytes.
    pub(crate) fn merged(&self, segment: u16) -> Merged {
        let kind = match (self.protocol, self.family()) {
            (Protocol::Udp | Protocol::Sctp, _) => MergedKind::Udp,
            (Protocol::Tcp, Family::V4) => MergedKind::TcpV4,
            (Protocol::Tcp, Family::V6) => MergedKind::TcpV6,
        };
        Merged { kind, segment, ecn: false }
    }
}

/// A buffer with a packet in it, and marked bytes around it that nobody may touch.
#[derive(Clone, Debug)]
pub(crate) struct Bed {
    pub(crate) buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// Bytes before the headroom, and after the frame.
const FENCE: usize = 64;
const MARK: u8 = 0xa5;

impl Bed {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let start = FENCE + HEADROOM;
        let mut buffer = vec![MARK; start];
        buffer.extend(bytes);
        let end = buffer.len();
        buffer.extend([MARK; FENCE]);
        Self { buffer, start, end }
    }

    pub(crate) fn frame(&mut self, port: u8) -> Frame<'_> {
        Frame::new(&mut self.buffer, self.start, self.end, PortId(port)).unwrap()
    }

    /// Panics when something outside the frame and its headroom was written.
    #[track_caller]
    pub(crate) fn check_fences(&self) {
        assert!(self.buffer[..FENCE].iter().all(|&byte| byte == MARK), "written before the headroom");
        assert!(self.buffer[self.end..].iter().all(|&byte| byte == MARK), "written behind the frame");
    }
}

/// The layout of a bare packet.
pub(crate) fn layout_of(frame: &Frame<'_>) -> Layout {
    match parse(frame, Link::Bare) {
        Ok(Parsed::Ip(layout, _)) => layout,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn addresses(source: IpAddr, destination: IpAddr) -> Addresses {
    Addresses::new(source, destination).unwrap()
}

pub(crate) fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

pub(crate) fn sum(bytes: &[u8]) -> u16 {
    bytes
        .chunks(2)
        .fold(0, |total, pair| add(total, u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
}
