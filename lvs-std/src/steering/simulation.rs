//! The kernel's part of steering, simulated: the program is interpreted, for tests and fuzz targets that compare it
//! with the function on any frame.

use core::net::IpAddr;

use libc::sock_filter;

use super::program::{SERVICE_TAG, TAG, build};
use super::{By, Steer, dispatch};
use crate::bpf::cbpf_machine::run;

/// The program of a director.
#[derive(Debug)]
pub struct Simulation {
    by: By,
    program: Vec<sock_filter>,
}

impl Simulation {
    /// The program for a director with these addresses; `None` when they are too many, as [`Steer::fits`] says.
    #[must_use]
    pub fn new(steer: &Steer, addresses: &[IpAddr]) -> Option<Self> {
        Some(Self { by: steer.by(), program: build(steer, addresses)? })
    }

    /// The worker that the kernel gives an Ethernet frame to; `None` when the program has an instruction that the
    /// kernel would refuse.
    #[must_use]
    pub fn worker(&self, frame: &[u8]) -> Option<usize> {
        worker(&self.program, frame)
    }

    /// Whether the workers rely on that. What they do not rely on has come to the first one, which finds its worker.
    #[must_use]
    pub fn is_steered(&self, frame: &[u8]) -> bool {
        dispatch::is_steered(frame, self.by)
    }
}

/// Answers as the kernel does: it takes an outer tag out of the frame and shows the packet from behind it.
pub(super) fn worker(program: &[sock_filter], frame: &[u8]) -> Option<usize> {
    let half = |at: usize| frame.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let (at, kind) = match half(12) {
        Some(kind) if matches!(u32::from(kind), TAG | SERVICE_TAG) => (18, half(16)),
        kind => (14, kind),
    };
    run(program, frame.get(at..).unwrap_or_default(), kind.unwrap_or_default()).map(|worker| worker as usize)
}
