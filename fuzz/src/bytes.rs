//! The input of a fuzz target, read as choices.

/// Bytes to be read; 0 for ever after the last.
pub(crate) struct Bytes<'a>(core::slice::Iter<'a, u8>);

impl<'a> Bytes<'a> {
    pub(crate) fn of(data: &'a [u8]) -> Self {
        Self(data.iter())
    }

    pub(crate) fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}
