//! ICMP and `ICMPv6`: errors about forwarded packets, errors of our own, and pings.
//!
//! Reading list: RFC 792, RFC 1122 §3.2.2, RFC 1191, RFC 4443, RFC 5508 §4 (what a translator does with errors).

pub(crate) mod answer;
pub(crate) mod error;
mod translate;
pub(crate) mod tunnel;

use lvs_core::Flow;

pub use self::error::IcmpError;
pub use self::translate::translate;
use crate::header::layout::Layout;
use crate::parse::Embedded;

/// The client's request in the tunnel that an ICMP error may be about: its flow points from the client to the virtual
/// service. `bytes` are those of the frame with the error. `None` when what is quoted is not wrapped as tunnels here
/// wrap IPv4.
#[must_use]
pub fn tunnelled_flow(bytes: &[u8], layout: &Layout, embedded: &Embedded) -> Option<Flow> {
    tunnel::TunnelError::find(bytes, layout, embedded).map(|(packet, _)| packet.flow)
}
