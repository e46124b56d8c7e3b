//! One interface for several workers.

use core::fmt;
use core::net::IpAddr;
use std::io;

use super::receive::Receiver;
use super::transmit::Transmitter;
use super::{OpenError, OpenStep, PacketOptions, Tap};
use crate::device::Device;
use crate::steering::{Steer, program};
use crate::sys::interface::Interface;
use crate::sys::packet::PacketSocket;

/// An interface that was opened for several workers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fanned {
    /// A device for each worker, in their order.
    pub devices: Vec<Device>,
    /// The longest IP packet that the interface sends.
    pub mtu: usize,
    /// The MAC address to use as one's own: the one asked for, or else the interface's.
    pub mac: [u8; 6],
    /// What tells the kernel which frames go to which worker.
    pub fan: Fan,
    /// Where each worker's [`FlowOffload`](crate::offload::FlowOffload) can be put.
    pub taps: Vec<Tap>,
}

/// Tells the kernel which worker gets which of an interface's frames.
#[derive(Debug)]
pub struct Fan {
    /// One of the sockets that share the frames.
    socket: PacketSocket,
    steer: Steer,
}

/// Opens the Ethernet interface `name` of this network namespace for as many workers as `steer` has, each with rings of
/// its own as `options` have them. `addresses` are those of the director: what goes there is a request.
///
/// # Errors
/// As for [`open`](super::open()), and when the addresses are too many to be told apart by a program of the kernel's.
pub fn open_fanned(
    name: &str,
    options: &PacketOptions,
    steer: Steer,
    addresses: &[IpAddr],
) -> Result<Fanned, OpenError> {
    let failed = |step| move |source| OpenError { interface: name.into(), step, source };
    let interface = Interface::named(name).map_err(failed(OpenStep::Find))?;
    if ![libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&interface.hardware) {
        return Err(failed(OpenStep::Ethernet)(io::ErrorKind::Unsupported.into()));
    }
    let refused = |(step, source)| failed(step)(source);
    let mut receivers = Vec::new();
    for _ in 0..steer.workers() {
        receivers.push(Receiver::open(&interface, options, true).map_err(refused)?);
    }
    // The order in which they come to the group is that of their numbers. It is the order in which they were opened, in
    // which the kernel lets them out and in again when the interface goes down and comes back.
    let mut group = None;
    for receiver in &receivers {
        group = Some(receiver.socket().share(group).map_err(failed(OpenStep::Fan))?);
    }
    let Some(first) = receivers.first() else {
        return Err(failed(OpenStep::Fan)(io::ErrorKind::InvalidInput.into()));
    };
    let fan = Fan { socket: first.socket().again().map_err(failed(OpenStep::Fan))?, steer };
    // Set before any of the sockets lets frames in, so that the first frame is steered as well.
    fan.set(addresses).map_err(|error| failed(OpenStep::Fan)(io::Error::other(error)))?;
    let (mut devices, mut taps) = (Vec::new(), Vec::new());
    for receiver in receivers {
        taps.push(Tap::new(&receiver, &interface, options, true).map_err(failed(OpenStep::Socket))?);
        receiver.start(options).map_err(failed(OpenStep::Option))?;
        let transmit = Transmitter::open(&interface, options).map_err(refused)?;
        devices.push(Device::new(receiver, transmit));
    }
    Ok(Fanned { devices, mtu: interface.mtu, mac: options.mac.unwrap_or(interface.mac), fan, taps })
}

impl Fan {
    /// Makes these the director's addresses, from the next frame on. May take some milliseconds, in which frames go on
    /// as before.
    ///
    /// # Errors
    /// [`FanError::Many`], or what the kernel says. The old addresses stay.
    pub fn set(&self, addresses: &[IpAddr]) -> Result<(), FanError> {
        let mut program = program::build(&self.steer, addresses).ok_or(FanError::Many(addresses.len()))?;
        self.socket.steer(&mut program).map_err(FanError::Kernel)
    }
}

/// Why frames cannot be shared out.
#[derive(Debug)]
#[non_exhaustive]
pub enum FanError {
    /// The kernel refuses the program.
    Kernel(io::Error),
    /// So many addresses are too many for a program of the kernel's. Fewer are needed, or one worker.
    Many(usize),
}

impl fmt::Display for FanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => write!(f, "the kernel refuses to share frames out over workers: {error}"),
            Self::Many(count) => {
                write!(f, "{count} addresses are too many to share frames out by: use one worker")
            }
        }
    }
}

impl core::error::Error for FanError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Kernel(error) => Some(error),
            Self::Many(_) => None,
        }
    }
}
