//! How long each state may idle.

use crate::model::config::Timeouts;
use crate::model::state::{SctpState, State, TcpState};
use crate::model::tick::MAX_TIMEOUT_SECS;

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
        // The number below is masked rather than checked, since this is read for every packet.
        let family = match state {
            State::Tcp(_) => 0,
            State::Udp => 1,
            State::Sctp(_) => 2,
        };
        self.0[family][state.number() as usize & 15]
    }
}
