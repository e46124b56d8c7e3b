//! This machine's own stack behind one port of all workers: a TUN interface for real servers that are this machine.
//!
//! ```text
//! workers --write--> TUN interface --> the machine's stack --> TUN interface --read--> first worker --> owner
//!         --write--> lo (for ::1)  -->
//! ```
//!
//! Every worker writes to the interface; the first one reads, and hands on what is another's, as it does with all that
//! the kernel cannot steer. So no answer depends on how long the kernel remembers a flow's queue.
//!
//! The kernel takes IPv6 packets to the loopback address from the loopback interface alone (RFC 4291 §2.5.3), so a
//! packet socket writes them there.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use lvs_forward::{Frame, PortId};
use rustix::io::Errno;

use super::tun::{self, Layer, OpenError};
use super::vnet;
use super::{Device, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError};
use crate::sys::interface::Interface;
use crate::sys::packet::PacketSocket;

/// The machine's stack, opened for some workers.
pub(crate) struct LocalStack {
    /// A device for each worker, of a port whose frames begin with the IP header.
    pub(crate) devices: Vec<Device>,
    /// The interface's name.
    pub(crate) name: String,
    /// The interface's number.
    pub(crate) index: u32,
    /// The longest IP packet that the kernel hands over in one piece, unless merged.
    pub(crate) mtu: usize,
}

/// Makes an interface with this name, in which the kernel replaces `%d` by a number, in the calling thread's network
/// namespace. It is gone when the last device is dropped, and so with the process however that ends.
pub(crate) fn open(name: &str, workers: usize) -> Result<LocalStack, OpenError> {
    let tun::Shared { first, senders, name, mtu } =
        tun::open_shared(name, Layer::Ip, workers.saturating_sub(1))?;
    let failed = |source| OpenError::unusable(&name, source);
    let index = Interface::named(&name).map_err(failed)?.index;
    let loopback = || Loopback::open().map_err(failed);
    let mut devices = vec![Device {
        receive: first.receive,
        transmit: Box::new(Stack { tun: first.transmit, loopback: loopback()? }),
    }];
    for tun in senders {
        devices.push(Device::new(Deaf::new().map_err(failed)?, Stack { tun, loopback: loopback()? }));
    }
    Ok(LocalStack { devices, name, index, mtu })
}

/// The receiving half of a worker that does not read.
struct Deaf {
    /// Never readable, as nothing is written to the other end.
    quiet: UnixStream,
    _other: UnixStream,
}

impl Deaf {
    fn new() -> io::Result<Self> {
        let (quiet, other) = UnixStream::pair()?;
        Ok(Self { quiet, _other: other })
    }
}

impl Receive for Deaf {
    fn receive(&mut self, _: PortId, _: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        Ok(0)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.quiet.as_fd())
    }

    fn counters(&mut self) -> ReceiveCounters {
        ReceiveCounters::default()
    }
}

/// The sending half: to the interface, or to the loopback address.
struct Stack {
    tun: Box<dyn Transmit>,
    loopback: Loopback,
}

impl Transmit for Stack {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        if is_to_loopback(frame.bytes()) { self.loopback.transmit(frame) } else { self.tun.transmit(frame) }
    }

    fn flush(&mut self) -> io::Result<usize> {
        self.tun.flush()
    }

    fn offloads(&self) -> Offloads {
        self.tun.offloads()
    }

    fn counters(&mut self) -> TransmitCounters {
        let mut counters = self.tun.counters();
        counters += &self.loopback.counters;
        counters
    }
}

/// Whether an IPv6 packet goes to the loopback address.
fn is_to_loopback(packet: &[u8]) -> bool {
    let version = packet.first().map(|first| first >> 4);
    version == Some(6) && packet.get(DESTINATION..DESTINATION + 16) == Some(&LOOPBACK)
}

/// The loopback interface, by a packet socket that only sends.
struct Loopback {
    socket: PacketSocket,
    counters: TransmitCounters,
}

impl Loopback {
    fn open() -> io::Result<Self> {
        let socket = PacketSocket::open(Interface::named("lo")?.index)?;
        let on: libc::c_int = 1;
        socket.set(libc::PACKET_VNET_HDR, &on)?;
        socket.bind(false)?;
        Ok(Self { socket, counters: TransmitCounters::default() })
    }

    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let result = self.write(frame);
        self.counters.count(frame, result)
    }

    fn write(&self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let header = vnet::write_behind(frame, LINK.len()).map_err(|_| TransmitError::Unsupported)?;
        let pieces = [IoSlice::new(&header), IoSlice::new(&LINK), IoSlice::new(frame.bytes())];
        match rustix::io::writev(&self.socket, &pieces) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Err(TransmitError::Full),
            Err(Errno::NETDOWN | Errno::NXIO) => Err(TransmitError::Down),
            Err(Errno::MSGSIZE) => Err(TransmitError::TooLong),
            Err(_) => Err(TransmitError::Refused),
        }
    }
}

/// Where an IPv6 header has the destination (RFC 8200 §3).
const DESTINATION: usize = 24;
const LOOPBACK: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// The link header of the loopback interface: no addresses, and IPv6.
const LINK: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd];
