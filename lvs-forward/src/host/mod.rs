//! The director as a host of its own on the wire: ports, addresses, routes, neighbours.
//!
//! With a link-layer address of its own it needs nothing of the machine's stack: it answers ARP and neighbour
//! solicitations for its addresses, finds out where real servers and gateways are, and announces its addresses when it
//! takes them over. Packets of an unknown neighbour wait, two at most, in a bounded store. What a stranger on a link
//! can make it do is bounded, and displaces nothing that real servers or routers need.

mod address;
mod arp;
mod arrival;
mod claim;
mod conflict;
mod handled;
mod list;
mod local;
mod mac;
mod memory;
mod ndp;
mod neighbour;
mod pace;
mod port;
mod question;
mod receive;
mod route;
mod setup;
mod state;
mod transmit;
mod waiting;

pub use self::conflict::Conflict;
pub use self::local::TooManyLocalServers;
pub use self::mac::{MacAddress, ParseMacError};
pub use self::memory::{HostArrays, HostMemory, HostSizes};
pub use self::port::{MAX_PORTS, Port};
pub use self::question::NeighbourQuestion;
pub use self::route::{MAX_ROUTES, ParsePrefixError, Prefix};
pub use self::setup::{AddAddressError, AddNeighbourError, AddPortError, AddRouteError};
pub use self::state::{Host, MAX_LOCAL_SERVERS};

pub(crate) use self::arrival::Arrival;
pub(crate) use self::handled::Handled;
pub(crate) use self::neighbour::{Lost, Resolution};
pub(crate) use self::receive::LinkDestination;
pub(crate) use self::state::{Departure, Hop};
