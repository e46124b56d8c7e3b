//! Why a frame went no further, and how often.

use core::fmt;
use core::ops::AddAssign;

use lvs_core::Reason;

macro_rules! reasons {
    ($(#[$outer:meta])* $enum:ident, $count:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        const $count: usize = Reason::ALL.len() + [$($name),*].len();

        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
        pub enum $enum {
            /// The director's own reason.
            Director(Reason),
            $($(#[$doc])* $variant,)*
        }

        impl $enum {
            /// Every reason, in the order of its counters: the director's first.
            pub const ALL: [Self; $count] = {
                let mut all = [Self::Director(Reason::ALL[0]); $count];
                let mut at = 0;
                while at < Reason::ALL.len() {
                    all[at] = Self::Director(Reason::ALL[at]);
                    at += 1;
                }
                $(all[at] = Self::$variant; at += 1;)*
                assert!(at == $count);
                all
            };

            /// A short name for statistics, in kebab case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Director(reason) => reason.name(),
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

reasons! {
    /// Why a frame was dropped. Some drops are answered with an ICMP error, then the frame leaves as that answer.
    DropReason, DROPS {
        /// A wrong TCP checksum on an FTP control connection, whose payload the helper reads.
        BadChecksum = "bad-checksum",
        /// A wrong IPv4 header checksum.
        BadHeaderChecksum = "bad-header-checksum",
        /// A wrong checksum in an ICMP error that was to be translated.
        BadIcmpChecksum = "bad-icmp-checksum",
        /// The real server's address is of another family than the packet, which only TUN can bridge.
        Family = "family",
        /// A fragment that contradicts others of its datagram: it overlaps them (RFC 5722), there is a second end, or
        /// their ECN fields do not go together (RFC 3168 §5.3). What has come of the datagram is discarded with it.
        FragmentConflict = "fragment-conflict",
        /// A fragment whose bytes are there already, or that has none.
        FragmentDuplicate = "fragment-duplicate",
        /// Fragments that never became a datagram: 30 seconds have passed, or 60 for IPv6. One for each datagram;
        /// answered with ICMP time exceeded if the first fragment has come.
        FragmentTimeout = "fragment-timeout",
        /// No room to put a datagram together, or too little for this one, see
        /// [`Fragments`](crate::reassembly::Fragments). A datagram that gave way to a newer one counts here too.
        FragmentsFull = "fragments-full",
        /// A piece of a datagram that can be rewritten only as a whole (SCTP under NAT).
        Incomplete = "incomplete",
        /// No answer from the next hop lately. Requests are answered with ICMP host unreachable, unless they waited for
        /// the answer.
        HopFailed = "hop-failed",
        /// The next hop's link-layer address is being asked for, and no more packets can wait for it, or the packet
        /// gave its place there to another.
        HopPending = "hop-pending",
        /// The crate was built without the feature that this packet needs: `fragments`, `sctp` or `tunnel`.
        LeftOut = "left-out",
        /// Longer than 65,535 bytes, see [`Malformed::Jumbo`](crate::parse::Malformed::Jumbo).
        Jumbo = "jumbo",
        /// Headers that lead out of the frame or are impossible.
        Malformed = "malformed",
        /// A source or destination address that cannot be on a wire (RFC 1122 §3.2.1.3).
        Martian = "martian",
        /// No place to remember the next hop, see [`HostSizes::neighbours`](crate::host::HostSizes::neighbours), or
        /// strangers have caused more questions than can be asked soon.
        NeighboursFull = "neighbours-full",
        /// Less than [`HEADROOM`](crate::HEADROOM) bytes before the frame: the device does not keep its promise.
        NoHeadroom = "no-headroom",
        /// No such port: the frame's port was never added to the host.
        NoPort = "no-port",
        /// No route to the next destination. Requests are answered with ICMP host unreachable.
        NoRoute = "no-route",
        /// For the link-layer address of another host.
        NotForUs = "not-for-us",
        /// The device's word on checksum or segments does not fit the packet.
        Offload = "offload",
        /// To an own address where nobody listens, or a real server's on a connection that is not known; answered with
        /// a reset or port unreachable, see [`Options::reject`](crate::Options::reject).
        Refused = "refused",
        /// As `Refused`, but not answered, because the director may not know all connections yet, see
        /// [`Forwarder::hold_resets`](crate::Forwarder::hold_resets).
        ResetHeld = "reset-held",
        /// TTL or hop limit used up; answered with ICMP time exceeded.
        TimeExceeded = "time-exceeded",
        /// Larger than the next link or tunnel takes; answered with fragmentation needed or packet too big.
        TooBig = "too-big",
        /// The MTU is so small that no packet fits into the tunnel.
        TunnelMtu = "tunnel-mtu",
        /// An ICMP error about a tunnel of ours that nobody need hear of: the packet inside may be fragmented.
        TunnelQuiet = "tunnel-quiet",
        /// An ICMP error about a tunnel of ours, which was passed on as one about the client's packet.
        TunnelRelayed = "tunnel-relayed",
        /// The port's MTU cannot carry even an IPv6 fragment of the wrapped packet.
        Unfragmentable = "unfragmentable",
        /// Of another network than the port's, as its VLAN tag or the want of one says, see
        /// [`Port::with_vlan`](crate::host::Port::with_vlan).
        Vlan = "vlan",
    }
}

reasons! {
    /// Why a frame was left to the local host, unchanged.
    PassReason, PASSES {
        /// To a group or broadcast address of the link.
        Group = "group",
        /// To a real server that is this host itself.
        LocalServer = "local-server",
        /// Not for an own address, or a link protocol that is not about one.
        NotOurs = "not-ours",
        /// A packet of a protocol that is not balanced, or an ICMP message that is about no connection.
        Protocol = "protocol",
    }
}

/// What a forwarder has done, in frames since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Rewritten for a real server.
    pub requests: u64,
    /// Rewritten for, or let through to, a client.
    pub replies: u64,
    /// Routed because [`Options::ip_forward`](crate::Options::ip_forward) is set.
    pub routed: u64,
    /// ICMP errors made, as answers to drops.
    pub icmp_errors: u64,
    /// ICMP errors that were due but not made: about packets that must not have one (RFC 1122 §3.2.2, RFC 4443 §2.4),
    /// above [`Options::icmp_rate`](crate::Options::icmp_rate), or without a way back.
    pub icmp_suppressed: u64,
    /// Echo replies, ARP replies and neighbour advertisements.
    pub answers: u64,
    /// Data connections that the FTP helper announced to the director.
    pub expected: u64,
    /// What the FTP helper could not do for want of room here or in the director, or because a server named another
    /// host than itself: questions for data connections, and answers to them, that went through as they were.
    pub unhelped: u64,
    /// Fragments that were kept to be put together.
    pub fragments: u64,
    /// Datagrams that were put together.
    pub datagrams: u64,
    /// Packets that wait, or waited, for their next hop's link-layer address.
    pub waited: u64,
    drops: [u64; DROPS],
    passes: [u64; PASSES],
}

impl Counters {
    pub(crate) const ZERO: Self = Self {
        requests: 0,
        replies: 0,
        routed: 0,
        icmp_errors: 0,
        icmp_suppressed: 0,
        answers: 0,
        expected: 0,
        unhelped: 0,
        fragments: 0,
        datagrams: 0,
        waited: 0,
        drops: [0; DROPS],
        passes: [0; PASSES],
    };

    /// Frames dropped for this reason, answered or not.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        position(&DropReason::ALL, reason).and_then(|at| self.drops.get(at)).copied().unwrap_or_default()
    }

    /// The reason for which something was dropped since `earlier`, the first in the order of [`DropReason::ALL`].
    #[must_use]
    pub fn dropped_since(&self, earlier: &Self) -> Option<DropReason> {
        DropReason::ALL.into_iter().find(|reason| self.drops(*reason) > earlier.drops(*reason))
    }

    /// Frames left to the local host for this reason.
    #[must_use]
    pub fn passes(&self, reason: PassReason) -> u64 {
        position(&PassReason::ALL, reason).and_then(|at| self.passes.get(at)).copied().unwrap_or_default()
    }

    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        self.count_drops(reason, 1);
    }

    pub(crate) fn count_drops(&mut self, reason: DropReason, more: u64) {
        if let Some(count) = position(&DropReason::ALL, reason).and_then(|at| self.drops.get_mut(at)) {
            *count += more;
        }
    }

    pub(crate) fn count_pass(&mut self, reason: PassReason) {
        if let Some(count) = position(&PassReason::ALL, reason).and_then(|at| self.passes.get_mut(at)) {
            *count += 1;
        }
    }
}

impl AddAssign<&Self> for Counters {
    /// What several forwarders have done, together.
    fn add_assign(&mut self, other: &Self) {
        let Self {
            requests,
            replies,
            routed,
            icmp_errors,
            icmp_suppressed,
            answers,
            expected,
            unhelped,
            fragments,
            datagrams,
            waited,
            drops,
            passes,
        } = other;
        self.requests += requests;
        self.replies += replies;
        self.routed += routed;
        self.icmp_errors += icmp_errors;
        self.icmp_suppressed += icmp_suppressed;
        self.answers += answers;
        self.expected += expected;
        self.unhelped += unhelped;
        self.fragments += fragments;
        self.datagrams += datagrams;
        self.waited += waited;
        self.drops.iter_mut().zip(drops).for_each(|(count, more)| *count += more);
        self.passes.iter_mut().zip(passes).for_each(|(count, more)| *count += more);
    }
}

fn position<T: PartialEq>(all: &[T], one: T) -> Option<usize> {
    all.iter().position(|candidate| *candidate == one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut counters = Counters::ZERO;
        for reason in DropReason::ALL {
            counters.count_drop(reason);
            assert_eq!(counters.drops(reason), 1, "{reason}");
        }
        for reason in PassReason::ALL {
            counters.count_pass(reason);
            assert_eq!(counters.passes(reason), 1, "{reason}");
        }
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            assert!(
                DropReason::ALL.iter().skip(at + 1).all(|other| other.name() != reason.name()),
                "{reason}"
            );
        }
    }
}
