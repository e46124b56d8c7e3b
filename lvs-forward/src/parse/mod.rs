//! From bytes to offsets and facts, once per frame.
//!
//! Plain headers are read by hand: this runs for every packet. IPv6 extension headers, which are rare, are
//! etherparse's. Reading list: RFC 791 §3.1, RFC 8200 §3-4, RFC 2675 (jumbograms), RFC 792, RFC 4443.

mod embedded;
mod link;
mod locate;
mod meaning;
mod packet;

use lvs_core::Protocol;

pub use self::embedded::Embedded;
pub use self::link::{Link, Malformed};
pub use self::meaning::Meaning;

pub(crate) use self::link::ether_type;
pub(crate) use self::locate::{Located, extensions, locate};
pub(crate) use self::meaning::control;
pub(crate) use self::packet::{flow, ipsec, is_ipsec};

use crate::frame::Frame;
use crate::header::layout::Layout;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever handles frames must handle each")]
pub enum Parsed {
    /// An ARP packet, from this offset.
    Arp(usize),
    /// A frame of an Ethernet type that is neither IPv4, IPv6 nor ARP.
    Foreign,
    /// An IP packet.
    Ip(Layout, Meaning),
}

/// Finds the parts of `frame` and what it says. Padding after the IP packet is left out of the layout.
///
/// The [`Packet`](lvs_core::Packet) says [`Path::Local`](lvs_core::Path::Local); who knows the own addresses corrects
/// that.
///
/// # Errors
///
/// [`Malformed`], when following the headers would leave the frame.
///
/// ```
/// use lvs_forward::parse::{Link, Malformed, parse};
/// use lvs_forward::{Frame, PortId};
/// let mut bytes = [0; 60];
/// let frame = Frame::new(&mut bytes, 0, 13, PortId(0)).unwrap();
/// assert_eq!(parse(&frame, Link::Ethernet), Err(Malformed::Cut));
/// ```
pub fn parse(frame: &Frame<'_>, link: Link) -> Result<Parsed, Malformed> {
    match locate(frame, link)? {
        Located::Arp(at) => Ok(Parsed::Arp(at)),
        Located::Foreign => Ok(Parsed::Foreign),
        Located::Ip(layout) => {
            let meaning = match Protocol::from_number(layout.protocol) {
                Some(balanced) => Meaning::Flow(flow(frame, &layout, balanced)?),
                None => match ipsec(frame, &layout) {
                    Some(packet) => Meaning::Flow(packet),
                    None => control(frame, &layout)?,
                },
            };
            Ok(Parsed::Ip(layout, meaning))
        }
    }
}
