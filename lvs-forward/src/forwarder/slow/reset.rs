//! A TCP reset of the host's own, written from its addresses and numbers.

use lvs_core::TcpFlags;
use lvs_core::packet::Addresses;

use crate::frame::Frame;
use crate::header::edit::{Ipv4, Ipv6};
use crate::header::layout::{Fragment, Layout};
use crate::header::{array_mut, ipv4, ipv6, protocol, tcp};
use crate::icmp::error::OWN_TTL;
use crate::offload::write_full;

/// A reset to be written.
pub(super) struct Reset {
    pub(super) addresses: Addresses,
    /// The source's port in the upper half, the destination's in the lower.
    pub(super) ports: u32,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: TcpFlags,
}

/// Makes a frame without a link header that reset.
pub(super) fn write_reset(frame: &mut Frame<'_>, reset: &Reset) -> Option<Layout> {
    let &Reset { addresses, ports, sequence, acknowledged, flags } = reset;
    let header_len = match addresses {
        Addresses::V4 { .. } => ipv4::LEN,
        Addresses::V6 { .. } => ipv6::LEN,
    };
    frame.set_len(header_len + tcp::LEN)?;
    let bytes = frame.bytes_mut();
    match addresses {
        Addresses::V4 { source, destination } => {
            let header = Ipv4 {
                tos: 0,
                total_len: (ipv4::LEN + tcp::LEN) as u16,
                // Atomic, so that no identification has to be drawn (RFC 6864 §4.1); Linux's resets are so, too.
                identification: 0,
                dont_fragment: true,
                ttl: OWN_TTL,
                protocol: protocol::TCP,
                source,
                destination,
            };
            *array_mut(bytes, 0)? = header.to_bytes();
        }
        Addresses::V6 { source, destination } => {
            let header = Ipv6 {
                traffic_class: 0,
                payload_len: tcp::LEN as u16,
                next_header: protocol::TCP,
                hop_limit: OWN_TTL,
                source,
                destination,
            };
            *array_mut(bytes, 0)? = header.to_bytes();
        }
    }
    let segment: &mut [u8; tcp::LEN] = array_mut(bytes, header_len)?;
    *segment = [0; tcp::LEN];
    *array_mut(segment, 0)? = ports.to_be_bytes();
    *array_mut(segment, tcp::SEQUENCE)? = sequence.to_be_bytes();
    *array_mut(segment, tcp::SEQUENCE + 4)? = acknowledged.to_be_bytes();
    *array_mut(segment, tcp::DATA_OFFSET)? = [(tcp::LEN as u8 / 4) << 4, flags.byte()];
    let answer = Layout {
        network: 0,
        transport: header_len as u32,
        end: (header_len + tcp::LEN) as u32,
        family: addresses.family(),
        protocol: protocol::TCP,
        fragment: Fragment::Whole,
    };
    write_full(bytes, &answer)?;
    Some(answer)
}
