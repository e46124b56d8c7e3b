//! What became of a frame.

use lvs_core::Tick;

use crate::output::Cut;
use crate::reason::{DropReason, PassReason};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a frame that is to be sent is lost otherwise"]
#[expect(clippy::exhaustive_enums, reason = "whoever owns the frames must handle each")]
pub enum Outcome {
    /// The frame was the last missing fragment of a datagram, which is to be [taken](crate::Forwarder::take) from the
    /// forwarder now.
    Assembled(Datagram),
    /// Nothing is left of the frame: it was a message to this host, or waits for its next hop's link-layer address, or
    /// for other fragments.
    Consumed,
    /// The frame goes no further.
    Drop(DropReason),
    /// The frame is for the local host, unchanged (but see [`PassReason::LocalServer`]).
    Pass(PassReason),
    /// The frame leaves by [`Frame::port`](crate::Frame::port), edited. A merged frame that the device does not take as
    /// it is goes through [`pieces`](crate::output::pieces) with [`Cut::SEGMENTS`] first; one that is
    /// [wrapped](crate::output::is_wrapped) always does.
    Send,
    /// The frame leaves like one with `Send`, but is larger than the way takes: it leaves as the
    /// [`pieces`](crate::output::pieces) that this cut makes.
    SendPieces(Cut),
}

impl Outcome {
    /// How what is to be sent has to be cut on a device that carries no merged frames.
    #[must_use]
    pub const fn cut(&self) -> Cut {
        match self {
            Self::SendPieces(cut) => *cut,
            Self::Assembled(_) | Self::Consumed | Self::Drop(_) | Self::Pass(_) | Self::Send => Cut::SEGMENTS,
        }
    }
}

/// A datagram that has become whole, and waits to be [taken](crate::Forwarder::take). It does so for a second at least;
/// after that its place may be given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub(crate) place: u16,
    pub(crate) since: Tick,
    pub(crate) identification: u32,
}
