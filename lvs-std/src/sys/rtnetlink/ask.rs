//! What a checker asks before it sends a packet of its own.

use core::net::IpAddr;
use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use super::parts::whole;
use super::{Netlink, family, unexpected};

impl Netlink {
    /// The index of the interface to which packets for a destination go directly; `None` when there is a router
    /// between.
    pub(crate) fn route(&mut self, destination: IpAddr) -> io::Result<Option<u32>> {
        let by_router =
            |of: &RouteAttribute| matches!(of, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
        let route = self.find_route(destination)?;
        Ok(if route.attributes.iter().any(by_router) { None } else { interface(&route) })
    }

    /// The index of the interface by which the kernel would send to an address, if it has a route.
    #[cfg(feature = "doctor")]
    pub(crate) fn way_to(&mut self, destination: IpAddr) -> io::Result<Option<u32>> {
        match self.find_route(destination) {
            Ok(route) => Ok(interface(&route)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The kernel's route to a destination.
    fn find_route(&mut self, destination: IpAddr) -> io::Result<RouteMessage> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = whole(destination);
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
        match self.request(RouteNetlinkMessage::GetRoute(message), 0)? {
            Some(RouteNetlinkMessage::NewRoute(route)) => Ok(route),
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// The MAC address of a neighbour, and whether the kernel has used it lately; `None` when the kernel does not know
    /// it (yet).
    pub(crate) fn neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
    ) -> io::Result<Option<([u8; 6], bool)>> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = interface;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
        let answer = match self.request(RouteNetlinkMessage::GetNeighbour(message), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            answer => answer?,
        };
        let Some(RouteNetlinkMessage::NewNeighbour(neighbour)) = answer else {
            return Err(unexpected(answer.as_ref()));
        };
        let state = neighbour.header.state;
        if let NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None = state {
            return Ok(None);
        }
        let fresh = state != NeighbourState::Stale;
        let mac = neighbour.attributes.into_iter().find_map(|attribute| {
            let NeighbourAttribute::LinkLayerAddress(bytes) = attribute else { return None };
            bytes.try_into().ok()
        });
        Ok(mac.map(|mac| (mac, fresh)))
    }
}

/// The interface by which a route leads.
fn interface(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|of| if let RouteAttribute::Oif(index) = of { Some(*index) } else { None })
}
