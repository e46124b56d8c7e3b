//! Forwarding methods: how a packet reaches the real server.

use core::fmt;

use crate::model::error::ParseError;

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[expect(
    clippy::exhaustive_enums,
    reason = "matches must name every method, so that a new one shows its places"
)]
pub enum Method {
    /// To the packet's own destination, as a router would: for packets of a marked service that no real server takes
    /// ([`cache_bypass`](crate::config::Tuning::cache_bypass)), such as those to a transparent web cache that is down.
    Bypass,
    /// Direct routing (ipvsadm `-g`): only the link-layer destination changes; the server answers the client itself.
    #[cfg_attr(feature = "serde", serde(rename = "dr"))]
    Direct,
    /// To this host itself: the packet is passed to it untouched, so that a director can be one of its own real
    /// servers (ipvsadm lists it as `Local`).
    Local,
    /// Network address translation (ipvsadm `-m`, "masquerading"): addresses and ports are rewritten both ways,
    /// so the server's answers must come back through the director.
    Nat,
    /// Tunnelling (ipvsadm `-i`): the packet is wrapped in another one to the server, which unwraps it and
    /// answers the client itself.
    #[cfg_attr(feature = "serde", serde(rename = "tun"))]
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

impl Method {
    /// The method without its options.
    #[must_use]
    pub const fn kind(self) -> MethodKind {
        match self {
            Self::Bypass => MethodKind::Bypass,
            Self::Direct => MethodKind::Direct,
            Self::Local => MethodKind::Local,
            Self::Nat => MethodKind::Nat,
            Self::Tunnel(_) => MethodKind::Tunnel,
        }
    }
}

impl fmt::Display for Method {
    /// Writes [`MethodKind::ipvsadm_name`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().ipvsadm_name())
    }
}

/// Builds an enum of kinds from their list: number in the kernel's interfaces, name in configuration files, and what
/// else they are called.
macro_rules! kinds {
    ($(#[$outer:meta])* $enum:ident or $error:ident {
        $($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal,)+
    }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(clippy::exhaustive_enums, reason = "matches must name every kind")]
        pub enum $enum {
            $($(#[$doc])* $variant = $number,)+
        }

        impl $enum {
            /// Every kind, in the order of its numbers.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The kind's number in netlink and sync messages.
            #[must_use]
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The kind of such a number, if there is one.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The kind's name in configuration files and messages.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The kind of such a name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl core::str::FromStr for $enum {
            type Err = ParseError;

            /// Reads a [name](Self::name), in letters of either case.
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let named = |kind: &Self| text.eq_ignore_ascii_case(kind.name());
                Self::ALL.into_iter().find(named).ok_or(ParseError::$error)
            }
        }
    };
}

kinds! {
    /// A forwarding [`Method`] without its options.
    ///
    /// ```
    /// use lvs_core::Method;
    /// use lvs_core::method::MethodKind;
    /// assert_eq!(Method::Direct.kind(), MethodKind::from_name("dr").unwrap());
    /// assert_eq!(MethodKind::Direct.ipvsadm_name(), "Route");
    /// assert_eq!("dr".parse(), Ok(MethodKind::Direct));
    /// ```
    MethodKind or Method {
        /// [`Method::Nat`].
        Nat = 0, "nat",
        /// [`Method::Local`].
        Local = 1, "local",
        /// [`Method::Tunnel`].
        Tunnel = 2, "tun",
        /// [`Method::Direct`].
        Direct = 3, "dr",
        /// [`Method::Bypass`].
        Bypass = 4, "bypass",
    }
}

kinds! {
    /// The wrapping of a [`Tunnel`] without its options.
    ///
    /// ```
    /// use lvs_core::method::TunnelKind;
    /// assert_eq!("gue".parse(), Ok(TunnelKind::Gue));
    /// ```
    TunnelKind or Tunnel {
        /// [`Tunnel::IpIp`].
        IpIp = 0, "ipip",
        /// [`Tunnel::Gue`].
        Gue = 1, "gue",
        /// [`Tunnel::Gre`].
        Gre = 2, "gre",
    }
}

impl MethodKind {
    /// The word that ipvsadm lists servers with: `Masq`, `Local`, `Tunnel`, `Route`, `Bypass`.
    #[must_use]
    pub const fn ipvsadm_name(self) -> &'static str {
        match self {
            Self::Nat => "Masq",
            Self::Local => "Local",
            Self::Tunnel => "Tunnel",
            Self::Direct => "Route",
            Self::Bypass => "Bypass",
        }
    }
}

/// The wrapping of a tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[expect(clippy::exhaustive_enums, reason = "matches must name every wrapping")]
pub enum Tunnel {
    /// IP in IP (RFC 2003, RFC 2473, RFC 4213): 20 bytes over IPv4, 40 over IPv6.
    #[cfg_attr(feature = "serde", serde(rename = "ipip"))]
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

impl Tunnel {
    /// The wrapping without its options.
    #[must_use]
    pub const fn kind(self) -> TunnelKind {
        match self {
            Self::IpIp => TunnelKind::IpIp,
            Self::Gre { .. } => TunnelKind::Gre,
            Self::Gue { .. } => TunnelKind::Gue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_their_kinds() {
        for (number, kind) in (0..).zip(MethodKind::ALL) {
            assert_eq!((u32::from(kind.number()), MethodKind::from_name(kind.name())), (number, Some(kind)));
            assert_eq!(MethodKind::from_number(number), Some(kind));
        }
        for (number, kind) in (0..).zip(TunnelKind::ALL) {
            assert_eq!((u32::from(kind.number()), TunnelKind::from_name(kind.name())), (number, Some(kind)));
            assert_eq!(TunnelKind::from_number(number), Some(kind));
        }
        assert_eq!(MethodKind::from_number(5), None);
        assert_eq!(TunnelKind::from_name("vxlan"), None);
    }
}
