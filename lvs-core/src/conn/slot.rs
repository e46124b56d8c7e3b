//! One entry of the connection table: a cache line.

use crate::conn::key::Key;
use crate::flow::Flow;
use crate::method::{Method, Tunnel};
use crate::proto::State;
use crate::tick::Stamp;

/// A connection, 64 bytes for IPv4 and IPv6 alike: the real server is an id, not an address.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// What it is found by in the client's direction.
    client: u128,
    virt: u128,
    ports: u32,
    tag: u8,
    /// Number of the protocol's state.
    state: u8,
    kind: Kind,
    /// No reply was seen yet on a connection whose replies are not expected to pass here.
    no_output: bool,
    /// Index of the real server; `u32::MAX` while the slot is free.
    pub(crate) server: u32,
    /// When its time is up, if no further packet comes.
    pub(crate) deadline: Stamp,
    /// Packets from the client, for listings and replication.
    pub(crate) in_packets: u32,
    /// While the slot is free: the next free one.
    pub(crate) next_free: u32,
    /// Port at the real server.
    pub(crate) server_port: u16,
}

// A slot is read and written for every packet: one cache line, so that a look-up costs one memory access.
const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    pub(crate) const FREE: Self = Self {
        client: 0,
        virt: 0,
        ports: 0,
        tag: 0,
        state: 0,
        kind: Kind::Nat,
        no_output: false,
        server: u32::MAX,
        deadline: Stamp::ZERO,
        in_packets: 0,
        next_free: u32::MAX,
        server_port: 0,
    };

    /// A connection in its first state that nothing has happened to yet.
    pub(crate) fn new(key: &Key, server: u32, server_port: u16, method: Method) -> Self {
        Self {
            client: key.client,
            virt: key.other,
            ports: key.ports,
            tag: key.tag,
            kind: Kind::of(method),
            no_output: !method.sees_replies(),
            server,
            server_port,
            ..Self::FREE
        }
    }

    pub(crate) const fn is_free(&self) -> bool {
        self.server == u32::MAX
    }

    /// The key that requests are found by.
    pub(crate) const fn key(&self) -> Key {
        Key { client: self.client, other: self.virt, ports: self.ports, tag: self.tag }
    }

    /// Whether packets with this request key belong to it.
    #[inline]
    pub(crate) fn answers(&self, key: &Key) -> bool {
        self.client == key.client && self.virt == key.other && self.ports == key.ports && self.tag == key.tag
    }

    /// Whether a NAT reply to this client and client port may belong to it; the server is still to be compared.
    #[inline]
    pub(crate) fn answers_client(&self, key: &Key) -> bool {
        self.client == key.client
            && key.client_port() == (self.ports >> 16) as u16
            && key.other_port() == self.server_port
            && key.tag == self.tag | Key::REPLY
            && self.kind == Kind::Nat
    }

    /// From the client to the virtual address.
    pub(crate) const fn flow(&self) -> Flow {
        self.key().flow()
    }

    #[inline]
    pub(crate) const fn state(&self) -> State {
        State::from_number(self.key().protocol(), self.state)
    }

    pub(crate) const fn set_state(&mut self, state: State) {
        self.state = state.number();
    }

    pub(crate) const fn is_nat(&self) -> bool {
        matches!(self.kind, Kind::Nat)
    }

    /// Whether only the client's packets were seen so far, and nothing else was to be expected.
    pub(crate) const fn is_one_way(&self) -> bool {
        self.no_output
    }

    pub(crate) const fn saw_output(&mut self) {
        self.no_output = false;
    }

    /// The connection's own method, with the tunnel options that its server has now.
    #[inline]
    pub(crate) const fn method(&self, of_server: Method) -> Method {
        match self.kind {
            Kind::Nat => Method::Nat,
            Kind::Direct => Method::Direct,
            Kind::Tunnel => match of_server {
                Method::Tunnel(tunnel) => Method::Tunnel(tunnel),
                Method::Nat | Method::Direct => Method::Tunnel(Tunnel::IpIp),
            },
        }
    }
}

/// A forwarding method without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Nat,
    Direct,
    Tunnel,
}

impl Kind {
    const fn of(method: Method) -> Self {
        match method {
            Method::Nat => Self::Nat,
            Method::Direct => Self::Direct,
            Method::Tunnel(_) => Self::Tunnel,
        }
    }
}
