//! The pieces of a frame, one at a time.

use super::cut::Cut;
use super::fragment::Fragments;
use super::place::{Place, network};
use super::segment::Segments;
use crate::frame::{Frame, Offload};
use crate::parse::Link;
use crate::reason::DropReason;

/// The packets that a frame is cut into, each lent until the next one is asked for.
///
/// [`next`](Self::next) makes one piece in place, over payload that was handed on before: so a piece has to be sent, or
/// copied, before the next one is made, and an embedder may wait in between. What was not asked for when this is
/// dropped is lost with the frame's bytes.
///
/// ```
/// use lvs_forward::output::{Cut, Pieces};
/// use lvs_forward::parse::Link;
/// use lvs_forward::{Frame, HEADROOM, PortId};
///
/// // An IPv4 packet with 1,000 bytes of payload, for a link that takes packets of 576 bytes.
/// let mut packet = [0; 1_020];
/// packet[..20].copy_from_slice(&[0x45, 0, 3, 252, 0, 1, 0, 0, 64, 253, 0, 0, 192, 0, 2, 7, 10, 99, 0, 1]);
/// let mut buffer = [[0; HEADROOM].as_slice(), &packet].concat();
/// let end = buffer.len();
/// let mut frame = Frame::new(&mut buffer, HEADROOM, end, PortId(0)).unwrap();
///
/// let mut lengths = Vec::new();
/// let mut pieces = Pieces::of(&mut frame, Link::Bare, Cut { mtu: 576, identification: 0 })?;
/// while let Some(piece) = pieces.next()? {
///     lengths.push(piece.len());
/// }
/// assert_eq!(lengths, [572, 468]);
/// # Ok::<(), lvs_forward::DropReason>(())
/// ```
#[derive(Debug)]
pub struct Pieces<'f, 'b> {
    frame: &'f mut Frame<'b>,
    network: usize,
    cut: Cut,
    /// The segments of a merged frame.
    segments: Option<Segments>,
    /// The frame itself, if it is not merged, until it has been looked at.
    whole: bool,
    /// The packet that is being fragmented.
    fragments: Option<Fragments>,
}

impl<'f, 'b> Pieces<'f, 'b> {
    /// Begins to cut a frame of a port with such a link.
    ///
    /// # Errors
    ///
    /// [`DropReason::Offload`], when the frame is not what its offload says; [`DropReason::Unfragmentable`], when the
    /// MTU has no room for a fragment of a segment; [`DropReason::Malformed`], when there is no IP header.
    pub fn of(frame: &'f mut Frame<'b>, link: Link, cut: Cut) -> Result<Self, DropReason> {
        let network = network(frame, link).ok_or(DropReason::Malformed)?;
        let merged = frame.offload.merged.is_some();
        let segments = if merged { Some(Segments::of(frame, network, cut)?) } else { None };
        Ok(Self { frame, network, cut, segments, whole: !merged, fragments: None })
    }

    /// The next piece, or `None` after the last one.
    ///
    /// # Errors
    ///
    /// [`DropReason::Unfragmentable`], when the MTU has no room for a fragment: then there was no piece before. After
    /// an error there are no further pieces to be had.
    #[expect(clippy::should_implement_trait, reason = "an Iterator's items cannot borrow from it")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, DropReason> {
        let Self { frame, network, cut, segments, whole, fragments } = self;
        let (place, offload) = loop {
            if let Some(packet) = fragments {
                if let Some(place) = packet.next(frame)? {
                    break (place, Offload::NONE);
                }
                *fragments = None;
            }
            if core::mem::take(whole) {
                match Fragments::of(frame, *network, *cut)? {
                    Some(packet) => *fragments = Some(packet),
                    None => break (Place::of(frame), frame.offload),
                }
                continue;
            }
            let Some(segment) = segments.as_mut().map(|segments| segments.next(frame)).transpose()?.flatten()
            else {
                return Ok(None);
            };
            // A segment that is wrapped may be longer than the tunnel's way takes, and is then fragmented like any
            // packet.
            let mut packet = frame.window(segment.start, segment.end).ok_or(DropReason::Offload)?;
            match Fragments::of(&mut packet, *network, *cut)? {
                Some(packet) => *fragments = Some(packet),
                None => break (segment, Offload::NONE),
            }
        };
        let piece = frame.window(place.start, place.end).ok_or(DropReason::Malformed)?;
        Ok(Some(piece.with_offload(offload)))
    }
}
