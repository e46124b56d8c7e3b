//! The states of TCP, written down a second time.

use lvs_core::conn::{State, TcpState};
use lvs_core::{Content, TcpFlags};

/// The rows of the TCP table once more, as text: by view (input, output, input only) and event.
const ROWS: [[&str; 4]; 3] = [
    [
        "SRC EST EST SRC SRC SRC SRC SRC SRC SRC SRC",
        "CLO CWT SSE TWT TWT TWT CLO CWT LAK LIS TWT",
        "EST EST SSE EST FWT TWT CLO CWT CLO LIS EST",
        "CLO CLO CLO SRC CLO CLO CLO CLO LAK LIS SRC",
    ],
    [
        "SSE EST SSE SRC SSE SSE SSE SSE SSE LIS SRC",
        "TWT FWT SSE TWT FWT TWT CLO TWT LAK LIS TWT",
        "EST EST SSE EST FWT TWT CLO CWT LAK EST EST",
        "CLO CLO SSE CLO CLO TWT CLO CLO CLO CLO CLO",
    ],
    [
        "SRC EST EST SRC SRC SRC SRC SRC SRC SRC SRC",
        "CLO FWT SSE TWT FWT TWT CLO CWT LAK LIS TWT",
        "EST EST SSE EST FWT TWT CLO CWT CLO LIS EST",
        "CLO CLO CLO SRC CLO CLO CLO CLO LAK LIS CLO",
    ],
];

const STATES: [(&str, TcpState, u64); 11] = [
    ("NON", TcpState::None, 2),
    ("EST", TcpState::Established, 900),
    ("SSE", TcpState::SynSent, 120),
    ("SRC", TcpState::SynRecv, 60),
    ("FWT", TcpState::FinWait, 120),
    ("TWT", TcpState::TimeWait, 120),
    ("CLO", TcpState::Close, 10),
    ("CWT", TcpState::CloseWait, 60),
    ("LAK", TcpState::LastAck, 30),
    ("LIS", TcpState::Listen, 120),
    ("SAK", TcpState::SynAck, 120),
];

pub(super) fn after(state: State, view: usize, content: Content) -> State {
    let (State::Tcp(state), Content::Tcp(flags)) = (state, content) else { return state };
    let events = [(TcpFlags::RST, 3), (TcpFlags::SYN, 0), (TcpFlags::FIN, 1), (TcpFlags::ACK, 2)];
    let Some((_, row)) = events.into_iter().find(|(flag, _)| flags.contains(*flag)) else {
        return State::Tcp(TcpState::Close);
    };
    let column = STATES.iter().position(|entry| entry.1 == state).unwrap();
    let next = ROWS[view][row].split(' ').nth(column).unwrap();
    State::Tcp(STATES.iter().find(|entry| entry.0 == next).unwrap().1)
}

pub(super) fn timeout(state: State) -> u64 {
    match state {
        State::Tcp(state) => STATES.iter().find(|entry| entry.1 == state).unwrap().2,
        State::Udp | State::Sctp(_) => 300,
    }
}
