//! What the engine needs of devices.

use core::fmt;

use crate::frame::{Frame, Offloads, PortId};
use crate::parse::Link;

/// The sending halves of all ports: a small trait over whatever devices a program has.
///
/// A frame's [`port`](Frame::port) says which one is meant. The bytes of a frame are lent for the length of the call,
/// so they are copied or sent before it returns. What a device does not take is lost; whoever implements this trait
/// counts it, because only the device knows why.
pub trait Ports {
    /// In which form frames leave by a port; `None` when there is no such port.
    fn form(&self, port: PortId) -> Option<PortForm>;

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// [`NoPort`], when there is no port of the frame's number.
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), NoPort>;

    /// Sends a frame whose bytes are not edited any more until the loan of the frame to the engine ends. A device that
    /// shares its memory with the one that lent the frame can send it from where it lies; all others do as
    /// [`transmit`](Self::transmit) does, and need not say so.
    ///
    /// # Errors
    ///
    /// As for [`transmit`](Self::transmit).
    fn hand_over(&mut self, frame: &Frame<'_>) -> Result<(), NoPort> {
        self.transmit(frame)
    }
}

/// In which form frames leave by a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "implementations of Ports build it")]
pub struct PortForm {
    /// How its frames begin.
    pub link: Link,
    /// Which unfinished frames its device carries.
    pub offloads: Offloads,
}

/// A frame was to leave by a port that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "implementations of Ports build it")]
pub struct NoPort;

impl fmt::Display for NoPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no device has the port's number: give the host as many ports as there are devices")
    }
}

impl core::error::Error for NoPort {}
