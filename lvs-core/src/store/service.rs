//! Virtual services: what clients talk to.

use crate::model::config::ScheduleFlags;
use crate::model::id::ServerId;
use crate::model::key::ServiceKey;
use crate::model::meter::Meter;
use crate::model::persistence::Persistence;
use crate::model::traffic::Traffic;

/// How a virtual service behaves.
///
/// ```
/// use lvs_core::{Scheduler, ServiceConfig};
/// use lvs_core::config::ScheduleFlags;
/// let by_client_port = ScheduleFlags { port: true, ..ScheduleFlags::default() };
/// let config = ServiceConfig::new(Scheduler::from_name("sh").unwrap()).with_flags(by_client_port);
/// assert!(config.flags.port);
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct ServiceConfig<P = crate::sched::Scheduler> {
    /// Chooses the real server of a new connection.
    pub scheduler: P,
    /// Options of the hashing schedulers.
    #[cfg_attr(feature = "serde", serde(default))]
    pub flags: ScheduleFlags,
    /// Whether clients stay with their server. Default not.
    #[cfg_attr(feature = "serde", serde(default))]
    pub persistence: Option<Persistence>,
    /// Whether every UDP datagram is scheduled anew (ipvsadm `-o`), so that there is no connection and replies under
    /// NAT are not translated. Default false; it has no effect on other protocols.
    #[cfg_attr(feature = "serde", serde(default))]
    pub one_packet: bool,
    /// The embedder's own mark of the service, which the director does not look at. Default 0.
    #[cfg_attr(feature = "serde", serde(default))]
    pub tag: u64,
}

impl<P> ServiceConfig<P> {
    /// A service with this scheduler and no flags.
    #[must_use]
    pub fn new(scheduler: P) -> Self {
        Self { scheduler, flags: ScheduleFlags::default(), persistence: None, one_packet: false, tag: 0 }
    }

    /// Lets clients stay with their server.
    #[must_use]
    pub fn with_persistence(mut self, persistence: Persistence) -> Self {
        self.persistence = Some(persistence);
        self
    }

    /// Lets every UDP datagram be scheduled anew.
    #[must_use]
    pub fn with_one_packet(mut self) -> Self {
        self.one_packet = true;
        self
    }

    /// Gives the service a mark of the embedder's own.
    #[must_use]
    pub fn with_tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// Sets the scheduler's flags.
    #[must_use]
    pub fn with_flags(mut self, flags: ScheduleFlags) -> Self {
        self.flags = flags;
        self
    }
}

/// A service in a store.
#[derive(Clone, Debug)]
pub struct Service<P> {
    pub(crate) key: ServiceKey,
    pub(crate) scheduler: P,
    pub(crate) flags: ScheduleFlags,
    pub(crate) persistence: Option<Persistence>,
    pub(crate) one_packet: bool,
    pub(crate) tag: u64,
    /// Head of the chain of servers, newest first.
    pub(crate) first: Option<ServerId>,
    pub(crate) servers: u32,
    /// Whether the look-up table that its scheduler's builder makes is to be made anew.
    pub(crate) stale: bool,
    pub(crate) meter: Meter,
}

impl<P> Service<P> {
    pub(crate) fn new(key: ServiceKey, config: ServiceConfig<P>) -> Self {
        let ServiceConfig { scheduler, flags, persistence, one_packet, tag } = config;
        Self {
            key,
            scheduler,
            flags,
            persistence,
            one_packet,
            tag,
            first: None,
            servers: 0,
            stale: false,
            meter: Meter::ZERO,
        }
    }

    /// Takes over all of a configuration but the scheduler.
    pub(crate) fn behave(&mut self, config: &ServiceConfig<P>) {
        self.flags = config.flags;
        self.persistence = config.persistence;
        self.one_packet = config.one_packet;
        self.tag = config.tag;
    }

    /// What it is reached by.
    #[must_use]
    pub const fn key(&self) -> ServiceKey {
        self.key
    }

    /// The service's port, unless it goes by a mark.
    #[inline]
    pub(crate) const fn port(&self) -> Option<u16> {
        match self.key {
            ServiceKey::Address { port, .. } => Some(port),
            ServiceKey::Mark { .. } => None,
        }
    }

    /// The scheduler that chooses the servers of new connections.
    #[must_use]
    pub const fn scheduler(&self) -> &P {
        &self.scheduler
    }

    /// Options of the hashing schedulers.
    #[must_use]
    pub const fn flags(&self) -> ScheduleFlags {
        self.flags
    }

    /// Whether clients stay with their server.
    #[must_use]
    pub const fn persistence(&self) -> Option<Persistence> {
        self.persistence
    }

    /// Whether every UDP datagram is scheduled anew.
    #[must_use]
    pub const fn one_packet(&self) -> bool {
        self.one_packet
    }

    /// The embedder's own mark, [`ServiceConfig::tag`].
    #[must_use]
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// How many real servers it has.
    #[must_use]
    pub const fn server_count(&self) -> u32 {
        self.servers
    }

    /// What went through it.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.meter.live()
    }

    /// The service's traffic as `ipvsadm` shows it, up to two seconds late, and its rates.
    #[must_use]
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }
}

#[cfg(feature = "serde")]
impl<P: crate::sched::Schedule> serde::Serialize for Service<P> {
    /// What a listing shows of it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut out = serializer.serialize_struct("Service", 8)?;
        out.serialize_field("key", &self.key)?;
        out.serialize_field("scheduler", self.scheduler.name())?;
        out.serialize_field("flags", &self.flags)?;
        out.serialize_field("persistence", &self.persistence)?;
        out.serialize_field("one-packet", &self.one_packet)?;
        out.serialize_field("tag", &self.tag)?;
        out.serialize_field("servers", &self.servers)?;
        out.serialize_field("traffic", &self.traffic())?;
        out.end()
    }
}
