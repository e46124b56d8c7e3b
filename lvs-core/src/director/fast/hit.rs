//! What the fast tier hands over: a view of a known connection, or a verdict.

use core::net::SocketAddr;

use crate::conntrack::family::AddressFamily;
use crate::conntrack::fast_key::FastKey;
use crate::conntrack::slot::Slot;
use crate::model::id::{ConnId, ServerId};
use crate::model::method::{Method, Tunnel};
use crate::model::server::Server;
use crate::model::verdict::{Direction, Forward, Verdict};

/// What is done with packets of a family as soon as they are decided; see
/// [`Director::decide_fast`](crate::Director::decide_fast).
pub trait HitHandler<F: AddressFamily> {
    /// A packet of a known connection that says nothing new about it, which goes on.
    fn hit(&mut self, key: &FastKey<F>, hit: Hit<'_, F>) -> Next;

    /// Whether a request that is none of those goes no further, and is dealt with, before anything is decided about it:
    /// a handler may know that nobody can have sent it.
    #[inline(always)]
    fn turns_away(&mut self, _: &FastKey<F>) -> bool {
        false
    }

    /// Any other packet, with the verdict on it.
    fn decided(&mut self, key: &FastKey<F>, verdict: &Verdict) -> Next;
}

/// Whether further packets are to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Next {
    /// Further packets are to be decided.
    Go,
    /// Not yet: this verdict has to be carried out first, because that tells the director something.
    Stop,
}

/// Where a packet of a known connection goes: a [`Forward`], each part of which is made up only when it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a, F> {
    slot: &'a Slot,
    server: &'a Server,
    id: u32,
    direction: Direction,
    family: core::marker::PhantomData<F>,
}

impl<'a, F: AddressFamily> Hit<'a, F> {
    #[inline(always)]
    pub(super) const fn new(slot: &'a Slot, server: &'a Server, id: u32, direction: Direction) -> Self {
        Self { slot, server, id, direction, family: core::marker::PhantomData }
    }

    /// Which way it goes.
    #[inline(always)]
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// The connection's forwarding method, with the server's present tunnel options.
    #[inline(always)]
    #[must_use]
    pub const fn method(&self) -> Method {
        self.slot.method(self.server.method)
    }

    /// Whether the method is NAT: one comparison, where [`method`](Self::method) is several.
    #[inline(always)]
    #[must_use]
    pub const fn is_nat(&self) -> bool {
        self.slot.is_nat()
    }

    /// Whether the method is direct routing: one comparison, where [`method`](Self::method) is several.
    #[inline(always)]
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.slot.is_direct()
    }

    /// The server's present tunnel options, if the method is a tunnel: fewer comparisons than [`method`](Self::method).
    #[inline(always)]
    #[must_use]
    pub const fn tunnel(&self) -> Option<Tunnel> {
        if !self.slot.is_tunnel() {
            return None;
        }
        match self.server.method {
            Method::Tunnel(tunnel) => Some(tunnel),
            // The server has become one of another method; its connections keep theirs.
            Method::Bypass | Method::Direct | Method::Local | Method::Nat => Some(Tunnel::IpIp),
        }
    }

    /// The real server.
    #[inline(always)]
    #[must_use]
    pub const fn server(&self) -> ServerId {
        ServerId(self.slot.server)
    }

    /// The real server's address, which under tunnelling may be of the other family. The port is the one that the
    /// server was added with.
    #[inline(always)]
    #[must_use]
    pub const fn server_address(&self) -> &'a SocketAddr {
        &self.server.address
    }

    /// [`Forward::target`] in host byte order; `None` for a server of the other family.
    #[inline(always)]
    #[must_use]
    pub fn target(&self) -> Option<(F::Bits, u16)> {
        match self.direction {
            Direction::Request => Some((F::socket_bits(&self.server.address)?, self.slot.server_port)),
            Direction::Reply => Some(self.slot.virtual_end::<F>()),
        }
    }

    /// All of it.
    #[must_use]
    pub const fn forward(&self) -> Forward {
        let target = match self.direction {
            Direction::Request => SocketAddr::new(self.server.address.ip(), self.slot.server_port),
            Direction::Reply => self.slot.flow().destination(),
        };
        Forward {
            direction: self.direction,
            method: self.method(),
            target,
            connection: ConnId(self.id),
            server: self.server(),
            helper: None,
        }
    }
}
