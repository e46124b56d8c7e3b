//! How long a packet is, how long it may be, and how it is cut.

use lvs_core::Family;

use crate::frame::Frame;
use crate::header::layout::Layout;
use crate::offload::merged_payload;

/// How a frame is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain description, also built by devices")]
pub struct Cut {
    /// The most that an IP packet may be long, in bytes.
    pub mtu: u16,
    /// Identification of IPv6 fragments (RFC 8200 §4.5). IPv4 fragments keep their packet's own.
    pub identification: u32,
}

impl Cut {
    /// Segments only: nothing is fragmented.
    pub const SEGMENTS: Self = Self { mtu: u16::MAX, identification: 0 };
}

/// The longest packet that a frame stands for: of a merged one, its first segment; of an IPv6 one that came in
/// fragments, the largest of those.
#[inline]
pub(crate) fn size(frame: &Frame<'_>, layout: &Layout) -> Option<usize> {
    match (frame.offload.merged, frame.assembly()) {
        (None, Some(assembly)) if layout.family == Family::V6 => Some(assembly.largest.into()),
        (None, _) => Some(layout.packet_len()),
        (Some(merged), _) => {
            // Routers will see the segments, so that one of those has to fit.
            let (start, payload) = merged_payload(frame.bytes(), layout)?;
            Some(start - layout.network() + payload.min(usize::from(merged.segment)))
        }
    }
}

/// The size that a finished packet is cut to: the way's, if it is longer than that. What came in fragments leaves in
/// fragments that are no longer; of IPv6, if it is longer than the longest of them.
pub(crate) fn cut(frame: &Frame<'_>, size: usize, inner: Family, outer: Family, mtu: u16) -> Option<u16> {
    let Some(assembly) = frame.assembly().filter(|_| inner == outer) else {
        let size = if frame.assembly().is_some() { frame.len() } else { size };
        return (size > usize::from(mtu)).then_some(mtu);
    };
    match outer {
        Family::V4 => Some(mtu.min(assembly.largest)),
        Family::V6 => {
            let longer = frame.len() > usize::from(assembly.largest.min(mtu));
            longer.then_some(mtu.min(assembly.largest.max(least_mtu(Family::V6) as u16)))
        }
    }
}

/// The least that a tunnel must have room for.
pub(crate) const fn least_mtu(outer: Family) -> usize {
    match outer {
        Family::V4 => 68,
        Family::V6 => 1_280,
    }
}
