//! From answers to a state.

use super::State;

/// Counts answers until it believes them.
///
/// The first answer decides at once: a server that does not answer when a director starts should not get a client, and
/// one that does should not wait (keepalived: no retries after the very first failure). Later, `rise` good answers in a
/// row make a target up that was down, and `fall` bad ones the other way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judge {
    state: State,
    /// Answers in a row that contradict the state.
    against: u32,
}

impl Judge {
    /// A judge that has heard nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Unknown, against: 0 }
    }

    /// What it believes.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the last answers contradict what it believes, which it will give up if they go on.
    #[must_use]
    pub const fn doubts(&self) -> bool {
        self.against > 0
    }

    /// Hears an answer; `rise` and `fall` of 0 count as 1. Returns the new state if this answer changed it.
    pub fn hear(&mut self, good: bool, rise: u32, fall: u32) -> Option<State> {
        let said = if good { State::Up } else { State::Down };
        let enough = match self.state {
            State::Unknown => 1,
            state if state == said => {
                self.against = 0;
                return None;
            }
            State::Up => fall,
            State::Down => rise,
        };
        self.against = self.against.saturating_add(1);
        if self.against < enough {
            return None;
        }
        self.against = 0;
        self.state = said;
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(rise: u32, fall: u32, answers: &str) -> String {
        let mut judge = Judge::new();
        answers
            .chars()
            .map(|answer| {
                judge.hear(answer == '+', rise, fall);
                match judge.state() {
                    State::Unknown => '?',
                    State::Up => 'u',
                    State::Down => 'd',
                }
            })
            .collect()
    }

    #[test]
    fn the_first_answer_decides_alone() {
        assert_eq!(states(5, 5, "+"), "u");
        assert_eq!(states(5, 5, "-"), "d");
        assert_eq!(Judge::new().state(), State::Unknown);
    }

    #[test]
    fn later_ones_must_be_in_a_row() {
        assert_eq!(states(2, 3, "+--+---++"), "uuuuuuddu");
        assert_eq!(states(2, 3, "-+-+-++"), "ddddddu");
    }

    #[test]
    fn a_change_is_told_once() {
        let mut judge = Judge::new();
        let told: Vec<_> =
            [true, true, false, false, false, true].map(|good| judge.hear(good, 1, 2)).into_iter().collect();
        assert_eq!(told, [Some(State::Up), None, None, Some(State::Down), None, Some(State::Up)]);
    }

    #[test]
    fn it_doubts_while_answers_contradict() {
        let mut judge = Judge::new();
        let doubts: Vec<bool> = [true, false, true, false, false, false]
            .map(|good| {
                judge.hear(good, 1, 3);
                judge.doubts()
            })
            .into_iter()
            .collect();
        assert_eq!(doubts, [false, true, false, true, true, false]);
    }

    #[test]
    fn whatever_comes_a_state_changes_only_after_as_many_contradictions_in_a_row_as_asked_for() {
        for bits in 0..1_u32 << 14 {
            let (rise, fall) = (2, 3);
            let mut judge = Judge::new();
            let mut heard = Vec::new();
            for bit in 0..14 {
                let good = bits >> bit & 1 == 1;
                heard.push(good);
                let before = judge.state();
                let change = judge.hear(good, rise as u32, fall as u32);
                let wanted = match before {
                    State::Unknown => 1,
                    State::Up => fall,
                    State::Down => rise,
                };
                let run = heard.iter().rev().take_while(|&&other| other == good).count();
                let contradicts = before != if good { State::Up } else { State::Down };
                assert_eq!(change.is_some(), contradicts && run >= wanted, "{heard:?}");
            }
        }
    }
}
