//! ipvsadm's commands carried out on a director in memory.

use core::fmt;
use core::net::Ipv4Addr;

use lvs_core::config::ScheduleFlags;
use lvs_core::error::{
    AddServerError, AddServiceError, EditServerError, EditServiceError, RemoveServerError,
    RemoveServiceError, ZeroError,
};
use lvs_core::service::{Persistence, PersistenceEngine, SchedulerOf};
use lvs_core::{Director, Family, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Store, Tick};
use lvs_forward::PortId;
use lvs_std::control::{self, SyncDaemonError, SyncDaemons};
use lvs_std::ipvsadm::{Command, Mask, ServerOptions, ServiceOptions, request};

/// Does what a command says to a director in memory and to its sync daemons. `port` finds an interface by its name.
///
/// # Errors
///
/// What ipvsadm says when the kernel refuses it, with [its exit status](ApplyError::status); nothing has changed then.
/// Commands that only show something are [`ApplyError::Unsupported`].
pub(crate) fn apply<S>(
    director: &mut Director<S>,
    daemons: &mut SyncDaemons,
    now: Tick,
    command: &Command,
    port: impl FnOnce(&str) -> Option<PortId>,
) -> Result<(), ApplyError>
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    match command {
        Command::AddService(key, options) => {
            director.add_service(*key, service(options)?)?;
        }
        Command::EditService(key, options) => director.edit_service(*key, service(options)?)?,
        Command::DeleteService(key) => director.remove_service(*key)?,
        Command::Clear => {
            let keys: Vec<ServiceKey> = director.services().map(lvs_core::service::Service::key).collect();
            for key in keys {
                director.remove_service(key)?;
            }
        }
        Command::AddServer(key, options) => {
            refuse_mixed(daemons, *key, options)?;
            director.add_server(*key, server(options))?;
        }
        Command::EditServer(key, options) => {
            refuse_mixed(daemons, *key, options)?;
            director.edit_server(*key, server(options))?;
        }
        Command::DeleteServer(key, address) => director.remove_server(*key, *address)?,
        Command::Set { tcp, tcp_fin, udp } => {
            let mut config = director.config().clone();
            let timeouts = &mut config.timeouts;
            let set = |to: &mut u32, from: u32| *to = if from == 0 { *to } else { from };
            set(&mut timeouts.tcp, *tcp);
            set(&mut timeouts.tcp_fin, *tcp_fin);
            set(&mut timeouts.udp, *udp);
            director.set_config(config);
        }
        Command::Zero(key) => director.zero(*key)?,
        Command::StartDaemon(..) | Command::StopDaemon(_) => {
            match request(command) {
                Some(control::Command::Daemon(control::DaemonCommand::Start(asked))) => {
                    daemons.start(director, now, &asked, port(&asked.interface))?;
                }
                Some(control::Command::Daemon(control::DaemonCommand::Stop(role))) => daemons.stop(role)?,
                _ => return Err(ApplyError::Unsupported),
            }
            let (master, backup) = daemons.roles();
            director.set_sync_role(master, backup);
        }
        Command::Restore | Command::Save { .. } | Command::List(_) | Command::Help | Command::Version => {
            return Err(ApplyError::Unsupported);
        }
    }
    Ok(())
}

/// No message has a place for a server of another family than its service's (`EINVAL`), once a daemon runs.
fn refuse_mixed(daemons: &SyncDaemons, key: ServiceKey, server: &ServerOptions) -> Result<(), ApplyError> {
    let mixed = Family::of(server.address.ip()) != key.family();
    if mixed && daemons.is_running() { Err(ApplyError::Invalid) } else { Ok(()) }
}

fn service<P: From<Scheduler>>(options: &ServiceOptions) -> Result<ServiceConfig<P>, ApplyError> {
    let scheduler = Scheduler::from_name(&options.scheduler).ok_or(ApplyError::NoScheduler)?;
    let engine = match options.engine.as_deref() {
        None | Some("") => None,
        Some(name) => Some(PersistenceEngine::from_name(name).ok_or(ApplyError::NoScheduler)?),
    };
    let [fallback, port, _] = options.flags;
    let mut config = ServiceConfig::new(scheduler.into()).with_flags(ScheduleFlags { fallback, port });
    config.one_packet = options.one_packet;
    if let Some(asked) = options.persistence {
        let mut persistence = Persistence::new(asked.timeout);
        persistence.engine = engine;
        // The whole address is what no mask at all means.
        persistence.mask = match asked.mask {
            Mask::V4(Ipv4Addr::BROADCAST) | Mask::V6(128) => None,
            Mask::V4(bits) => Some(lvs_core::service::Mask::Bits(bits)),
            Mask::V6(len) => Some(lvs_core::service::Mask::Prefix(len)),
        };
        config.persistence = Some(persistence);
    }
    Ok(config)
}

