//! Fragments of a few datagrams in any order, with holes, overlaps and time between them.

use core::net::IpAddr;

use lvs_core::{Method, Tick};
use lvs_forward::checksum::Sum;
use lvs_forward::output::pieces;
use lvs_forward::parse::{Link, parse};
use lvs_forward::reassembly::Fragments;
use lvs_forward::{HEADROOM, Outcome};

use crate::forward::{Buffer, ETHERNET, METHODS, OWN_MAC, WORLD, site};

/// Each fragment is five bytes: which datagram of which family and what flags, where it begins, how long it is, its
/// service class, and the seconds before it.
///
/// # Panics
///
/// When what leaves does not parse, or is not what came; when a byte outside a frame's room changed.
pub fn fragments(data: &[u8]) {
    let Some((&[method], mut rest)) = data.split_first_chunk() else { return };
    let method = METHODS[usize::from(method) % METHODS.len()];
    let mut site = site(method, true);
    site.forwarder.set_fragments(Fragments::with_room(3));
    let mut now = Tick::from_millis(1_000);
    let mut firsts = 0;
    while let Some((&[which, start, len, class, wait], behind)) = rest.split_first_chunk() {
        rest = behind;
        now = now.plus_secs(u64::from(wait % 32));
        let part = Part {
            datagram: which & 3,
            family: usize::from(which >> 2 & 1),
            more: which & 8 != 0,
            // In fours, so that some end between two places where another could begin.
            start: usize::from(start) * 8,
            len: usize::from(len) * 4,
            class,
        };
        firsts += usize::from(part.start == 0);
        let mut buffer = Buffer::new(&part.frame());
        match site.forwarder.process(&mut site.director, now, &mut buffer.frame(ETHERNET)) {
            Outcome::Assembled(datagram) => {
                let taken = site.forwarder.take(datagram);
                let mut taken = taken.unwrap_or_else(|| unreachable!("it was not taken yet"));
                let cut = taken.outcome.cut();
                let mut check = |piece: lvs_forward::Frame<'_>| {
                    assert!(parse(&piece, Link::Ethernet).is_ok(), "a piece parses");
                    if method == Method::Direct {
                        part.check(piece.bytes());
                    }
                };
                let _ = pieces(&mut taken.frame, Link::Ethernet, cut, &mut check);
            }
            Outcome::Send | Outcome::SendPieces(_) => {
                // What is said of a fragment.
            }
            Outcome::Consumed | Outcome::Drop(_) | Outcome::Pass(_) => {}
        }
        buffer.check_fences();
    }
    let mut own = vec![0; HEADROOM + 2_048];
    let mut told = 0;
    while let Some(frame) = site.forwarder.poll_transmit(now.plus_secs(61), &mut own) {
        assert!(parse(&frame, Link::Ethernet).is_ok(), "an own frame parses");
        // The host also asks whether its addresses are another's; what counts is said of datagrams past their time
        // (RFC 792, RFC 4443 §3.3).
        let bytes = frame.bytes();
        let is = |protocol: (usize, u8), kind: (usize, u8)| {
            bytes.get(protocol.0) == Some(&protocol.1) && bytes.get(kind.0) == Some(&kind.1)
        };
        told += usize::from(match bytes.get(12..14) {
            Some([0x08, 0x00]) => is((23, 1), (34, 11)),
            Some([0x86, 0xdd]) => is((20, 58), (54, 3)),
            _ => false,
        });
    }
    assert!(told <= firsts, "of each first fragment one at most: {told} of {firsts}");
}

struct Part {
    datagram: u8,
    family: usize,
    more: bool,
    start: usize,
    len: usize,
    class: u8,
}

impl Part {
    /// What the datagram holds at a place: ports and checksum first.
    fn byte(&self, at: usize) -> u8 {
        match at {
            0 => 0x10,
            1 => self.datagram,
            2 | 6 | 7 => 0,
            3 => 80,
            _ => (at * 31 + (at >> 8) + usize::from(self.datagram) * 7) as u8,
        }
    }

    fn frame(&self) -> Vec<u8> {
        let payload = (self.start..self.start + self.len).map(|at| self.byte(at));
        let world = &WORLD[self.family];
        let mut frame = [OWN_MAC, [2, 0, 0, 0, 0, 0xaa]].concat();
        match world.vip {
            IpAddr::V4(vip) => {
                frame.extend([8, 0]);
                let mut header = vec![0x45, self.class];
                header.extend((20 + self.len as u16).to_be_bytes());
                header.extend([0, self.datagram]);
                let more = if self.more { 0x2000 } else { 0 };
                header.extend(((self.start as u16 / 8) | more).to_be_bytes());
                header.extend([64, 17, 0, 0, 192, 0, 2, self.datagram]);
                header.extend(vip.octets());
                let checksum = Sum::ZERO.bytes(&header).checksum();
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend(header);
            }
            IpAddr::V6(vip) => {
                frame.extend([0x86, 0xdd, 0x60 | self.class >> 4, self.class << 4, 0, 0]);
                frame.extend((8 + self.len as u16).to_be_bytes());
                frame.extend([44, 64, 0x20, 1, 0xd, 0xb8, 0, 0xc]);
                frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, self.datagram]);
                frame.extend(vip.octets());
                frame.extend([17, 0]);
                frame.extend((self.start as u16 | u16::from(self.more)).to_be_bytes());
                frame.extend([0, 0, 0, self.datagram]);
            }
        }
        frame.extend(payload);
        frame
    }

    /// Holds what left by direct routing against what came.
    fn check(&self, frame: &[u8]) {
        let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let (offset, payload) = match (self.family, frame[20]) {
            // An ICMP error has another protocol.
            (0, _) if frame[23] == 17 => ((word(20) & 0x1fff) * 8, 34),
            (1, 44) => (word(56) & !7, 62),
            (1, 17) => (0, 54),
            _ => return,
        };
        for (at, byte) in frame[payload..].iter().enumerate() {
            assert_eq!(*byte, self.byte(offset + at), "what came at {}", offset + at);
        }
    }
}
