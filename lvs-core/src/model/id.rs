//! Ids: small numbers that name an entry of the connection table, a service or a real server.

/// Names an entry of the connection table while that entry lives. Afterwards another connection may have the id: who
/// holds on to one for longer than a turn keeps its flow, and finds it by that
/// ([`find_connection`](crate::Director::find_connection)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ConnId(pub(crate) u32);

impl ConnId {
    /// The id of no entry: of a packet under one-packet scheduling.
    pub const NONE: Self = Self(u32::MAX);

    /// The id with this number. One that names nothing is harmless: look-ups by it find nothing.
    #[must_use]
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The slot's number, 0 up to the table's capacity.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Names a virtual service while it exists. Afterwards another one may have the id; a
/// [`ServiceKey`](crate::ServiceKey) names a service for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ServiceId(pub(crate) u32);

impl ServiceId {
    /// The service's number, 0 up to the store's capacity for services.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Names a real server while it exists or a connection still refers to it. Afterwards another one may have the id; a
/// [`ServerRef`] names a server for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ServerId(pub(crate) u32);

impl ServerId {
    /// The id with this number. One that names nothing is harmless: look-ups by it find nothing.
    #[must_use]
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The server's number, 0 up to the store's capacity for servers.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// The server that has this id as the one after so many others,
    /// [`Server::generation`](crate::service::Server::generation).
    #[must_use]
    pub const fn of_generation(self, generation: u32) -> ServerRef {
        ServerRef { id: self, generation: Some(generation) }
    }
}

/// A real server that is meant, also when another one may have its id by now: the id, and how many servers had it
/// before. Made of an id alone, it is whichever server has the id.
///
/// ```
/// use lvs_core::pick::Outcome;
/// use lvs_core::{Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick};
///
/// let store: Heap = Heap::with_capacity(16);
/// let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
/// let web: ServiceKey = "tcp 10.99.0.1:80".parse()?;
/// director.add_service(web, ServiceConfig::new(Scheduler::default()))?;
/// let id = director.add_server(web, ServerConfig::new("10.0.1.11:80".parse()?, Method::Nat))?;
/// // What a check finds out about this server may come when another one has its place.
/// let server = id.of_generation(director.server(id).unwrap().generation());
/// director.observe(Tick::ZERO, server, Outcome::Success)?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerRef {
    id: ServerId,
    generation: Option<u32>,
}

impl ServerRef {
    /// The id.
    #[must_use]
    pub const fn id(self) -> ServerId {
        self.id
    }

    /// How many servers had the id before; `None` for whichever server has it.
    #[must_use]
    pub const fn generation(self) -> Option<u32> {
        self.generation
    }
}

impl From<ServerId> for ServerRef {
    /// Whichever server has the id.
    fn from(id: ServerId) -> Self {
        Self { id, generation: None }
    }
}
