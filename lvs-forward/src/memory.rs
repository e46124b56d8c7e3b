//! Memory that is bounded when it is given: lent by the program, or taken from the heap once.

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
