//! How much memory a configured director takes.

use lvs_core::sched::Schedule as _;
use lvs_forward::{Forwarder, ForwarderSizes};

use super::{Configuration, DeviceKind, VirtualService};
use crate::device::LONGEST_MERGED;
use crate::device::packet::PacketOptions;
use crate::device::xdp::XdpOptions;
use crate::offload::{self, FlowOffload};

/// How many bytes a configured director takes, all workers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequiredMemory {
    /// The connection tables, and those of services and real servers: taken when the director starts.
    pub connections: usize,
    /// Packet rings, and what takes bulk transfers past the workers: taken when the director starts.
    pub devices: usize,
    /// Addresses, neighbours, and packets that wait for one: taken when the director starts.
    pub hosts: usize,
    /// Addresses, neighbours, and packets that wait for one, once there are as many as there can be.
    pub hosts_most: usize,
    /// Look-up tables of the schedulers of the services that are configured, taken with these.
    pub tables: usize,
    /// Look-up tables of schedulers, once there are as many as there can be.
    pub tables_most: usize,
}

impl Configuration {
    /// How much memory the director takes.
    #[must_use]
    pub fn required_memory(&self) -> RequiredMemory {
        let workers = self.workers.count;
        let (start, most) = self.sizes.host().required_bytes();
        RequiredMemory {
            connections: workers * self.capacity_each().required_bytes(),
            devices: workers * self.device_bytes_each() + self.device_bytes_shared(),
            hosts: workers * start,
            hosts_most: workers * most,
            tables: workers * self.tables_each(),
            tables_most: workers.saturating_mul(self.sizes.tables),
        }
    }

    fn tables_each(&self) -> usize {
        let cells = |service: &VirtualService| service.config.scheduler.table_len().wanted;
        self.services.iter().map(cells).sum::<usize>() * size_of::<u32>()
    }

    fn device_bytes_each(&self) -> usize {
        let (packet, xdp) = (PacketOptions::default(), XdpOptions::default());
        // Slots for whole merged frames in, and for frames of an Ethernet MTU out; room for one that is longer.
        let rings = packet.receive_slots * (64 << 10) + packet.transmit_slots * (2 << 10) + LONGEST_MERGED;
        // Frames of an Ethernet MTU.
        let frames = xdp.transmit_frames as usize * (2 << 10);
        let devices = self.interfaces.iter().map(|interface| match interface.device {
            DeviceKind::Packet | DeviceKind::Auto => rings,
            DeviceKind::Xdp => frames,
        });
        let offload =
            if self.workers.offload { FlowOffload::required_bytes(offload::CONNECTIONS) } else { 0 };
        let forwarder = size_of::<Forwarder>() + ForwarderSizes::new().required_bytes();
        forwarder + devices.sum::<usize>() + offload
    }

    /// What all workers have in common: the frames of the first queue of each interface. A further queue takes as much
    /// again.
    fn device_bytes_shared(&self) -> usize {
        let frames = XdpOptions::default().receive_frames as usize * (2 << 10);
        self.interfaces.iter().filter(|interface| interface.device == DeviceKind::Xdp).count() * frames
    }
}
