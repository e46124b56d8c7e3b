//! Requests to the kernel's routing (rtnetlink(7)), over a socket that stays in its namespace.

#[cfg(feature = "health")]
mod ask;
#[cfg(feature = "realserver")]
pub(crate) mod host;
#[cfg(feature = "runtime")]
pub(crate) mod policy;
#[cfg(feature = "lab")]
mod setup;

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

#[cfg(feature = "realserver")]
pub(crate) use parts::whole;
#[cfg(any(feature = "health", feature = "lab", feature = "realserver"))]
use parts::{family, unexpected};
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

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Asks for everything of a kind.
    pub(crate) fn dump(&mut self, question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(question, NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length.max(1)..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Noop | _ => {}
                }
            }
        }
    }

    /// Sends one request and waits for its answer: a message, or `None` for a plain acknowledgement.
    #[cfg(any(feature = "health", feature = "lab", feature = "realserver"))]
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        self.send(message, flags)?;
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

/// What requests and their answers have in common.
#[cfg(any(feature = "health", feature = "lab", feature = "realserver"))]
mod parts {
    use core::net::IpAddr;
    use std::io;

    use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

    pub(super) const fn family(address: IpAddr) -> AddressFamily {
        match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        }
    }

    /// The length of a prefix that is one address.
    pub(crate) const fn whole(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    pub(super) fn unexpected(answer: Option<&RouteNetlinkMessage>) -> io::Error {
        io::Error::other(format!("unexpected answer of the kernel: {answer:?}"))
    }
}
