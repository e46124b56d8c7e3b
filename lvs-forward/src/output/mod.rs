//! The last step before the wire: cutting what does not fit.
//!
//! A frame may stand for several segments, or be larger than the link's MTU and allow fragmentation. [`pieces()`] makes
//! the packets that a plain device can send. It works in place: a piece's headers are written over payload that was
//! handed on before, so nothing is copied and no second buffer is needed.

mod cut;
mod fragment;
mod parts;
mod pieces;
mod place;
mod segment;

pub use self::cut::Cut;
pub(crate) use self::cut::{cut, least_mtu, size};
pub use self::parts::Parts;
pub use self::pieces::Pieces;

use self::place::network;
use crate::frame::{Checksum, Frame};
use crate::parse::Link;
use crate::reason::DropReason;

/// Hands each packet of `frame` that fits into the MTU to `emit`, in order: the segments of a merged frame, their
/// wrapping included, and the fragments of a packet that is too large even so. Returns how many there were. A
/// frame that needs no cutting is handed on as it is, its partial checksum too. IPv4's DF is not looked at: who
/// minds it must not come here.
///
/// The frame's bytes are used up.
///
/// # Errors
///
/// Nothing is handed on with [`DropReason::Offload`], when the frame is not what its offload says, and
/// [`DropReason::Unfragmentable`], when the MTU has no room for a fragment.
pub fn pieces(
    frame: &mut Frame<'_>,
    link: Link,
    cut: Cut,
    emit: &mut dyn FnMut(Frame<'_>),
) -> Result<usize, DropReason> {
    let mut pieces = Pieces::of(frame, link, cut)?;
    let mut emitted = 0;
    while let Some(piece) = pieces.next()? {
        emit(piece);
        emitted += 1;
    }
    Ok(emitted)
}

/// Whether `frame` is merged and wrapped in a tunnel: no device takes it as one, even if it takes merged frames.
#[must_use]
pub fn is_wrapped(frame: &Frame<'_>, link: Link) -> bool {
    let Checksum::Partial { start, .. } = frame.offload.checksum else {
        return false;
    };
    // Devices know one transport header, the first; in a wrapped frame the partial checksum is behind another.
    frame.offload.merged.is_some()
        && network(frame, link)
            .and_then(|network| segment::first_transport(frame.bytes(), network))
            .is_some_and(|(transport, _)| transport != usize::from(start))
}
