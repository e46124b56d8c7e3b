//! The machine's own stack as a device: a TUN (bare IP) or TAP (Ethernet) interface.
//!
//! What the kernel routes onto the interface comes in here, and what is sent here arrives at the kernel. Frames pass
//! unfinished both ways (`IFF_VNET_HDR`, `TUNSETOFFLOAD`): merged ones of up to 64 KiB, and with partial checksums.
//! Each frame takes a system call, since the kernel offers nothing for several at once; a merged one stands for up to
//! 45 segments. Frames are read until none is left or a batch is full.
//!
//! # Several workers
//! An interface may have several queues ([`open_queues`]), each a device for a worker of its own. The kernel remembers
//! for some seconds by which queue a flow's packets were sent into the stack, and hands the flow's packets from the
//! stack to that queue: what this machine answers comes back to the worker that passed the question. Of a flow that it
//! does not remember, a hash of both endpoints picks the queue, the same for both directions.
//!
//! Needs `CAP_NET_ADMIN` in the user namespace that owns the network namespace, and `/dev/net/tun`.

use core::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use heapless::Vec;
use lvs_forward::{Frame, HEADROOM, PortId};
use rustix::io::Errno;

use crate::device::vnet::{self, VNET_LEN};
use crate::device::{
    BATCH, Device, LONGEST, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError,
};
use crate::sys::interface::{self, Interface};
use crate::sys::tun::{self, Shape};

/// What an interface's frames begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Layer {
    /// An Ethernet header: TAP.
    Ethernet,
    /// An IP header: TUN.
    Ip,
}

/// An opened interface: the device, and what the kernel says of the interface.
#[derive(Debug)]
#[non_exhaustive]
pub struct Tun {
    /// The device.
    pub device: Device,
    /// The interface's name, for addresses and routes.
    pub name: String,
    /// The kernel's own MAC address on it; zeros without Ethernet.
    pub mac: [u8; 6],
    /// The longest IP packet that the kernel hands over in one piece, unless merged.
    pub mtu: usize,
}

/// Makes the interface `name` (`%d` in it becomes a number), or attaches to a persistent one, and brings it up. A made
/// one is gone when the device is dropped.
///
/// # Errors
/// When the kernel refuses: the error says at which step.
pub fn open(name: &str, layer: Layer) -> Result<Tun, OpenError> {
    let (queue, Facts { name, mac, mtu }) = open_first(name, shape(layer, false))?;
    Ok(Tun { device: queue.device(), name, mac, mtu })
}

/// An opened interface with several queues: their devices, and what the kernel says of the interface.
#[derive(Debug)]
#[non_exhaustive]
pub struct Queues {
    /// A device for each queue. The interface is gone when the last of them is dropped, if it was made here.
    pub devices: std::vec::Vec<Device>,
    /// The interface's name, for addresses and routes.
    pub name: String,
    /// The kernel's own MAC address on it; zeros without Ethernet.
    pub mac: [u8; 6],
    /// The longest IP packet that the kernel hands over in one piece, unless merged.
    pub mtu: usize,
}

/// Like [`open`], with as many queues as there are workers to serve them; at least one, and at most 256 (the kernel's
/// limit). Each queue must be served: the kernel deals flows to all. A persistent interface must have been made for
/// several queues.
///
/// # Errors
/// When the kernel refuses: the error says at which step.
pub fn open_queues(name: &str, layer: Layer, queues: usize) -> Result<Queues, OpenError> {
    let shape = shape(layer, true);
    let (first, Facts { name, mac, mtu }) = open_first(name, shape)?;
    let offloads = first.offloads;
    let mut devices = vec![first.device()];
    while devices.len() < queues {
        let (file, _) = tun::open(&name, shape).map_err(|source| OpenError {
            name: name.clone(),
            step: TunStep::Queue,
            source,
        })?;
        devices.push(Queue { file, offloads }.device());
    }
    Ok(Queues { devices, name, mac, mtu })
}

/// An opened interface that one device reads, and further ones only write to.
#[cfg(feature = "runtime")]
pub(crate) struct Shared {
    /// The device that reads.
    pub(crate) first: Device,
    /// The sending halves of the others.
    pub(crate) senders: std::vec::Vec<Box<dyn Transmit>>,
    /// The interface's name.
    pub(crate) name: String,
    /// The longest IP packet that the kernel hands over in one piece, unless merged.
    pub(crate) mtu: usize,
}

/// Like [`open`], with so many further senders. The kernel takes what several threads write, each frame as a whole.
#[cfg(feature = "runtime")]
pub(crate) fn open_shared(name: &str, layer: Layer, senders: usize) -> Result<Shared, OpenError> {
    let (queue, Facts { name, mtu, .. }) = open_first(name, shape(layer, false))?;
    let offloads = queue.offloads;
    let file = Arc::new(queue.file);
    let sender = || Transmitter { file: file.clone(), offloads, counters: TransmitCounters::default() };
    let further = (0..senders).map(|_| Box::new(sender()) as Box<dyn Transmit>).collect();
    let first = Device::new(Receiver::new(file.clone()), sender());
    Ok(Shared { first, senders: further, name, mtu })
}

/// An open file of an interface.
struct Queue {
    file: File,
    offloads: Offloads,
}

/// What the kernel says of an interface.
struct Facts {
    name: String,
    mac: [u8; 6],
    mtu: usize,
}

const fn shape(layer: Layer, several: bool) -> Shape {
    Shape { ethernet: matches!(layer, Layer::Ethernet), several, header: VNET_LEN }
}

