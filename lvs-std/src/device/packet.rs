//! An interface as a device: `AF_PACKET` sockets with memory-mapped rings.
//!
//! # How frames come in
//! The kernel writes each frame into a slot of a ring that it shares with this process (`TPACKET_V2`). The frame is
//! lent where it lies and edited there. Slots are long enough for a merged frame of 64 KiB and more, so that none is
//! ever cut; that costs 64 KiB of locked memory per slot ([`PacketOptions::receive_slots`]). The virtio-net header
//! before it says what is unfinished, and a VLAN tag that the kernel took out is put back.
//!
//! # How frames go out
//! A frame of ordinary length is copied into a second ring, and one system call per batch sends all. A longer one
//! (merged) is sent by a call of its own, from where it lies: the kernel would otherwise keep its 16 pages of the
//! ring busy until the receiver is done, or copy them once more when the receiver is on this machine, and a ring
//! with room for many such frames takes a lot of memory for a system call that one frame of 40 segments pays anyway.
//! What is in the ring is sent first, so frames leave in order.
//!
//! # What the kernel does besides
//! A packet socket gets copies: the kernel's own stack sees every frame too. A director with a MAC address of its own
//! ([`PacketOptions::mac`]) is left alone: the kernel takes those frames for another host's and is silent, while
//! the interface's address stays the machine's. Without one, the kernel answers for everything addressed to itself
//! (TCP resets, ICMP errors) unless it is told not to.
//!
//! With the queueing discipline bypassed (the default), frames sent are not seen by traffic control, nor by
//! `tcpdump` on this machine; [`pcap::record`](crate::device::pcap::record) shows them.
//!
//! An interface that goes down loses the frames that wait to be sent (counted as
//! [`down`](crate::device::TransmitCounters::down)); when it comes up again, all goes on.
//!
//! Needs `CAP_NET_RAW` in the user namespace that owns the network namespace.

use core::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use heapless::Vec;
use lvs_forward::{Checksum, Frame, HEADROOM, PortId};
use rustix::io::Errno;

use crate::device::vnet::{self, VNET_LEN};
use crate::device::{
    BATCH, Device, LONGEST, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError,
};
use crate::sys::interface::{self, Interface};
use crate::sys::packet::PacketSocket;
use crate::sys::ring::{ReceiveRing, Slot, TransmitRing};

/// How an interface is to be used.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PacketOptions {
    /// The director's own MAC address on this interface. Frames to other hosts are then kept out of the ring by the
    /// kernel, and the interface is asked to let this address through (real ones filter; a bridge or a hypervisor may
    /// filter too, which cannot be changed from here). `None`, the default: every frame that the interface takes.
    pub mac: Option<[u8; 6]>,
    /// Asks the interface for frames to every multicast group. A director that owns IPv6 addresses needs it to hear
    /// neighbour solicitations (RFC 4291 §2.7.1). Default: true.
    pub all_multicast: bool,
    /// Slots of the receiving ring, 64 KiB each; rounded up to a multiple of 15. They bridge the time in which
    /// the worker does something else; when they are full, frames are [`lost`](ReceiveCounters::lost). Default: 510,
    /// which are 34 MiB.
    pub receive_slots: usize,
    /// Slots of the sending ring, each for a frame of the interface's MTU. Default: 1024, which are 2 MiB at 1500.
    pub transmit_slots: usize,
    /// Hands frames to the driver without traffic control (`PACKET_QDISC_BYPASS`): faster, but a busy interface
    /// loses frames rather than queueing them. Default: true.
    pub bypass_queueing: bool,
}

impl Default for PacketOptions {
    fn default() -> Self {
        Self {
            mac: None,
            all_multicast: true,
            receive_slots: 510,
            transmit_slots: 1_024,
            bypass_queueing: true,
        }
    }
}

/// An opened interface: the device, and what the kernel says of the interface.
#[derive(Debug)]
#[non_exhaustive]
pub struct Packet {
    /// The device.
    pub device: Device,
    /// The longest IP packet that the interface sends.
    pub mtu: usize,
    /// The MAC address to use as one's own: the one asked for, or else the interface's.
    pub mac: [u8; 6],
}

