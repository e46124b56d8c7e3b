//! Two names for one end: clients on this machine have addresses that mean something to its kernel alone, and on the
//! wire each is one of the director's own addresses.
//!
//! What comes in from such a client gets the director's address as its source, and what goes out to that address gets
//! the client's as its destination. Nothing is remembered, as each pair is one to one, and ports stay.

use core::net::{IpAddr, SocketAddr};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use lvs_core::Direction;
use lvs_forward::checksum::Delta;
use lvs_forward::method::nat;
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::{Checksum, DropReason, Fragment, Frame, Layout, PortId, icmp};

use super::{Device, LONGEST, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError};

/// An address of this machine's clients, and what it is on the wire. Both are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) machine: IpAddr,
    pub(crate) wire: IpAddr,
}

/// A device of frames that begin with the IP header, whose machine has these addresses.
pub(crate) fn aliased(device: Device, aliases: &Arc<[Alias]>) -> Device {
    if aliases.is_empty() {
        return device;
    }
    let Device { receive, transmit } = device;
    let scratch = vec![0; LONGEST].into_boxed_slice();
    Device::new(In { receive, aliases: aliases.clone() }, Out { transmit, aliases: aliases.clone(), scratch })
}

struct In {
    receive: Box<dyn Receive>,
    aliases: Arc<[Alias]>,
}

impl Receive for In {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        let aliases = &self.aliases;
        self.receive.receive(port, &mut |frames: &mut [Frame<'_>]| {
            for frame in &mut *frames {
                let new = |old| aliases.iter().find(|of| of.machine == old).map(|of| of.wire);
                if let Some(found) = Found::new(frame, Direction::Reply, new) {
                    // What is damaged is left to whoever looks at it.
                    let _ = found.rename(frame);
                }
            }
            judge(frames);
        })
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.receive.readiness()
    }

    fn recover(&mut self) -> io::Result<()> {
        self.receive.recover()
    }

    fn ended(&self) -> bool {
        self.receive.ended()
    }

    fn counters(&mut self) -> ReceiveCounters {
        self.receive.counters()
    }
}

struct Out {
    transmit: Box<dyn Transmit>,
    aliases: Arc<[Alias]>,
    /// Room for a frame that is edited.
    scratch: Box<[u8]>,
}

impl Transmit for Out {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let aliases = &self.aliases;
        let new = |old| aliases.iter().find(|of| of.wire == old).map(|of| of.machine);
        let Some(found) = Found::new(frame, Direction::Request, new) else {
            return self.transmit.transmit(frame);
        };
        let length = frame.len();
        self.scratch.get_mut(..length).ok_or(TransmitError::TooLong)?.copy_from_slice(frame.bytes());
        let edited = Frame::new(&mut self.scratch, 0, length, frame.port);
        let mut edited = edited.ok_or(TransmitError::TooLong)?.with_offload(frame.offload);
        found.rename(&mut edited).map_err(|_| TransmitError::Refused)?;
        self.transmit.transmit(&edited)
    }

    fn flush(&mut self) -> io::Result<usize> {
        self.transmit.flush()
    }

    fn offloads(&self) -> Offloads {
        self.transmit.offloads()
    }

    fn counters(&mut self) -> TransmitCounters {
        self.transmit.counters()
    }
}

/// A packet with an address that has another name.
struct Found {
    layout: Layout,
    meaning: Meaning,
    /// Whose destination it is, of a request, or whose source, of a reply.
    direction: Direction,
    old: IpAddr,
    new: IpAddr,
}

impl Found {
    fn new(
        frame: &Frame<'_>,
        direction: Direction,
        new: impl FnOnce(IpAddr) -> Option<IpAddr>,
    ) -> Option<Self> {
        let Ok(Parsed::Ip(layout, meaning)) = parse(frame, Link::Bare) else { return None };
        let addresses = layout.addresses(frame.bytes())?;
        let old = match direction {
            Direction::Request => addresses.destination(),
            Direction::Reply => addresses.source(),
        };
        Some(Self { layout, meaning, direction, old, new: new(old)? })
    }

    /// Gives the packet the other name, which the packet that an error quotes gets too.
    fn rename(&self, frame: &mut Frame<'_>) -> Result<(), DropReason> {
        let Self { layout, meaning, direction, old, new } = self;
        if let Meaning::Error(packet, embedded) = meaning {
            let quoted = match direction {
                Direction::Request => packet.flow.destination(),
                Direction::Reply => packet.flow.source(),
            };
            if quoted.ip() == *old {
                let target = SocketAddr::new(*new, quoted.port());
                return icmp::translate(frame, layout, embedded, *direction, target);
            }
        }
        let port = layout.transport() + if *direction == Direction::Request { 2 } else { 0 };
        let port = frame.bytes().get(port..).and_then(<[u8]>::first_chunk);
        // A packet that is too short for ports is refused below, where it must have them.
        let target = SocketAddr::new(*new, port.map_or(0, |port| u16::from_be_bytes(*port)));
        nat::rewrite(frame, layout, *direction, target)?;
        if layout.protocol() == ICMPV6 && layout.fragment() != Fragment::Later {
            self.update_icmpv6(frame).ok_or(DropReason::Malformed)?;
        }
        Ok(())
    }

    /// Alone of all ICMP messages `ICMPv6` ones have a checksum over addresses (RFC 4443 §2.3).
    fn update_icmpv6(&self, frame: &mut Frame<'_>) -> Option<()> {
        let (IpAddr::V6(old), IpAddr::V6(new)) = (self.old, self.new) else { return Some(()) };
        let (delta, partial) = (Delta::ZERO.ipv6(old, new), frame.offload.checksum != Checksum::Complete);
        let field = frame.bytes_mut().get_mut(self.layout.transport() + 2..)?.first_chunk_mut()?;
        let sum = u16::from_be_bytes(*field);
        let sum = if partial { delta.update_partial(sum) } else { delta.update(sum) };
        *field = sum.to_be_bytes();
        Some(())
    }
}

