//! What the kernel offers and the standard library does not: every `unsafe` block of the workspace is below here.
//!
//! Each file wraps one kernel concept and shows only safe functions and types to the rest of the crate. The
//! wrappers name the UAPI header that they mirror.
#![expect(unsafe_code, reason = "system calls without a safe wrapper, and memory shared with the kernel")]

pub(crate) mod bpf;
pub(crate) mod cells;
#[cfg(feature = "runtime")]
pub(crate) mod descriptors;
pub(crate) mod ethtool;
#[cfg(feature = "links")]
pub(crate) mod host_addresses;
pub(crate) mod interface;
#[cfg(feature = "runtime")]
pub(crate) mod links;
mod mapping;
#[cfg(feature = "lab")]
pub(crate) mod netns;
pub(crate) mod option;
pub(crate) mod packet;
pub(crate) mod pages;
pub(crate) mod prefetch;
pub(crate) mod ring;
#[cfg(feature = "links")]
pub(crate) mod rtnetlink;
#[cfg(feature = "exec")]
pub(crate) mod seccomp;
#[cfg(feature = "health")]
pub(crate) mod tether;
pub(crate) mod tun;
pub(crate) mod vectors;
pub(crate) mod xsk;
