//! How much memory a configured director takes.

use lvs_core::config::Capacity;
use lvs_forward::Forwarder;

use super::{Configuration, DeviceKind, MAX_ADDRESSES, MAX_NEIGHBOURS};
use crate::device::packet::PacketOptions;
use crate::device::xdp::XdpOptions;
use crate::offload::{self, FlowOffload};

/// How many bytes a configured director takes, all workers together. All of it is allocated when the director starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequiredMemory {
    /// The connection tables.
    pub connections: usize,
    /// Packet rings, neighbours, and what takes bulk transfers past the workers.
    pub devices: usize,
}

impl Configuration {
    /// How much memory the director takes.
    #[must_use]
    pub fn required_memory(&self) -> RequiredMemory {
        let workers = self.workers.count;
        RequiredMemory {
            connections: workers * Capacity::new(self.connections_each()).required_bytes(),
            devices: workers * self.device_bytes_each(),
        }
    }

    fn device_bytes_each(&self) -> usize {
        let (packet, xdp) = (PacketOptions::default(), XdpOptions::default());
        // Slots for whole merged frames in, and for frames of an Ethernet MTU out.
        let rings = packet.receive_slots * (64 << 10) + packet.transmit_slots * (2 << 10);
        // Frames of an Ethernet MTU; a further queue takes as much again.
        let frames = (xdp.receive_frames + xdp.transmit_frames) as usize * (2 << 10);
        let devices = self.interfaces.iter().map(|interface| match interface.device {
            DeviceKind::Packet | DeviceKind::Auto => rings,
            DeviceKind::Xdp => frames,
        });
        let offload =
            if self.workers.offload { FlowOffload::required_bytes(offload::CONNECTIONS) } else { 0 };
        size_of::<Forwarder<MAX_ADDRESSES, MAX_NEIGHBOURS>>() + devices.sum::<usize>() + offload
    }
}
