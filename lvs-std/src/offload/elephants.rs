//! Which connections are worth an offload.

use core::hash::BuildHasher;
use std::hash::RandomState;

use super::route::Key;

/// Remembers who lately sent merged frames. Those that share a place displace each other.
pub(super) struct Elephants {
    hasher: RandomState,
    seen: Box<[(Key, u8)]>,
    /// Answers to those that have an offload: few at a time.
    wanted: heapless::Vec<Key, WANTED>,
}

impl Elephants {
    pub(super) const REQUIRED_BYTES: usize = PLACES * size_of::<(Key, u8)>();

    pub(super) fn new() -> Self {
        let seen = vec![(Key::from([0; size_of::<Key>()]), 0); PLACES].into_boxed_slice();
        Self { hasher: RandomState::new(), seen, wanted: heapless::Vec::new() }
    }

    /// Counts a merged frame; says whether it was one of many.
    pub(super) fn sees(&mut self, key: &Key) -> bool {
        // The hash has a key of this process's own, so that no stranger can choose ports that displace others.
        let place = self.hasher.hash_one(key) as usize % PLACES;
        let Some((known, count)) = self.seen.get_mut(place) else { return false };
        if known != key {
            (*known, *count) = (*key, 0);
        }
        *count = count.saturating_add(1);
        *count > MANY
    }

    /// Whether any frame is looked at for its own sake.
    pub(super) fn is_curious(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Wants the next frame with this key, however small.
    pub(super) fn want(&mut self, key: Key) {
        if self.wanted.is_full() {
            self.wanted.remove(0);
        }
        if !self.wanted.contains(&key) {
            // There is room now.
            let _ = self.wanted.push(key);
        }
    }

    pub(super) fn wants(&self, key: &Key) -> bool {
        self.wanted.contains(key)
    }

    /// Notes that a frame of this flow, which was waited for, has come.
    pub(super) fn has(&mut self, key: &Key) {
        self.wanted.retain(|wanted| wanted != key);
    }

    /// What has not come by now is not waited for.
    pub(super) fn give_up(&mut self) {
        self.wanted.clear();
    }
}

/// Merged frames of one direction that make it worth while: a mebibyte or so.
const MANY: u8 = 16;
const PLACES: usize = 1_024;
const WANTED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        [number; size_of::<Key>()]
    }

    #[test]
    fn many_frames_of_one_direction_are_many() {
        let mut elephants = Elephants::new();
        assert!((0..MANY).all(|_| !elephants.sees(&key(1))));
        assert!(elephants.sees(&key(1)));
        assert!((0..300).all(|_| elephants.sees(&key(1))), "and more are as well");
        assert!(!elephants.sees(&key(2)));
    }

    #[test]
    fn the_oldest_wish_makes_room_for_a_new_one() {
        let mut elephants = Elephants::new();
        (0..=WANTED as u8).for_each(|number| elephants.want(key(number)));
        assert!(!elephants.wants(&key(0)));
        assert!(elephants.wants(&key(1)) && elephants.wants(&key(WANTED as u8)));
        elephants.has(&key(1));
        assert!(!elephants.wants(&key(1)) && elephants.is_curious());
        elephants.give_up();
        assert!(!elephants.is_curious());
    }
}
