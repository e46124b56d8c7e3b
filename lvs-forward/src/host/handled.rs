//! What became of a message to the host itself.

/// What became of a message to the host itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// The frame is the answer now and leaves by the port it came from.
    Answered,
    Consumed,
    Malformed,
    NotOurs,
}
