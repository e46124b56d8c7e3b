//! What the headers of a fragment say of its place in the datagram.

use lvs_core::Family;

use crate::header::layout::Layout;
use crate::header::{get16, get32, ipv4, ipv6, protocol};

/// A fragment's place in its datagram, and what has to change in its headers when they become the whole's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FragmentFields {
    pub(crate) identification: u32,
    pub(super) offset: usize,
    pub(super) more: bool,
    pub(super) dont_fragment: bool,
    /// From the frame's first byte to the payload.
    pub(super) payload: usize,
    /// Where the number of IPv6's next header stands that says "fragment", and what it says then.
    pub(super) next: Option<(u16, u8)>,
}

impl FragmentFields {
    /// Reads the headers of a fragment; `None` for a packet that is none. An IPv6 packet with a fragment header is one
    /// even if it is all of its datagram.
    pub(crate) fn of(bytes: &[u8], layout: &Layout) -> Option<Self> {
        let network = layout.network();
        match layout.family {
            Family::V4 => {
                let word = get16(bytes, network + ipv4::FRAGMENT)?;
                let fields = Self {
                    identification: get16(bytes, network + ipv4::ID)?.into(),
                    offset: usize::from(word & ipv4::OFFSET_MASK) * 8,
                    more: word & ipv4::MORE_FRAGMENTS != 0,
                    dont_fragment: word & ipv4::DONT_FRAGMENT != 0,
                    payload: layout.transport(),
                    next: None,
                };
                (fields.more || fields.offset > 0).then_some(fields)
            }
            Family::V6 => {
                let mut named_at = network + ipv6::NEXT_HEADER;
                let mut at = network + ipv6::LEN;
                loop {
                    match *bytes.get(named_at)? {
                        protocol::FRAGMENT => break,
                        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                            named_at = at;
                            at += (usize::from(*bytes.get(at + 1)?) + 1) * 8;
                        }
                        _ => return None,
                    }
                }
                let word = get16(bytes, at + 2)?;
                Some(Self {
                    identification: get32(bytes, at + 4)?,
                    offset: usize::from(word & !7),
                    more: word & 1 != 0,
                    dont_fragment: false,
                    payload: at + ipv6::FRAGMENT_LEN,
                    next: Some((u16::try_from(named_at).ok()?, *bytes.get(at)?)),
                })
            }
        }
    }

    /// Whether it is not the last, but ends between two places where another could begin.
    pub(crate) const fn is_uneven(&self, layout: &Layout) -> bool {
        self.more && !(layout.end() - self.payload).is_multiple_of(8)
    }

    /// Whether the transport header begins in this fragment.
    pub(crate) const fn is_first(&self) -> bool {
        self.offset == 0
    }
}
