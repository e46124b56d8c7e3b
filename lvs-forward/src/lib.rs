//! The editing half of a Linux Virtual Server director.
#![no_std]
#![forbid(unsafe_code)]

pub mod checksum;
mod decap;
mod edit;
mod forwarder;
mod frame;
mod hash;
pub mod host;
pub mod icmp;
mod layout;
pub mod method;
mod offload;
mod options;
pub mod output;
pub mod parse;
mod reason;
mod wire;

pub use decap::{DecapReason, Decapsulator, GUE_PORT, Unwrapped};
pub use edit::decrement_ttl;
pub use forwarder::{Forwarder, Options, Outcome};
pub use frame::{Checksum, Frame, HEADROOM, Merged, MergedKind, Offload, PortId};
pub use layout::{Fragment, Layout};
pub use offload::complete_checksum;
pub use reason::{Counters, DropReason, PassReason};
