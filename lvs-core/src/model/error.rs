//! One error per control verb, each variant with its remedy. Where IPVS has an error number for it, it is named.

use core::fmt;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }

        impl core::error::Error for $name {}
    )+};
}

errors! {
    /// Why a service was not added.
    AddServiceError {
        /// The persistence mask is longer than an address of the family, or of length 0 for IPv6 (`EINVAL`).
        BadMask => "the persistence mask does not suit the address family",
        /// A service with this key is there already (`EEXIST`): edit it instead.
        Exists => "a service with this key exists already",
        /// The store has no place for another service: give it more.
        Full => "the store has no place for another service",
        /// Mark 0 means that a packet has none, so no packet would belong to the service: choose another.
        NoMark => "mark 0 stands for no mark",
        /// The scheduler needs a larger look-up table than the store lends: raise `TABLE` of `Fixed` (`sh`,
        /// `dh`, `lblc` and `lblcr` need 256 cells, `mh` 4,093). With `Heap`: there is no memory for it, or all tables
        /// together would be more than `Capacity::tables`.
        NoTable => "the store's look-up table is too small for this scheduler",
    }

    /// Why a service was not edited.
    EditServiceError {
        /// The persistence mask is longer than an address of the family, or of length 0 for IPv6 (`EINVAL`).
        BadMask => "the persistence mask does not suit the address family",
        /// No service has this key (`ESRCH`).
        NotFound => "no service has this key",
        /// The scheduler needs a larger look-up table than the store lends; the old one stays.
        NoTable => "the store's look-up table is too small for this scheduler",
    }

    /// Why a service was not removed.
    RemoveServiceError {
        /// No service has this key (`ESRCH`).
        NotFound => "no service has this key",
    }

    /// Why a real server was not added.
    AddServerError {
        /// The address cannot be a server's: of network 0, unspecified, multicast, broadcast or IPv6
        /// link-local (`EINVAL`).
        BadAddress => "the address is not a unicast address that a server can have",
        /// The lower threshold is above the upper one (`ERANGE`), or the upper one above 2^31 - 1 (`EINVAL`).
        BadThresholds => "the lower threshold is above the upper one, or the upper one is too large",
        /// A server with this address and port is in the service already (`EEXIST`): edit it instead.
        Exists => "the service has a server with this address and port already",
        /// The server's address family is not the service's and its method not a tunnel (`EINVAL`): only tunnels join
        /// families.
        FamilyMismatch => "only tunnels reach a server of the other address family",
        /// The store has no place for another real server, removed ones that still have connections included: give it
        /// more, or wait for these.
        Full => "the store has no place for another real server",
        /// A [`Picker`](crate::Picker) sends no packets, so the method of its servers is
        /// [`Method::Direct`](crate::Method::Direct).
        NotDirect => "the servers of a picker have the method Direct",
        /// GUE needs a UDP port other than 0 (`EINVAL`).
        NoTunnelPort => "a GUE tunnel needs a port other than 0",
        /// No service has this key (`ESRCH`): add it first.
        NoService => "no service has this key",
    }

    /// Why a real server was not edited.
    EditServerError {
        /// The lower threshold is above the upper one (`ERANGE`), or the upper one above 2^31 - 1 (`EINVAL`).
        BadThresholds => "the lower threshold is above the upper one, or the upper one is too large",
        /// The server's address family is not the service's and its method not a tunnel (`EINVAL`).
        FamilyMismatch => "only tunnels reach a server of the other address family",
        /// A [`Picker`](crate::Picker) sends no packets, so the method of its servers is
        /// [`Method::Direct`](crate::Method::Direct).
        NotDirect => "the servers of a picker have the method Direct",
        /// The service has no such server (`ENOENT`): add it.
        NotFound => "the service has no server with this address and port",
        /// GUE needs a UDP port other than 0 (`EINVAL`).
        NoTunnelPort => "a GUE tunnel needs a port other than 0",
        /// No service has this key (`ESRCH`).
        NoService => "no service has this key",
    }

    /// Why an expected connection was not made.
    ExpectError {
        /// The client's address is not of the control connection's family.
        FamilyMismatch => "the client's address is not of the connection's family",
        /// No living connection has this id.
        NotFound => "no connection has this id",
        /// The control connection is not TCP by NAT: only there addresses in payloads are rewritten.
        NotNat => "the control connection is not TCP by NAT",
        /// The connection table is full, and the policy found nothing to give up.
        TableFull => "the connection table is full",
    }

    /// Why an entry of another director was not taken over.
    ApplyError {
        /// The entry is inactive, and its tuple belongs to a connection with another real server.
        AnotherServer => "its tuple belongs to a connection with another real server",
        /// The store has no room for it, its stand-in server or its Call-ID.
        Full => "the store has no room for it",
        /// The entry's protocol is none that can be balanced.
        Protocol => "its protocol is none that can be balanced",
        /// The entry's protocol has no such state.
        State => "its protocol has no such state",
    }

    /// Why a text is not the value that it was to be read as.
    ParseError {
        /// Neither `IPv4` nor `IPv6`.
        Family => "not an address family: expected IPv4 or IPv6",
        /// No flow.
        Flow => "not a flow: expected one such as `tcp 192.0.2.7:40000 > 10.99.0.1:80`, both ends of one family",
        /// No persistence mask.
        Mask => "not a mask: expected the length of a prefix up to 128, or the bits of an IPv4 address",
        /// No forwarding method.
        Method => "not a forwarding method: expected nat, local, tun, dr or bypass",
        /// No persistence engine.
        PersistenceEngine => "not a persistence engine: expected sip",
        /// No protocol that can be balanced.
        Protocol => "not a protocol that can be balanced: expected tcp, udp or sctp",
        /// No reason.
        Reason => "not a reason: expected one of the names of lvs_core::Reason",
        /// No built-in scheduler has this name.
        Scheduler => "not a scheduler: expected one of lvs_core::Scheduler::NAMES",
        /// No key of a service.
        ServiceKey => "not a service: expected one such as `tcp 192.0.2.1:80`, `udp [2001:db8::1]:53` or `fwm 7`",
        /// No encapsulation.
        Tunnel => "not an encapsulation: expected ipip, gre or gue",
        /// No weight.
        Weight => "not a weight: expected a number from 0 to 2147483647",
    }

    /// Why what was observed of a server counts for nothing.
    ObserveError {
        /// There is no such server, or it was removed.
        NotFound => "there is no such server",
    }

    /// Why a number is no weight.
    WeightError {
        /// The weight is above 2^31 - 1 (`ERANGE`).
        TooLarge => "a weight is at most 2147483647",
    }

    /// Why counters were not set to zero.
    ZeroError {
        /// No service has this key (`ESRCH`).
        NotFound => "no service has this key",
    }

    /// Why a real server was not removed.
    RemoveServerError {
        /// The service has no such server (`ENOENT`).
        NotFound => "the service has no server with this address and port",
        /// No service has this key (`ESRCH`).
        NoService => "no service has this key",
    }
}
