//! GUE (draft-ietf-intarea-gue-09): UDP, whose source port spreads flows over paths and receive queues, and four bytes.

use lvs_core::Family;
use lvs_core::packet::Addresses;

use super::outer::{Outer, inner_protocol, length};
use crate::checksum::{Sum, never_zero};
use crate::frame::Frame;
use crate::header::{gue, protocol, put16, udp};
use crate::reason::DropReason;

/// Source ports of GUE packets: Linux's range of local ports.
pub(crate) const SOURCE_PORTS: core::ops::RangeInclusive<u16> = 32_768..=60_999;

/// The outer UDP checksum of a merged frame whose segments are to have one: any value but 0.
const WANTED: u16 = 0xffff;

/// A UDP header and GUE's own.
pub(super) struct Shim {
    pub(super) port: u16,
    pub(super) checksum: bool,
}

impl Shim {
    pub(super) const fn len(self) -> usize {
        udp::LEN + gue::LEN
    }

    pub(super) const fn covers_packet(self) -> bool {
        self.checksum
    }

    pub(super) fn write(self, frame: &mut Frame<'_>, inner: Family, outer: &Outer) -> Result<u8, DropReason> {
        let header: &mut [u8; udp::LEN + gue::LEN] = frame
            .grow_front(udp::LEN + gue::LEN)
            .and_then(|bytes| bytes.first_chunk_mut())
            .ok_or(DropReason::NoHeadroom)?;
        let [s0, s1] = outer.source_port.to_be_bytes();
        let [d0, d1] = self.port.to_be_bytes();
        *header = [s0, s1, d0, d1, 0, 0, 0, 0, 0, inner_protocol(inner), 0, 0];
        let len = length(frame, frame.len())?;
        put16(frame.bytes_mut(), udp::LENGTH, len).ok_or(DropReason::NoHeadroom)?;
        if self.checksum {
            let pseudo = match outer.addresses {
                Addresses::V4 { source, destination } => {
                    Sum::pseudo_v4(source, destination, protocol::UDP, frame.len())
                }
                Addresses::V6 { source, destination } => {
                    Sum::pseudo_v6(source, destination, protocol::UDP, frame.len())
                }
            };
            let merged = frame.offload.merged.is_some();
            // Whoever cuts the frame tells by any other value than 0 that segments are to have a checksum.
            let value = if merged { WANTED } else { never_zero(pseudo.bytes(frame.bytes()).checksum()) };
            put16(frame.bytes_mut(), udp::CHECKSUM, value).ok_or(DropReason::NoHeadroom)?;
        }
        Ok(protocol::UDP)
    }
}
