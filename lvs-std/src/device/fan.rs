//! Telling the kernel which worker gets which of an interface's frames.

use core::fmt;
use core::net::IpAddr;
use std::io;

/// Tells the kernel which addresses are the director's, by which it finds the worker of a frame: what goes there is a
/// request.
#[derive(Debug)]
pub struct Fan(Box<dyn Tell>);

/// The part of the kernel that is told.
pub(super) trait Tell: fmt::Debug + Send {
    fn tell(&self, addresses: &[IpAddr]) -> Result<(), FanError>;
}

impl Fan {
    pub(super) fn new(kernel: impl Tell + 'static) -> Self {
        Self(Box::new(kernel))
    }

    /// Makes these the director's addresses, from the next frame on. May take some milliseconds, in which frames go on
    /// as before.
    ///
    /// # Errors
    /// [`FanError::Many`], or what the kernel says. The old addresses stay.
    pub fn set(&self, addresses: &[IpAddr]) -> Result<(), FanError> {
        self.0.tell(addresses)
    }
}

/// Why frames cannot be shared out.
#[derive(Debug)]
#[non_exhaustive]
pub enum FanError {
    /// The kernel refuses to be told.
    Kernel(io::Error),
    /// So many addresses are too many for a program of the kernel's. Fewer are needed, or one worker.
    Many(usize),
}

impl fmt::Display for FanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => write!(f, "the kernel refuses to share frames out over workers: {error}"),
            Self::Many(count) => {
                write!(f, "{count} addresses are too many to share frames out by: use one worker")
            }
        }
    }
}

impl core::error::Error for FanError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Kernel(error) => Some(error),
            Self::Many(_) => None,
        }
    }
}
