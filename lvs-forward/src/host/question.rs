//! Questions for neighbours among a host's frames, for whoever sends these.

use core::net::IpAddr;

use super::mac::MacAddress;
use super::{arp, ndp};
use crate::frame::{Frame, PortId};
use crate::header::{array, ethernet};
use crate::parse::{Link, Meaning, Parsed, parse};

/// What a frame asks for that is a question for a neighbour: an ARP request (RFC 826) or a neighbour solicitation
/// (RFC 4861 §4.3).
///
/// Several hosts with the same addresses, one for each worker of a director, ask for the same neighbours and all hear
/// the answers: one of two equal questions need not be sent. A question to one link-layer address and one to all are
/// not equal, since a neighbour that has another address by now answers the second one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct NeighbourQuestion {
    /// Where it is asked.
    pub port: PortId,
    /// The address that is asked for.
    pub target: IpAddr,
    /// Who is asked: the neighbour alone, or by a broadcast or multicast address all that could have the address.
    pub to: MacAddress,
}

impl NeighbourQuestion {
    /// The question that a frame of an Ethernet port is. `None` for any other frame, and for announcements and
    /// questions whether an own address is in use: these are for the sender itself, or from nobody.
    #[must_use]
    pub fn of(frame: &Frame<'_>) -> Option<Self> {
        let bytes = frame.bytes();
        let target = match parse(frame, Link::Ethernet).ok()? {
            Parsed::Arp(at) => arp::asked(bytes, at)?.into(),
            Parsed::Ip(layout, Meaning::Control(kind)) => ndp::asked(bytes, &layout, kind)?.into(),
            Parsed::Ip(..) | Parsed::Foreign => return None,
        };
        let to = MacAddress(*array(bytes, ethernet::DESTINATION)?);
        Some(Self { port: frame.port, target, to })
    }
}
