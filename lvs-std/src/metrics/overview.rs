//! Everything that a watcher shows.

use crate::control::api::{HealthRow, PastEvent};
use crate::control::{DesiredServer, ServerReport, ServiceName};
use crate::worker::{Snapshot, WorkerGone};

/// Whoever can be watched.
pub trait Watched: Send + Sync {
    /// Everything that a watcher shows, as it is now.
    ///
    /// # Errors
    /// [`WorkerGone`], when the director ends.
    fn overview(&self) -> Result<Overview, WorkerGone>;
}

/// A running director as metrics, `director top` and the web page show it.
///
/// What workers count is as they published it last, at most a second ago. Services are read some at a time, so that
/// neither packets nor commands wait for a long table: a server's numbers are of one moment, those of two services need
/// not be.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever is watched")]
pub struct Overview {
    /// All workers together.
    pub total: Snapshot,
    /// What each worker published.
    pub workers: Vec<Snapshot>,
    /// The names of the interfaces, in the order of the snapshots' ports.
    pub interfaces: Vec<String>,
    /// Entries that the connection tables of all workers can have.
    pub capacity: u64,
    /// The services, in the order of their names.
    pub services: Vec<WatchedService>,
    /// The checks, and what does not work as it should.
    pub health: HealthRow,
    /// What happened last, the newest first.
    pub events: Vec<PastEvent>,
}

/// A service in an [`Overview`].
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever is watched")]
pub struct WatchedService {
    /// The service.
    pub name: ServiceName,
    /// The name of the service's scheduler.
    pub scheduler: String,
    /// The service's real servers, as they were declared.
    pub servers: Vec<WatchedServer>,
}

/// A real server in an [`Overview`].
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever is watched")]
pub struct WatchedServer {
    /// What was declared, and what operators and checks have to say.
    pub declared: DesiredServer,
    /// What listings tell of it; `None` while checks keep it out.
    pub report: Option<ServerReport>,
}
