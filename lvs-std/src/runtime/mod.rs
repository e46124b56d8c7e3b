//! A whole director at work, from a typed configuration: what `director run` is, without its command line.
//!
//! ```text
//! ConfigSource --assemble--> Assembly (workers, devices) --start--> Runtime
//!                                                                     |  worker threads      one for each worker
//!                                                                     |  Controller <-- netlink socket, JSON socket
//!                                                                     |  Reconciler <-- reload: plan, then apply
//!                                                                     |  health, drains, followed addresses
//!                                                                     |  sync daemons, memory
//! RuntimeHandle (clones) <--------------------------------------------+
//! ```
//!
//! | file | what |
//! |---|---|
//! | `assemble`, `ports` | workers and their devices from a configuration |
//! | `supervisor` | interfaces that come, go and change |
//! | `guest` | what is kept from the machine's kernel on interfaces that the director shares with it |
//! | `local` | real servers that are this machine itself |
//! | `surroundings` | what of this machine and its networks gets in the way |
//! | `threads` | the worker threads, and how they end |
//! | `handle` | what a running director can be asked and told |
//! | `plan`, `disruption`, `reload`, `settings` | a configuration compared with what there is, and applied |
//! | `health` | from what checks find out to the servers that a service has |
//! | `drain`, `explain`, `statistics` | one question each |
//! | `trace` | what becomes of packets, asked for piece by piece |
//! | `overview` | everything that a watcher shows |
//! | `problems` | what does not work as it should, until it does again |
//! | `addresses`, `sync`, `memory`, `shutdown` | threads beside the workers, and how they end |
//! | `api` | the answers at the JSON socket |
//!
//! Three decisions shape it. The parts know each other in one direction: whoever asks comes last. A [`Runtime`] owns
//! the threads, a [`RuntimeHandle`] only reaches them, so a handle that is kept too long keeps nothing running. And
//! it brings no signal handler, logger or other global: a program turns SIGTERM into [`RuntimeHandle::stop`] and
//! SIGHUP into [`RuntimeHandle::reload_file`]. What happens is told by [`RuntimeHandle::events`]; the same is said by
//! `tracing`, which is silent unless the program has a subscriber.
//!
//! ```no_run
//! use lvs_std::config::ConfigSource;
//! use lvs_std::control::ServiceName;
//! use lvs_std::runtime::{Runtime, RuntimeOptions};
//!
//! let runtime = Runtime::start(ConfigSource::read("/etc/director.toml")?, RuntimeOptions::named("edge"))?;
//! let handle = runtime.handle();
//! let changed = ConfigSource::read("/etc/director.new")?;
//! print!("{}", handle.plan(&changed)?);
//! handle.reload(changed)?;
//! let web = ServiceName::tcp("192.0.2.100:80".parse()?);
//! handle.drain(web, "10.0.1.11:80".parse()?, None)?;
//! println!("{}", runtime.join()?.statistics);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod addresses;
mod api;
mod assemble;
mod disruption;
mod drain;
mod error;
mod events;
mod explain;
mod guest;
mod handle;
mod health;
mod local;
mod memory;
mod options;
mod overview;
mod plan;
mod ports;
mod problems;
mod reload;
mod settings;
mod shutdown;
mod start;
mod statistics;
mod supervisor;
mod surroundings;
mod sync;
mod sysctl;
mod threads;
mod trace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lvs_core::Heap;

use crate::control::Controller;
use crate::worker::{Worker, WorkerGroup};

pub use assemble::Assembly;
pub use error::{ExplainError, ReloadError, RunError, StartError};
pub use handle::RuntimeHandle;
pub use health::{HealthReconciler, ServerTable, Wanted};
pub use options::RuntimeOptions;
pub use plan::Plan;
pub use problems::{Part, Problem, Problems};
pub use start::{Ended, Runtime};
pub use statistics::{ServiceTraffic, Statistics, frame_rows};
pub use supervisor::PortSupervisor;
pub use sysctl::SysctlError;
pub use trace::TraceError;

/// A worker of a director that is started from a configuration: with room for many addresses and neighbours.
pub type RuntimeWorker = Worker<Heap>;

/// The workers of such a director, as one.
pub type RuntimeGroup = WorkerGroup<Heap>;

/// The controller of such a director.
pub type RuntimeController = Controller<Heap, RuntimeGroup>;

/// A controller that several threads use.
#[derive(Clone)]
struct SharedController(Arc<Mutex<RuntimeController>>);

impl SharedController {
    fn lock(&self) -> MutexGuard<'_, RuntimeController> {
        // A panic of one client leaves nothing half done: changes are applied as a whole before they are noted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From now on programs that this process starts inherit none of the descriptors that are open now but the first three,
/// for a program that is to begin with nothing that its own starter left open. Needs Linux 5.11.
///
/// # Errors
/// When the kernel has no `close_range(2)`.
pub fn inherit_nothing() -> std::io::Result<()> {
    crate::sys::descriptors::close_all_on_exec()
}
