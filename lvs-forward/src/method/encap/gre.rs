//! GRE (RFC 2784): a header that says which family is inside, with a checksum if that is wanted.

use lvs_core::Family;

use super::outer::Outer;
use crate::checksum::Sum;
use crate::frame::Frame;
use crate::header::edit::ether_type;
use crate::header::{gre, protocol, put16};
use crate::reason::DropReason;

/// A GRE header.
pub(super) struct Shim {
    pub(super) checksum: bool,
}

impl Shim {
    pub(super) const fn len(self) -> usize {
        if self.checksum { gre::LEN + gre::CHECKSUM_LEN } else { gre::LEN }
    }

    pub(super) const fn covers_packet(self) -> bool {
        self.checksum
    }

    pub(super) fn write(self, frame: &mut Frame<'_>, inner: Family, _: &Outer) -> Result<u8, DropReason> {
        let checksum = self.checksum;
        let header = frame.grow_front(self.len()).ok_or(DropReason::NoHeadroom)?;
        header.fill(0);
        let (flags, rest) = header.split_at_mut_checked(2).ok_or(DropReason::NoHeadroom)?;
        let kind = ether_type(inner).to_be_bytes();
        rest.first_chunk_mut().map(|field| *field = kind).ok_or(DropReason::NoHeadroom)?;
        if checksum {
            flags.copy_from_slice(&gre::HAS_CHECKSUM.to_be_bytes());
            // Each segment of a merged frame gets its own when it is cut; until then the flag says that it is wanted.
            if frame.offload.merged.is_none() {
                let sum = Sum::ZERO.bytes(frame.bytes()).checksum();
                put16(frame.bytes_mut(), gre::LEN, sum).ok_or(DropReason::NoHeadroom)?;
            }
        }
        Ok(protocol::GRE)
    }
}