/// Opens the Ethernet interface `name` of this network namespace as a device.
///
/// # Errors
/// When there is no such interface, when it is no Ethernet, or when the kernel refuses: the error says at which step.
pub fn open(name: &str, options: &PacketOptions) -> Result<Packet, OpenError> {
    let failed = |step| move |source| OpenError { interface: name.into(), step, source };
    let interface = Interface::named(name).map_err(failed(Step::Find))?;
    if ![libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&interface.hardware) {
        let source = io::Error::from(io::ErrorKind::Unsupported);
        return Err(failed(Step::Ethernet)(source));
    }
    let receive = Receiver::open(&interface, options).map_err(|(step, source)| failed(step)(source))?;
    let transmit = Transmitter::open(&interface, options).map_err(|(step, source)| failed(step)(source))?;
    Ok(Packet {
        device: Device::new(receive, transmit),
        mtu: interface.mtu,
        mac: options.mac.unwrap_or(interface.mac),
    })
}

/// A MAC address for a director of its own on the Ethernet interface `name` of this network namespace: derived from the
/// interface's, so that it is the same each time, and locally administered, so that no vendor has given it to anyone.
///
/// # Errors
/// When there is no such interface, or when it is no Ethernet.
pub fn own_mac(name: &str) -> Result<[u8; 6], OpenError> {
    let failed = |step, source| OpenError { interface: name.into(), step, source };
    let interface = Interface::named(name).map_err(|error| failed(Step::Find, error))?;
    if interface.hardware != libc::ARPHRD_ETHER {
        return Err(failed(Step::Ethernet, io::ErrorKind::Unsupported.into()));
    }
    Ok(derive_mac(interface.mac))
}

/// Bit 1 of the first byte marks a locally administered address, bit 0 a group's (IEEE 802 §8). An interface of a
/// virtual machine often has that mark already, so the other bytes change as well.
fn derive_mac([a, b, c, d, e, f]: [u8; 6]) -> [u8; 6] {
    [(a | 2) & !1, b ^ b'L', c ^ b'V', d ^ b'S', e, f]
}

/// Where an untagged frame's IP header begins in a slot: behind the slot's header, a VLAN tag's 4 bytes, the headroom and
/// the Ethernet header, aligned to 16.
const IP_OFFSET: usize = (size_of::<libc::tpacket2_hdr>() + VLAN + HEADROOM + 14).next_multiple_of(16);
/// Where the kernel would put it of its own accord: behind both headers and room for a link header of 16 bytes.
const KERNEL_IP_OFFSET: usize =
    (libc::TPACKET2_HDRLEN + 16).next_multiple_of(libc::TPACKET_ALIGNMENT) + VNET_LEN;
/// What it is asked to reserve in front (`PACKET_RESERVE`) to make up for the difference.
const RESERVE: libc::c_int = (IP_OFFSET - KERNEL_IP_OFFSET) as libc::c_int;

struct Receiver {
    socket: PacketSocket,
    index: u32,
    ring: ReceiveRing,
    counters: ReceiveCounters,
}

impl Receiver {
    fn open(interface: &Interface, options: &PacketOptions) -> Result<Self, (Step, io::Error)> {
        let socket = PacketSocket::open(interface.index).map_err(|error| (Step::Socket, error))?;
        let set = |name| socket.set::<i32>(name, &1).map_err(|error| (Step::Option, error));
        set(libc::PACKET_VNET_HDR)?;
        set(libc::PACKET_IGNORE_OUTGOING)?;
        socket.set(libc::PACKET_RESERVE, &RESERVE).map_err(|error| (Step::Option, error))?;
        let ring = ReceiveRing::new(&socket, IP_OFFSET + LONGEST, options.receive_slots)
            .map_err(|error| (Step::ReceiveRing, error))?;
        let membership = |error| (Step::Membership, error);
        if let Some(mac) = options.mac {
            socket.filter_destination(mac).map_err(|error| (Step::Option, error))?;
            if mac != interface.mac && socket.join(libc::PACKET_MR_UNICAST, &mac).is_err() {
                socket.join(libc::PACKET_MR_PROMISC, &[]).map_err(membership)?;
            }
        }
        if options.all_multicast {
            socket.join(libc::PACKET_MR_ALLMULTI, &[]).map_err(membership)?;
        }
        socket.bind(true).map_err(|error| (Step::Bind, error))?;
        Ok(Self { socket, index: interface.index, ring, counters: ReceiveCounters::default() })
    }
}

