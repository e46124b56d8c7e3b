//! From the weights and the health of a service's servers to the servers that it should have.

use super::State;

/// How a service takes failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "whoever configures a service sets each")]
pub struct Policy {
    /// The weight of live servers, summed, below which the service counts as lost. At least 1.
    pub quorum: u64,
    /// How far the sum must fall below the quorum to lose it, and rise above it to gain it back. Less than the quorum.
    pub hysteresis: u64,
    /// Whether there is a sorry server, which serves alone while the quorum is lost. Without one the quorum changes no
    /// server; whoever wants to can tell of it.
    pub sorry: bool,
    /// What becomes of a server that is not to be used.
    pub on_failure: OnFailure,
    /// What a server counts as before its first answer.
    pub initially: Initially,
}

impl Default for Policy {
    /// keepalived's: quorum 1 without hysteresis and without sorry server; servers are used until they fail, and then
    /// removed.
    fn default() -> Self {
        Self {
            quorum: 1,
            hysteresis: 0,
            sorry: false,
            on_failure: OnFailure::Remove,
            initially: Initially::Up,
        }
    }
}

/// What becomes of a server that is not to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum OnFailure {
    /// The server is removed: packets of its connections are dropped until it is back.
    #[default]
    Remove,
    /// The server stays with weight 0: no new connections, but those that it has go on (keepalived's
    /// `inhibit_on_failure`).
    Quiesce,
}

/// What a server counts as before its first answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum Initially {
    /// As up: it is used at once, and taken out when it fails.
    #[default]
    Up,
    /// As down: it is used from its first good answer on (keepalived's `alpha`).
    Down,
    /// As neither: it gets no new connections, but those that it has go on; and the sorry server stays out until
    /// every server has answered.
    Unknown,
}

/// One server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "its weight and its health")]
pub struct Member {
    /// The weight that its operator gave it. Health never changes it.
    pub weight: u32,
    /// What all its checks say together ([`State::and`]); [`State::Up`] without any.
    pub state: State,
    /// The weight that a check of it advises in place of the operator's, if one does.
    pub advice: Option<u32>,
}

impl Member {
    /// A member that no check has looked at.
    #[must_use]
    pub const fn new(weight: u32) -> Self {
        Self { weight, state: State::Unknown, advice: None }
    }

    /// What it should have if it is used.
    #[must_use]
    pub fn effective_weight(&self) -> u32 {
        self.advice.unwrap_or(self.weight)
    }
}

/// Whether and how a server should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is there or not")]
pub enum Presence {
    /// Not at all.
    Absent,
    /// With this weight.
    Present(u32),
}

/// What a service should have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "whoever carries it out must see all of it")]
pub struct Decision {
    /// A place for each member, in their order.
    pub servers: Vec<Presence>,
    /// Whether the sorry server serves, with weight 1.
    pub sorry: bool,
    /// Whether the quorum is there.
    pub quorum: bool,
}

/// A service's servers, what is known of them, and whether they were enough.
///
/// Follows keepalived: the quorum is lost when live servers weigh nothing or less than `quorum - hysteresis`, and
/// gained when they weigh `quorum + hysteresis` or more. A lost quorum brings the sorry server in and all others out;
/// what changes about them meanwhile shows when it is gained.
///
/// ```
/// use lvs_std::health::{Group, Member, Presence, Policy, State};
///
/// let policy = Policy { sorry: true, ..Policy::default() };
/// let mut group = Group::new(policy, vec![Member::new(3), Member::new(1)]);
/// assert_eq!(group.decide().servers, [Presence::Present(3), Presence::Present(1)], "used until they fail");
///
/// group.members_mut()[0].state = State::Down;
/// assert_eq!(group.decide().servers, [Presence::Absent, Presence::Present(1)]);
///
/// group.members_mut()[1].state = State::Down;
/// let decision = group.decide();
/// assert!(decision.sorry && !decision.quorum);
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    policy: Policy,
    members: Vec<Member>,
    quorum: Option<bool>,
}

impl Group {
    /// A service of which nothing is decided yet.
    #[must_use]
    pub const fn new(policy: Policy, members: Vec<Member>) -> Self {
        Self { policy, members, quorum: None }
    }

