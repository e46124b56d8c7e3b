//! Two names for one end: clients on this machine have addresses that mean something to its kernel alone, and on the
//! wire each is one of the director's own addresses.
//!
//! What comes in from such a client gets the director's address as its source, and what goes out to that address gets
//! the client's as its destination. Nothing is remembered, as each pair is one to one, and ports stay.

use core::net::IpAddr;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use lvs_forward::checksum::{Delta, never_zero};
use lvs_forward::{Checksum, Frame, Offload, PortId};

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
                let offload = frame.offload;
                let new = |old| aliases.iter().find(|of| of.machine == old).map(|of| of.wire);
                replace(frame.bytes_mut(), &offload, End::Source, new);
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
        let concerned = address(frame.bytes(), End::Destination).and_then(new).is_some();
        if !concerned {
            return self.transmit.transmit(frame);
        }
        let length = frame.len();
        // A longer frame is none that the device takes.
        let Some(place) = self.scratch.get_mut(..length) else { return self.transmit.transmit(frame) };
        place.copy_from_slice(frame.bytes());
        replace(place, &frame.offload, End::Destination, new);
        match Frame::new(&mut self.scratch, 0, length, frame.port) {
            Some(edited) => self.transmit.transmit(&edited.with_offload(frame.offload)),
            None => Err(TransmitError::TooLong),
        }
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

impl End {
    /// Where an IPv4 header has the address (RFC 791 §3.1), and an IPv6 header (RFC 8200 §3).
    const fn places(self) -> (usize, usize) {
        match self {
            Self::Source => (12, 8),
            Self::Destination => (16, 24),
        }
    }
}

/// The address at one end of a packet.
fn address(packet: &[u8], end: End) -> Option<IpAddr> {
    let (v4, v6) = end.places();
    match packet.first()? >> 4 {
        4 => packet.get(v4..)?.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        6 => packet.get(v6..)?.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

/// Gives a packet another address at one end, with all checksums, if there is a new one.
fn replace(packet: &mut [u8], offload: &Offload, end: End, new: impl FnOnce(IpAddr) -> Option<IpAddr>) {
    // What is too short for its header is left to whoever looks at it.
    let _ = try_replace(packet, offload, end, new);
}

fn try_replace(
    packet: &mut [u8],
    offload: &Offload,
    end: End,
    new: impl FnOnce(IpAddr) -> Option<IpAddr>,
) -> Option<()> {
    let old = address(packet, end)?;
    let new = new(old)?;
    let (v4, v6) = end.places();
    let (delta, transport, protocol) = match (old, new) {
        (IpAddr::V4(old), IpAddr::V4(new)) => {
            let delta = Delta::default().ipv4(old, new);
            packet.get_mut(v4..)?.first_chunk_mut::<4>()?.copy_from_slice(&new.octets());
            update(packet, 10, |sum| delta.update(sum))?;
            let header = usize::from(packet.first()? & 0xf) * 4;
            let fragment = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x1fff;
            // Only the first piece of a datagram has a transport header.
            (delta, (fragment == 0).then_some(header)?, *packet.get(9)?)
        }
        (IpAddr::V6(old), IpAddr::V6(new)) => {
            let delta = Delta::default().ipv6(old, new);
            packet.get_mut(v6..)?.first_chunk_mut::<16>()?.copy_from_slice(&new.octets());
            (delta, 40, *packet.get(6)?)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let partial = offload.checksum != Checksum::Complete;
    let changed = |sum| if partial { delta.update_partial(sum) } else { delta.update(sum) };
    match (protocol, old.is_ipv4()) {
        (TCP, _) => update(packet, transport + 16, changed),
        (UDP, is_v4) => update(packet, transport + 6, |sum| {
            // Without a checksum it stays without (RFC 768).
            if sum == 0 && is_v4 && !partial { 0 } else { never_zero(changed(sum)) }
        }),
        (ICMPV6, false) => update(packet, transport + 2, changed),
        _ => Some(()),
    }
}

/// Changes the checksum at a place.
fn update(packet: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) -> Option<()> {
    let place = packet.get_mut(at..)?.first_chunk_mut::<2>()?;
    *place = change(u16::from_be_bytes(*place)).to_be_bytes();
    Some(())
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use lvs_forward::checksum::Sum;

    use super::*;

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

    #[test]
    fn either_end_is_renamed_with_all_its_checksums() {
        for Alias { machine, wire } in alias() {
            let peer: IpAddr =
                if wire.is_ipv4() { [192, 0, 2, 9].into() } else { "2001:db8::9".parse().unwrap() };
            for protocol in [TCP, UDP] {
                let mut sent = packet(machine, peer, protocol);
                replace(&mut sent, &Offload::NONE, End::Source, |old| (old == machine).then_some(wire));
                assert_eq!(sent, packet(wire, peer, protocol));
                let mut back = packet(peer, wire, protocol);
                replace(&mut back, &Offload::NONE, End::Destination, |old| (old == wire).then_some(machine));
                assert_eq!(back, packet(peer, machine, protocol));
            }
        }
    }

    #[test]
    fn others_and_what_is_cut_short_stay_as_they_are() {
        let [Alias { machine, wire }, _] = alias();
        let peer = IpAddr::from([192, 0, 2, 9]);
        let whole = packet(peer, machine, UDP);
        let mut other = whole.clone();
        replace(&mut other, &Offload::NONE, End::Source, |old| (old == machine).then_some(wire));
        assert_eq!(other, whole);
        for length in 0..whole.len() {
            // Whatever it is, it is no panic.
            replace(&mut whole[..length].to_vec(), &Offload::NONE, End::Destination, |_| Some(wire));
        }
        let mut without = packet(machine, peer, UDP);
        without[26..28].fill(0);
        replace(&mut without, &Offload::NONE, End::Source, |_| Some(wire));
        assert_eq!(without[26..28], [0, 0], "no checksum stays no checksum");
    }
}
