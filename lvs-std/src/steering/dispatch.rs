//! What the kernel's program could not steer, and so left to the first worker: whose is it?

use core::net::IpAddr;

use heapless::{Deque, Vec};
use lvs_core::packet::Addresses;
use lvs_core::{Flow, Tick};
use lvs_forward::icmp::tunnelled_flow;
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::reassembly::identification;
use lvs_forward::{Fragment, Frame, Layout};

use super::{By, Steer};

/// To whom a frame is to be handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dispatch {
    /// To nobody: the first worker is right, or it does not matter.
    Here,
    /// To this worker.
    At(usize),
    /// To all others too: what neighbours say of themselves.
    Everyone,
    /// A fragment whose ports are not known yet: it has to wait for the first one of its datagram.
    Later(Datagram),
    /// The first fragment of a datagram: those that wait for it go to this worker, and so does this one.
    First(Datagram, usize),
}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    addresses: Addresses,
    identification: u32,
    protocol: u8,
}

/// Finds the owners of frames that the program leaves to the first worker.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    steer: Steer,
    /// Datagrams whose first fragment has come, the newest last.
    known: Deque<(Datagram, usize, Tick), DATAGRAMS>,
}

impl Dispatcher {
    pub(crate) const fn new(steer: Steer) -> Self {
        Self { steer, known: Deque::new() }
    }

    /// Whether the kernel has steered this Ethernet frame, so that it is where it belongs.
    #[inline]
    pub(crate) fn is_steered(&self, frame: &Frame<'_>) -> bool {
        is_steered(frame.bytes(), self.steer.by)
    }

    /// Whose a frame is.
    #[cold]
    pub(crate) fn dispatch(
        &mut self,
        now: Tick,
        frame: &Frame<'_>,
        link: Link,
        owns: impl Fn(IpAddr) -> bool,
    ) -> Dispatch {
        let (layout, meaning) = match parse(frame, link) {
            // Each worker has neighbours of its own, and all of them learn from each announcement.
            Ok(Parsed::Arp(_)) => return Dispatch::Everyone,
            Ok(Parsed::Ip(layout, meaning)) => (layout, meaning),
            Ok(Parsed::Foreign) | Err(_) => return Dispatch::Here,
        };
        let owner = |flow: &Flow| {
            let request = owns(flow.addresses.destination());
            match self.steer.owner(flow, request) {
                0 => Dispatch::Here,
                other => Dispatch::At(other),
            }
        };
        match meaning {
            // Where no header has ports, a later fragment tells as much about its owner as the first one does.
            Meaning::Flow(packet) if layout.fragment() == Fragment::Whole || !has_ports(&layout) => {
                owner(&packet.flow)
            }
            Meaning::Flow(packet) => {
                let Some(datagram) = datagram(frame, &layout, packet.flow.addresses) else {
                    return Dispatch::Here;
                };
                if layout.fragment() == Fragment::First {
                    let request = owns(packet.flow.addresses.destination());
                    let at = self.steer.owner(&packet.flow, request);
                    self.remember(now, datagram, at);
                    return Dispatch::First(datagram, at);
                }
                // The newest first: hosts use identifications again, and an older datagram with this one is over.
                match self.known.iter().rev().find(|(known, _, until)| *known == datagram && now <= *until) {
                    Some((_, 0, _)) => Dispatch::Here,
                    Some((_, at, _)) => Dispatch::At(*at),
                    None => Dispatch::Later(datagram),
                }
            }
            Meaning::Error(packet, embedded) => {
                owner(&tunnelled_flow(frame.bytes(), &layout, &embedded).unwrap_or(packet.flow))
            }
            Meaning::Wrapped(embedded) => {
                tunnelled_flow(frame.bytes(), &layout, &embedded).map_or(Dispatch::Here, |flow| owner(&flow))
            }
            Meaning::Control(SOLICITATION | ADVERTISEMENT) if layout.protocol() == ICMPV6 => {
                Dispatch::Everyone
            }
            Meaning::Control(_) | Meaning::Other => Dispatch::Here,
        }
    }

    fn remember(&mut self, now: Tick, datagram: Datagram, at: usize) {
        if self.known.is_full() {
            self.known.pop_front();
        }
        // There is room now.
        let _ = self.known.push_back((datagram, at, now.plus_millis(PATIENCE_MS)));
    }
}

fn datagram(frame: &Frame<'_>, layout: &Layout, addresses: Addresses) -> Option<Datagram> {
    let identification = identification(frame.bytes(), layout)?;
    Some(Datagram { addresses, identification, protocol: layout.protocol() })
}

