//! ICMP errors about packets of a connection that is there: right ones, and what a few changed bytes make of them.

use core::net::IpAddr;

use lvs_core::{Method, Tick};
use lvs_forward::checksum::Sum;
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::{Frame, Outcome};

use crate::forward::{Buffer, ETHERNET, METHODS, OWN_MAC, WORLD, check, site};

/// The first bytes choose the method, family and protocol, from where the error comes and what kind of it, whether
/// errors may be scheduled, and how much is quoted. Each further three change a byte of the message: the place, and
/// what it is xor-ed with. All checksums outside of the quoted packet are put right afterwards, unless the choice is to
/// leave them.
///
/// # Panics
///
/// When what leaves does not parse, an ICMP checksum became wrong, or a byte outside the frame's room changed.
pub fn icmp(data: &[u8]) {
    let Some((&[method, choices, kind, code, quoted], edits)) = data.split_first_chunk() else { return };
    let method = METHODS[usize::from(method) % METHODS.len()];
    let mut site = site(method, true);
    let mut config = site.director.config().clone();
    config.tuning.schedule_icmp = choices & 16 != 0;
    site.director.set_config(config);
    let error = Error {
        method,
        family: usize::from(choices & 1),
        protocol: if choices & 2 == 0 { 6 } else { 17 },
        from_server: choices & 4 != 0,
        in_tunnel: choices & 32 != 0,
        kind,
        code,
        quoted: usize::from(quoted),
    };
    let now = Tick::from_millis(1_000);
    if choices & 8 == 0 {
        let mut buffer = Buffer::new(&error.framed(error.original(), false));
        let _ = site.forwarder.process(&mut site.director, now, &mut buffer.frame(ETHERNET));
    }
    let mut message = error.message();
    for edit in edits.as_chunks::<3>().0 {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % message.len();
        message[at] ^= edit[2];
    }
    if choices & 64 == 0 {
        error.set_checksum(&mut message);
    }
    let mut buffer = Buffer::new(&error.framed(message, true));
    let mut frame = buffer.frame(ETHERNET);
    let was_right = icmp_is_right(&frame);
    match site.forwarder.process(&mut site.director, now, &mut frame) {
        Outcome::Send => {
            check(&mut frame, false);
            assert!(
                !was_right || icmp_is_right(&frame) || is_wrapped(&frame),
                "a right checksum stays right"
            );
        }
        Outcome::SendPieces(_)
        | Outcome::Assembled(_)
        | Outcome::Consumed
        | Outcome::Drop(_)
        | Outcome::Pass(_) => {}
    }
    buffer.check_fences();
}

struct Error {
    method: Method,
    family: usize,
    protocol: u8,
    from_server: bool,
    in_tunnel: bool,
    kind: u8,
    code: u8,
    quoted: usize,
}

impl Error {
    fn addresses(&self) -> (IpAddr, IpAddr, IpAddr, IpAddr) {
        let world = &WORLD[self.family];
        let client = match world.vip {
            IpAddr::V4(_) => IpAddr::from([192, 0, 2, 7]),
            IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7]),
        };
        (client, world.vip, world.server, world.own())
    }

    /// The client's packet: a SYN, or a datagram.
    fn original(&self) -> Vec<u8> {
        let (client, vip, ..) = self.addresses();
        packet(client, vip, self.protocol, &self.transport(40_000, 80))
    }

    fn transport(&self, source: u16, destination: u16) -> Vec<u8> {
        let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        if self.protocol == 6 {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        } else {
            bytes.extend([0, 16, 0, 0, b'q', b'u', b'e', b'r', b'y', b'!', b'!', b'!']);
        }
        bytes
    }

    /// The ICMP message, with what it quotes.
    fn message(&self) -> Vec<u8> {
        let (client, vip, server, own) = self.addresses();
        let nat = matches!(self.method, Method::Nat);
        let quoted = if self.in_tunnel {
            // The director's own tunnel packet.
            packet(own, server, 4, &self.original())
        } else if self.from_server {
            let to = if nat { server } else { vip };
            packet(client, to, self.protocol, &self.transport(40_000, if nat { 8_080 } else { 80 }))
        } else {
            packet(vip, client, self.protocol, &self.transport(80, 40_000))
        };
        let mut message = vec![self.kind, self.code, 0, 0, 0, 0, 5, 0];
        message.extend(&quoted[..quoted.len().min(self.quoted)]);
        message
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        let (client, vip, server, own) = self.addresses();
        match (self.in_tunnel, self.from_server) {
            (true, _) => (server, own),
            (false, true) => (server, client),
            (false, false) => (client, vip),
        }
    }

    fn set_checksum(&self, message: &mut [u8]) {
        message[2..4].fill(0);
        let sum = match self.ends() {
            (IpAddr::V6(from), IpAddr::V6(to)) => Sum::pseudo_v6(from, to, 58, message.len()),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => Sum::ZERO,
        };
        let checksum = sum.bytes(message).checksum();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }

    /// A frame around a message, or around a finished packet.
    fn framed(&self, payload: Vec<u8>, message: bool) -> Vec<u8> {
        let (from, to) = self.ends();
        let kind: [u8; 2] = if self.family == 0 { [8, 0] } else { [0x86, 0xdd] };
        let mut frame = [OWN_MAC, [2, 0, 0, 0, 0, 0xaa]].concat();
        frame.extend(kind);
        let protocol = if self.family == 0 { 1 } else { 58 };
        frame.extend(if message { packet(from, to, protocol, &payload) } else { payload });
        frame
    }
}

/// An IP packet.
pub(crate) fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend((20 + payload.len() as u16).to_be_bytes());
            header.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let checksum = Sum::ZERO.bytes(&header).checksum();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            [&header, payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((payload.len() as u16).to_be_bytes());
            header.extend([if protocol == 4 { 41 } else { protocol }, 64]);
            header.extend(from.octets());
            header.extend(to.octets());
            [&header, payload].concat()
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => Vec::new(),
    }
}

/// Whether a frame is an ICMP message with a right checksum.
fn icmp_is_right(frame: &Frame<'_>) -> bool {
    let Ok(Parsed::Ip(layout, _)) = parse(frame, Link::Ethernet) else { return false };
    let Some(message) = frame.bytes().get(layout.transport()..layout.end()) else { return false };
    match (layout.protocol(), layout.addresses(frame.bytes())) {
        (1, Some(lvs_core::packet::Addresses::V4 { .. })) => Sum::ZERO.bytes(message).fold() == 0xffff,
        (58, Some(lvs_core::packet::Addresses::V6 { source, destination })) => {
            Sum::pseudo_v6(source, destination, 58, message.len()).bytes(message).fold() == 0xffff
        }
        (_, _) => false,
    }
}

/// Whether a frame left in a tunnel.
fn is_wrapped(frame: &Frame<'_>) -> bool {
    match parse(frame, Link::Ethernet) {
        Ok(Parsed::Ip(layout, Meaning::Other | Meaning::Flow(_))) => {
            layout.protocol() != 1 && layout.protocol() != 58
        }
        Ok(_) | Err(_) => false,
    }
}
