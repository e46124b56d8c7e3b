//! Requests to the kernel's routing (rtnetlink(7)), over a socket that stays in its namespace.

#[cfg(feature = "health")]
mod ask;
#[cfg(feature = "runtime")]
pub(crate) mod policy;
#[cfg(feature = "lab")]
mod setup;

use core::net::IpAddr;
use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

#[cfg(feature = "lab")]
pub(crate) use setup::Hop;
#[cfg(feature = "lab")]
pub use setup::Interface;

/// A rtnetlink socket. It talks to the namespace in which it was opened, whoever uses it later.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request and waits for its answer: a message, or `None` for a plain acknowledgement.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let answer =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            if let NetlinkPayload::Error(error) = &answer.payload
                && error.code.is_some()
            {
                return Err(error.to_io());
            }
            return Ok(match answer.payload {
                NetlinkPayload::InnerMessage(message) => Some(message),
                NetlinkPayload::Done(_) | NetlinkPayload::Error(_) | NetlinkPayload::Noop | _ => None,
            });
        }
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn unexpected(answer: Option<&RouteNetlinkMessage>) -> io::Error {
    io::Error::other(format!("unexpected answer of the kernel: {answer:?}"))
}
