//! Entries that a full table may give up, which the sweep has found ahead.

/// Entries that may be given up, found by the sweep in a full table.
#[derive(Clone, Debug)]
pub(super) struct Nominees {
    ids: [u32; 32],
    count: usize,
    /// Where the search goes on.
    pub(super) cursor: u32,
}

impl Nominees {
    pub(super) const NONE: Self = Self { ids: [0; 32], count: 0, cursor: 0 };

    pub(super) const fn is_full(&self) -> bool {
        self.count == self.ids.len()
    }

    pub(super) fn push(&mut self, id: u32) {
        if self.ids.get(..self.count).is_some_and(|named| named.contains(&id)) {
            return;
        }
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = id;
            self.count += 1;
        }
    }

    /// All of them.
    #[cfg(feature = "alloc")]
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.ids.iter().copied().take(self.count)
    }

    /// Gives each the number that `of` has for it.
    #[cfg(feature = "alloc")]
    pub(super) fn renumber(&mut self, of: impl Fn(u32) -> Option<u32>) {
        for id in self.ids.iter_mut().take(self.count) {
            *id = of(*id).unwrap_or(u32::MAX);
        }
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        self.count = self.count.checked_sub(1)?;
        self.ids.get(self.count).copied()
    }
}
