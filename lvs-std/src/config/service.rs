//! A virtual service as it is configured.

use lvs_core::{ServerConfig, ServiceConfig, ServiceKey};

use crate::control::convert;
use crate::health::{Policy, Probe};

/// A virtual service with its real servers, in the order of the configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VirtualService {
    /// What tells the service from others.
    pub key: ServiceKey,
    /// Scheduler, persistence and flags.
    pub config: ServiceConfig,
    /// The real servers, in the order in which they are added.
    pub servers: Vec<ServerConfig>,
    /// How the service masks failures of its servers.
    pub health: ServiceHealth,
}

impl VirtualService {
    /// A service without servers, of which nothing is checked.
    #[must_use]
    pub fn new(key: ServiceKey, config: ServiceConfig) -> Self {
        Self { key, config, servers: Vec::new(), health: ServiceHealth::default() }
    }

    /// Whether another configuration says the same of this service and its servers.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        // Compared as the control interface sees it: what differs below that would make a reload change what nobody
        // can see.
        let spec = |service: &Self| convert::service_spec(service.key.family(), &service.config);
        self.key == other.key && spec(self) == spec(other) && self.servers == other.servers
    }
}

/// How a service masks failures of its servers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServiceHealth {
    /// What follows from the answers.
    pub policy: Policy,
    /// The server that serves alone while the quorum is lost.
    pub sorry: Option<ServerConfig>,
    /// For each server, in their order, what must answer for it to be up. A server without probes is always up.
    pub probes: Vec<Vec<Probe>>,
}

impl ServiceHealth {
    /// Checks by these probes: a list for each server, in the order of the servers.
    #[must_use]
    pub fn new(policy: Policy, probes: Vec<Vec<Probe>>) -> Self {
        Self { policy, sorry: None, probes }
    }

    /// Whether anything is checked at all.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.probes.iter().any(|probes| !probes.is_empty())
    }
}