fn server(options: &ServerOptions) -> ServerConfig {
    ServerConfig::new(options.address, options.method)
        .with_weight(options.weight)
        .with_thresholds(options.upper, options.lower)
}

/// Why a command was not carried out. Shown as ipvsadm shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApplyError {
    /// Such a sync daemon runs already.
    DaemonRuns,
    /// The service has this server.
    DestinationExists,
    /// The store has no place for it.
    Full,
    /// The address or another value is one that no server can have.
    Invalid,
    /// No such sync daemon runs.
    NoDaemon,
    /// There is no such interface.
    NoDevice,
    /// There is no scheduler, or no persistence engine, of this name.
    NoScheduler,
    /// The service has no such server.
    NoDestination,
    /// There is no such service; said of `-E`, `-D` and `-Z`.
    NoService,
    /// There is no such service; said of `-a`, `-e` and `-d`.
    NoServiceForServer,
    /// The thresholds contradict each other.
    Range,
    /// There is such a service.
    ServiceExists,
    /// The director cannot do this.
    Unsupported,
}

impl ApplyError {
    /// ipvsadm's exit status.
    #[must_use]
    pub(crate) const fn status(self) -> u8 {
        255
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DaemonRuns => "Daemon has already run",
            Self::NoDaemon => "No daemon is running",
            Self::NoDevice => "No such device",
            Self::DestinationExists => "Destination already exists",
            Self::Full => "Memory allocation problem",
            Self::Invalid => "Invalid operation.  Possibly wrong module version, address not unicast, ...",
            Self::NoScheduler => "Scheduler or persistence engine not found",
            Self::NoDestination => "No such destination",
            Self::NoService => "No such service",
            Self::NoServiceForServer => "Service not defined",
            Self::Range => "Numerical result out of range",
            Self::ServiceExists => "Service already exists",
            Self::Unsupported => "this director cannot do that",
        })
    }
}

impl core::error::Error for ApplyError {}

impl From<SyncDaemonError> for ApplyError {
    fn from(error: SyncDaemonError) -> Self {
        match error {
            SyncDaemonError::Running => Self::DaemonRuns,
            SyncDaemonError::NotRunning => Self::NoDaemon,
            SyncDaemonError::NoDevice => Self::NoDevice,
            SyncDaemonError::MixedFamilies | _ => Self::Invalid,
        }
    }
}

impl From<AddServiceError> for ApplyError {
    fn from(error: AddServiceError) -> Self {
        match error {
            AddServiceError::Exists => Self::ServiceExists,
            AddServiceError::Full | AddServiceError::NoTable => Self::Full,
            // The enum may grow; what the kernel calls EINVAL is the general case.
            AddServiceError::BadMask | AddServiceError::NoMark | _ => Self::Invalid,
        }
    }
}

impl From<EditServiceError> for ApplyError {
    fn from(error: EditServiceError) -> Self {
        match error {
            EditServiceError::NotFound => Self::NoService,
            EditServiceError::NoTable => Self::Full,
            EditServiceError::BadMask | _ => Self::Invalid,
        }
    }
}

impl From<RemoveServiceError> for ApplyError {
    fn from(error: RemoveServiceError) -> Self {
        match error {
            RemoveServiceError::NotFound => Self::NoService,
            _ => Self::Invalid,
        }
    }
}

impl From<ZeroError> for ApplyError {
    fn from(error: ZeroError) -> Self {
        match error {
            ZeroError::NotFound => Self::NoService,
            _ => Self::Invalid,
        }
    }
}

impl From<AddServerError> for ApplyError {
    fn from(error: AddServerError) -> Self {
        match error {
            AddServerError::BadThresholds => Self::Range,
            AddServerError::Exists => Self::DestinationExists,
            AddServerError::Full => Self::Full,
            AddServerError::NoService => Self::NoServiceForServer,
            AddServerError::BadAddress
            | AddServerError::FamilyMismatch
            | AddServerError::NoTunnelPort
            | _ => Self::Invalid,
        }
    }
}

impl From<EditServerError> for ApplyError {
    fn from(error: EditServerError) -> Self {
        match error {
            EditServerError::BadThresholds => Self::Range,
            EditServerError::NotFound => Self::NoDestination,
            EditServerError::NoService => Self::NoServiceForServer,
            EditServerError::FamilyMismatch | EditServerError::NoTunnelPort | _ => Self::Invalid,
        }
    }
}

impl From<RemoveServerError> for ApplyError {
    fn from(error: RemoveServerError) -> Self {
        match error {
            RemoveServerError::NotFound => Self::NoDestination,
            RemoveServerError::NoService => Self::NoServiceForServer,
            _ => Self::Invalid,
        }
    }
}
