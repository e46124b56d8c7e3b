//! Lists through the places of a table: to append, to take out and to find the first one costs the same at any length.

use crate::memory::{Empty, Places};

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// The neighbours of a place in a list.
#[derive(Clone, Copy)]
pub(super) struct Links {
    previous: u32,
    next: u32,
}

impl Links {
    pub(super) const NONE: Self = Self { previous: NONE, next: NONE };
}

/// What can be in lists of a kind; in one of that kind at a time.
pub(super) trait Linked<const KIND: usize>: Empty {
    fn links(&mut self) -> &mut Links;
}

/// A list of places, in the order in which they were appended.
#[derive(Clone, Copy)]
pub(super) struct List<const KIND: usize> {
    first: u32,
    last: u32,
    len: u32,
}

impl<const KIND: usize> List<KIND> {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE, len: 0 };

    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Appends a place that is in no list of the kind.
    pub(super) fn push<T: Linked<KIND>>(&mut self, places: &mut Places<T>, at: u32) {
        let Some(item) = places.get_mut(at) else { return };
        *item.links() = Links { previous: self.last, next: NONE };
        match places.get_mut(self.last) {
            Some(last) => last.links().next = at,
            None => self.first = at,
        }
        self.last = at;
        self.len += 1;
    }

    /// Takes out a place that is in the list.
    pub(super) fn remove<T: Linked<KIND>>(&mut self, places: &mut Places<T>, at: u32) {
        let Some(item) = places.get_mut(at) else { return };
        let Links { previous, next } = core::mem::replace(item.links(), Links::NONE);
        match places.get_mut(previous) {
            Some(item) => item.links().next = next,
            None => self.first = next,
        }
        match places.get_mut(next) {
            Some(item) => item.links().previous = previous,
            None => self.last = previous,
        }
        self.len = self.len.saturating_sub(1);
    }

    /// Takes out the first place.
    pub(super) fn pop<T: Linked<KIND>>(&mut self, places: &mut Places<T>) -> Option<u32> {
        let first = self.first()?;
        self.remove(places, first);
        Some(first)
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Item(Links);

    impl Empty for Item {
        const EMPTY: Self = Self(Links::NONE);
    }

    impl Linked<0> for Item {
        fn links(&mut self) -> &mut Links {
            &mut self.0
        }
    }

    #[test]
    fn a_list_keeps_the_order_whatever_is_taken_out() {
        let mut places: Places<Item> = Places::owned(4, 2);
        let mut list = List::<0>::EMPTY;
        for taken in 0..4 {
            (0..4).for_each(|at| list.push(&mut places, at));
            list.remove(&mut places, taken);
            let left: alloc::vec::Vec<u32> = core::iter::from_fn(|| list.pop(&mut places)).collect();
            assert!(left.iter().copied().eq((0..4).filter(|at| *at != taken)), "{left:?}");
            assert!(list.is_empty() && list.first().is_none());
        }
    }
}
