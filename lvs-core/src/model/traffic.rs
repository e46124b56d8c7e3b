//! Connections, packets and bytes, counted.

use core::ops::AddAssign;

/// Traffic of a service, a real server or the whole director, as `ipvsadm --stats` shows it.
///
/// Bytes are those of whole IP packets. A packet counts when it is decided, so one that is later too big or has
/// no hop left to live counts as well, as in IPVS. A removed real server counts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from real servers that passed the director.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes from real servers that passed the director.
    pub out_bytes: u64,
}

impl Traffic {
    pub(crate) const ZERO: Self =
        Self { connections: 0, in_packets: 0, out_packets: 0, in_bytes: 0, out_bytes: 0 };

    pub(crate) fn count_in(&mut self, length: u32) {
        self.in_packets += 1;
        self.in_bytes += u64::from(length);
    }

    pub(crate) fn count_out(&mut self, length: u32) {
        self.out_packets += 1;
        self.out_bytes += u64::from(length);
    }
}

impl AddAssign for Traffic {
    /// What several directors had, together.
    fn add_assign(&mut self, other: Self) {
        let Self { connections, in_packets, out_packets, in_bytes, out_bytes } = other;
        self.connections += connections;
        self.in_packets += in_packets;
        self.out_packets += out_packets;
        self.in_bytes += in_bytes;
        self.out_bytes += out_bytes;
    }
}