/// The first queue of an interface, which is up then and hands over unfinished frames.
fn open_first(name: &str, shape: Shape) -> Result<(Queue, Facts), OpenError> {
    let failed = |step| move |source| OpenError { name: name.into(), step, source };
    let (file, made) = tun::open(name, shape).map_err(failed(TunStep::Make))?;
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    // Merged UDP came with Linux 6.2.
    let merged_udp = tun::set_offload(&file, tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6).is_ok();
    if !merged_udp {
        tun::set_offload(&file, tcp).map_err(failed(TunStep::Offload))?;
    }
    interface::set_up(&made).map_err(failed(TunStep::Up))?;
    let interface = Interface::named(&made).map_err(failed(TunStep::Up))?;
    let offloads = Offloads { checksum: true, merged_tcp: true, merged_udp };
    let mac = if shape.ethernet { interface.mac } else { [0; 6] };
    Ok((Queue { file, offloads }, Facts { name: made, mac, mtu: interface.mtu }))
}

impl Queue {
    fn device(self) -> Device {
        let Self { file, offloads } = self;
        let file = Arc::new(file);
        Device::new(
            Receiver::new(file.clone()),
            Transmitter { file, offloads, counters: TransmitCounters::default() },
        )
    }
}

struct Receiver {
    file: Arc<File>,
    /// Headroom, virtio-net header, frame.
    buffers: Box<[Box<[u8]>]>,
    counters: ReceiveCounters,
}

impl Receiver {
    fn new(file: Arc<File>) -> Self {
        let buffer = || vec![0; HEADROOM + VNET_LEN + LONGEST].into_boxed_slice();
        Self { file, buffers: (0..BATCH).map(|_| buffer()).collect(), counters: ReceiveCounters::default() }
    }
}

impl Receive for Receiver {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        let mut frames = Vec::<Frame<'_>, BATCH>::new();
        let mut taken = 0;
        for buffer in &mut self.buffers {
            let Some(room) = buffer.get_mut(HEADROOM..) else { break };
            let length = match rustix::io::read(&self.file, room) {
                Ok(length) => length,
                Err(Errno::AGAIN | Errno::INTR | Errno::IO) => break,
                // What was read before must not be lost; the error will come again.
                Err(_) if taken > 0 => break,
                Err(error) => return Err(error.into()),
            };
            taken += 1;
            match lend(buffer, length, port) {
                Some(frame) => {
                    self.counters.count(&frame);
                    // As many frames fit as there are buffers.
                    let _ = frames.push(frame);
                }
                None => self.counters.invalid += 1,
            }
        }
        if !frames.is_empty() {
            judge(&mut frames);
        }
        Ok(taken)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn recover(&mut self) -> io::Result<()> {
        tun::is_attached(&self.file)
    }

    fn counters(&mut self) -> ReceiveCounters {
        self.counters
    }
}

/// The frame behind the headroom and header, of `length` bytes with the header.
fn lend(buffer: &mut [u8], length: usize, port: PortId) -> Option<Frame<'_>> {
    let header = buffer.get(HEADROOM..)?.first_chunk::<VNET_LEN>()?;
    let offload = vnet::read(*header, length.checked_sub(VNET_LEN)?).ok()?;
    Some(Frame::new(buffer, HEADROOM + VNET_LEN, HEADROOM + length, port)?.with_offload(offload))
}

struct Transmitter {
    file: Arc<File>,
    offloads: Offloads,
    counters: TransmitCounters,
}

impl Transmitter {
    fn write(&self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        if !self.offloads.carry(&frame.offload) {
            return Err(TransmitError::Unsupported);
        }
        if frame.len() > LONGEST {
            return Err(TransmitError::TooLong);
        }
        let header = vnet::write(frame).map_err(|_| TransmitError::Unsupported)?;
        match rustix::io::writev(&self.file, &[IoSlice::new(&header), IoSlice::new(frame.bytes())]) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Err(TransmitError::Full),
            Err(Errno::IO | Errno::BADFD) => Err(TransmitError::Down),
            Err(_) => Err(TransmitError::Refused),
        }
    }
}

impl Transmit for Transmitter {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let result = self.write(frame);
        self.counters.count(frame, result)
    }

    fn flush(&mut self) -> io::Result<usize> {
        Ok(0)
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn counters(&mut self) -> TransmitCounters {
        self.counters
    }
}

/// Why a TUN or TAP interface could not be opened.
#[derive(Debug)]
pub struct OpenError {
    name: String,
    step: TunStep,
    source: io::Error,
}

#[cfg(feature = "runtime")]
impl OpenError {
    /// What else is needed for an interface that is there cannot be had.
    pub(crate) fn unusable(name: &str, source: io::Error) -> Self {
        Self { name: name.to_owned(), step: TunStep::Rest, source }
    }
}

#[derive(Clone, Copy, Debug)]
enum TunStep {
    Make,
    Offload,
    Queue,
    #[cfg(feature = "runtime")]
    Rest,
    Up,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, step, source } = self;
        write!(f, "tun interface `{name}`: ")?;
        match step {
            TunStep::Make => {
                write!(f, "cannot be made, which takes CAP_NET_ADMIN and /dev/net/tun: {source}")
            }
            TunStep::Offload => write!(f, "the kernel refuses merged frames: {source}"),
            TunStep::Queue => write!(f, "the kernel refuses a further queue: {source}"),
            #[cfg(feature = "runtime")]
            TunStep::Rest => write!(f, "cannot be used: {source}"),
            TunStep::Up => write!(f, "cannot be brought up: {source}"),
        }
    }
}

impl core::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}
