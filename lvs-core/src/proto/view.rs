//! From where a packet is seen, and how far a connection has come.

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

/// How far a connection has come in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handshake is not completed.
    HalfOpen,
    /// The protocol has connections, and this is one.
    Established,
    /// The protocol has none.
    Stateless,
    /// One end has closed it.
    Closing,
    /// Both ends have, and the last acknowledgement is missing.
    LastAck,
    /// Closed or reset.
    Over,
}
