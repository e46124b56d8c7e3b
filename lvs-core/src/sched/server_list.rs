//! The servers of a service, as look-up tables are made from them.

use core::net::SocketAddr;

use super::order::walk;
use crate::model::flow::Family;
use crate::model::id::ServerId;
use crate::model::server::{Server, ServerConfig};

/// Makes a look-up table for the servers of a service: of the lent cells, the first
/// [`least`](super::schedule::TableLen::least) are the table, and the others are room for the work. Says whether there
/// is a table now; else everything is left as it was.
///
/// Equal servers must give equal tables, whatever their ids.
pub type Build = fn(&mut ServerList<'_>, &mut [u32]) -> bool;

/// A real server as far as look-up tables follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub(super) address: SocketAddr,
    /// As configured.
    weight: u32,
    last_weight: u32,
    /// Whether failures hold it back, so that its weight counts as 0.
    held_back: bool,
    /// What stands for it in cells: its id, or [`NEW`] and its place in the list while it is still to be added.
    pub(super) cell: u32,
}

impl Member {
    /// A server that will be added.
    #[must_use]
    pub fn new(config: &ServerConfig) -> Self {
        let weight = config.weight.get();
        let address = SocketAddr::new(config.address.ip(), config.address.port());
        Self { address, weight, last_weight: weight, held_back: false, cell: NEW }
    }

    pub(crate) const fn of(id: ServerId, server: &Server) -> Self {
        Self {
            address: server.address,
            weight: server.standing.configured(),
            last_weight: server.last_weight(),
            held_back: server.is_held_back(),
            cell: id.0,
        }
    }

    /// Changes the server as [`Director::edit_server`](crate::Director::edit_server) does.
    pub fn edit(&mut self, config: &ServerConfig) {
        self.weight = config.weight.get();
        if self.weight != 0 {
            self.last_weight = self.weight;
        }
    }

    /// Address and port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The weight; 0 is quiesced, or held back by failures.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        if self.held_back { 0 } else { self.weight }
    }

    /// The last weight other than 0 that was configured (0 if there was none).
    #[must_use]
    pub const fn last_weight(&self) -> u32 {
        self.last_weight
    }

    /// What names it in the cells of a table.
    #[must_use]
    pub const fn cell(&self) -> u32 {
        self.cell
    }

    /// Whether it is this server, which stands at this place.
    pub(super) const fn is(&self, id: ServerId, other: &Self) -> bool {
        (self.cell & NEW != 0 || self.cell == id.0)
            && self.weight == other.weight
            && self.last_weight == other.last_weight
            && self.held_back == other.held_back
    }
}

/// The servers of a service, newest first, lent to a [`Build`].
#[derive(Debug)]
pub struct ServerList<'a> {
    pub(super) source: Source<'a>,
    pub(super) family: Family,
    pub(super) len: usize,
}

/// Where they are.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// In a director's store.
    Chain { servers: &'a mut [Server], first: Option<ServerId> },
    /// In a list.
    List(&'a [Member]),
}

impl<'a> ServerList<'a> {
    pub(crate) fn chain(
        servers: &'a mut [Server],
        first: Option<ServerId>,
        len: usize,
        family: Family,
    ) -> Self {
        Self { source: Source::Chain { servers, first }, family, len }
    }

    /// The family of clients and virtual addresses. Servers behind tunnels may be of the other one.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// How many servers there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The servers in order, newest first.
    pub fn iter(&self) -> impl Iterator<Item = Member> {
        let (chain, list) = match &self.source {
            Source::Chain { servers, first } => (Some(walk(servers, *first)), None),
            Source::List(members) => (None, Some(members.iter().copied())),
        };
        let chain = chain.into_iter().flatten().map(|(id, server)| Member::of(id, server));
        chain.chain(list.into_iter().flatten())
    }
}

/// What tells the place of a server that is still to be added from ids, which are less: a store has room for fewer
/// servers.
pub(super) const NEW: u32 = 1 << 31;
