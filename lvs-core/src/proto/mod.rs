//! Protocol states: what a packet does to a connection's state, and how long the state may idle.

mod sctp;
mod tcp;

use core::fmt;

use crate::config::Timeouts;
use crate::flow::Protocol;
use crate::packet::Content;
use crate::tick::MAX_TIMEOUT_SECS;

pub use sctp::SctpState;
pub use tcp::TcpState;

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

    /// The state after a packet, by IPVS's stricter TCP table if `secure`. `None` when `content` says nothing about it.
    #[inline]
    pub(crate) const fn after(self, view: View, content: Content, secure: bool) -> Option<Self> {
        match (self, content) {
            (Self::Tcp(state), Content::Tcp(flags)) => Some(Self::Tcp(state.after(view, flags, secure))),
            (Self::Udp, Content::Udp) => Some(Self::Udp),
            (Self::Sctp(state), Content::Sctp(chunk)) => Some(Self::Sctp(state.after(view, chunk))),
            (Self::Tcp(_) | Self::Udp | Self::Sctp(_), _) => None,
        }
    }

    /// How willingly a full table gives an entry in this state up.
    pub(crate) const fn worth(self) -> Worth {
        match self {
            Self::Tcp(state) => state.worth(),
            Self::Udp => Worth::Stateless,
            Self::Sctp(state) => state.worth(),
        }
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

/// How long every state may idle, in seconds: the time-outs of the configuration where it has one, IPVS's elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeoutTable([[u32; 16]; 3]);

impl TimeoutTable {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        let mut secs = [[0; 16]; 3];
        for state in TcpState::ALL {
            secs[0][state as usize] = match state {
                TcpState::Established => timeouts.tcp,
                TcpState::FinWait => timeouts.tcp_fin,
                TcpState::None
                | TcpState::SynSent
                | TcpState::SynRecv
                | TcpState::TimeWait
                | TcpState::Close
                | TcpState::CloseWait
                | TcpState::LastAck
                | TcpState::Listen
                | TcpState::SynAck => state.timeout(),
            };
        }
        secs[1][0] = timeouts.udp;
        for state in SctpState::ALL {
            secs[2][state as usize] = state.timeout();
        }
        Self(secs.map(|of| of.map(|secs| secs.clamp(1, MAX_TIMEOUT_SECS))))
    }

    #[inline]
    pub(crate) const fn of(&self, state: State) -> u32 {
        let family = match state {
            State::Tcp(_) => 0,
            State::Udp => 1,
            State::Sctp(_) => 2,
        };
        self.0[family][state.number() as usize & 15]
    }
}

/// From where a packet is seen; it chooses the part of the state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// From the client, on a connection whose replies are seen too.
    Input,
    /// From the real server.
    Output,
    /// From the client, on a connection whose replies bypass the director (DR, TUN).
    InputOnly,
}

/// What a full table would lose with an entry, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// Closing or closed.
    Closing,
    /// The handshake was never completed.
    HalfOpen,
    /// A UDP flow.
    Stateless,
    /// Established: never given up.
    Established,
}
