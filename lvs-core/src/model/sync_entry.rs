//! A connection or a template as directors tell each other about it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::flow::Family;
use crate::model::id::ConnId;

/// A connection or a template as a sync message has it: a value with nothing of the director's tables in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SyncEntry {
    pub(crate) addresses: Addresses,
    /// The client's port; 0 when it is not known, and of templates.
    pub client_port: u16,
    /// The virtual port.
    pub virtual_port: u16,
    /// The real server's port.
    pub server_port: u16,
    /// Number of the transport protocol; 0 in templates of firewall marks.
    pub protocol: u8,
    /// The state by [`State::number`](crate::conn::State::number); of a template, 1 when it is assured.
    pub state: u16,
    /// The forwarding method and the flags below. A sender may set more than a receiver takes.
    pub flags: u32,
    /// The firewall mark of its service, 0 for none. Version 0 has none.
    pub mark: u32,
    /// How long it may idle, in seconds; 0 for the receiver's own. Version 0 has none.
    pub timeout: u32,
    /// How sequence numbers are shifted, if they are.
    pub sequences: Option<Sequences>,
    /// Of a template with engine data: the entry in the sender's table that has the data. `None` in a received one,
    /// whose data is in [`Received::engine`](crate::sync::Received::engine).
    pub engine: Option<ConnId>,
}

impl SyncEntry {
    /// The forwarding method among the flags: 0 NAT, 1 local, 2 tunnel, 3 direct routing, 4 bypass.
    pub const METHOD: u32 = 0x0007;
    /// Flag: the entry came from another director.
    pub const SYNC: u32 = 0x0020;
    /// Flag: the entry is in a table. Never sent.
    pub const HASHED: u32 = 0x0040;
    /// Replies are not expected to pass the director.
    pub const NO_OUTPUT: u32 = 0x0080;
    /// Flag: the state counts as inactive.
    pub const INACTIVE: u32 = 0x0100;
    /// Sequence numbers of the real server are shifted.
    pub const OUT_SEQ: u32 = 0x0200;
    /// Sequence numbers of the client are shifted.
    pub const IN_SEQ: u32 = 0x0400;
    /// The client's port is still to be learnt.
    pub const NO_CLIENT_PORT: u32 = 0x0800;
    /// Flag: the entry is a template.
    pub const TEMPLATE: u32 = 0x1000;
    /// Flag: the connection is for one packet. Such entries are not sent.
    pub const ONE_PACKET: u32 = 0x2000;

    /// An entry without flags, of NAT, in state 0; `None` when the three are not of one family.
    #[must_use]
    pub const fn new(protocol: u8, client: SocketAddr, virt: SocketAddr, server: SocketAddr) -> Option<Self> {
        let addresses = match (client.ip(), virt.ip(), server.ip()) {
            (IpAddr::V4(client), IpAddr::V4(virt), IpAddr::V4(server)) => {
                Addresses::V4([client, virt, server])
            }
            (IpAddr::V6(client), IpAddr::V6(virt), IpAddr::V6(server)) => {
                Addresses::V6([client, virt, server])
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _, _) => return None,
        };
        Some(Self {
            addresses,
            client_port: client.port(),
            virtual_port: virt.port(),
            server_port: server.port(),
            protocol,
            state: 0,
            flags: 0,
            mark: 0,
            timeout: 0,
            sequences: None,
            engine: None,
        })
    }

    /// The client; of a template its network, without a port.
    #[must_use]
    pub const fn client(&self) -> SocketAddr {
        SocketAddr::new(self.addresses.all()[0], self.client_port)
    }

    /// The virtual address and port; of a template of a firewall mark, the mark in place of the address.
    #[must_use]
    pub const fn virtual_address(&self) -> SocketAddr {
        SocketAddr::new(self.addresses.all()[1], self.virtual_port)
    }

    /// The real server.
    #[must_use]
    pub const fn server(&self) -> SocketAddr {
        SocketAddr::new(self.addresses.all()[2], self.server_port)
    }

    /// The family of all three.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.addresses {
            Addresses::V4(_) => Family::V4,
            Addresses::V6(_) => Family::V6,
        }
    }

    /// Whether it is a template.
    #[must_use]
    pub const fn is_template(&self) -> bool {
        self.flags & Self::TEMPLATE != 0
    }
}

// It is carried inside an event.
const _: () = assert!(size_of::<SyncEntry>() <= 112);

/// Client, virtual address and real server, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Addresses {
    V4([Ipv4Addr; 3]),
    V6([Ipv6Addr; 3]),
}

impl Addresses {
    const fn all(self) -> [IpAddr; 3] {
        match self {
            Self::V4([client, virt, server]) => [IpAddr::V4(client), IpAddr::V4(virt), IpAddr::V4(server)],
            Self::V6([client, virt, server]) => [IpAddr::V6(client), IpAddr::V6(virt), IpAddr::V6(server)],
        }
    }
}

/// How the sequence numbers of both directions are shifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the layout of the message")]
pub struct Sequences {
    /// From the client.
    pub inbound: Shift,
    /// From the real server.
    pub outbound: Shift,
}

/// How the sequence numbers of one direction are shifted (a helper changed the length of a payload).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the layout of the message")]
pub struct Shift {
    /// The sequence number of the last change.
    pub initial: u32,
    /// What is added behind it.
    pub delta: u32,
    /// What is added up to it.
    pub previous: u32,
}
