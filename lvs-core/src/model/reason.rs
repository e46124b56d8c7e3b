//! Why a packet was not forwarded.

use crate::model::error::ParseError;

/// Builds the enum of reasons from their list: what each means, its variant, its name. A reason's counter stands at
/// its place in that list.
macro_rules! reasons {
    ($(#[$outer:meta])* $enum:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
        pub enum $enum {
            $($(#[$doc])* $variant,)+
        }

        impl $enum {
            /// Every reason, in the order of its counters.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// A short name for statistics, in kebab case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl core::fmt::Display for $enum {
            /// Writes the [name](Self::name).
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl core::str::FromStr for $enum {
            type Err = ParseError;

            /// Reads a [name](Self::name).
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let named = |reason: &Self| text.eq_ignore_ascii_case(reason.name());
                Self::ALL.into_iter().find(named).ok_or(ParseError::Reason)
            }
        }
    };
}

reasons! {
    /// Why a packet was not forwarded. Each has a counter, see [`Counters`](crate::stats::Counters).
    Reason {
        /// Passed: a later fragment, which does not tell its connection.
        Fragment = "fragment",
        /// Passed: an ICMP error about no known connection, or an AH or ESP packet without a key exchange.
        NoConnection = "no-connection",
        /// Rejected: the service has no real server that may take a connection (all quiesced, overloaded or none
        /// there), or a service for all ports is not persistent. If the packet is an ICMP error it is dropped, if it is
        /// to another port than 21 of an FTP service it is passed.
        NoServer = "no-server",
        /// Passed: no virtual service has this address, or none of this family exists at all.
        NoService = "no-service",
        /// Passed: the first packet of a TCP flow has no SYN, or has RST; of an SCTP association, no INIT.
        NotStarting = "not-starting",
        /// Passed: a new flow from port 20, which IPVS takes for active FTP data and never schedules.
        FtpDataPort = "ftp-data-port",
        /// Dropped: the connection's real server was removed; it resumes if the server is added again.
        ServerRemoved = "server-removed",
        /// Dropped: the connection table is full, and the policy found nothing to give up.
        TableFull = "table-full",
        /// Passed: a client's packet to a backup that leaves those alone
        /// ([`backup_only`](crate::config::Tuning::backup_only)).
        BackupOnly = "backup-only",
        /// Dropped: the service's persistence goes by call, and the packet shows no Call-ID.
        NoCallId = "no-call-id",
        /// Dropped: the store has no room for another Call-ID.
        CallsFull = "calls-full",
        /// Dropped: a new connection that the defence [`drop_packet`](crate::config::Tuning::drop_packet) refused.
        Defence = "defence",
        /// Rejected: a real server's reply that belongs to no connection
        /// ([`nat_icmp_send`](crate::config::Tuning::nat_icmp_send)).
        StrayReply = "stray-reply",
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
