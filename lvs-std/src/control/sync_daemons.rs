//! The sync daemons of a director: they tell others about its connections, and listen to what others tell.

use core::fmt;

use lvs_core::service::Service;
use lvs_core::sync::{SyncEntry, Version};
use lvs_core::{Director, Family, ServiceKey, Store, Tick};
use lvs_forward::host::Host;
use lvs_forward::sync::{SyncDaemon, SyncOptions};
use lvs_forward::{Frame, PortId};

use super::{DaemonSpec, Role};

/// A master, a backup, both or none. Each has options of its own.
#[derive(Debug, Default)]
pub struct SyncDaemons {
    master: Option<Box<SyncDaemon>>,
    backup: Option<Box<SyncDaemon>>,
}

impl SyncDaemons {
    /// Starts a daemon that talks by the director's port `port`, which is `None` if the interface is none of them.
    /// What `asked` leaves open has IPVS's defaults. The director must be told of the new [`roles`](Self::roles).
    ///
    /// # Errors
    ///
    /// A daemon of this role runs, the director has no such port, or a server has another family than its service,
    /// for which messages have no place.
    pub fn start<S: Store>(
        &mut self,
        director: &Director<S>,
        now: Tick,
        asked: &DaemonSpec,
        port: Option<PortId>,
    ) -> Result<(), SyncDaemonError> {
        let role = asked.role;
        let place = match role {
            Role::Master => &mut self.master,
            Role::Backup => &mut self.backup,
        };
        if place.is_some() {
            return Err(SyncDaemonError::Running);
        }
        let port = port.ok_or(SyncDaemonError::NoDevice)?;
        if director.services().map(Service::key).any(|key| has_mixed_servers(director, key)) {
            return Err(SyncDaemonError::MixedFamilies);
        }
        let mut options = SyncOptions::new(port, role == Role::Master, role == Role::Backup);
        options.group = asked.group.unwrap_or(options.group);
        options.udp_port = asked.port.unwrap_or(options.udp_port);
        options.ttl = asked.ttl.unwrap_or(options.ttl);
        options.longest = asked.max_len.map_or(options.longest, usize::from);
        // Messages have one byte for it.
        options.syncid = asked.sync_id as u8;
        options.version = version(director);
        *place = Some(Box::new(SyncDaemon::new(now, options, SOURCE_PORT)));
        Ok(())
    }

    /// Stops a daemon. The director must be told of the remaining [`roles`](Self::roles).
    ///
    /// # Errors
    ///
    /// No daemon of this role runs.
    pub fn stop(&mut self, role: Role) -> Result<(), SyncDaemonError> {
        let stopped = match role {
            Role::Master => self.master.take(),
            Role::Backup => self.backup.take(),
        };
        stopped.map(drop).ok_or(SyncDaemonError::NotRunning)
    }

    /// Whether there is a master, and whether there is a backup: what [`Director::set_sync_role`] is told.
    #[must_use]
    pub const fn roles(&self) -> (bool, bool) {
        (self.master.is_some(), self.backup.is_some())
    }

    /// Whether a daemon runs, of either role.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.master.is_some() || self.backup.is_some()
    }

    /// Takes the entry of an [`Event::Sync`](lvs_core::Event::Sync): a master puts it into its next message.
    pub fn tell<S: Store>(&mut self, director: &Director<S>, now: Tick, entry: &SyncEntry) {
        if let Some(master) = &mut self.master {
            master.set_version(version(director));
            master.tell(director, now, entry);
        }
    }

    /// Takes a frame that the forwarder passed: if it is a master's message, a backup tells the director what it says.
    pub fn receive<S: Store>(
        &mut self,
        director: &mut Director<S>,
        host: &Host,
        now: Tick,
        frame: &Frame<'_>,
    ) {
        if let Some(backup) = &mut self.backup {
            backup.receive(director, host, now, frame);
        }
    }

    /// The next message that is to go by `now`, as a frame in `buffer`. Must be asked until there is none.
    pub fn poll<'a>(&mut self, host: &Host, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        self.master.as_mut()?.poll(host, now, buffer)
    }
}

/// Why a sync daemon was not started or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncDaemonError {
    /// A real server has another family than its service: no message has a place for it.
    MixedFamilies,
    /// The director has no such interface.
    NoDevice,
    /// No daemon of this role runs.
    NotRunning,
    /// A daemon of this role runs already.
    Running,
}

impl fmt::Display for SyncDaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MixedFamilies => {
                "a real server has another family than its service, which sync messages cannot say: remove it first"
            }
            Self::NoDevice => "the interface is none of the director's ports",
            Self::NotRunning => "no such sync daemon runs",
            Self::Running => "such a sync daemon runs already: stop it first",
        })
    }
}

impl core::error::Error for SyncDaemonError {}

fn version<S: Store>(director: &Director<S>) -> Version {
    if director.config().tuning.sync_version == 0 { Version::Zero } else { Version::One }
}

fn has_mixed_servers<S: Store>(director: &Director<S>, key: ServiceKey) -> bool {
    director.servers(key).any(|(_, server)| Family::of(server.address().ip()) != key.family())
}

/// Any would do: the kernel takes a free one.
const SOURCE_PORT: u16 = 40_000;
