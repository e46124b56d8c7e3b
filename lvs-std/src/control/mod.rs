//! Control of a director as IPVS is controlled: the commands of the kernel's generic netlink family `IPVS`.
//!
//! | part | what it is |
//! |---|---|
//! | [`Command`], [`Answer`], [`Errno`] | what is asked and answered, typed |
//! | [`Client`] | asks a running director |
//! | [`Controller`] | carries commands out; its [`DesiredState`] remembers what was declared, its [`Journal`] on disk |
//! | [`Session`] | a client's conversation: netlink messages in, netlink messages out |
//! | [`serve`] | conversations at a Unix socket, by turns (`front`) |
//! | [`Cursor`] | where a listing of connections goes on |
//! | [`SyncDaemons`] | the sync daemons' messages, without sockets or threads |
//! | `api` | the JSON socket beside it: what IPVS has no word for (feature `runtime`) |
//! | [`sysctl`] | `net.ipv4.vs.*` by name |

#[cfg(feature = "runtime")]
pub mod api;
mod backend;
mod client;
mod command;
mod commits;
mod controller;
pub mod convert;
mod cursor;
mod errno;
mod front;
mod journal;
pub(crate) mod proc;
pub(crate) mod protocol;
mod reconcile;
mod server;
mod socket_path;
mod sync_daemons;
pub mod sysctl;

pub use backend::{Backend, Local};
pub use client::{Client, ClientError};
pub use command::{
    Answer, Command, DaemonCommand, DaemonSpec, Info, Query, Role, ServerReport, ServerSpec, ServiceName,
    ServiceReport, ServiceSpec, Setting, Stats, TableCommand, Timeouts, flags, method, tunnel, whole,
};
#[cfg(feature = "runtime")]
pub(crate) use controller::Reload;
pub use controller::{Controller, Daemons, NoDaemons, Page, TakenUp};
pub use cursor::{Cursor, NoCursor};
pub use errno::{CommandError, Errno};
pub use journal::{Damage, Durability, Journal, JournalError, MemoryFile};
pub use protocol::session::{CommandHandler, Session};
#[cfg(feature = "runtime")]
pub(crate) use reconcile::ahead::Ahead;
pub use reconcile::change::TableChange;
pub use reconcile::desired::{DesiredServer, DesiredService, DesiredState, Edit, ServerStatus};
pub use server::{ServeOptions, Serving, serve};
pub use socket_path::{DEFAULT_NAME, DIRECTOR_VARIABLE, directors, socket_path};
pub use sync_daemons::{SyncDaemonError, SyncDaemons};
