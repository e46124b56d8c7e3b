//! Frames lent from a ring that the kernel fills.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use heapless::Vec;
use lvs_forward::output::Parts;
use lvs_forward::parse::Link;
use lvs_forward::{Checksum, Frame, HEADROOM, PortId};

use super::{OpenStep, PacketOptions, SlotLength};
use crate::device::vnet::{self, VNET_LEN};
use crate::device::{BATCH, LONGEST, LONGEST_MERGED, Receive, ReceiveCounters};
use crate::sys::interface::{self, Interface};
use crate::sys::packet::PacketSocket;
use crate::sys::ring::{ReceiveRing, Slot};

/// Where an untagged frame's IP header begins in a slot: behind the slot's header, a VLAN tag's 4 bytes, the headroom
/// and the Ethernet header, aligned to 16.
const IP_OFFSET: usize = (size_of::<libc::tpacket2_hdr>() + VLAN + HEADROOM + 14).next_multiple_of(16);
/// Where the kernel would put it of its own accord: behind both headers and room for a link header of 16 bytes.
const KERNEL_IP_OFFSET: usize =
    (libc::TPACKET2_HDRLEN + 16).next_multiple_of(libc::TPACKET_ALIGNMENT) + VNET_LEN;
/// What it is asked to reserve in front (`PACKET_RESERVE`) to make up for the difference.
const RESERVE: libc::c_int = (IP_OFFSET - KERNEL_IP_OFFSET) as libc::c_int;

pub(super) struct Receiver {
    socket: PacketSocket,
    index: u32,
    ring: ReceiveRing,
    /// For frames that do not fit into a slot: headroom, room for a VLAN tag, virtio-net header, frame. As many as a
    /// batch may have, or none, where slots take every frame.
    spare: Box<[Box<[u8]>]>,
    /// Room for a frame that is longer than all that are lent, and is lent in parts. The machine provides what is used
    /// of it.
    long: Box<[u8]>,
    counters: ReceiveCounters,
}

impl Receiver {
    /// Opens the socket. One that is going to share frames with others gets none before [`start`](Self::start).
    pub(super) fn open(
        interface: &Interface,
        options: &PacketOptions,
        shares: bool,
    ) -> Result<Self, (OpenStep, io::Error)> {
        let socket = PacketSocket::open(interface.index).map_err(|error| (OpenStep::Socket, error))?;
        let set = |name| socket.set::<i32>(name, &1).map_err(|error| (OpenStep::Option, error));
        set(libc::PACKET_VNET_HDR)?;
        // Otherwise what this machine sends by the interface would come in as if it had been received there.
        set(libc::PACKET_IGNORE_OUTGOING)?;
        socket.set(libc::PACKET_RESERVE, &RESERVE).map_err(|error| (OpenStep::Option, error))?;
        // What is longer than a slot waits at the socket.
        set(libc::PACKET_COPY_THRESH)?;
        socket.set_receive_room(QUEUE_ROOM).map_err(|error| (OpenStep::Option, error))?;
        let (longest, spare) = match options.slot_length {
            SlotLength::Longest => (LONGEST, 0),
            SlotLength::Mtu => (interface.mtu.min(LONGEST), BATCH),
        };
        let slot = (IP_OFFSET + longest).next_multiple_of(SLOT_UNIT);
        let ring = ReceiveRing::new(&socket, slot, options.receive_slots)
            .map_err(|error| (OpenStep::ReceiveRing, error))?;
        let room = |longest: usize| vec![0; SPARE_START + longest].into_boxed_slice();
        let spare = (0..spare).map(|_| room(LONGEST)).collect();
        let long = room(LONGEST_MERGED);
        let membership = |error| (OpenStep::Membership, error);
        let filtered = match (shares, options.mac) {
            // Nothing comes in before the group is complete and has its program: frames would go to the wrong workers.
            (true, _) => socket.filter_all(),
            (false, Some(_)) => socket.filter(options.mac, false),
            (false, None) => Ok(()),
        };
        filtered.map_err(|error| (OpenStep::Option, error))?;
        if let Some(mac) = options.mac
            && mac != interface.mac
            && socket.join(libc::PACKET_MR_UNICAST, &mac).is_err()
        {
            socket.join(libc::PACKET_MR_PROMISC, &[]).map_err(membership)?;
        }
        if options.all_multicast {
            socket.join(libc::PACKET_MR_ALLMULTI, &[]).map_err(membership)?;
        }
        socket.bind(true).map_err(|error| (OpenStep::Bind, error))?;
        Ok(Self { socket, index: interface.index, ring, spare, long, counters: ReceiveCounters::default() })
    }

