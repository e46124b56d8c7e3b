//! What is to be done with a packet: plain values, without a borrow of the director.

use core::net::{IpAddr, SocketAddr};

use crate::conn::ConnId;
use crate::method::Method;
use crate::server::ServerId;

/// The director's answer for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a verdict that is not carried out loses the packet"]
#[expect(clippy::exhaustive_enums, reason = "whoever carries verdicts out must handle each")]
pub enum Verdict {
    /// Discard it silently; counted by reason.
    Drop(Reason),
    /// Send it on as [`Forward`] says.
    Forward(Forward),
    /// It is not the director's: leave it to the host (IPVS's `ACCEPT`); counted by reason.
    Pass(Reason),
    /// Discard it and answer its source with ICMP port unreachable (IPv4 type 3 code 3, `ICMPv6` type 1 code 4),
    /// quoting the packet unmodified. IPVS does this for TCP too when no real server can take a connection.
    Reject(Reason),
}

/// How a packet is to be rewritten and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Forward {
    /// The address part of the target.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.target.ip()
    }
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

/// Why a packet was not forwarded. Each has a counter, see [`Counters`](crate::Counters).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
pub enum Reason {
    /// Passed: a later fragment, which does not tell its connection.
    Fragment,
    /// Passed: an ICMP error about no known connection.
    NoConnection,
    /// Rejected: the service has no real server that may take a connection (all quiesced, overloaded or none
    /// there), or a service for all ports is not persistent.
    NoServer,
    /// Passed: no virtual service has this address, or none of this family exists at all.
    NoService,
    /// Passed: the first packet of a TCP flow has no SYN, or has RST; of an SCTP association, no INIT.
    NotStarting,
    /// Passed: a new flow from port 20, which IPVS takes for active FTP data and never schedules.
    FtpDataPort,
    /// Dropped: the connection's real server was removed; it resumes if the server is added again.
    ServerRemoved,
    /// Dropped: the connection table is full, and the policy found nothing to give up.
    TableFull,
}

impl Reason {
    /// Every reason, in the order of its counters.
    pub const ALL: [Self; 8] = [
        Self::Fragment,
        Self::NoConnection,
        Self::NoServer,
        Self::NoService,
        Self::NotStarting,
        Self::FtpDataPort,
        Self::ServerRemoved,
        Self::TableFull,
    ];

    /// A short name for statistics, in kebab case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fragment => "fragment",
            Self::NoConnection => "no-connection",
            Self::NoServer => "no-server",
            Self::NoService => "no-service",
            Self::NotStarting => "not-starting",
            Self::FtpDataPort => "ftp-data-port",
            Self::ServerRemoved => "server-removed",
            Self::TableFull => "table-full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_own_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }
}