/// Whether whole packets of this protocol have ports in their transport header: AH and ESP have none.
fn has_ports(layout: &Layout) -> bool {
    matches!(layout.protocol(), 6 | 17 | 132)
}

/// Whether the kernel's program steers these frames, or leaves them to the first worker because they need more thought.
/// Where they stand in doubt, they are thought about: that finds the same owner.
#[inline]
pub(crate) fn is_steered(frame: &[u8], by: By) -> bool {
    let half = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let mut at = 12;
    let mut found = half(at);
    for _ in 0..2 {
        if let Some(0x8100 | 0x88a8) = found {
            at += 4;
            found = half(at);
        }
    }
    let network = at + 2;
    match found {
        Some(0x0800) => {
            let balanced = matches!(frame.get(network + 9), Some(6 | 17 | 132 | 50 | 51));
            let whole = half(network + 6).is_some_and(|word| word & 0x3fff == 0);
            balanced && (whole || by != By::Endpoint)
        }
        Some(0x86dd) => match frame.get(network + 6) {
            Some(6 | 17 | 132 | 50) => true,
            Some(44) => by != By::Endpoint,
            // TCP behind a hop-by-hop header of eight bytes, as Linux merges frames beyond 64 KiB.
            Some(0) => half(network + 40) == Some(0x0600),
            _ => false,
        },
        _ => false,
    }
}

/// Frames that wait for something, by what they wait for: at most so many, the oldest give way.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    held: Deque<(Datagram, T), HELD>,
}

impl<T> Waiting<T> {
    pub(crate) const fn new() -> Self {
        Self { held: Deque::new() }
    }

    /// Keeps one; returns the one that gave way for it.
    pub(crate) fn hold(&mut self, datagram: Datagram, what: T) -> Option<T> {
        let gone = if self.held.is_full() { self.held.pop_front().map(|(_, gone)| gone) } else { None };
        // There is room now.
        let _ = self.held.push_back((datagram, what));
        gone
    }

    /// Takes what waited for this datagram's first fragment, in the order in which it came.
    pub(crate) fn take(&mut self, datagram: Datagram) -> Vec<T, HELD> {
        let mut taken = Vec::new();
        for _ in 0..self.held.len() {
            match self.held.pop_front() {
                Some((of, what)) if of == datagram => _ = taken.push(what),
                Some(other) => _ = self.held.push_back(other),
                None => {}
            }
        }
        taken
    }
}

