//! What is to be done with a packet: plain values, without a borrow of the director.

use core::net::{IpAddr, SocketAddr};

use crate::model::id::{ConnId, ServerId};
use crate::model::method::Method;
use crate::model::reason::Reason;

/// The director's answer for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a verdict that is not carried out loses the packet"]
#[expect(clippy::exhaustive_enums, reason = "whoever carries verdicts out must handle each")]
pub enum Verdict {
    /// Discard it silently; counted by reason.
    Drop(Reason),
    /// Send it on as [`Forward`] says.
    Forward(Forward),
    /// The packet may start a connection of a service whose persistence looks into packets
    /// ([`PersistenceEngine`](crate::service::PersistenceEngine)): find the Call-ID in its payload and ask again with
    /// [`Inspected::CallId`]. Nothing has been counted or changed yet.
    Inspect,
    /// Leave the packet to the host, since it is not the director's (IPVS's `ACCEPT`); counted by reason.
    Pass(Reason),
    /// Discard it and answer its source with ICMP port unreachable (IPv4 type 3 code 3, `ICMPv6` type 1 code 4),
    /// quoting the packet unmodified. IPVS does this for TCP too when no real server can take a connection.
    Reject(Reason),
}

impl Verdict {
    /// Whether it must be carried out before the next packet is decided, because carrying it out tells the
    /// director something; see [`Director::decide_batch`](crate::Director::decide_batch).
    #[must_use]
    pub const fn requires_helper(&self) -> bool {
        match self {
            Self::Inspect => true,
            Self::Forward(forward) => forward.helper.is_some(),
            Self::Drop(_) | Self::Pass(_) | Self::Reject(_) => false,
        }
    }
}

/// Something that reads and rewrites the payload of a connection's packets, because it carries addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Helper {
    /// FTP (RFC 959, RFC 2428): bound to the connections of virtual port 21 under NAT. What it reads it tells the
    /// director by [`Director::expect`](crate::Director::expect).
    Ftp,
}

/// How a packet is to be rewritten and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain answer, also built by tests of transforms")]
pub struct Forward {
    /// Which way it goes.
    pub direction: Direction,
    /// The connection's forwarding method (kept from its creation) with the server's present tunnel options.
    pub method: Method,
    /// Request: the real server's address and port, the next destination. Reply: the virtual address and port,
    /// which under NAT become the source; otherwise nothing is rewritten.
    pub target: SocketAddr,
    /// The connection.
    pub connection: ConnId,
    /// The real server.
    pub server: ServerId,
    /// What else is to be done to the packet's payload.
    pub helper: Option<Helper>,
}

impl Forward {
    /// The address part of the target.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.target.ip()
    }

    /// Which addresses of the packet are replaced, and by what. NAT replaces a request's destination and a reply's
    /// source; every other method replaces none.
    #[inline]
    #[must_use]
    pub const fn rewrite(&self) -> Rewrite {
        match (self.method, self.direction) {
            (Method::Nat, Direction::Request) => Rewrite { source: None, destination: Some(self.target) },
            (Method::Nat, Direction::Reply) => Rewrite { source: Some(self.target), destination: None },
            (Method::Bypass | Method::Direct | Method::Local | Method::Tunnel(_), _) => Rewrite::NONE,
        }
    }
}

/// The addresses and ports that take the place of a packet's own; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a packet has two ends")]
pub struct Rewrite {
    /// The new source.
    pub source: Option<SocketAddr>,
    /// The new destination.
    pub destination: Option<SocketAddr>,
}

impl Rewrite {
    /// Both stay.
    pub const NONE: Self = Self { source: None, destination: None };
}

/// What was read of a packet's content before it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Inspected<'a> {
    /// Nothing: nobody has looked into it. Where the director wants to know more it answers [`Verdict::Inspect`].
    Nothing,
    /// The Call-ID of a SIP message; `None` if it has none, or one longer than
    /// [`MAX_CALL_ID`](crate::service::MAX_CALL_ID).
    CallId(Option<&'a [u8]>),
}

/// The way a packet of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Direction {
    /// From the client to the real server.
    Request,
    /// From the real server to the client.
    Reply,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::method::Tunnel;

    #[test]
    fn nat_alone_replaces_addresses_one_in_each_direction() {
        let target = SocketAddr::from(([10, 0, 0, 1], 80));
        let rewrite = |method, direction| {
            let (connection, server) = (ConnId::NONE, ServerId(0));
            Forward { direction, method, target, connection, server, helper: None }.rewrite()
        };
        let request = Rewrite { source: None, destination: Some(target) };
        let reply = Rewrite { source: Some(target), destination: None };
        assert_eq!(rewrite(Method::Nat, Direction::Request), request);
        assert_eq!(rewrite(Method::Nat, Direction::Reply), reply);
        for method in [Method::Direct, Method::Local, Method::Bypass, Method::Tunnel(Tunnel::IpIp)] {
            assert_eq!(rewrite(method, Direction::Request), Rewrite::NONE);
            assert_eq!(rewrite(method, Direction::Reply), Rewrite::NONE);
        }
    }
}
