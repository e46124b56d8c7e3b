//! The places for servers in a store: which of them are free, and where a server is found that is in no service.
//!
//! A server in a service is found by the service's chain. A removed one and a stand-in are in a chain too, of those
//! whose keys' hashes lead to the same place; that place's [`Server::head`] is the first of them. So neither the search
//! for a free place nor that for a server that comes back looks at all places of a large store.
//!
//! Servers of NAT are found by their addresses too, for packets that they send of their own accord: those in services
//! of one protocol by one chain, those in services by mark by another. So the first in such a chain is nearly always
//! one that is looked for, though thousands of services may have the same server. The chains go both ways, since all of
//! those may be removed.

use core::net::SocketAddr;

use crate::director::engine::Engine;
use crate::model::flow::Protocol;
use crate::model::id::ServerId;
use crate::model::key::ServiceKey;
use crate::model::method::Method;
use crate::model::seed::Seed;
use crate::model::server::{Life, Server};
use crate::model::tick::Tick;
use crate::sched::order::walk;
use crate::store::Store;

impl<S: Store> Engine<'_, S> {
    /// A vacant place, if need be that of a removed server that nothing refers to.
    pub(super) fn take_vacant(&mut self) -> Option<ServerId> {
        let places = &mut self.brain.places;
        if let Some(id) = places.vacant {
            places.vacant = self.tables.servers.get_mut(id.0 as usize)?.next.take();
            return Some(id);
        }
        if places.taken < self.tables.servers.len() {
            let id = ServerId(places.taken as u32);
            places.taken += 1;
            return Some(id);
        }
        let over = |server: &Server| server.is_removed() && !server.is_referred_to();
        let at = first_from(self.tables.servers, places.replaced, over)?;
        places.replaced = at + 1;
        self.brain.trash -= 1;
        let id = ServerId(at as u32);
        self.unlist(id);
        self.tables.servers[at].vacate();
        Some(id)
    }

    /// Gives a place back whose server is in no chain.
    fn give_back(&mut self, id: ServerId) {
        let server = &mut self.tables.servers[id.0 as usize];
        server.vacate();
        server.next = self.brain.places.vacant.replace(id);
    }

    /// Gives the place of a stand-in back that nothing refers to.
    #[inline]
    pub(super) fn leave_standin(&mut self, id: ServerId) {
        let server = &self.tables.servers[id.0 as usize];
        if server.is_standin() && !server.is_referred_to() {
            self.unlist(id);
            self.give_back(id);
        }
    }

    /// Gives back the places of the removed servers that are over. `is_over` also learns since when one has been idle.
    pub(super) fn give_back_removed(&mut self, mut is_over: impl FnMut(&mut Server, Option<Tick>) -> bool) {
        for head in 0..self.tables.servers.len() {
            let mut before = None;
            let mut next = self.tables.servers[head].head;
            while let Some(id) = next {
                let server = &mut self.tables.servers[id.0 as usize];
                next = server.next;
                let over = match server.life {
                    Life::Removed { idle_since } => is_over(server, idle_since),
                    Life::Standin | Life::Available | Life::Vacant => false,
                };
                if over {
                    self.unlink(head, before, id);
                    self.give_back(id);
                    self.brain.trash -= 1;
                } else {
                    before = Some(id);
                }
            }
        }
    }

    /// Lets a server without a service be found by its key.
    pub(super) fn list(&mut self, id: ServerId) {
        let head = self.head(&self.tables.servers[id.0 as usize].key);
        let first = self.tables.servers[head].head.replace(id);
        self.tables.servers[id.0 as usize].next = first;
    }

    /// The opposite of [`list`](Self::list).
    pub(super) fn unlist(&mut self, id: ServerId) {
        let head = self.head(&self.tables.servers[id.0 as usize].key);
        let first = self.tables.servers[head].head.filter(|&first| first != id);
        let before = walk(self.tables.servers, first).find(|(_, server)| server.next == Some(id));
        self.unlink(head, before.map(|(before, _)| before), id);
    }

    /// Takes a server out of the chain that begins at `head`, where it is behind `before`.
    fn unlink(&mut self, head: usize, before: Option<ServerId>, id: ServerId) {
        let after = self.tables.servers[id.0 as usize].next.take();
        match before {
            Some(before) => self.tables.servers[before.0 as usize].next = after,
            None => self.tables.servers[head].head = after,
        }
    }

    /// The server without a service that is wanted, among those that this key leads to.
    pub(super) fn find_listed(&self, key: &ServiceKey, wanted: impl Fn(&Server) -> bool) -> Option<ServerId> {
        let first = self.tables.servers.get(self.head(key))?.head;
        walk(self.tables.servers, first).find(|(_, server)| wanted(server)).map(|(id, _)| id)
    }

    /// Changes the removed servers that still belong to the service at `index`, which has this key.
    pub(super) fn for_removed(&mut self, key: &ServiceKey, index: u32, change: impl Fn(&mut Server)) {
        let mut next = self.tables.servers.get(self.head(key)).and_then(|server| server.head);
        while let Some(server) = next.and_then(|id| self.tables.servers.get_mut(id.0 as usize)) {
            if server.service.0 == index {
                change(server);
            }
            next = server.next;
        }
    }

    /// Lets a server in a service be found by its address, if it is one of NAT.
    pub(super) fn list_at(&mut self, id: ServerId) {
        let servers = &mut *self.tables.servers;
        let own = &servers[id.0 as usize];
        let Some(chain) = Chain::of(own) else { return };
        let head = head_at(servers, self.brain.config.seed, chain, own.address);
        let after = servers[head].head_at.replace(id);
        let server = &mut servers[id.0 as usize];
        (server.before_at, server.next_at) = (None, after);
        if let Some(after) = after {
            servers[after.0 as usize].before_at = Some(id);
        }
    }

    /// The opposite of [`list_at`](Self::list_at).
    pub(super) fn unlist_at(&mut self, id: ServerId) {
        let servers = &mut *self.tables.servers;
        let server = &mut servers[id.0 as usize];
        let Some(chain) = Chain::of(server) else { return };
        let (address, before, after) = (server.address, server.before_at.take(), server.next_at.take());
        match before {
            Some(before) => servers[before.0 as usize].next_at = after,
            None => {
                let head = head_at(servers, self.brain.config.seed, chain, address);
                servers[head].head_at = after;
            }
        }
        if let Some(after) = after {
            servers[after.0 as usize].before_at = before;
        }
    }

    /// The place that knows the first server of a key's chain.
    fn head(&self, key: &ServiceKey) -> usize {
        // Strangers choose the addresses of some stand-ins, so the hash is keyed.
        place(key, self.tables.servers, self.brain.config.seed)
    }
}

