//! One interface for several workers.

use core::net::IpAddr;
use std::io;

use super::receive::Receiver;
use super::transmit::Transmitter;
use super::{OpenError, OpenStep, PacketOptions, Tap};
use crate::device::fan::{FanError, Tell};
use crate::device::{Device, Fan};
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

/// The sockets that share an interface's frames.
#[derive(Debug)]
struct Group {
    /// One of them.
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
    let mut number = None;
    for receiver in &receivers {
        number = Some(receiver.socket().share(number).map_err(failed(OpenStep::Fan))?);
    }
    let Some(first) = receivers.first() else {
        return Err(failed(OpenStep::Fan)(io::ErrorKind::InvalidInput.into()));
    };
    let group = Group { socket: first.socket().again().map_err(failed(OpenStep::Fan))?, steer };
    // Set before any of the sockets lets frames in, so that the first frame is steered as well.
    group.tell(addresses).map_err(|error| failed(OpenStep::Fan)(io::Error::other(error)))?;
    let (mut devices, mut taps) = (Vec::new(), Vec::new());
    for receiver in receivers {
        taps.push(Tap::new(&receiver, &interface, options, true).map_err(failed(OpenStep::Socket))?);
        receiver.start(options).map_err(failed(OpenStep::Option))?;
        let transmit = Transmitter::open(&interface, options).map_err(refused)?;
        devices.push(Device::new(receiver, transmit));
    }
    Ok(Fanned {
        devices,
        mtu: interface.mtu,
        mac: options.mac.unwrap_or(interface.mac),
        fan: Fan::new(group),
        taps,
    })
}

impl Tell for Group {
    fn tell(&self, addresses: &[IpAddr]) -> Result<(), FanError> {
        let mut program = program::build(&self.steer, addresses).ok_or(FanError::Many(addresses.len()))?;
        self.socket.steer(&mut program).map_err(FanError::Kernel)
    }
}