const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use lvs_forward::checksum::Sum;

    use super::*;

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    fn alias() -> [Alias; 2] {
        [("127.76.86.1", "10.0.0.254"), ("fd4c::1", "fd00::fe")]
            .map(|(machine, wire)| Alias { machine: machine.parse().unwrap(), wire: wire.parse().unwrap() })
    }

    /// A UDP or TCP packet between these, with right checksums.
    fn packet(source: IpAddr, destination: IpAddr, protocol: u8) -> Vec<u8> {
        let mut transport =
            vec![0x9c, 0x40, 0, 80, 0, 24, 0, 0, 1, 2, 3, 4, 0x50, 2, 5, 6, 0, 0, 7, 8, 9, 9, 9, 8];
        let at = if protocol == TCP { 16 } else { 6 };
        let (mut header, sum) = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45, 0, 0, 44, 0, 0, 0, 0, 64, protocol, 0, 0];
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = Sum::ZERO.bytes(&header).checksum();
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                (header, Sum::pseudo_v4(source, destination, protocol, 24))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 24, protocol, 64];
                header.extend(source.octets());
                header.extend(destination.octets());
                (header, Sum::pseudo_v6(source, destination, protocol, 24))
            }
            _ => panic!("one family"),
        };
        let sum = sum.bytes(&transport).checksum();
        transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        header.extend(transport);
        header
    }

    /// The packet with the other name of the address at one end.
    fn renamed(mut packet: Vec<u8>, direction: Direction, old: IpAddr, new: IpAddr) -> Vec<u8> {
        let end = packet.len();
        let mut frame = Frame::new(&mut packet, 0, end, PortId(0)).unwrap();
        let new = |address| (address == old).then_some(new);
        if let Some(found) = Found::new(&frame, direction, new) {
            found.rename(&mut frame).unwrap();
        }
        packet
    }

    fn peer(of: IpAddr) -> IpAddr {
        if of.is_ipv4() { [192, 0, 2, 9].into() } else { "2001:db8::9".parse().unwrap() }
    }

    #[test]
    fn either_end_is_renamed_with_all_its_checksums() {
        for Alias { machine, wire } in alias() {
            let peer = peer(wire);
            for protocol in [TCP, UDP] {
                let sent = renamed(packet(machine, peer, protocol), Direction::Reply, machine, wire);
                assert_eq!(sent, packet(wire, peer, protocol));
                let back = renamed(packet(peer, wire, protocol), Direction::Request, wire, machine);
                assert_eq!(back, packet(peer, machine, protocol));
            }
        }
    }

    /// An error of a router about a packet from a client, to that client.
    fn error(router: IpAddr, client: IpAddr, packet: &[u8]) -> Vec<u8> {
        let length = 8 + packet.len();
        let (mut header, sum, kind) = match (router, client) {
            (IpAddr::V4(router), IpAddr::V4(client)) => {
                let mut header = vec![0x45, 0, 0, 20 + length as u8, 0, 0, 0, 0, 64, 1, 0, 0];
                header.extend(router.octets());
                header.extend(client.octets());
                let sum = Sum::ZERO.bytes(&header).checksum();
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                (header, Sum::ZERO, 3)
            }
            (IpAddr::V6(router), IpAddr::V6(client)) => {
                let mut header = vec![0x60, 0, 0, 0, 0, length as u8, ICMPV6, 64];
                header.extend(router.octets());
                header.extend(client.octets());
                (header, Sum::pseudo_v6(router, client, ICMPV6, length), 2)
            }
            _ => panic!("one family"),
        };
        let mut message = vec![kind, 4, 0, 0, 0, 0, 5, 0];
        message.extend(packet);
        let sum = sum.bytes(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        header.extend(message);
        header
    }

    #[test]
    fn an_error_is_about_a_packet_that_its_receiver_has_sent() {
        for Alias { machine, wire } in alias() {
            let peer = peer(wire);
            // No router looks at the checksum of what it quotes, and no host.
            let quoted = |from: IpAddr| {
                let mut quoted = packet(from, peer, UDP);
                let checksum = quoted.len() - 24 + 6;
                quoted[checksum..checksum + 2].fill(7);
                quoted
            };
            let known = renamed(error(peer, wire, &quoted(wire)), Direction::Request, wire, machine);
            assert_eq!(known, error(peer, machine, &quoted(machine)));
            let other = renamed(error(peer, wire, &quoted(peer)), Direction::Request, wire, machine);
            assert_eq!(other, error(peer, machine, &quoted(peer)), "about whatever it may be");
        }
    }

    #[test]
    fn others_and_what_is_cut_short_stay_as_they_are() {
        let [Alias { machine, wire }, _] = alias();
        let peer = peer(wire);
        let whole = packet(peer, machine, UDP);
        assert_eq!(renamed(whole.clone(), Direction::Reply, machine, wire), whole);
        for length in 0..whole.len() {
            let cut = whole[..length].to_vec();
            assert_eq!(renamed(cut.clone(), Direction::Request, machine, wire), cut);
        }
    }

    #[test]
    fn a_datagram_without_a_checksum_gets_one_as_by_nat() {
        let [Alias { machine, wire }, _] = alias();
        let peer = peer(wire);
        let mut without = packet(machine, peer, UDP);
        without[26..28].fill(0);
        assert_eq!(renamed(without, Direction::Reply, machine, wire), packet(wire, peer, UDP));
    }
}