    /// The socket, to share its frames.
    pub(super) const fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Lets frames in, as one of several that share them.
    pub(super) fn start(&self, options: &PacketOptions) -> io::Result<()> {
        self.socket.filter(options.mac, true)
    }
}

impl Receive for Receiver {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        let Self { socket, ring, spare, long, counters, .. } = self;
        let mut taken = 0;
        let mut frames = Vec::<Frame<'_>, BATCH>::new();
        let mut spare = spare.iter_mut();
        for slot in ring.filled().take(BATCH) {
            taken += 1;
            if slot.original > usize::from(u16::MAX) {
                // By itself, in its turn: its parts are made one over the other.
                if !frames.is_empty() {
                    judge(&mut frames);
                    frames.clear();
                }
                lend_long(socket, slot, long, port, counters, judge);
                continue;
            }
            let slot = if slot.queued { fetch(socket, slot, spare.next()) } else { Ok(slot) };
            match slot.and_then(|slot| lend(slot, port)) {
                Ok(frame) => {
                    counters.count(&frame);
                    // There is room: as many slots are taken as frames fit.
                    let _ = frames.push(frame);
                }
                Err(unusable) => unusable.count(counters),
            }
        }
        if !frames.is_empty() {
            judge(&mut frames);
        }
        drop(frames);
        // Not earlier, since frames are edited, and long ones sent, from where they lie.
        ring.release(taken);
        Ok(taken)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn recover(&mut self) -> io::Result<()> {
        // An interface that is taken down leaves an error, too, and may come up again. Only one that exists no more is
        // the end of the device.
        match self.socket.take_error()? {
            Some(error) if !interface::exists(&self.socket, self.index) => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    fn counters(&mut self) -> ReceiveCounters {
        // Not answered only by a socket that is no packet socket.
        if let Ok(statistics) = self.socket.statistics() {
            self.counters.lost += u64::from(statistics.tp_drops);
        }
        self.counters
    }
}

/// Why a received frame cannot be lent.
#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    Cut,
    Invalid,
}

impl Unusable {
    const fn count(&self, counters: &mut ReceiveCounters) {
        match self {
            Self::Cut => counters.cut += 1,
            Self::Invalid => counters.invalid += 1,
        }
    }
}

/// Lends a frame of more than 65,535 bytes: in parts if it is a merged one whose length IP cannot say.
fn lend_long(
    socket: &PacketSocket,
    slot: Slot<'_>,
    room: &mut Box<[u8]>,
    port: PortId,
    counters: &mut ReceiveCounters,
    judge: &mut dyn FnMut(&mut [Frame<'_>]),
) {
    let slot = if slot.queued { fetch(socket, slot, Some(room)) } else { Ok(slot) };
    let mut frame = match slot.and_then(|slot| lend(slot, port)) {
        Ok(frame) => frame,
        Err(unusable) => return unusable.count(counters),
    };
    if let Some(mut parts) = Parts::of(&mut frame, Link::Ethernet) {
        while let Some(part) = parts.next() {
            counters.count(&part);
            judge(&mut [part]);
        }
    } else {
        counters.count(&frame);
        judge(&mut [frame]);
    }
}

/// A frame that did not fit into its slot, whole, in other memory.
fn fetch<'a>(
    socket: &PacketSocket,
    slot: Slot<'a>,
    spare: Option<&'a mut Box<[u8]>>,
) -> Result<Slot<'a>, Unusable> {
    // There is one: as many as slots are taken.
    let bytes: &'a mut [u8] = spare.ok_or(Unusable::Cut)?;
    let room = bytes.get_mut(SPARE_START - VNET_LEN..).ok_or(Unusable::Cut)?;
    let flags = rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::TRUNC;
    let receive = |room: &mut [u8]| rustix::net::recv(socket, room, flags).map(|(_, length)| length);
    // An error that is pending on the socket is told once, and leaves the frame there.
    let length = receive(room).or_else(|_| receive(room)).map_err(|_| Unusable::Invalid)?;
    if length != VNET_LEN + slot.original {
        return Err(Unusable::Invalid);
    }
    let length = slot.original.min(bytes.len() - SPARE_START);
    Ok(Slot { bytes, start: SPARE_START, length, queued: false, ..slot })
}

/// The frame in a slot, with its VLAN tag.
fn lend(slot: Slot<'_>, port: PortId) -> Result<Frame<'_>, Unusable> {
    let Slot { bytes, mut start, mut length, original, vlan, queued: _ } = slot;
    if length < original {
        return Err(Unusable::Cut);
    }
    let header = start.checked_sub(VNET_LEN).and_then(|at| bytes.get(at..start)?.first_chunk::<VNET_LEN>());
    let header = header.ok_or(Unusable::Invalid)?;
    let mut offload = vnet::read(*header, length).map_err(|_| Unusable::Invalid)?;
    if let Some((protocol, tag)) = vlan {
        if length < MACS || start < VLAN {
            return Err(Unusable::Invalid);
        }
        bytes.copy_within(start..start + MACS, start - VLAN);
        start -= VLAN;
        length += VLAN;
        bytes[start + MACS..start + MACS + 2].copy_from_slice(&protocol.to_be_bytes());
        bytes[start + MACS + 2..start + MACS + VLAN].copy_from_slice(&tag.to_be_bytes());
        if let Checksum::Partial { start, offset } = offload.checksum {
            let start = start.checked_add(VLAN as u16).ok_or(Unusable::Invalid)?;
            offload.checksum = Checksum::Partial { start, offset };
        }
    }
    let frame = Frame::new(bytes, start, start + length, port).ok_or(Unusable::Invalid)?;
    Ok(frame.with_offload(offload))
}

/// Where a frame begins in spare memory.
const SPARE_START: usize = HEADROOM + VLAN + VNET_LEN;
/// Bytes of frames, as the kernel accounts them, that may wait at the socket since they do not fit into slots.
const QUEUE_ROOM: i32 = 16 << 20;
/// Slots' lengths are multiples of this, so that few cross a page.
const SLOT_UNIT: usize = 1 << 7;
/// Bytes of the two MAC addresses, behind which a VLAN tag stands.
const MACS: usize = 12;
/// Bytes of a VLAN tag.
const VLAN: usize = 4;

#[cfg(test)]
mod tests {
    use lvs_forward::{Merged, MergedKind};

    use super::*;

    /// Where the kernel puts an Ethernet header, from the end of the slot's own.
    const START: usize = IP_OFFSET - 14 - size_of::<libc::tpacket2_hdr>();

    fn slot<'a>(bytes: &'a mut [u8], header: [u8; VNET_LEN], vlan: Option<(u16, u16)>) -> Slot<'a> {
        bytes[START - VNET_LEN..START].copy_from_slice(&header);
        Slot { bytes, start: START, length: 100, original: 100, vlan, queued: false }
    }

