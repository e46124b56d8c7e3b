//! Control of a director as IPVS is controlled: the commands of the kernel's generic netlink family `IPVS`.
//!
//! | part | what it is |
//! |---|---|
//! | [`Command`], [`Answer`], [`Errno`] | what is asked and answered, typed |
//! | [`Client`] | asks a running director |
//! | [`Desk`] | carries commands out on a director; its [`Ledger`] remembers what was declared, its [`Journal`] makes that last |
//! | [`Session`] | a client's conversation: netlink messages in, netlink messages out |
//! | [`serve`] | conversations at a Unix socket, as many as there are clients |
//! | [`SyncDaemons`] | the sync daemons' messages, without sockets or threads |
//! | [`switches`] | `net.ipv4.vs.*` by name |

pub mod change;
mod client;
mod desk;
mod each;
mod errno;
mod journal;
mod ledger;
mod outlook;
mod place;
mod proc;
mod reach;
mod server;
mod session;
pub mod switches;
mod sync_daemons;
mod table;
mod types;
mod wire;

pub use client::{Client, ClientError};
pub use desk::{Daemons, Desk, NoDaemons};
pub use errno::Errno;
pub use journal::{Journal, JournalError};
pub use ledger::{Declared, DeclaredServer, Edit, Ledger, Standing};
pub use place::{DEFAULT_NAME, DIRECTOR_VARIABLE, socket_of};
pub use reach::{Local, Reach};
pub use server::{ServeOptions, Serving, serve};
pub use session::{Office, Session};
pub use sync_daemons::{SyncDaemonError, SyncDaemons};
pub use types::{
    Answer, Command, DaemonSpec, Info, Role, ServerReport, ServerSpec, ServiceName, ServiceReport,
    ServiceSpec, Stats, Timeouts, flags, method, tunnel, whole,
};
