//! The steps that a director's table goes through.

use core::net::SocketAddr;

use lvs_core::{Scheduler, ServerConfig, ServiceConfig, ServiceKey};

/// One step of a change to a director's table. Steps that replace something say what was there, so that they can be
/// undone.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "whoever applies changes must handle each")]
pub enum TableChange {
    /// A new service.
    AddService(ServiceKey, ServiceConfig<Scheduler>),
    /// Other options for one.
    EditService {
        /// Which.
        key: ServiceKey,
        /// What it had.
        old: ServiceConfig<Scheduler>,
        /// What it gets.
        new: ServiceConfig<Scheduler>,
    },
    /// A service goes, with its servers.
    RemoveService(ServiceKey),
    /// A new server.
    AddServer(ServiceKey, ServerConfig),
    /// Other options for one.
    EditServer {
        /// Of which service.
        key: ServiceKey,
        /// What it had.
        old: ServerConfig,
        /// What it gets, at the same address.
        new: ServerConfig,
    },
    /// A server goes.
    RemoveServer(ServiceKey, SocketAddr),
}

impl TableChange {
    /// Whether it takes something away, which cannot fail and cannot be undone.
    #[must_use]
    pub const fn removes(&self) -> bool {
        matches!(self, Self::RemoveService(_) | Self::RemoveServer(..))
    }
}
