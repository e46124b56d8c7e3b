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
    /// It may start a connection of a service whose persistence looks into packets ([`Engine`](crate::Engine)): find
    /// the Call-ID in its payload and ask again with [`Director::decide_call`](crate::Director::decide_call).
    /// Nothing has been counted or changed yet.
    Inspect,
    /// It is not the director's: leave it to the host (IPVS's `ACCEPT`); counted by reason.
    Pass(Reason),
    /// Discard it and answer its source with ICMP port unreachable (IPv4 type 3 code 3, `ICMPv6` type 1 code 4),
    /// quoting the packet unmodified. IPVS does this for TCP too when no real server can take a connection.
    Reject(Reason),
}

impl Verdict {
    /// Whether it must be carried out before the next packet is decided, because carrying it out tells the
    /// director something; see [`Director::decide_batch`](crate::Director::decide_batch).
    #[must_use]
    pub const fn needs_attention(&self) -> bool {
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
    /// What else is to be done to the packet's payload.
    pub helper: Option<Helper>,
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
    /// Passed: an ICMP error about no known connection, or an AH or ESP packet without a key exchange.
    NoConnection,
    /// Rejected: the service has no real server that may take a connection (all quiesced, overloaded or none
    /// there), or a service for all ports is not persistent. If the packet is an ICMP error it is dropped, if it is to
    /// another port than 21 of an FTP service it is passed.
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
    /// Passed: a client's packet to a backup that leaves those alone
    /// ([`backup_only`](crate::Tuning::backup_only)).
    BackupOnly,
    /// Dropped: the service's persistence goes by call, and the packet shows no Call-ID.
    NoCallId,
    /// Dropped: the store has no room for another Call-ID.
    CallsFull,
    /// Dropped: a new connection that the defence [`drop_packet`](crate::Tuning::drop_packet) refused.
    Defence,
    /// Rejected: a real server's reply that belongs to no connection
    /// ([`nat_icmp_send`](crate::Tuning::nat_icmp_send)).
    StrayReply,
}

impl Reason {
    /// Every reason, in the order of its counters.
    pub const ALL: [Self; 13] = [
        Self::Fragment,
        Self::NoConnection,
        Self::NoServer,
        Self::NoService,
        Self::NotStarting,
        Self::FtpDataPort,
        Self::ServerRemoved,
        Self::TableFull,
        Self::BackupOnly,
        Self::NoCallId,
        Self::CallsFull,
        Self::Defence,
        Self::StrayReply,
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
            Self::BackupOnly => "backup-only",
            Self::NoCallId => "no-call-id",
            Self::CallsFull => "calls-full",
            Self::Defence => "defence",
            Self::StrayReply => "stray-reply",
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
