//! The sync daemons of a director: they tell others about its connections, and listen to what others tell.

use lvs_core::sync::{SyncEntry, Version};
use lvs_core::{Director, Family, Service, ServiceKey, Store, Tick};
use lvs_forward::host::Host;
use lvs_forward::sync::{SyncDaemon, SyncOptions};
use lvs_forward::{Frame, PortId};

use crate::ipvsadm::control::ControlError;
use crate::ipvsadm::{Command, Daemon, Role};

/// A master, a backup, both or none. Each has options of its own.
#[derive(Debug, Default)]
pub(crate) struct Daemons {
    master: Option<Box<SyncDaemon>>,
    backup: Option<Box<SyncDaemon>>,
}

impl Daemons {
    /// Does what is theirs to do; `None` for every other command. `port` finds an interface by its name.
    pub(crate) fn carry_out<S: Store>(
        &mut self,
        director: &mut Director<S>,
        now: Tick,
        command: &Command,
        port: impl FnOnce(&str) -> Option<PortId>,
    ) -> Option<Result<(), ControlError>> {
        let done = match command {
            Command::StartDaemon(role, asked) => self.start(director, now, *role, asked, port),
            Command::StopDaemon(role) => self.stop(*role),
            Command::AddServer(key, server) | Command::EditServer(key, server) => {
                // No message has a place for a server of the other family (`EINVAL`).
                let mixed = Family::of(server.address.ip()) != key.family();
                let refused = mixed && self.is_running();
                return refused.then_some(Err(ControlError::Invalid));
            }
            Command::AddService(..)
            | Command::EditService(..)
            | Command::DeleteService(_)
            | Command::Clear
            | Command::Restore
            | Command::Save { .. }
            | Command::DeleteServer(..)
            | Command::List(_)
            | Command::Zero(_)
            | Command::Set { .. }
            | Command::Help
            | Command::Version => return None,
        };
        director.set_sync_role(self.master.is_some(), self.backup.is_some());
        Some(done)
    }

    /// Starts one; `port` finds its interface.
    pub(crate) fn start<S: Store>(
        &mut self,
        director: &Director<S>,
        now: Tick,
        role: Role,
        asked: &Daemon,
        port: impl FnOnce(&str) -> Option<PortId>,
    ) -> Result<(), ControlError> {
        let place = match role {
            Role::Master => &mut self.master,
            Role::Backup => &mut self.backup,
        };
        if place.is_some() {
            return Err(ControlError::DaemonRuns);
        }
        let port = port(&asked.interface).ok_or(ControlError::NoDevice)?;
        if director.services().map(Service::key).any(|key| has_mixed_servers(director, key)) {
            return Err(ControlError::Invalid);
        }
        let mut options = SyncOptions::new(port, role == Role::Master, role == Role::Backup);
        options.group = asked.group.unwrap_or(options.group);
        options.udp_port = asked.port.unwrap_or(options.udp_port);
        options.ttl = asked.ttl.unwrap_or(options.ttl);
        options.longest = asked.max_len.map_or(options.longest, usize::from);
        options.syncid = asked.sync_id;
        options.version = version(director);
        *place = Some(Box::new(SyncDaemon::new(now, options, SOURCE_PORT)));
        Ok(())
    }

    /// Stops one.
    pub(crate) fn stop(&mut self, role: Role) -> Result<(), ControlError> {
        let stopped = match role {
            Role::Master => self.master.take(),
            Role::Backup => self.backup.take(),
        };
        stopped.map(drop).ok_or(ControlError::NoDaemon)
    }

    /// Whether there is one.
    pub(crate) const fn is_running(&self) -> bool {
        self.master.is_some() || self.backup.is_some()
    }

    /// Takes what the director wants to be told to others.
    pub(crate) fn tell<S: Store>(&mut self, director: &Director<S>, now: Tick, entry: &SyncEntry) {
        if let Some(master) = &mut self.master {
            master.set_version(version(director));
            master.tell(director, now, entry);
        }
    }

    /// Takes a frame that the forwarder passed.
    pub(crate) fn receive<S: Store, const A: usize, const N: usize>(
        &mut self,
        director: &mut Director<S>,
        host: &Host<A, N>,
        now: Tick,
        frame: &Frame<'_>,
    ) {
        if let Some(backup) = &mut self.backup {
            backup.receive(director, host, now, frame);
        }
    }

    /// The next message that is to go by now.
    pub(crate) fn poll<'a, const A: usize, const N: usize>(
        &mut self,
        host: &Host<A, N>,
        now: Tick,
        buffer: &'a mut [u8],
    ) -> Option<Frame<'a>> {
        self.master.as_mut()?.poll(host, now, buffer)
    }
}

fn version<S: Store>(director: &Director<S>) -> Version {
    if director.config().tuning.sync_version == 0 { Version::Zero } else { Version::One }
}

fn has_mixed_servers<S: Store>(director: &Director<S>, key: ServiceKey) -> bool {
    director.servers(key).any(|(_, server)| Family::of(server.address().ip()) != key.family())
}

/// Any would do: the kernel takes a free one.
const SOURCE_PORT: u16 = 40_000;
