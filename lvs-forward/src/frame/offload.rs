//! What a device left unfinished about a frame, and what a device takes unfinished.

/// What the device left for later: real kernels hand over frames with partial checksums, and several segments
/// merged into one (virtio-net header, Virtual I/O Device specification 1.2 §5.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The state of the transport checksum.
    pub checksum: Checksum,
    /// Set when the frame stands for several segments.
    pub merged: Option<Merged>,
}

impl Offload {
    /// Nothing: a complete checksum, a single packet.
    pub const NONE: Self = Self { checksum: Checksum::Complete, merged: None };
}

/// The state of a transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every edit must handle each")]
pub enum Checksum {
    /// The field holds the whole checksum, right or wrong as it came.
    #[default]
    Complete,
    /// The field holds the sum of the pseudo-header only (not complemented). Whoever finishes it sums the bytes from
    /// `start` to the end of the frame, and writes the complement at `start + offset`. An SCTP packet's field counts as
    /// 0 instead, and what is written is its CRC-32c.
    Partial {
        /// From the frame's first byte to where the sum begins (the transport header).
        start: u16,
        /// From there to the checksum field.
        offset: u16,
    },
}

/// A frame that stands for several segments with equal headers (GSO, GRO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "devices build it")]
pub struct Merged {
    /// What is merged.
    pub kind: MergedKind,
    /// Payload bytes of every segment but the last, which may be shorter. Never 0.
    pub segment: u16,
    /// The first segment carries the congestion-window-reduced flag (`VIRTIO_NET_HDR_GSO_ECN`).
    pub ecn: bool,
}

/// What a merged frame consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "segmenting must handle each")]
pub enum MergedKind {
    /// TCP segments over IPv4.
    TcpV4,
    /// TCP segments over IPv6.
    TcpV6,
    /// UDP datagrams of equal length (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// Which unfinished frames a device can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "devices build it")]
pub struct Offloads {
    /// Frames with a partial transport checksum.
    pub checksum: bool,
    /// Merged TCP segments.
    pub merged_tcp: bool,
    /// Merged UDP datagrams.
    pub merged_udp: bool,
}

impl Offloads {
    /// Only finished frames.
    pub const NONE: Self = Self { checksum: false, merged_tcp: false, merged_udp: false };
    /// Every kind of unfinished frame.
    pub const ALL: Self = Self { checksum: true, merged_tcp: true, merged_udp: true };

    /// Whether a frame with this state can be carried as it is.
    #[must_use]
    pub const fn carry(self, offload: &Offload) -> bool {
        let checksum = match offload.checksum {
            Checksum::Complete => true,
            Checksum::Partial { .. } => self.checksum,
        };
        let merged = match &offload.merged {
            None => true,
            Some(merged) => match merged.kind {
                MergedKind::TcpV4 | MergedKind::TcpV6 => self.merged_tcp,
                MergedKind::Udp => self.merged_udp,
            },
        };
        checksum && merged
    }
}
