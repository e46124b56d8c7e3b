//! A datagram that came in fragments, for whoever sends it.

use crate::frame::Frame;
use crate::host::Host;
use crate::outcome::Outcome;

/// A datagram that has come in fragments, as [`Forwarder::take`](crate::Forwarder::take) hands it out.
#[derive(Debug)]
#[non_exhaustive]
pub struct Taken<'f> {
    /// The datagram, in the forwarder's memory. It leaves by [`Frame::port`].
    pub frame: Frame<'f>,
    /// What is to be done with the datagram: [`Outcome::Send`], [`Outcome::SendPieces`] or [`Outcome::Pass`].
    pub outcome: Outcome,
    /// The forwarder's host.
    pub host: &'f Host,
}
