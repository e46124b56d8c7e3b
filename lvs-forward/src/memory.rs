//! Memory that is bounded when it is given: lent by the program, or taken from the heap.

use heapless::Vec;

/// A fixed number of `T`.
pub(crate) enum Memory<T: 'static> {
    Lent(&'static mut [T]),
    #[cfg(feature = "alloc")]
    Owned(alloc::boxed::Box<[T]>),
}

impl<T> Memory<T> {
    /// None at all.
    pub(crate) const NONE: Self = Self::Lent(&mut []);

    pub(crate) const fn get(&self) -> &[T] {
        match self {
            Self::Lent(items) => items,
            #[cfg(feature = "alloc")]
            Self::Owned(items) => items,
        }
    }

    pub(crate) const fn get_mut(&mut self) -> &mut [T] {
        match self {
            Self::Lent(items) => items,
            #[cfg(feature = "alloc")]
            Self::Owned(items) => items,
        }
    }
}

/// A copy is the heap's, whatever the memory is.
#[cfg(feature = "alloc")]
impl<T: Copy> Clone for Memory<T> {
    fn clone(&self) -> Self {
        Self::Owned(self.get().into())
    }
}

impl<T: Empty> Memory<T> {
    /// So many of the heap, all empty.
    #[cfg(feature = "alloc")]
    pub(crate) fn filled(count: usize) -> Self {
        Self::Owned(alloc::vec![T::EMPTY; count].into_boxed_slice())
    }
}

/// Makes all of a program's memory empty places, whatever was in it.
pub(crate) fn refill<T: Empty, const N: usize>(places: &mut Vec<T, N>) -> &mut [T] {
    places.clear();
    while places.push(T::EMPTY).is_ok() {}
    places
}

/// What a place has in it before it is used.
pub(crate) trait Empty: Copy {
    const EMPTY: Self;
}

impl Empty for u32 {
    const EMPTY: Self = Self::MAX;
}

/// Numbered places for items of one kind: lent all at once, or taken from the heap a piece at a time, up to a bound.
///
/// A place keeps its number and its address in memory as long as the table lives, so that growing moves nothing and
/// takes as long as one piece does.
pub(crate) struct Places<T: 'static> {
    store: PlaceStore<T>,
    /// How many places have been taken so far.
    used: u32,
}

/// A copy is the heap's, whatever the places are.
#[cfg(feature = "alloc")]
impl<T: Copy> Clone for Places<T> {
    fn clone(&self) -> Self {
        let store = match &self.store {
            PlaceStore::Lent(places) => {
                PlaceStore::Owned { pieces: alloc::vec![(&**places).into()], shift: ALL, bound: places.len() }
            }
            PlaceStore::Owned { pieces, shift, bound } => {
                PlaceStore::Owned { pieces: pieces.clone(), shift: *shift, bound: *bound }
            }
        };
        Self { store, used: self.used }
    }
}

/// A piece that has every place there can be.
#[cfg(feature = "alloc")]
const ALL: u32 = u32::BITS - 1;

enum PlaceStore<T: 'static> {
    Lent(&'static mut [T]),
    #[cfg(feature = "alloc")]
    Owned {
        pieces: alloc::vec::Vec<alloc::boxed::Box<[T]>>,
        /// The places of a piece as a power of two; the last piece may have fewer.
        shift: u32,
        bound: usize,
    },
}

impl<T: Empty> Places<T> {
    pub(crate) const fn lent(places: &'static mut [T]) -> Self {
        Self { store: PlaceStore::Lent(places), used: 0 }
    }

