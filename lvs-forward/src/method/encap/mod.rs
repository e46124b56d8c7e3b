//! Tunnelling: the packet is wrapped in another one to the real server.
//!
//! Reading list: RFC 2003 (IP in IP), RFC 2473 (IPv6 tunnels), RFC 4213 §3 (IPv6 in IPv4), RFC 2784 (GRE),
//! draft-ietf-intarea-gue-09 §3 (GUE), RFC 6040 (ECN; IPVS follows RFC 3168's "limited" form), RFC 6864 (IPv4 id).
//!
//! Every encapsulation is one file with its `Shim`, which says what stands between the outer IP header
//! and the packet, and one line in the list below. The outer IP header is the same for all of them.

mod gre;
mod gue;
mod ipip;
mod outer;

use lvs_core::{Family, Tunnel};

pub(crate) use self::gue::SOURCE_PORTS as GUE_PORTS;
pub use self::outer::Outer;
pub(crate) use self::outer::tos;

use crate::frame::Frame;
use crate::header::layout::Layout;
use crate::header::{ipv4, ipv6};
use crate::offload::complete_checksum;
use crate::reason::DropReason;

macro_rules! encapsulations {
    ($($pattern:pat => $shim:expr,)*) => {
        /// Bytes between the outer IP header and the packet.
        const fn shim_len(tunnel: Tunnel) -> usize {
            match tunnel {
                $($pattern => $shim.len(),)*
            }
        }

        /// Whether an outer checksum covers the packet.
        const fn covers_packet(tunnel: Tunnel) -> bool {
            match tunnel {
                $($pattern => $shim.covers_packet(),)*
            }
        }

        /// Puts the shim before the packet, and says which protocol the outer IP header carries.
        fn write_shim(frame: &mut Frame<'_>, inner: Family, outer: &Outer) -> Result<u8, DropReason> {
            match outer.tunnel {
                $($pattern => $shim.write(frame, inner, outer),)*
            }
        }
    };
}

encapsulations! {
    Tunnel::IpIp => ipip::Shim,
    Tunnel::Gre { checksum } => gre::Shim { checksum },
    Tunnel::Gue { port, checksum } => gue::Shim { port, checksum },
}

/// How many bytes [`wrap`] puts before a packet.
///
/// ```
/// use lvs_core::{Family, Tunnel};
/// use lvs_forward::method::encap::overhead;
/// assert_eq!(overhead(Tunnel::IpIp, Family::V4), 20);
/// assert_eq!(overhead(Tunnel::Gue { port: 6080, checksum: false }, Family::V6), 52);
/// ```
#[must_use]
pub const fn overhead(tunnel: Tunnel, outer: Family) -> usize {
    let header = match outer {
        Family::V4 => ipv4::LEN,
        Family::V6 => ipv6::LEN,
    };
    header + shim_len(tunnel)
}

/// Wraps the packet of `frame`, which begins with its IP header and ends with its packet.
///
/// The outer TTL is the inner one, the outer TOS the inner one except that CE becomes ECT(0). A partial checksum stays
/// partial, unless an outer checksum covers the packet: then it is completed first. A merged frame stays
/// merged; its outer lengths are those of the whole (0 when that does not fit), and an outer checksum is only marked as
/// wanted: whoever [cuts](crate::output::pieces) the frame into segments writes both for each.
///
/// # Errors
///
/// [`DropReason::NoHeadroom`], when the wrapping does not fit before the frame; [`DropReason::Jumbo`], when a packet
/// that is not merged would become longer than 65,535 bytes.
pub fn wrap(frame: &mut Frame<'_>, layout: &Layout, outer: &Outer) -> Result<(), DropReason> {
    if covers_packet(outer.tunnel) && frame.offload.merged.is_none() {
        // The outer checksum sums the inner one's field, so what stands there must be final.
        complete_checksum(frame, layout)?;
    }
    let class = layout.traffic_class(frame.bytes()).ok_or(DropReason::Malformed)?;
    let ttl = layout.ttl(frame.bytes()).ok_or(DropReason::Malformed)?;
    // IPv6 has no such flag: its routers never fragment, which an IPv4 tunnel need not imitate.
    let dont_fragment = outer.pmtu_disc && layout.family == Family::V4 && layout.dont_fragment(frame.bytes());
    let protocol = write_shim(frame, layout.family, outer)?;
    outer::write_ip(frame, outer, tos(class), ttl, protocol, dont_fragment)
}
