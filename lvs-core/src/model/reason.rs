//! Why a packet was not forwarded.

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
