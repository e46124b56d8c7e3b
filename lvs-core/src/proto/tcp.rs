//! TCP: the state table of IPVS (`ip_vs_proto_tcp`), as data.
//!
//! A director sees one or both directions of a connection that others hold. Its states are therefore guesses that only
//! need to be good enough to choose a time-out and to count; they are not those of RFC 9293.
//!
//! # Read these sections first
//!
//! * RFC 9293 section 3.1 for the control bits, and section 3.3.2 for the states that two ends go through.
//! * RFC 9293 section 3.5 (opening) and 3.6 (closing): the tables below are these seen from the middle, where one
//!   segment may be lost after the director has seen it.
//! * The Linux kernel's `Documentation/networking/ipvs-sysctl.rst` on `secure_tcp`, which chooses the second table, and
//!   on `conn_reuse_mode`, which says when a SYN starts anew what is still in a table.
//!
//! Then, in this file: [`View`] is the part of a table (who sent the segment, and whether the other direction is seen),
//! `ROWS` the row (which flag counts), and the present state the column.

use super::view::{Phase, View};
use crate::model::packet::TcpFlags;
use crate::model::state::TcpState;

impl TcpState {
    pub(super) const fn timeout(self) -> u32 {
        match self {
            Self::None => 2,
            Self::Established => 900,
            Self::SynRecv | Self::CloseWait => 60,
            Self::SynSent | Self::FinWait | Self::TimeWait | Self::Listen | Self::SynAck => 120,
            Self::Close => 10,
            Self::LastAck => 30,
        }
    }

    pub(super) const fn phase(self) -> Phase {
        match self {
            Self::Established => Phase::Established,
            Self::None | Self::SynSent | Self::SynRecv | Self::SynAck | Self::Listen => Phase::HalfOpen,
            Self::FinWait | Self::CloseWait => Phase::Closing,
            Self::LastAck => Phase::LastAck,
            Self::TimeWait | Self::Close => Phase::Over,
        }
    }

    /// The state after a segment: the first of RST, SYN, FIN, ACK that is set counts; with none of them the
    /// connection counts as closed.
    pub(super) const fn after(self, view: View, flags: TcpFlags, secure: bool) -> Self {
        // A table of 32 rows rather than four questions: which flag is set is what a stranger chooses, so no branch
        // could be foreseen.
        let row = ROWS[(flags.byte() & 0x1f) as usize];
        if row == NO_ROW {
            return Self::Close;
        }
        let table = if secure { &SECURE } else { &NORMAL };
        table[view as usize][row as usize][self as usize]
    }
}

const EST: TcpState = TcpState::Established;
const SSE: TcpState = TcpState::SynSent;
const SRC: TcpState = TcpState::SynRecv;
const FWT: TcpState = TcpState::FinWait;
const TWT: TcpState = TcpState::TimeWait;
const CLO: TcpState = TcpState::Close;
const CWT: TcpState = TcpState::CloseWait;
const LAK: TcpState = TcpState::LastAck;
const LIS: TcpState = TcpState::Listen;
const SAK: TcpState = TcpState::SynAck;

/// The table's row for the low five flags: the first of RST, SYN, FIN, ACK that is set.
const ROWS: [u8; 32] = {
    let mut rows = [NO_ROW; 32];
    let mut flags = 0;
    while flags < rows.len() {
        let set = TcpFlags::from_byte(flags as u8);
        rows[flags] = if set.contains(TcpFlags::RST) {
            3
        } else if set.contains(TcpFlags::SYN) {
            0
        } else if set.contains(TcpFlags::FIN) {
            1
        } else if set.contains(TcpFlags::ACK) {
            2
        } else {
            NO_ROW
        };
        flags += 1;
    }
    rows
};
const NO_ROW: u8 = u8::MAX;

type Table = [[[TcpState; 11]; 4]; 3];

/// By [`View`], event and present state (`NON EST SSE SRC FWT TWT CLO CWT LAK LIS SAK`).
#[rustfmt::skip]
const NORMAL: Table = [
    // INPUT
    [
        [SRC, EST, EST, SRC, SRC, SRC, SRC, SRC, SRC, SRC, SRC], // SYN
        [CLO, CWT, SSE, TWT, TWT, TWT, CLO, CWT, LAK, LIS, TWT], // FIN
        [EST, EST, SSE, EST, FWT, TWT, CLO, CWT, CLO, LIS, EST], // ACK
        [CLO, CLO, CLO, SRC, CLO, CLO, CLO, CLO, LAK, LIS, SRC], // RST
    ],
    // OUTPUT
    [
        [SSE, EST, SSE, SRC, SSE, SSE, SSE, SSE, SSE, LIS, SRC], // SYN
        [TWT, FWT, SSE, TWT, FWT, TWT, CLO, TWT, LAK, LIS, TWT], // FIN
        [EST, EST, SSE, EST, FWT, TWT, CLO, CWT, LAK, EST, EST], // ACK
        [CLO, CLO, SSE, CLO, CLO, TWT, CLO, CLO, CLO, CLO, CLO], // RST
    ],
    // INPUT-ONLY
    [
        [SRC, EST, EST, SRC, SRC, SRC, SRC, SRC, SRC, SRC, SRC], // SYN
        [CLO, FWT, SSE, TWT, FWT, TWT, CLO, CWT, LAK, LIS, TWT], // FIN
        [EST, EST, SSE, EST, FWT, TWT, CLO, CWT, CLO, LIS, EST], // ACK
        [CLO, CLO, CLO, SRC, CLO, CLO, CLO, CLO, LAK, LIS, CLO], // RST
    ],
];

