//! What must not be lost of what happens to real servers: kept at each server until it is asked for.

use crate::model::event::Event;
use crate::model::id::{ServerId, ServerRef};
use crate::model::key::ServiceKey;

/// What has happened to a real server since it was last asked for; see
/// [`Director::poll_server`](crate::Director::poll_server). In which order it did is not told; how the server is now
/// says [`Director::server`](crate::Director::server).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ServerNews {
    /// The server.
    pub server: ServerId,
    /// How many servers had its place before, [`Server::generation`](crate::service::Server::generation).
    pub generation: u32,
    /// The embedder's own mark of it, [`ServerConfig::tag`](crate::ServerConfig::tag).
    pub tag: u64,
    /// The service that it is in, or was in before it was removed, also when that one is gone.
    pub service: ServiceKey,
    /// The last connection of a server was gone while it was removed or had weight 0.
    pub drained: bool,
    /// The server reached its upper threshold.
    pub overloaded: bool,
    /// The server fell below its lower threshold.
    pub relieved: bool,
}

impl ServerNews {
    /// The server, and no other one that may have its id later.
    #[must_use]
    pub const fn server_ref(&self) -> ServerRef {
        self.server.of_generation(self.generation)
    }
}

/// What can happen to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerFact {
    Drained,
    Overloaded,
    Relieved,
}

impl ServerFact {
    pub(crate) const fn event(self, server: ServerId) -> Event {
        match self {
            Self::Drained => Event::Drained { server },
            Self::Overloaded => Event::Overloaded { server },
            Self::Relieved => Event::Relieved { server },
        }
    }
}

/// What a server keeps until it is asked for, and its place in the list of those that have something to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    facts: u8,
    /// Whether it is in the list, also when there is nothing to say any more.
    pub(crate) listed: bool,
    pub(crate) next: Option<ServerId>,
}

impl Pending {
    pub(crate) const NOTHING: Self = Self { facts: 0, listed: false, next: None };

    pub(crate) const fn add(&mut self, fact: ServerFact) {
        self.facts |= 1 << fact as u8;
    }

    /// Another server has the place: what the former one had to say is nobody's, and the place stays in the list.
    pub(crate) const fn of_another(self) -> Self {
        Self { facts: 0, ..self }
    }

    pub(crate) const fn has(self, fact: ServerFact) -> bool {
        self.facts & 1 << fact as u8 != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.facts == 0
    }
}

/// The list of servers that have something to say.
#[derive(Clone, Debug)]
pub(crate) struct NewsList {
    pub(crate) first: Option<ServerId>,
    pub(crate) last: Option<ServerId>,
}

impl NewsList {
    pub(crate) const EMPTY: Self = Self { first: None, last: None };
}
