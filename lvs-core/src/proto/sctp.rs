//! SCTP: the state table of IPVS (`ip_vs_proto_sctp`), as data. The event is the first chunk (RFC 9260 §3.2).

use super::view::{Phase, View};
use crate::model::packet::Chunk;
use crate::model::state::SctpState;

impl SctpState {
    pub(super) const fn timeout(self) -> u32 {
        match self {
            Self::None => 2,
            Self::Init1 | Self::Rejected => 4,
            Self::Established => 900,
            Self::Init
            | Self::CookieSent
            | Self::CookieReplied
            | Self::CookieWait
            | Self::Cookie
            | Self::CookieEchoed
            | Self::ShutdownSent
            | Self::ShutdownReceived
            | Self::ShutdownAckSent
            | Self::Closed => 61,
        }
    }

    pub(super) const fn phase(self) -> Phase {
        match self {
            Self::Established => Phase::Established,
            Self::None
            | Self::Init1
            | Self::Init
            | Self::CookieSent
            | Self::CookieReplied
            | Self::CookieWait
            | Self::Cookie
            | Self::CookieEchoed => Phase::HalfOpen,
            Self::ShutdownSent | Self::ShutdownReceived => Phase::Closing,
            Self::ShutdownAckSent => Phase::LastAck,
            Self::Rejected | Self::Closed => Phase::Over,
        }
    }

    /// The state after a packet whose first chunk is `chunk`.
    pub(super) const fn after(self, view: View, chunk: Chunk) -> Self {
        let row = match chunk {
            Chunk::Data => 0,
            Chunk::Init => 1,
            Chunk::InitAck => 2,
            Chunk::CookieEcho => 3,
            Chunk::CookieAck => 4,
            Chunk::Shutdown => 5,
            Chunk::ShutdownAck => 6,
            Chunk::ShutdownComplete => 7,
            Chunk::Error => 8,
            Chunk::Abort => 9,
        };
        TABLE[view as usize][row][self as usize]
    }
}

const IN1: SctpState = SctpState::Init1;
const INI: SctpState = SctpState::Init;
const CSE: SctpState = SctpState::CookieSent;
const CRE: SctpState = SctpState::CookieReplied;
const CWA: SctpState = SctpState::CookieWait;
const COO: SctpState = SctpState::Cookie;
const CEC: SctpState = SctpState::CookieEchoed;
const EST: SctpState = SctpState::Established;
const SSE: SctpState = SctpState::ShutdownSent;
const SRE: SctpState = SctpState::ShutdownReceived;
const SAS: SctpState = SctpState::ShutdownAckSent;
const REJ: SctpState = SctpState::Rejected;
const CLO: SctpState = SctpState::Closed;

/// By [`View`], chunk and present state (`NON IN1 INI CSE CRE CWA COO CEC EST SSE SRE SAS REJ CLO`).
#[rustfmt::skip]
const TABLE: [[[SctpState; 14]; 10]; 3] = [
    // IN
    [
        [EST, IN1, INI, CSE, CRE, CWA, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // DATA
        [IN1, INI, INI, CSE, CRE, CWA, COO, CEC, EST, SSE, SRE, SAS, INI, INI], // INIT
        [CWA, CWA, CWA, CSE, CRE, COO, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // INIT-ACK
        [CRE, INI, INI, CRE, CRE, CWA, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // COOKIE-ECHO
        [EST, IN1, INI, CSE, CRE, CWA, COO, EST, EST, SSE, SRE, SAS, REJ, CLO], // COOKIE-ACK
        [SRE, IN1, INI, CSE, CRE, CWA, COO, CEC, SRE, SSE, SRE, SAS, REJ, CLO], // SHUTDOWN
        [CLO, INI, INI, CSE, CRE, CWA, COO, CEC, EST, CLO, SRE, CLO, REJ, CLO], // SHUTDOWN-ACK
        [CLO, CLO, CLO, CSE, CRE, CWA, COO, CEC, EST, SSE, SRE, CLO, REJ, CLO], // SHUTDOWN-COMPL
        [CLO, IN1, INI, CSE, CRE, CWA, COO, CLO, EST, SSE, SRE, SAS, REJ, CLO], // ERROR
        [CLO, CLO, CLO, CLO, CLO, REJ, CLO, CLO, CLO, CLO, CLO, CLO, CLO, CLO], // ABORT
    ],
    // OUT
    [
        [EST, IN1, INI, CSE, CRE, CWA, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // DATA
        [CWA, CWA, CWA, CWA, CWA, CWA, CWA, CWA, EST, CWA, CWA, CWA, CWA, CWA], // INIT
        [CSE, CSE, CSE, CSE, CRE, CWA, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // INIT-ACK
        [CEC, CEC, CEC, CEC, CEC, CEC, CEC, CEC, EST, SSE, SRE, SAS, REJ, CLO], // COOKIE-ECHO
        [EST, EST, EST, EST, EST, EST, EST, EST, EST, SSE, SRE, SAS, REJ, CLO], // COOKIE-ACK
        [SSE, SSE, SSE, SSE, SSE, SSE, SSE, SSE, SSE, SSE, SRE, SAS, REJ, CLO], // SHUTDOWN
        [SAS, SAS, SAS, SAS, SAS, CWA, COO, CEC, EST, SAS, SAS, SAS, REJ, CLO], // SHUTDOWN-ACK
        [CLO, IN1, INI, CSE, CRE, CWA, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // SHUTDOWN-COMPL
        [CLO, CLO, CLO, CLO, CLO, CWA, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // ERROR
        [CLO, REJ, CLO, CLO, CLO, CLO, CLO, CLO, CLO, CLO, CLO, CLO, CLO, CLO], // ABORT
    ],
    // IN-ONLY
    [
        [EST, IN1, INI, CSE, CRE, EST, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // DATA
        [IN1, INI, INI, INI, INI, INI, COO, CEC, EST, SSE, SRE, SAS, INI, INI], // INIT
        [CEC, CEC, CEC, CEC, CEC, CEC, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // INIT-ACK
        [EST, EST, EST, EST, EST, EST, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // COOKIE-ECHO
        [EST, IN1, INI, EST, EST, CWA, EST, EST, EST, SSE, SRE, SAS, REJ, CLO], // COOKIE-ACK
        [SRE, IN1, INI, CSE, CRE, CWA, COO, CEC, SRE, SSE, SRE, SAS, REJ, CLO], // SHUTDOWN
        [CLO, INI, INI, CSE, CRE, CWA, COO, CEC, CLO, CLO, SRE, CLO, REJ, CLO], // SHUTDOWN-ACK
        [CLO, CLO, CLO, CLO, CLO, CWA, COO, CEC, EST, SSE, CLO, CLO, REJ, CLO], // SHUTDOWN-COMPL
        [CLO, IN1, INI, CSE, CRE, CWA, COO, CEC, EST, SSE, SRE, SAS, REJ, CLO], // ERROR
        [CLO, CLO, CLO, CLO, CLO, REJ, CLO, CLO, CLO, CLO, CLO, CLO, CLO, CLO], // ABORT
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_way_handshake_establishes() {
        let steps = [
            (View::Input, Chunk::Init),
            (View::Output, Chunk::InitAck),
            (View::Input, Chunk::CookieEcho),
            (View::Output, Chunk::CookieAck),
        ];
        let state = steps.iter().fold(SctpState::None, |state, &(view, chunk)| state.after(view, chunk));
        assert_eq!(state, EST);
    }

    #[test]
    fn abort_closes() {
        assert_eq!(EST.after(View::InputOnly, Chunk::Abort), CLO);
    }
}