    /// The group's servers.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The group's servers, to be told what is new of them. They may become more or fewer.
    pub const fn members_mut(&mut self) -> &mut Vec<Member> {
        &mut self.members
    }

    /// What it should have now. Asked again without news, the answer is the same.
    pub fn decide(&mut self) -> Decision {
        let quorum = self.has_quorum();
        self.quorum = Some(quorum);
        let sorry = self.policy.sorry && !quorum;
        let place = |member: &Member| match self.condition(member) {
            Condition::Live if !sorry => Presence::Present(member.effective_weight()),
            Condition::Waits if !sorry => Presence::Present(0),
            Condition::Live | Condition::Waits | Condition::Dead => match self.policy.on_failure {
                OnFailure::Remove => Presence::Absent,
                OnFailure::Quiesce => Presence::Present(0),
            },
        };
        Decision { servers: self.members.iter().map(place).collect(), sorry, quorum }
    }

    fn has_quorum(&self) -> bool {
        let live = self.members.iter().filter(|member| self.condition(member) == Condition::Live);
        let weight: u64 = live.map(|member| u64::from(member.effective_weight())).sum();
        let waits = self.members.iter().any(|member| self.condition(member) == Condition::Waits);
        let Policy { quorum, hysteresis, .. } = self.policy;
        match self.quorum {
            // Servers that have not answered yet may still make the quorum.
            None | Some(true) if waits => true,
            // As with keepalived, no live weight is no quorum, whatever threshold the policy leads to.
            None => weight > 0 && weight >= quorum,
            Some(true) => weight > 0 && weight >= quorum.saturating_sub(hysteresis),
            Some(false) => weight > 0 && weight >= quorum.saturating_add(hysteresis),
        }
    }

    fn condition(&self, member: &Member) -> Condition {
        match (member.state, self.policy.initially) {
            (State::Up, _) | (State::Unknown, Initially::Up) => Condition::Live,
            (State::Unknown, Initially::Unknown) => Condition::Waits,
            (State::Down, _) | (State::Unknown, Initially::Down) => Condition::Dead,
        }
    }
}

