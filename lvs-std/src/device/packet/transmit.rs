//! Frames sent by a ring that the kernel empties, and long ones without.

use std::io::{self, IoSlice};

use lvs_forward::Frame;
use rustix::io::Errno;

use super::{OpenStep, PacketOptions};
use crate::device::vnet::{self, VNET_LEN};
use crate::device::{LONGEST, Offloads, Transmit, TransmitCounters, TransmitError};
use crate::sys::interface::Interface;
use crate::sys::packet::PacketSocket;
use crate::sys::ring::TransmitRing;

pub(super) struct Transmitter {
    /// Sends what is in the ring. A socket with a ring sends nothing else.
    ring_socket: PacketSocket,
    /// Sends long frames.
    socket: PacketSocket,
    ring: TransmitRing,
    counters: TransmitCounters,
}

impl Transmitter {
    pub(super) fn open(
        interface: &Interface,
        options: &PacketOptions,
    ) -> Result<Self, (OpenStep, io::Error)> {
        let open = || {
            let socket = PacketSocket::open(interface.index).map_err(|error| (OpenStep::Socket, error))?;
            let option = |error| (OpenStep::Option, error);
            socket.set::<i32>(libc::PACKET_VNET_HDR, &1).map_err(option)?;
            socket.set(libc::PACKET_QDISC_BYPASS, &i32::from(options.bypass_queueing)).map_err(option)?;
            socket.set_send_room(SEND_ROOM).map_err(option)?;
            Ok(socket)
        };
        let (ring_socket, socket) = (open()?, open()?);
        let longest =
            (VNET_LEN + LINK + interface.mtu.clamp(SHORTEST_MTU, LONGEST_RINGED)).next_multiple_of(1_024);
        let ring = TransmitRing::new(&ring_socket, longest - libc::TPACKET2_HDRLEN, options.transmit_slots)
            .map_err(|error| (OpenStep::TransmitRing, error))?;
        for socket in [&ring_socket, &socket] {
            socket.bind(false).map_err(|error| (OpenStep::Bind, error))?;
        }
        Ok(Self { ring_socket, socket, ring, counters: TransmitCounters::default() })
    }

    /// Lets the kernel take what is in the ring.
    fn kick(&mut self) -> io::Result<()> {
        while self.ring.pending() > 0 {
            let sent = rustix::net::send(&self.ring_socket, &[], rustix::net::SendFlags::DONTWAIT);
            let counters = &mut self.counters;
            let taken = |length: usize, header: [u8; VNET_LEN]| {
                counters.count_sent(length.saturating_sub(VNET_LEN), vnet::is_merged(&header));
            };
            if self.ring.advance(taken) {
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
                let queued = self.enqueue(header, frame.bytes());
                if queued.is_ok() {
                    // Counted when the kernel has taken it, see `kick`: until then it can still be lost.
                    return queued;
                }
                queued
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
