//! Who gets a place, and who gives way.
//!
//! Places are few, so that clients have bounded memory. A newcomer never finds all of them taken for long: somebody
//! gives way. It is chosen so that a process cannot shut others out by connecting often, nor one user another.

use std::time::Instant;

/// The process at the other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Peer {
    /// The user.
    pub(in crate::control) user: u32,
    /// The process; 0 for one that this process cannot name.
    pub(in crate::control) process: i32,
    /// Whether it may command the director.
    pub(in crate::control) privileged: bool,
}

impl Peer {
    /// Whether two clients are of one process, which has one share.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.user, self.process) == (other.user, other.process)
    }
}

/// A place that is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) peer: Peer,
    /// When the client said or fetched something last.
    pub(super) active: Instant,
}

/// What becomes of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// There is room.
    Free,
    /// The client of this place gives way.
    InsteadOf(usize),
    /// Nobody gives way to it.
    None,
}

/// Finds a place for a newcomer among `most`.
///
/// Clients that may not command the director have a quarter of the places, and never take one of the others. Of those
/// that could give way it is one that may not command the director; then one of the process that has the most clients,
/// the newcomer's included; then the one that has been silent for the longest time. So a client that is alone in its
/// process gives way only when all processes have one client each.
pub(super) fn seat(places: &[Place], newcomer: &Peer, most: usize) -> Seat {
    let strangers = places.iter().filter(|place| !place.peer.privileged).count();
    let room = places.len() < most && (newcomer.privileged || strangers < (most / STRANGERS).max(1));
    if room { Seat::Free } else { gives_way(places, newcomer).map_or(Seat::None, Seat::InsteadOf) }
}

/// The client that gives way to a newcomer.
fn gives_way(places: &[Place], newcomer: &Peer) -> Option<usize> {
    let rank = |place: &Place| {
        let clients = places.iter().filter(|other| other.peer.is_same(&place.peer)).count();
        let clients = clients + usize::from(newcomer.is_same(&place.peer));
        (!place.peer.privileged, clients, core::cmp::Reverse(place.active))
    };
    let may = places.iter().enumerate().filter(|(_, place)| newcomer.privileged || !place.peer.privileged);
    may.max_by_key(|(_, place)| rank(place)).map(|(index, _)| index)
}

/// The client that gives way to somebody who cannot even be looked at, since no descriptor is left: a client of a
/// process that has others as well, or one that may not command the director.
pub(super) fn crowd(places: &[Place]) -> Option<usize> {
    let nobody = Peer { user: u32::MAX, process: 0, privileged: true };
    let index = gives_way(places, &nobody)?;
    let place = places.get(index)?;
    let others = places.iter().filter(|other| other.peer.is_same(&place.peer)).count() > 1;
    (others || !place.peer.privileged).then_some(index)
}

/// Clients that may not command the director have one place of so many.
const STRANGERS: usize = 4;

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn peer(user: u32, process: i32) -> Peer {
        Peer { user, process, privileged: user == 0 }
    }

    fn places(of: &[(u32, i32, u64)]) -> Vec<Place> {
        let start = Instant::now();
        of.iter()
            .map(|&(user, process, active)| Place {
                peer: peer(user, process),
                active: start + Duration::from_secs(active),
            })
            .collect()
    }

    #[test]
    fn while_there_is_room_nobody_gives_way() {
        assert_eq!(seat(&places(&[(0, 1, 0), (0, 1, 1)]), &peer(0, 1), 3), Seat::Free);
    }

    #[test]
    fn the_process_with_the_most_clients_gives_way_with_the_one_that_is_silent_longest() {
        let taken = places(&[(0, 1, 0), (0, 2, 7), (0, 2, 5), (0, 2, 6)]);
        assert_eq!(seat(&taken, &peer(0, 3), 4), Seat::InsteadOf(2));
        assert_eq!(seat(&taken, &peer(0, 2), 4), Seat::InsteadOf(2), "its own, not another's");
    }

    #[test]
    fn a_process_that_takes_more_than_its_share_gives_way_itself() {
        let taken = places(&[(0, 1, 0), (0, 2, 1), (0, 3, 2), (0, 4, 3)]);
        assert_eq!(seat(&taken, &peer(0, 4), 4), Seat::InsteadOf(3));
        assert_eq!(seat(&taken, &peer(0, 5), 4), Seat::InsteadOf(0), "all have one: the most silent");
    }

    #[test]
    fn strangers_have_a_quarter_and_give_way_first() {
        let taken = places(&[(0, 1, 0), (7, 2, 9)]);
        assert_eq!(seat(&taken, &peer(8, 3), 4), Seat::InsteadOf(1), "the quarter is taken");
        assert_eq!(seat(&taken, &peer(0, 3), 2), Seat::InsteadOf(1));
        let own = places(&[(0, 1, 0), (0, 1, 1)]);
        assert_eq!(seat(&own, &peer(7, 3), 2), Seat::None, "nobody of another user gives way to a stranger");
    }

    #[test]
    fn only_a_crowd_or_a_stranger_gives_way_to_somebody_unseen() {
        assert_eq!(crowd(&places(&[(0, 1, 0), (0, 2, 7), (0, 2, 5)])), Some(2));
        assert_eq!(crowd(&places(&[(0, 1, 0), (7, 2, 9)])), Some(1));
        assert_eq!(crowd(&places(&[(0, 1, 0), (0, 2, 9)])), None);
        assert_eq!(crowd(&[]), None);
    }

    #[test]
    fn an_operator_keeps_the_place_while_a_process_floods() {
        // A flood of newcomers of one process: whoever else is there stays.
        let mut taken = places(&[(0, 1, 0)]);
        for _ in 0..1_000 {
            let newcomer = Place { peer: peer(0, 2), active: Instant::now() + Duration::from_secs(9) };
            match seat(&taken, &newcomer.peer, 8) {
                Seat::Free => taken.push(newcomer),
                Seat::InsteadOf(index) => taken[index] = newcomer,
                Seat::None => {}
            }
        }
        assert_eq!((taken.len(), taken[0].peer.process), (8, 1));
    }
}
