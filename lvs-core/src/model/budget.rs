//! How much a sweep may still do.

/// What a sweep may still do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Slots to be looked at.
    pub(crate) slots: usize,
    /// About how long it may take: in the time that a slot takes whose time has not come.
    pub(crate) work: usize,
}

impl Budget {
    /// Whether anything is left.
    pub(crate) const fn lasts(&self) -> bool {
        self.slots > 0 && self.work > 0
    }

    /// So many slots were looked at, with so much work.
    pub(crate) const fn spend(&mut self, slots: usize, work: usize) {
        self.slots = self.slots.saturating_sub(slots);
        self.work = self.work.saturating_sub(work);
    }
}
