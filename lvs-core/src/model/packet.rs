//! What the core needs to know of a packet. It never sees a byte of one.

use core::ops::{BitOr, BitOrAssign};

use crate::model::flow::{Flow, Protocol};

/// The facts about one packet on which a decision rests. `lvs-forward` makes it from a frame; an embedder with
/// a parser of its own may fill it in.
///
/// ```
/// use lvs_core::{Content, Flow, Packet, Path, Protocol, TcpFlags};
/// let flow = Flow::new(Protocol::Tcp, "192.0.2.7:40000".parse()?, "10.99.0.1:80".parse()?).unwrap();
/// let syn = Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60);
/// assert_eq!(syn.path, Path::Local);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "parsers outside this crate build it")]
pub struct Packet {
    /// The five-tuple. For [`Content::Error`] it is the embedded packet's, reversed, so that it points the way
    /// the ICMP message itself travels.
    pub flow: Flow,
    /// What the transport header says.
    pub content: Content,
    /// Length of the IP packet in bytes, header included; this is what the byte counters add up.
    pub length: u32,
    /// Whether it is addressed to the director or passes through it.
    pub path: Path,
    /// Firewall mark, 0 for none. A service with that mark is tried before the one with the packet's address.
    pub mark: u32,
}

impl Packet {
    /// A packet addressed to the director, without a mark.
    #[must_use]
    pub const fn new(flow: Flow, content: Content, length: u32) -> Self {
        Self { flow, content, length, path: Path::Local, mark: 0 }
    }

    /// A packet on its way through the director: only replies of real servers are looked for.
    #[must_use]
    pub const fn passing(mut self) -> Self {
        self.path = Path::Through;
        self
    }

    /// Adds a firewall mark to the packet.
    #[must_use]
    pub const fn marked(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }
}

/// Where a packet is going, which decides what it can be (IPVS's hooks `LOCAL_IN` and `FORWARD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the two hooks that a packet from the wire can pass")]
pub enum Path {
    /// To an address that the director owns: a client's request, to be scheduled if it is new.
    Local,
    /// To another host, but kept here by a rule (Linux: policy routing of marked packets to a local table): scheduled
    /// like `Local`, and what no real server takes may go on to where it was sent.
    Captured,
    /// To another host: a real server's reply, or none of our business.
    Through,
}

/// What the transport header says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every kind")]
pub enum Content {
    /// A TCP segment with these flags.
    Tcp(TcpFlags),
    /// A UDP datagram.
    Udp,
    /// An SCTP packet; the kind of its first chunk.
    Sctp(Chunk),
    /// A later fragment: it has no ports, those of the flow are 0, so nothing tells its connection and it is passed.
    /// IPVS sees packets reassembled; whoever makes packets has to see to that before.
    Fragment,
    /// An ICMP or `ICMPv6` error about a packet of the reversed flow (RFC 792, RFC 4443).
    Error,
    /// An ICMP error about the wrapping of a packet of this flow, which a router between the director and the real
    /// server has sent to the director. It goes to the client; its length is that of the wrapped packet as far as
    /// quoted.
    TunnelError,
    /// An AH or ESP packet (RFC 4302, RFC 4303). It has no ports: its flow is UDP from port 500 to port 500, that of
    /// the key exchange which it follows. It never starts a connection.
    Ipsec,
}

impl Content {
    /// Whether it is an ICMP error.
    #[inline]
    pub(crate) const fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::TunnelError)
    }

    /// The protocol that this content belongs to, if it tells.
    #[must_use]
    pub const fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Tcp(_) => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Sctp(_) => Some(Protocol::Sctp),
            Self::Fragment | Self::Error | Self::TunnelError | Self::Ipsec => None,
        }
    }
}

/// The control bits of a TCP header (RFC 9293 §3.1), as they stand in its 14th byte.
///
/// ```
/// use lvs_core::TcpFlags;
/// let closes = TcpFlags::FIN | TcpFlags::ACK;
/// assert!(closes.contains(TcpFlags::FIN) && closes == TcpFlags::from_byte(0x11));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// The acknowledgement field counts.
    pub const ACK: Self = Self(0x10);

    /// The flags that a connection's state depends on: SYN, FIN, RST and ACK.
    pub(crate) const TELLING: u8 = 0x17;

    /// The flags of a header's 14th byte.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The header's 14th byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether the segment neither opens nor closes anything: of SYN, FIN, RST and ACK, only ACK is set.
    #[must_use]
    pub const fn is_plain_ack(self) -> bool {
        self.0 & Self::TELLING == Self::ACK.0
    }

    /// The flags of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    /// The flags of both.
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for TcpFlags {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// The kind of an SCTP chunk (RFC 9260 §3.2), as far as the connection's state depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the rows of the state table")]
pub enum Chunk {
    /// DATA, SACK, HEARTBEAT, HEARTBEAT ACK, ECNE, CWR and every unknown type.
    Data,
    /// INIT.
    Init,
    /// INIT ACK.
    InitAck,
    /// COOKIE ECHO.
    CookieEcho,
    /// COOKIE ACK.
    CookieAck,
    /// SHUTDOWN.
    Shutdown,
    /// SHUTDOWN ACK.
    ShutdownAck,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete,
    /// ERROR.
    Error,
    /// ABORT.
    Abort,
}

impl Chunk {
    /// The kind of a chunk type byte (IANA SCTP chunk types).
    #[must_use]
    pub const fn from_type(byte: u8) -> Self {
        match byte {
            1 => Self::Init,
            2 => Self::InitAck,
            6 => Self::Abort,
            7 => Self::Shutdown,
            8 => Self::ShutdownAck,
            9 => Self::Error,
            10 => Self::CookieEcho,
            11 => Self::CookieAck,
            14 => Self::ShutdownComplete,
            _ => Self::Data,
        }
    }
}