/// Datagrams whose owner is remembered, and for how long: as long as the host's kernel would keep their fragments.
const DATAGRAMS: usize = 128;
const PATIENCE_MS: u64 = 30_000;
/// Fragments that can wait for the first one of their datagram: those of one of the longest.
const HELD: usize = 64;
const ICMPV6: u8 = 58;
/// Neighbour discovery (RFC 4861 §4.3, §4.4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use lvs_core::Seed;
    use lvs_forward::PortId;

    use super::*;

    const VIP: [u8; 4] = [192, 0, 2, 100];
    const DIRECTOR: [u8; 4] = [10, 0, 1, 254];
    const SERVER: [u8; 4] = [10, 0, 1, 11];
    const CLIENT: [u8; 4] = [198, 51, 100, 7];
    const ROUTER: [u8; 4] = [203, 0, 113, 1];
    const PORT: u16 = 40_011;

    fn steer() -> Steer {
        Steer::new(Seed::from_bytes(*b"a seed for tests"), 8, By::Endpoint)
    }

    /// The client's worker, which is not the first one.
    fn owner() -> Dispatch {
        let owner = steer().owner_of(CLIENT.into(), PORT);
        assert_ne!(owner, 0, "this client shows something");
        Dispatch::At(owner)
    }

    fn dispatch(dispatcher: &mut Dispatcher, mut bytes: Vec8) -> Dispatch {
        let end = bytes.len();
        let frame = Frame::new(&mut bytes, 0, end, PortId(0)).unwrap();
        assert!(!dispatcher.is_steered(&frame), "the kernel's program does not do it");
        let owns = |address: IpAddr| [IpAddr::from(VIP), IpAddr::from(DIRECTOR)].contains(&address);
        dispatcher.dispatch(Tick::ZERO, &frame, Link::Ethernet, owns)
    }

    type Vec8 = std::vec::Vec<u8>;

    fn ethernet(packet: &[u8]) -> Vec8 {
        [&[2; 12][..], &[8, 0], packet].concat()
    }

    /// An IPv4 packet.
    fn ip(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec8 {
        let mut header =
            etherparse::Ipv4Header::new(payload.len() as u16, 64, etherparse::IpNumber(protocol), from, to)
                .unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut bytes = Vec8::new();
        header.write(&mut bytes).unwrap();
        bytes.extend(payload);
        bytes
    }

    fn udp(from: [u8; 4], from_port: u16, to: [u8; 4], to_port: u16) -> Vec8 {
        let mut bytes = Vec8::new();
        PacketBuilder::ipv4(from, to, 64).udp(from_port, to_port).write(&mut bytes, &[7; 24]).unwrap();
        bytes
    }

    /// An ICMP "unreachable" from a router about a packet.
    fn error(to: [u8; 4], about: &[u8]) -> Vec8 {
        ethernet(&ip(ROUTER, to, 1, &[&[3, 1, 0, 0, 0, 0, 0, 0], about].concat()))
    }

    #[test]
    fn an_error_goes_to_whose_connection_it_is_about_in_either_direction_and_inside_of_tunnels() {
        let mut dispatcher = Dispatcher::new(steer());
        let request = udp(CLIENT, PORT, VIP, 80);
        for bytes in [
            error(VIP, &udp(VIP, 80, CLIENT, PORT)),
            error(CLIENT, &udp(CLIENT, PORT, SERVER, 8_080)),
            error(CLIENT, &request),
            error(DIRECTOR, &ip(DIRECTOR, SERVER, 4, &request)),
            error(DIRECTOR, &ip(DIRECTOR, SERVER, 47, &[&[0, 0, 8, 0], &request[..]].concat())),
            error(
                DIRECTOR,
                &ip(
                    DIRECTOR,
                    SERVER,
                    17,
                    &[&[0x80, 0, 0x17, 0xc0, 0, 0, 0, 0, 0, 4, 0, 0], &request[..]].concat(),
                ),
            ),
        ] {
            assert_eq!(dispatch(&mut dispatcher, bytes.clone()), owner(), "{bytes:02x?}");
        }
        let echo = ip(ROUTER, VIP, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!(dispatch(&mut dispatcher, ethernet(&echo)), Dispatch::Here);
    }

    #[test]
    fn what_neighbours_say_is_for_everyone() {
        let mut dispatcher = Dispatcher::new(steer());
        let arp = [&[0xff; 6][..], &[2; 6], &[8, 6], &[0; 28]].concat();
        assert_eq!(dispatch(&mut dispatcher, arp), Dispatch::Everyone);
        assert_eq!(
            dispatch(&mut dispatcher, [&[2; 12][..], &[0x88, 0xcc], &[0; 46]].concat()),
            Dispatch::Here
        );
    }

    /// A fragment of the client's datagram.
    fn fragment(identification: u16, flags: [u8; 2], first: bool) -> Vec8 {
        let mut packet = udp(CLIENT, PORT, VIP, 80);
        if !first {
            packet[20..].fill(0xee);
        }
        packet[4..6].copy_from_slice(&identification.to_be_bytes());
        packet[6..8].copy_from_slice(&flags);
        packet[10..12].fill(0);
        let sum: u32 =
            packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        ethernet(&packet)
    }

    #[test]
    fn fragments_follow_the_first_one_and_wait_for_it() {
        let mut dispatcher = Dispatcher::new(steer());
        let Dispatch::At(at) = owner() else { panic!() };
        let Dispatch::Later(datagram) = dispatch(&mut dispatcher, fragment(5, [0x20, 4], false)) else {
            panic!()
        };
        assert_eq!(dispatch(&mut dispatcher, fragment(5, [0x20, 0], true)), Dispatch::First(datagram, at));
        assert_eq!(dispatch(&mut dispatcher, fragment(5, [0, 8], false)), Dispatch::At(at));
        assert!(
            matches!(dispatch(&mut dispatcher, fragment(6, [0, 8], false)), Dispatch::Later(_)),
            "another datagram"
        );
    }

    #[test]
    fn what_waits_gives_way_to_what_is_newer() {
        let mut dispatcher = Dispatcher::new(steer());
        let mut later = |id: u16| {
            let Dispatch::Later(datagram) = dispatch(&mut dispatcher, fragment(id, [0, 8], false)) else {
                panic!()
            };
            datagram
        };
        let (one, other) = (later(1), later(2));
        let mut waiting = Waiting::new();
        for n in 0..HELD {
            assert_eq!(waiting.hold(if n % 2 == 0 { one } else { other }, n), None);
        }
        assert_eq!(waiting.hold(other, HELD), Some(0));
        assert_eq!(waiting.take(one).len(), HELD / 2 - 1);
        assert_eq!(waiting.take(one).len(), 0);
        assert_eq!(waiting.take(other).first(), Some(&1), "in the order in which they came");
    }
}
