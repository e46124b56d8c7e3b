//! IP in IP (RFC 2003, RFC 4213 §3): nothing stands between the headers.

use lvs_core::Family;

use super::outer::{Outer, inner_protocol};
use crate::frame::Frame;
use crate::reason::DropReason;

/// What IP in IP puts between the outer IP header and the packet: nothing.
pub(super) struct Shim;

impl Shim {
    pub(super) const fn len(self) -> usize {
        0
    }

    pub(super) const fn covers_packet(self) -> bool {
        false
    }

    #[expect(clippy::unnecessary_wraps, reason = "every encapsulation has this shape")]
    pub(super) const fn write(self, _: &mut Frame<'_>, inner: Family, _: &Outer) -> Result<u8, DropReason> {
        Ok(inner_protocol(inner))
    }
}
