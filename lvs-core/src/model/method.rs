//! Forwarding methods: how a packet reaches the real server.

use core::fmt;

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "matches must name every method, so that a new one shows its places"
)]
pub enum Method {
    /// To the packet's own destination, as a router would: for packets of a marked service that no real server takes
    /// ([`cache_bypass`](crate::Tuning::cache_bypass)), such as those to a transparent web cache that is down.
    Bypass,
    /// Direct routing (ipvsadm `-g`): only the link-layer destination changes; the server answers the client itself.
    Direct,
    /// To this host itself: the packet is passed to it untouched, so that a director can be one of its own real
    /// servers (ipvsadm lists it as `Local`).
    Local,
    /// Network address translation (ipvsadm `-m`, "masquerading"): addresses and ports are rewritten both ways,
    /// so the server's answers must come back through the director.
    Nat,
    /// Tunnelling (ipvsadm `-i`): the packet is wrapped in another one to the server, which unwraps it and
    /// answers the client itself.
    Tunnel(Tunnel),
}

impl Method {
    /// Whether the server's replies are expected to pass the director.
    #[must_use]
    pub const fn sees_replies(self) -> bool {
        match self {
            Self::Nat => true,
            Self::Bypass | Self::Direct | Self::Local | Self::Tunnel(_) => false,
        }
    }
}

impl fmt::Display for Method {
    /// As ipvsadm lists it: `Bypass`, `Local`, `Masq`, `Route`, `Tunnel`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bypass => "Bypass",
            Self::Direct => "Route",
            Self::Local => "Local",
            Self::Nat => "Masq",
            Self::Tunnel(_) => "Tunnel",
        })
    }
}

/// The wrapping of a tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every wrapping")]
pub enum Tunnel {
    /// IP in IP (RFC 2003, RFC 2473, RFC 4213): 20 bytes over IPv4, 40 over IPv6.
    IpIp,
    /// Generic routing encapsulation (RFC 2784): 4 more bytes.
    Gre {
        /// Adds the checksum field over header and packet: 4 bytes more.
        checksum: bool,
    },
    /// Generic UDP encapsulation, variant 0 (draft-ietf-intarea-gue): 12 more bytes.
    Gue {
        /// UDP destination port at the server; never 0 (IPVS refuses it).
        port: u16,
        /// Fills in the outer UDP checksum; otherwise it is 0, over IPv6 too.
        checksum: bool,
    },
}