    /// At most `bound` places of the heap, in pieces of 2 to the power of `shift`; the first is taken now.
    #[cfg(feature = "alloc")]
    pub(crate) fn owned(bound: usize, shift: u32) -> Self {
        let pieces = alloc::vec::Vec::with_capacity(bound.div_ceil(1 << shift));
        let mut places = Self { store: PlaceStore::Owned { pieces, shift, bound }, used: 0 };
        places.grow();
        places
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        match &self.store {
            PlaceStore::Lent(places) => places.get(at),
            #[cfg(feature = "alloc")]
            PlaceStore::Owned { pieces, shift, .. } => pieces.get(at >> shift)?.get(at & mask(*shift)),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        match &mut self.store {
            PlaceStore::Lent(places) => places.get_mut(at),
            #[cfg(feature = "alloc")]
            PlaceStore::Owned { pieces, shift, .. } => {
                pieces.get_mut(at >> *shift)?.get_mut(at & mask(*shift))
            }
        }
    }

    /// How many places there can be.
    pub(crate) fn bound(&self) -> usize {
        match &self.store {
            PlaceStore::Lent(places) => places.len(),
            #[cfg(feature = "alloc")]
            PlaceStore::Owned { bound, .. } => *bound,
        }
    }

    /// How many places there are now.
    fn len(&self) -> usize {
        match &self.store {
            PlaceStore::Lent(places) => places.len(),
            #[cfg(feature = "alloc")]
            PlaceStore::Owned { pieces, shift, bound } => (pieces.len() << shift).min(*bound),
        }
    }

    /// A place that nobody has used yet; `None` when there is none, though [`grow`](Self::grow) may make some.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let at = self.used;
        if at as usize >= self.len() {
            return None;
        }
        self.used += 1;
        Some(at)
    }

    /// How many places that nobody has used yet are there.
    pub(crate) fn spare(&self) -> usize {
        self.len() - self.used as usize
    }

    /// Takes one more piece of the heap. False at the bound, and for lent memory.
    pub(crate) fn grow(&mut self) -> bool {
        match &mut self.store {
            PlaceStore::Lent(_) => false,
            #[cfg(feature = "alloc")]
            PlaceStore::Owned { pieces, shift, bound } => {
                let more = (*bound).saturating_sub(pieces.len() << *shift).min(1 << *shift);
                if more > 0 {
                    pieces.push(alloc::vec![T::EMPTY; more].into_boxed_slice());
                }
                more > 0
            }
        }
    }
}

#[cfg(feature = "alloc")]
const fn mask(shift: u32) -> usize {
    (1 << shift) - 1
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn places_grow_a_piece_at_a_time_to_their_bound_and_stay_where_they_are() {
        let mut places: Places<u32> = Places::owned(10, 2);
        for (taken, spare) in (0_u32..).zip([3, 2, 1, 0]) {
            assert_eq!(places.take(), Some(taken));
            *places.get_mut(taken).unwrap() = taken;
            assert_eq!(places.spare(), spare);
        }
        assert_eq!(places.take(), None);
        let first: *const u32 = places.get(0).unwrap();
        assert!(places.grow() && places.grow() && !places.grow());
        assert!(core::ptr::eq(first, places.get(0).unwrap()));
        assert_eq!(places.spare(), 6);
        assert!((4..10).all(|at| places.take() == Some(at) && places.get(at) == Some(&u32::EMPTY)));
        assert_eq!((places.take(), places.get(10), places.bound()), (None, None, 10));
    }

    #[test]
    fn a_copy_has_the_same_places_and_is_no_other_ones_memory() {
        let lent = alloc::boxed::Box::leak(alloc::boxed::Box::new([0_u32; 3]));
        for mut places in [Places::lent(lent), Places::owned(3, 1)] {
            let taken = places.take().unwrap();
            *places.get_mut(taken).unwrap() = 7;
            let mut copy = places.clone();
            assert_eq!((copy.spare(), copy.bound(), copy.get(taken)), (places.spare(), 3, Some(&7)));
            *copy.get_mut(taken).unwrap() = 8;
            assert_eq!((places.get(taken), copy.get(9)), (Some(&7), None));
            assert_eq!(copy.take(), places.take());
        }
    }

    #[test]
    fn a_bound_of_none_has_no_places() {
        let mut places: Places<u32> = Places::owned(0, 2);
        assert!(!places.grow());
        assert_eq!((places.take(), places.bound()), (None, 0));
    }

    #[test]
    fn lent_places_are_all_there_from_the_start() {
        let mut places = Places::lent(alloc::boxed::Box::leak(alloc::boxed::Box::new([0_u32; 3])));
        assert!(!places.grow());
        assert_eq!((places.spare(), places.bound()), (3, 3));
        assert!((0..3).all(|at| places.take() == Some(at)));
        assert_eq!(places.take(), None);
    }
}