/// What a member counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Live,
    Waits,
    Dead,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SORRY: Policy = Policy {
        quorum: 1,
        hysteresis: 0,
        sorry: true,
        on_failure: OnFailure::Remove,
        initially: Initially::Up,
    };

    fn group(policy: Policy, states: &[(u32, State)]) -> Group {
        let member = |&(weight, state): &(u32, State)| Member { weight, state, advice: None };
        Group::new(policy, states.iter().map(member).collect())
    }

    #[test]
    fn a_failed_server_is_removed_or_quiesced() {
        let servers = [(3, State::Down), (1, State::Up)];
        assert_eq!(group(SORRY, &servers).decide().servers, [Presence::Absent, Presence::Present(1)]);
        let policy = Policy { on_failure: OnFailure::Quiesce, ..SORRY };
        assert_eq!(group(policy, &servers).decide().servers, [Presence::Present(0), Presence::Present(1)]);
    }

    #[test]
    fn before_the_first_answer_servers_count_as_the_policy_says() {
        let unknown = [(3, State::Unknown), (1, State::Unknown)];
        let decide = |initially| group(Policy { initially, ..SORRY }, &unknown).decide();
        let up = decide(Initially::Up);
        assert_eq!((up.servers, up.sorry), (vec![Presence::Present(3), Presence::Present(1)], false));
        let down = decide(Initially::Down);
        assert_eq!((down.servers, down.sorry), (vec![Presence::Absent; 2], true));
        let neither = decide(Initially::Unknown);
        assert_eq!((neither.servers, neither.sorry), (vec![Presence::Present(0); 2], false));
    }

    #[test]
    fn while_one_server_has_not_answered_the_sorry_server_waits() {
        let policy = Policy { initially: Initially::Unknown, ..SORRY };
        let mut group = group(policy, &[(1, State::Down), (1, State::Unknown)]);
        assert!(!group.decide().sorry);
        group.members_mut()[1].state = State::Down;
        assert!(group.decide().sorry);
    }

    #[test]
    fn a_lost_quorum_puts_the_sorry_server_in_the_place_of_live_ones_too() {
        let policy = Policy { quorum: 4, ..SORRY };
        let mut group = group(policy, &[(3, State::Up), (1, State::Up)]);
        assert!(group.decide().quorum);
        group.members_mut()[1].state = State::Down;
        let decision = group.decide();
        assert_eq!((decision.servers, decision.sorry), (vec![Presence::Absent; 2], true));
        group.members_mut()[1].state = State::Up;
        assert_eq!(group.decide().servers, [Presence::Present(3), Presence::Present(1)]);
    }

    #[test]
    fn without_a_sorry_server_the_quorum_changes_no_server() {
        let policy = Policy { quorum: 4, sorry: false, ..SORRY };
        let decision = group(policy, &[(3, State::Up), (1, State::Down)]).decide();
        assert_eq!(
            (decision.servers, decision.quorum),
            (vec![Presence::Present(3), Presence::Absent], false)
        );
    }

    #[test]
    fn hysteresis_keeps_a_quorum_that_is_barely_lost_and_one_that_is_barely_gained() {
        let policy = Policy { quorum: 3, hysteresis: 1, ..SORRY };
        let mut group = group(policy, &[(1, State::Up); 5]);
        let mut quorums = Vec::new();
        for live in [5, 3, 2, 1, 2, 3, 4, 3, 2, 1] {
            for (number, member) in group.members_mut().iter_mut().enumerate() {
                member.state = if number < live { State::Up } else { State::Down };
            }
            quorums.push(group.decide().quorum);
        }
        assert_eq!(quorums, [true, true, true, false, false, false, true, true, true, false]);
    }

    #[test]
    fn live_servers_of_weight_zero_are_no_quorum() {
        let mut group = group(SORRY, &[(0, State::Up), (0, State::Up)]);
        assert!(group.decide().sorry);
    }

    #[test]
    fn advice_stands_in_for_the_weight_and_leaves_it_alone() {
        let mut group = group(SORRY, &[(3, State::Up), (2, State::Up)]);
        group.members_mut()[0].advice = Some(7);
        assert_eq!(group.decide().servers, [Presence::Present(7), Presence::Present(2)]);
        group.members_mut()[0].advice = Some(0);
        assert_eq!(
            group.decide().servers,
            [Presence::Present(0), Presence::Present(2)],
            "alive without weight"
        );
        group.members_mut()[0].advice = None;
        assert_eq!(group.decide().servers, [Presence::Present(3), Presence::Present(2)]);
    }

    #[test]
    fn whatever_happens_the_laws_hold() {
        let states = [State::Unknown, State::Up, State::Down];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for _ in 0..2_000 {
            let policy = Policy {
                quorum: 1 + draw(6),
                hysteresis: draw(3),
                sorry: draw(2) == 0,
                on_failure: [OnFailure::Remove, OnFailure::Quiesce][draw(2) as usize],
                initially: [Initially::Up, Initially::Down, Initially::Unknown][draw(3) as usize],
            };
            let weights: Vec<u32> = (0..1 + draw(4)).map(|_| draw(4) as u32).collect();
            let mut group = Group::new(policy, weights.iter().map(|&weight| Member::new(weight)).collect());
            for _ in 0..12 {
                let count = group.members().len() as u64;
                group.members_mut()[draw(count) as usize].state = states[draw(3) as usize];
                let decision = group.decide();
                assert_eq!(decision, group.decide(), "asked again it says the same");
                assert_eq!(decision.sorry, policy.sorry && !decision.quorum);
                for ((place, member), weight) in decision.servers.iter().zip(group.members()).zip(&weights) {
                    assert_eq!(member.weight, *weight, "health does not change weights");
                    let used = matches!(place, Presence::Present(weight) if *weight > 0);
                    assert!(!used || member.state != State::Down, "nobody is sent to the dead");
                    assert!(!used || !decision.sorry, "the sorry server serves alone");
                    let plain = member.state == State::Up && !decision.sorry;
                    assert!(!plain || *place == Presence::Present(*weight), "who is well is used in full");
                }
            }
        }
    }
}
