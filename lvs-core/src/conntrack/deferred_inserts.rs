//! What a batch has changed in the index so far, and what it has put off to its end.
//!
//! Packets of a batch are looked up together before the first of them is decided. What was found stays true until an
//! entry of the same hash comes or goes, so hashes that change are marked, in so few bits that all are cleared at once;
//! two hashes may share one, and then a packet is looked up again for nothing.
//!
//! Where replies of a new NAT connection are found is known only when its server is chosen, too late to read that part
//! of the index ahead. So these entries wait for the end of the batch, and are put in with all their places read
//! together.

/// The index's changes during a batch.
#[derive(Clone, Debug)]
pub(crate) struct DeferredInserts {
    marks: [u64; MARKS / 64],
    /// Hash and value, oldest first.
    waiting: [(u32, u32); ROOM],
    len: usize,
    /// Whether a batch is under way.
    open: bool,
    /// Whether anything is marked.
    marked: bool,
}

impl DeferredInserts {
    pub(crate) const NEW: Self =
        Self { marks: [0; MARKS / 64], waiting: [(0, 0); ROOM], len: 0, open: false, marked: false };

    /// A batch begins: nothing has changed yet.
    pub(crate) const fn begin(&mut self) {
        // Most batches change nothing, and then there is nothing to clear.
        if self.marked {
            self.marks = [0; MARKS / 64];
            self.marked = false;
        }
        self.open = true;
    }

    /// The batch is over.
    pub(crate) const fn end(&mut self) {
        self.open = false;
    }

    /// Entries of this hash change.
    #[inline]
    pub(super) fn mark(&mut self, hash: u32) {
        // Two hashes may share a bit. That costs a second look-up and can never hide a change.
        let bit = hash as usize % MARKS;
        self.marks[bit / 64] |= 1 << (bit % 64);
        self.marked = true;
    }

    /// Whether entries of this hash may have changed since the batch began.
    #[inline]
    pub(crate) fn is_marked(&self, hash: u32) -> bool {
        let bit = hash as usize % MARKS;
        self.marked && self.marks[bit / 64] & 1 << (bit % 64) != 0
    }

    /// Puts an entry off. `false` when it has to go in at once.
    #[inline]
    pub(super) fn put_off(&mut self, hash: u32, value: u32) -> bool {
        let Some(place) = self.waiting.get_mut(self.len).filter(|_| self.open) else { return false };
        *place = (hash, value);
        self.len += 1;
        true
    }

    /// What was put off, oldest first.
    #[inline]
    pub(super) fn waiting(&self) -> &[(u32, u32)] {
        self.waiting.get(..self.len).unwrap_or_default()
    }

    /// What was put off has been put in.
    pub(super) const fn settled(&mut self) {
        self.len = 0;
    }
}

/// A batch changes up to 64 of them, so a packet of another hash meets a mark by chance in one of 16 cases at most.
const MARKS: usize = 1_024;
/// Entries that can wait; a further one goes in at once.
const ROOM: usize = 32;
