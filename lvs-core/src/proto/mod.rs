//! Protocol states: what a packet does to a connection's state, and how long the state may idle.

mod sctp;
mod tcp;
pub(crate) mod timeouts;
pub(crate) mod view;

use view::{Phase, View};

use crate::model::packet::Content;
use crate::model::state::State;

impl State {
    /// The state after a packet, by IPVS's stricter TCP table if `secure`. `None` when `content` says nothing about it.
    #[inline]
    pub(crate) const fn after(self, view: View, content: Content, secure: bool) -> Option<Self> {
        match (self, content) {
            (Self::Tcp(state), Content::Tcp(flags)) => Some(Self::Tcp(state.after(view, flags, secure))),
            (Self::Udp, Content::Udp) => Some(Self::Udp),
            (Self::Sctp(state), Content::Sctp(chunk)) => Some(Self::Sctp(state.after(view, chunk))),
            // An ICMP error, or a packet of IPsec on a flow of UDP, says nothing about the state.
            (Self::Tcp(_) | Self::Udp | Self::Sctp(_), _) => None,
        }
    }

    /// How far a connection in this state has come.
    pub(crate) const fn phase(self) -> Phase {
        match self {
            Self::Tcp(state) => state.phase(),
            Self::Udp => Phase::Stateless,
            Self::Sctp(state) => state.phase(),
        }
    }
}
