//! What is known of a port before anything is opened.

use std::io;

use super::error::XdpStep;
use super::{Hazard, OpenError, PartialChecksums, XdpOptions};
use crate::sys::ethtool::{self, Queues};
use crate::sys::interface::Interface;

/// What is known of a port before anything is opened.
pub(super) struct Plan<'a> {
    pub(super) name: &'a str,
    pub(super) interface: Interface,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) queues: u32,
    /// How many of these queues send.
    pub(super) senders: u32,
    /// Frames of each queue, and of each worker's own.
    pub(super) frames: (u32, u32),
    pub(super) detect: bool,
    pub(super) hazards: Vec<Hazard>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(name: &'a str, mac: Option<[u8; 6]>, options: &XdpOptions) -> Result<Self, OpenError> {
        let interface = Interface::named(name).map_err(OpenError::at(name, XdpStep::Find))?;
        let refused = |step| OpenError::at(name, step)(io::ErrorKind::Unsupported.into());
        if interface.hardware != libc::ARPHRD_ETHER {
            return Err(refused(XdpStep::Ethernet));
        }
        if interface.mtu > LARGEST_MTU {
            return Err(refused(XdpStep::Mtu));
        }
        // A driver that has no name or no queues that it could tell of is as good as any.
        let driver = ethtool::driver(name).unwrap_or_default();
        let Queues { receive: all, transmit } =
            ethtool::queues(name).unwrap_or(Queues { receive: 1, transmit: 1 });
        let queues = all.min(options.queues.max(1));
        let senders = queues.min(transmit);
        let mut hazards = Vec::new();
        let virtual_wire = LEAVE_CHECKSUMS.contains(&driver.as_str());
        if virtual_wire {
            hazards.push(Hazard::PartialChecksums(driver));
        }
        if queues < all {
            hazards.push(Hazard::Queues(all));
        }
        let detect = match options.partial_checksums {
            PartialChecksums::Detect => virtual_wire,
            PartialChecksums::Finish => true,
            PartialChecksums::Ignore => false,
        };
        let frames = [options.receive_frames, options.transmit_frames]
            .map(|frames| frames.clamp(FEWEST_FRAMES, MOST_FRAMES).next_power_of_two());
        Ok(Self { name, interface, mac, queues, senders, frames: frames.into(), detect, hazards })
    }

    /// How many chunks of the memory are its.
    pub(super) const fn chunks(&self, workers: usize) -> u32 {
        self.queues * self.frames.0 + workers as u32 * self.frames.1
    }

    /// One worker's part of a queue's frames.
    pub(super) fn part(&self, workers: usize) -> u32 {
        self.frames.0 / (workers as u32).max(1)
    }

    /// How many frames can wait for one worker at a queue: its part, so that those of a worker that does not take them
    /// leave room for the frames of all others.
    pub(super) fn receive_ring(&self, workers: usize) -> u32 {
        // The largest power of two that is not above it.
        self.part(workers).checked_ilog2().map_or(FEWEST_FRAMES, |bits| 1 << bits).max(FEWEST_FRAMES)
    }

    /// How long the chunks of a memory are that these share: the frames of the one with the largest MTU fit.
    pub(super) fn chunk(plans: &[Self]) -> usize {
        let is_ordinary = plans.iter().all(|plan| plan.interface.mtu <= ORDINARY_MTU);
        if is_ordinary { SMALL_CHUNK } else { LARGE_CHUNK }
    }

    pub(super) fn at(&self, step: XdpStep) -> impl FnOnce(io::Error) -> OpenError {
        OpenError::at(self.name, step)
    }
}

/// Drivers whose interfaces end at a kernel: `TUN`/`TAP`, and the drivers of virtual wires between network namespaces.
const LEAVE_CHECKSUMS: [&str; 2] = ["veth", "tun"];
/// Room for link headers: Ethernet and two VLAN tags.
pub(super) const LINK: usize = 22;
/// What the kernel leaves free before each frame (`XDP_PACKET_HEADROOM`).
const KERNEL_HEADROOM: usize = 256;
const SMALL_CHUNK: usize = 2_048;
const LARGE_CHUNK: usize = 4_096;
const ORDINARY_MTU: usize = SMALL_CHUNK - KERNEL_HEADROOM - LINK;
const LARGEST_MTU: usize = LARGE_CHUNK - KERNEL_HEADROOM - LINK;
pub(super) const FEWEST_FRAMES: u32 = 64;
const MOST_FRAMES: u32 = 1 << 16;
