//! States of connections, numbered as in the sync messages of IPVS. What moves them on is in `proto`.

use core::fmt;

use crate::model::flow::Protocol;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "one state family per protocol")]
pub enum State {
    /// Of a TCP connection.
    Tcp(TcpState),
    /// Of a UDP flow: there is just one.
    Udp,
    /// Of an SCTP association.
    Sctp(SctpState),
}

impl State {
    /// The state of a connection that nothing has happened to yet.
    #[inline]
    pub(crate) const fn first(protocol: Protocol) -> Self {
        Self::from_number(protocol, 0)
    }

    /// The state in a slot: its number under the slot's protocol. The numbers are those of IPVS's sync messages.
    pub(crate) const fn from_number(protocol: Protocol, number: u8) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp(TcpState::from_number(number)),
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp(SctpState::from_number(number)),
        }
    }

    /// The state of a number, if the protocol has one.
    pub(crate) fn checked(protocol: Protocol, number: u8) -> Option<Self> {
        let count = match protocol {
            Protocol::Tcp => TcpState::ALL.len(),
            Protocol::Udp => 1,
            Protocol::Sctp => SctpState::ALL.len(),
        };
        (usize::from(number) < count).then(|| Self::from_number(protocol, number))
    }

    /// The state's number, as in IPVS's sync messages.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp(state) => state as u8,
            Self::Udp => 0,
            Self::Sctp(state) => state as u8,
        }
    }

    /// Whether IPVS counts a connection in this state as active. UDP never is.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Tcp(state) => state.is_active(),
            Self::Udp => false,
            Self::Sctp(state) => matches!(state, SctpState::Established),
        }
    }

    /// Whether the protocol's connection has come about.
    pub(crate) const fn is_established(self) -> bool {
        matches!(self, Self::Tcp(TcpState::Established) | Self::Sctp(SctpState::Established))
    }
}

impl fmt::Display for State {
    /// As `ipvsadm -Lc` names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(state) => state.name(),
            Self::Udp => "UDP",
            Self::Sctp(state) => state.name(),
        })
    }
}

/// A TCP connection's state, numbered as in IPVS's sync messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(clippy::exhaustive_enums, reason = "the columns of the state table")]
pub enum TcpState {
    /// Nothing seen yet; 2 s.
    None = 0,
    /// Both ends talk; 900 s unless [`Timeouts::tcp`](crate::config::Timeouts::tcp) says otherwise.
    Established = 1,
    /// The real server's side opened; 120 s.
    SynSent = 2,
    /// The client's SYN was seen; 60 s. Counts as active.
    SynRecv = 3,
    /// The server closed first (or the client, when replies are not seen); 120 s unless
    /// [`Timeouts::tcp_fin`](crate::config::Timeouts::tcp_fin) says otherwise.
    FinWait = 4,
    /// Both ends closed; 120 s.
    TimeWait = 5,
    /// Reset, or closed; 10 s.
    Close = 6,
    /// The client closed first; 60 s.
    CloseWait = 7,
    /// Waiting for the last acknowledgement; 30 s.
    LastAck = 8,
    /// A helper expects the connection; 120 s.
    Listen = 9,
    /// Waiting for the handshake's last acknowledgement (`secure_tcp`); 120 s.
    SynAck = 10,
}

impl TcpState {
    pub(crate) const ALL: [Self; 11] = [
        Self::None,
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::SynAck,
    ];

    pub(crate) const fn from_number(number: u8) -> Self {
        if (number as usize) < Self::ALL.len() { Self::ALL[number as usize] } else { Self::None }
    }

    pub(crate) const fn is_active(self) -> bool {
        matches!(self, Self::Established | Self::SynSent | Self::SynRecv | Self::SynAck)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
        }
    }
}

/// An SCTP association's state, numbered as in IPVS's sync messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(clippy::exhaustive_enums, reason = "the columns of the state table")]
pub enum SctpState {
    /// Nothing seen yet; 2 s.
    None = 0,
    /// The first INIT; 4 s.
    Init1 = 1,
    /// A further INIT; 61 s.
    Init = 2,
    /// The server sent its cookie; 61 s.
    CookieSent = 3,
    /// The client returned it; 61 s.
    CookieReplied = 4,
    /// Waiting for a cookie; 61 s.
    CookieWait = 5,
    /// A cookie was seen; 61 s.
    Cookie = 6,
    /// The server returned a cookie; 61 s.
    CookieEchoed = 7,
    /// Both ends talk; 900 s. The only active state.
    Established = 8,
    /// The server sent SHUTDOWN; 61 s.
    ShutdownSent = 9,
    /// The client sent SHUTDOWN; 61 s.
    ShutdownReceived = 10,
    /// SHUTDOWN was acknowledged; 61 s.
    ShutdownAckSent = 11,
    /// Aborted in the handshake; 4 s.
    Rejected = 12,
    /// Closed; 61 s.
    Closed = 13,
}

impl SctpState {
    pub(crate) const ALL: [Self; 14] = [
        Self::None,
        Self::Init1,
        Self::Init,
        Self::CookieSent,
        Self::CookieReplied,
        Self::CookieWait,
        Self::Cookie,
        Self::CookieEchoed,
        Self::Established,
        Self::ShutdownSent,
        Self::ShutdownReceived,
        Self::ShutdownAckSent,
        Self::Rejected,
        Self::Closed,
    ];

    pub(crate) const fn from_number(number: u8) -> Self {
        if (number as usize) < Self::ALL.len() { Self::ALL[number as usize] } else { Self::None }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Init1 => "INIT1",
            Self::Init => "INIT",
            Self::CookieSent => "C-SENT",
            Self::CookieReplied => "C-REPLIED",
            Self::CookieWait => "C-WAIT",
            Self::Cookie => "COOKIE",
            Self::CookieEchoed => "C-ECHOED",
            Self::Established => "ESTABLISHED",
            Self::ShutdownSent => "S-SENT",
            Self::ShutdownReceived => "S-RECEIVED",
            Self::ShutdownAckSent => "S-ACK-SENT",
            Self::Rejected => "REJECTED",
            Self::Closed => "CLOSED",
        }
    }
}
