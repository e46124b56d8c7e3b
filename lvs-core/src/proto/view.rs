//! From where a packet is seen, and what an entry is worth.

/// From where a packet is seen; it chooses the part of the state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// From the client, on a connection whose replies are seen too.
    Input,
    /// From the real server.
    Output,
    /// From the client, on a connection whose replies bypass the director (DR, TUN).
    InputOnly,
}

/// What a full table would lose with an entry, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// Closing or closed.
    Closing,
    /// The handshake was never completed.
    HalfOpen,
    /// A UDP flow.
    Stateless,
    /// Established: never given up.
    Established,
}