    fn header(start: u16, offset: u16) -> [u8; VNET_LEN] {
        let mut header = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        header[4..6].copy_from_slice(&1_448u16.to_ne_bytes());
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
        header
    }

    #[test]
    fn vlan_tag_is_put_back_and_moves_the_checksum() {
        let mut bytes = [0; START + 120];
        for (value, byte) in bytes[START..].iter_mut().enumerate() {
            *byte = value as u8;
        }
        let frame = lend(slot(&mut bytes, header(34, 16), Some((0x8100, 0x2005))), PortId(2)).unwrap();
        assert_eq!(frame.len(), 104);
        assert_eq!(frame.bytes()[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(frame.bytes()[12..18], [0x81, 0x00, 0x20, 0x05, 12, 13]);
        assert_eq!(frame.offload.checksum, Checksum::Partial { start: 38, offset: 16 });
        let merged = Merged { kind: MergedKind::TcpV4, segment: 1_448, ecn: false };
        assert_eq!(frame.offload.merged, Some(merged));
        assert_eq!(frame.port, PortId(2));
        assert!(frame.headroom() >= HEADROOM);
    }

    #[test]
    fn frames_that_do_not_fit_or_make_no_sense_are_not_lent() {
        let mut bytes = [0; START + 120];
        let mut cut = slot(&mut bytes, [0; VNET_LEN], None);
        cut.original = 101;
        assert_eq!(lend(cut, PortId(0)).unwrap_err(), Unusable::Cut);
        let outside = slot(&mut bytes, header(90, 16), None);
        assert_eq!(lend(outside, PortId(0)).unwrap_err(), Unusable::Invalid);
    }
}
