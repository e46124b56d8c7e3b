//! What is to be done with a frame.

use lvs_core::Packet;

use crate::header::layout::Layout;
use crate::parse::Embedded;
use crate::reason::{DropReason, PassReason};

/// What is to be done with a frame, as far as its own bytes and the host's addresses tell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// An ARP packet at this offset.
    Arp(usize),
    /// A neighbour solicitation or advertisement.
    Discovery(Layout),
    Drop(DropReason),
    /// A ping for an own address, or a question for the time.
    Echo(Layout),
    /// An ICMP error for the director to decide.
    Error(Layout, Embedded),
    /// A packet for the director to decide.
    Flow(Layout),
    /// A part of a datagram that has to be put together first.
    Fragment(Layout),
    Pass(PassReason),
    /// A packet on its way through that a router refuses before it looks for its connection: its last hop is over, or
    /// the next link does not take it (this many bytes).
    CannotForward(Layout, ForwardingError),
    /// Neither for an own address nor of a protocol that is balanced.
    Through(Layout),
    /// For an own address, of a protocol that nothing here takes.
    Unknown(Layout),
    #[cfg(feature = "tunnel")]
    /// An ICMP error about a tunnel of ours, for the director to decide; where the wrapped packet is quoted.
    Tunnel(Layout, Embedded),
}

/// Why a router does not forward a packet, whatever it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ForwardingError {
    TimeExceeded,
    /// Larger than this MTU.
    TooBig(u16),
}

/// A packet with what is known of it beside its bytes.
#[derive(Clone, Copy)]
pub(super) struct Subject<'p> {
    pub(super) layout: Layout,
    /// Set for ICMP errors.
    pub(super) embedded: Option<&'p Embedded>,
    pub(super) packet: Option<&'p Packet>,
}
