//! The editing half of a Linux Virtual Server director.
#![no_std]
#![forbid(unsafe_code)]

mod frame;

pub use frame::{Checksum, Frame, HEADROOM, Merged, MergedKind, Offload, PortId};