impl Receive for Receiver {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        let mut taken = 0;
        let mut frames = Vec::<Frame<'_>, BATCH>::new();
        for slot in self.ring.filled().take(BATCH) {
            taken += 1;
            match lend(slot, port) {
                Ok(frame) => {
                    self.counters.count(&frame);
                    // There is room: as many slots are taken as frames fit.
                    let _ = frames.push(frame);
                }
                Err(Unusable::Cut) => self.counters.cut += 1,
                Err(Unusable::Invalid) => self.counters.invalid += 1,
            }
        }
        if !frames.is_empty() {
            judge(&mut frames);
        }
        drop(frames);
        self.ring.release(taken);
        Ok(taken)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn recover(&mut self) -> io::Result<()> {
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

/// The frame in a slot, with its VLAN tag.
fn lend(slot: Slot<'_>, port: PortId) -> Result<Frame<'_>, Unusable> {
    let Slot { bytes, mut start, mut length, original, vlan } = slot;
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

/// Bytes of the two MAC addresses, behind which a VLAN tag stands.
const MACS: usize = 12;
/// Bytes of a VLAN tag.
const VLAN: usize = 4;

struct Transmitter {
    /// Sends what is in the ring. A socket with a ring sends nothing else.
    ring_socket: PacketSocket,
    /// Sends long frames.
    socket: PacketSocket,
    ring: TransmitRing,
    counters: TransmitCounters,
}

impl Transmitter {
    fn open(interface: &Interface, options: &PacketOptions) -> Result<Self, (Step, io::Error)> {
        let open = || {
            let socket = PacketSocket::open(interface.index).map_err(|error| (Step::Socket, error))?;
            let option = |error| (Step::Option, error);
            socket.set::<i32>(libc::PACKET_VNET_HDR, &1).map_err(option)?;
            socket.set(libc::PACKET_QDISC_BYPASS, &i32::from(options.bypass_queueing)).map_err(option)?;
            socket.set_send_room(SEND_ROOM).map_err(option)?;
            Ok(socket)
        };
        let (ring_socket, socket) = (open()?, open()?);
        let longest =
            (VNET_LEN + LINK + interface.mtu.clamp(SHORTEST_MTU, LONGEST_RINGED)).next_multiple_of(1_024);
        let ring = TransmitRing::new(&ring_socket, longest - libc::TPACKET2_HDRLEN, options.transmit_slots)
            .map_err(|error| (Step::TransmitRing, error))?;
        for socket in [&ring_socket, &socket] {
            socket.bind(false).map_err(|error| (Step::Bind, error))?;
        }
        Ok(Self { ring_socket, socket, ring, counters: TransmitCounters::default() })
    }

    /// Lets the kernel take what is in the ring.
    fn kick(&mut self) -> io::Result<()> {
        while self.ring.pending() > 0 {
            let sent = rustix::net::send(&self.ring_socket, &[], rustix::net::SendFlags::DONTWAIT);
            if self.ring.advance() {
                self.counters.count_lost(TransmitError::Refused);
                continue;
            }
            let Err(error) = sent else { break };
            let lost = loss(error);
            if lost == TransmitError::Full {
                break;
            }
            for _ in 0..self.ring.discard() {
                self.counters.count_lost(lost);
            }
            if is_gone(error) {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, header: [u8; VNET_LEN], frame: &[u8]) -> Result<(), TransmitError> {
        if self.ring.claim().is_none() {
            // An interface that is gone is reported by the flush that follows.
            let _ = self.kick();
        }
        let length = VNET_LEN + frame.len();
        let slot = self.ring.claim().ok_or(TransmitError::Full)?;
        let (to_header, to_frame) =
            slot.get_mut(..length).ok_or(TransmitError::TooLong)?.split_at_mut(VNET_LEN);
        to_header.copy_from_slice(&header);
        to_frame.copy_from_slice(frame);
        self.ring.submit(length);
        Ok(())
    }

    fn send(&mut self, header: [u8; VNET_LEN], frame: &[u8]) -> Result<(), TransmitError> {
        // Order within a connection: what is in the ring goes first.
        let _ = self.kick();
        let pieces = [IoSlice::new(&header), IoSlice::new(frame)];
        match rustix::io::writev(&self.socket, &pieces) {
            Ok(_) => Ok(()),
            Err(error) => Err(loss(error)),
        }
    }
}

impl Transmit for Transmitter {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let result = match vnet::write(frame) {
            Err(_) => Err(TransmitError::Unsupported),
            Ok(_) if frame.len() > LONGEST => Err(TransmitError::TooLong),
            Ok(header) if VNET_LEN + frame.len() <= self.ring.longest() => {
                self.enqueue(header, frame.bytes())
            }
            Ok(header) => self.send(header, frame.bytes()),
        };
        self.counters.count(frame, result)
    }

    fn flush(&mut self) -> io::Result<usize> {
        self.kick()?;
        Ok(self.ring.pending())
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }

    fn counters(&mut self) -> TransmitCounters {
        self.counters
    }
}

/// Room for link headers: Ethernet and two VLAN tags.
const LINK: usize = 22;
/// Ring slots are never shorter than an Ethernet of ordinary MTU needs.
const SHORTEST_MTU: usize = 1_500;
/// Interfaces with a larger MTU than this (loopback) send their longer frames without the ring.
const LONGEST_RINGED: usize = 9_216;
/// Bytes of frames that may wait for the interface, as the kernel accounts them: all slots and some long frames.
const SEND_ROOM: i32 = 8 << 20;

/// What an error of the kernel means for the frame.
fn loss(error: Errno) -> TransmitError {
    match error {
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR => TransmitError::Full,
        Errno::NETDOWN | Errno::NXIO | Errno::NODEV => TransmitError::Down,
        _ => TransmitError::Refused,
    }
}

fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NXIO | Errno::NODEV)
}

/// Why an interface could not be opened.
#[derive(Debug)]
pub struct OpenError {
    interface: String,
    step: Step,
    source: io::Error,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Bind,
    Ethernet,
    Find,
    Membership,
    Option,
    ReceiveRing,
    Socket,
    TransmitRing,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, step, source } = self;
        write!(f, "interface `{interface}`: ")?;
        match step {
            Step::Bind => write!(f, "cannot bind a packet socket to it: {source}"),
            Step::Ethernet => f.write_str("it is no Ethernet; use a TUN device for bare IP"),
            Step::Find => write!(f, "cannot be found in this network namespace: {source}"),
            Step::Membership => write!(f, "it does not let foreign addresses through: {source}"),
            Step::Option => write!(f, "a packet socket option is refused (Linux 4.20 or newer?): {source}"),
            Step::ReceiveRing => write!(f, "no memory for its receiving ring, ask for fewer slots: {source}"),
            Step::Socket => write!(f, "cannot open a packet socket, which takes CAP_NET_RAW: {source}"),
            Step::TransmitRing => write!(f, "no memory for its sending ring, ask for fewer slots: {source}"),
        }
    }
}

impl core::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use lvs_forward::{Merged, MergedKind};

    use super::*;

    /// Where the kernel puts an Ethernet header, from the end of the slot's own.
    const START: usize = IP_OFFSET - 14 - size_of::<libc::tpacket2_hdr>();

    fn slot<'a>(bytes: &'a mut [u8], header: [u8; VNET_LEN], vlan: Option<(u16, u16)>) -> Slot<'a> {
        bytes[START - VNET_LEN..START].copy_from_slice(&header);
        Slot { bytes, start: START, length: 100, original: 100, vlan }
    }

    #[test]
    fn a_derived_mac_is_local_and_another_hosts() {
        for mac in [[0, 0x1b, 0x21, 1, 2, 3], [2, 0, 0, 0, 0, 1], [0xff; 6]] {
            let own = derive_mac(mac);
            assert_eq!(own[0] & 3, 2);
            assert_ne!(own, mac);
            assert_eq!(derive_mac(mac), own);
        }
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

    #[test]
    fn unknown_interface_is_named_in_the_error() {
        let error = open("nosuchdevice", &PacketOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("interface `nosuchdevice`: cannot be found"), "{error}");
    }
}
