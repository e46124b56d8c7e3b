//! Control of a running director, at two sockets beside each other.
//!
//! The one speaks the kernel's netlink family `IPVS` ([`lvs_std::control`]); ipvsadm and keepalived reach it by the preload library,
//! `lvsadm` directly. The other one, with `.json` behind its name, speaks [a line of JSON](json) each way, for what IPVS has no word
//! for.

mod client;
mod drain;
mod events;
mod explain;
mod follow;
pub(crate) mod json;
mod moves;
mod plan;
mod reload;
mod requests;
mod sync;

use core::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lvs_core::{Event, Heap};
use lvs_std::control::{
    Controller, DEFAULT_NAME, DIRECTOR_VARIABLE, Journal, ServeOptions, Serving, serve, socket_path,
};

use lvs_std::config::{ConfigSource, MAX_ADDRESSES, MAX_NEIGHBOURS};

use crate::run::LargeGroup;

pub(crate) use reload::Reloader;

use events::Events;

pub(crate) use client::{
    ExplainArguments, Ipvsadm, Plain, PlanArguments, Sysctl, events, explain, health, ipvsadm, plan, reload,
    services, statistics, sysctl,
};
pub(crate) use drain::DrainRow;
pub(crate) use requests::Request;

/// The controller of `director run`.
pub(crate) type LargeController = Controller<Heap, MAX_ADDRESSES, MAX_NEIGHBOURS, LargeGroup>;

/// A controller that several threads use.
#[derive(Clone)]
pub(crate) struct SharedController(Arc<Mutex<LargeController>>);

impl SharedController {
    pub(crate) fn lock(&self) -> MutexGuard<'_, LargeController> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the director is controlled, as `director run` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Listen {
    /// The director's name, by which tools find it: its socket is then /run/director/NAME.sock
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME, conflicts_with = "control")]
    name: String,
    /// Listen at this socket instead, and at SOCKET.json
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Listen nowhere: nobody can control it
    #[arg(long, conflicts_with_all = ["control", "name", "state"])]
    no_control: bool,
    /// Keep services and servers in this file, to come back with them; SOCKET.state by default
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Forget services and servers when it ends
    #[arg(long, conflicts_with = "state")]
    no_state: bool,
}

impl Listen {
    /// The socket, if there is to be one.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        if self.no_control {
            return None;
        }
        Some(self.control.clone().unwrap_or_else(|| socket_path(&self.name)))
    }

    /// The state file, if there is to be one.
    fn state(&self, socket: &Path) -> Option<PathBuf> {
        if self.no_state {
            return None;
        }
        Some(self.state.clone().unwrap_or_else(|| beside(socket, "state")))
    }
}

/// A director's sockets, and whoever works behind them, until this is dropped.
pub(crate) struct Controls {
    _serving: Option<(Serving, json::Serving)>,
    _reloader: Option<Arc<Reloader>>,
}

/// Opens the director's controller: takes up the state that there is, applies the file that it was started with, and listens.
pub(crate) fn open(
    listen: &Listen,
    group: &LargeGroup,
    interfaces: Vec<String>,
    sync_events: impl FnMut() -> Option<Event> + Send + 'static,
    origin: Option<ConfigSource>,
) -> Result<Controls, Box<dyn Error>> {
    let first = group.handles().first().ok_or("the director has no worker")?;
    let sync = sync::Sync::start(interfaces, first.clone(), sync_events)?;
    let daemons = Box::new(sync::SyncControl { sync, group: group.clone() });
    let mut controller = Controller::new(group.clone(), daemons);
    let socket = listen.socket();
    let mut restored = false;
    let state = socket.as_deref().and_then(|socket| listen.state(socket));
    if let Some(path) = &state {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let (journal, commands) = Journal::open(path)?;
        restored = !commands.is_empty();
        for (command, errno) in controller.keep_journal((journal, commands))? {
            tracing::warn!("{}: {command:?} could not be done again: {errno}", path.display());
        }
        if restored {
            tracing::info!("services and servers are as {} has them", path.display());
        }
    }
    let controller = SharedController(Arc::new(Mutex::new(controller)));
    let events = Events::default();
    let reloader = match &origin {
        None => None,
        Some(origin) => {
            let memory = state.as_deref().map(|state| beside(state, "toml"));
            let reloader = Reloader::new(
                controller.clone(),
                group.clone(),
                events.clone(),
                &origin.file,
                memory,
                restored,
            );
            reloader.start(origin)?;
            let reloader = Arc::new(reloader);
            follow::start(&controller, group, &reloader, origin.configuration.answer_for)?;
            reload_on_hangup(reloader.clone())?;
            Some(reloader)
        }
    };
    let api = requests::ApiServer::new(controller.clone(), group.clone(), reloader.clone(), events.clone())?;
    let serving = match &socket {
        None => None,
        Some(socket) => {
            let fail = |error: std::io::Error| {
                let at = socket.display();
                if error.kind() == std::io::ErrorKind::AddrInUse {
                    format!("another director listens at {at}: give this one a --name of its own")
                } else {
                    format!("{at} cannot be listened at: {error}; see --control and --no-control")
                }
            };
            let ipvs = serve(ServeOptions::at(socket), controller.0.clone()).map_err(fail)?;
            let json = json::serve(&beside(socket, "json"), api);
            Some((ipvs, json.map_err(fail)?))
        }
    };
    Ok(Controls { _serving: serving, _reloader: reloader })
}

/// Reloads the configuration when the process gets SIGHUP.
fn reload_on_hangup(reloader: Arc<Reloader>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGHUP])?;
    let wait = move || {
        for _ in signals.forever() {
            match reloader.reload() {
                Ok(said) => tracing::info!("reloaded\n{said}"),
                Err(error) => tracing::error!("the old configuration stays: {error}"),
            }
        }
    };
    std::thread::Builder::new().name("reload".to_owned()).spawn(wait).map(drop)
}

/// Replaces a file by a new one: whoever reads it meanwhile finds the one or the other.
fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = beside(path, "new");
    let mut file = std::fs::File::create(&new)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// A file beside a socket.
pub(crate) fn beside(socket: &Path, what: &str) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// Which running director is meant.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// The director's name, or a path to its socket if there is a slash in it
    #[arg(long, alias = "control", value_name = "NAME", env = DIRECTOR_VARIABLE, default_value = DEFAULT_NAME)]
    director: String,
}

impl Place {
    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_path(&self.director)
    }
}