/// By which of the chains of its address a server of NAT is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// Of servers whose service is for this protocol.
    Protocol(Protocol),
    /// Of servers whose service goes by mark.
    Marked,
}

impl Chain {
    /// The chain that a server is in; `None` if it is not one of NAT.
    const fn of(server: &Server) -> Option<Self> {
        match (server.method, server.key) {
            (Method::Nat, ServiceKey::Address { protocol, .. }) => Some(Self::Protocol(protocol)),
            (Method::Nat, ServiceKey::Mark { .. }) => Some(Self::Marked),
            (Method::Bypass | Method::Direct | Method::Local | Method::Tunnel(_), _) => None,
        }
    }
}

/// The servers of NAT at an address, in services that this chain is for: nothing that a server sends of its own accord
/// belongs to another one. Of one place no more than [`MOST_LOOKED_AT`] are looked at, whoever has that address.
pub(super) fn servers_at(
    servers: &[Server],
    seed: Seed,
    chain: Chain,
    address: SocketAddr,
) -> impl Iterator<Item = (ServerId, &Server)> {
    let mut next = servers.get(head_at(servers, seed, chain, address)).and_then(|server| server.head_at);
    let all = core::iter::from_fn(move || {
        let id = next?;
        let server = servers.get(id.0 as usize)?;
        next = server.next_at;
        Some((id, server))
    });
    all.take(MOST_LOOKED_AT)
        .filter(move |(_, server)| server.address == address && Chain::of(server) == Some(chain))
}

/// The place that knows the first server of an address's chain.
fn head_at(servers: &[Server], seed: Seed, chain: Chain, address: SocketAddr) -> usize {
    let (ip, port) = (address.ip(), address.port());
    let key = match chain {
        Chain::Protocol(protocol) => ServiceKey::Address { protocol, address: ip, port },
        // Any place but those of the protocols does.
        Chain::Marked => ServiceKey::udp(ip, !port),
    };
    place(&key, servers, seed)
}

/// How many servers of a chain are looked at for a packet: of thousands of services that have one server in common, the
/// ones added last.
const MOST_LOOKED_AT: usize = 256;

/// The place that a key leads to.
fn place(key: &ServiceKey, servers: &[Server], seed: Seed) -> usize {
    (key.hash(seed) % (servers.len() as u64).max(1)) as usize
}

/// The first item that is wanted, from a place on and then from the beginning.
pub(super) fn first_from<T>(items: &[T], from: usize, wanted: impl Fn(&T) -> bool) -> Option<usize> {
    let from = from.min(items.len());
    let (before, rest) = items.split_at_checked(from)?;
    let behind = rest.iter().position(&wanted).map(|at| from + at);
    behind.or_else(|| before.iter().position(&wanted))
}