/// The table that counts while `secure_tcp` is on: a handshake under NAT is not over before the server has acknowledged
/// it.
#[rustfmt::skip]
const SECURE: Table = [
    // INPUT
    [
        [SRC, EST, EST, SRC, SRC, SRC, SRC, SRC, SRC, SRC, SAK], // SYN
        [CLO, CWT, SSE, TWT, TWT, TWT, CLO, CWT, LAK, LIS, SAK], // FIN
        [EST, EST, SSE, SRC, FWT, TWT, CLO, CWT, CLO, LIS, SAK], // ACK
        [CLO, CLO, CLO, SRC, CLO, CLO, CLO, CLO, LAK, LIS, CLO], // RST
    ],
    // OUTPUT
    [
        [SSE, EST, SSE, SAK, SSE, SSE, SSE, SSE, SSE, LIS, SAK], // SYN
        [TWT, FWT, SSE, TWT, FWT, TWT, CLO, TWT, LAK, LIS, TWT], // FIN
        [EST, EST, SSE, EST, FWT, TWT, CLO, CWT, LAK, EST, EST], // ACK
        [CLO, CLO, SSE, CLO, CLO, TWT, CLO, CLO, CLO, CLO, CLO], // RST
    ],
    // INPUT-ONLY
    [
        [SAK, EST, EST, SRC, SAK, SAK, SAK, SAK, SAK, SAK, SAK], // SYN
        [CLO, FWT, SSE, TWT, FWT, TWT, CLO, CWT, LAK, LIS, TWT], // FIN
        [EST, EST, SSE, EST, FWT, TWT, CLO, CWT, CLO, LIS, EST], // ACK
        [CLO, CLO, CLO, SRC, CLO, CLO, CLO, CLO, LAK, LIS, CLO], // RST
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: TcpFlags = TcpFlags::SYN;
    const ACK: TcpFlags = TcpFlags::ACK;
    const FIN_ACK: TcpFlags = TcpFlags::FIN.with(TcpFlags::ACK);

    fn run(steps: &[(View, TcpFlags)]) -> TcpState {
        steps.iter().fold(TcpState::None, |state, &(view, flags)| state.after(view, flags, false))
    }

    #[test]
    fn nat_needs_the_servers_acknowledgement_or_the_clients() {
        let syn_ack = SYN.with(ACK);
        assert_eq!(run(&[(View::Input, SYN)]), SRC);
        assert_eq!(run(&[(View::Input, SYN), (View::Output, syn_ack)]), SRC);
        assert_eq!(run(&[(View::Input, SYN), (View::Output, syn_ack), (View::Input, ACK)]), EST);
    }

    #[test]
    fn one_direction_never_reaches_time_wait() {
        let steps = [(View::InputOnly, SYN), (View::InputOnly, ACK), (View::InputOnly, FIN_ACK)];
        assert_eq!(run(&steps), FWT);
        assert_eq!(FWT.after(View::InputOnly, ACK, false), FWT);
    }

    #[test]
    fn the_secure_table_differs_in_fifteen_cells() {
        let cells = |table: Table| table.into_iter().flatten().flatten();
        assert_eq!(cells(NORMAL).zip(cells(SECURE)).filter(|(normal, secure)| normal != secure).count(), 15);
        // The client's acknowledgement alone does not do.
        let secure = |state: TcpState, view, flags| state.after(view, flags, true);
        let half = secure(secure(SRC, View::Output, SYN.with(ACK)), View::Input, ACK);
        assert_eq!(half, SAK);
        assert_eq!(secure(half, View::Output, ACK), EST);
    }

    #[test]
    fn a_segment_without_any_flag_closes() {
        assert_eq!(EST.after(View::Input, TcpFlags::from_byte(0), false), CLO);
    }

    #[test]
    fn a_plain_acknowledgement_leaves_an_established_connection_so() {
        for view in [View::Input, View::Output, View::InputOnly] {
            for flags in (0..=u8::MAX).map(TcpFlags::from_byte).filter(|flags| flags.is_plain_ack()) {
                assert_eq!(EST.after(view, flags, false), EST);
                assert_eq!(EST.after(view, flags, true), EST);
            }
        }
    }

    #[test]
    fn reset_comes_before_every_other_flag() {
        let all = TcpFlags::from_byte(0x17);
        assert_eq!(EST.after(View::Input, all, false), CLO);
    }

    #[test]
    fn numbers_name_the_states_they_came_from() {
        for state in TcpState::ALL {
            assert_eq!(TcpState::from_number(state as u8), state);
        }
    }
}
