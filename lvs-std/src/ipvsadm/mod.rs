//! ipvsadm for a director: its command line, its listings and the format in which it saves.
//!
//! Everything that ipvsadm 1.31 accepts is understood here. What it refuses is refused with its words and its exit
//! status, so that scripts cannot tell the two apart.
//!
//! | part | what it is |
//! |---|---|
//! | [`parse`] | words to a typed [`Command`], or the [`UsageError`] that ipvsadm reports |
//! | [`request()`] | a command of the line as the [`control::Command`](crate::control::Command) that carries it out |
//! | [`Session`] | a whole call: words in; text, errors and an exit status out; the director is behind a [`Channel`] |
//! | [`save_text`], [`parse_save`] | the format of `ipvsadm --save`, which `ipvsadm --restore` reads |
//! | [`Names`] | looks up names of hosts and ports: [`System`] as this machine knows them, [`Numeric`] not at all |

mod channel;
mod check;
mod connections;
mod error;
mod help;
mod names;
mod options;
mod order;
mod refusal;
mod request;
mod save;
mod scan;
mod session;
mod table;
mod value;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::{Method, ServiceKey, Weight};

pub use channel::{Channel, ChannelError};
pub use error::{UsageError, Value, said_by};
pub use help::{VERSION, help};
pub use names::System;
pub use request::request;
pub use save::{SaveError, parse_save, save_text};
pub use session::{NOT_ROOT, Session, UNREACHABLE, UNWRITTEN, cannot_initialize};
pub use value::{Names, Numeric};

/// One call of ipvsadm.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever carries commands out must handle each")]
pub enum Command {
    /// `-A`: a new service.
    AddService(ServiceKey, ServiceOptions),
    /// `-E`: other options for a service; those not given go back to their defaults.
    EditService(ServiceKey, ServiceOptions),
    /// `-D`: a service goes, with its servers.
    DeleteService(ServiceKey),
    /// `-C`: all services go.
    Clear,
    /// `-R`: commands from standard input.
    Restore,
    /// `-S`: all services and servers as commands.
    Save {
        /// `-n`: addresses and ports as numbers.
        numeric: bool,
    },
    /// `-a`: a new real server.
    AddServer(ServiceKey, ServerOptions),
    /// `-e`: other options for a real server; those not given go back to their defaults.
    EditServer(ServiceKey, ServerOptions),
    /// `-d`: a real server goes.
    DeleteServer(ServiceKey, SocketAddr),
    /// `-L`: a listing.
    List(Listing),
    /// `-Z`: counters of a service, or of all, back to 0.
    Zero(Option<ServiceKey>),
    /// `--set`: idle time-outs in seconds; 0 keeps what is set.
    Set {
        /// Of established TCP connections.
        tcp: u32,
        /// Of TCP connections in FIN-WAIT.
        tcp_fin: u32,
        /// Of UDP flows.
        udp: u32,
    },
    /// `--start-daemon`: connections are sent to, or taken from, other directors.
    StartDaemon(Role, Daemon),
    /// `--stop-daemon`: no longer.
    StopDaemon(Role),
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

/// What `-A` and `-E` say about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the options of the command line")]
pub struct ServiceOptions {
    /// `-s`: the scheduler's name as it was written, cut at 15 bytes as there. Default `wlc`.
    pub scheduler: String,
    /// `-b`: the flags 1 to 3.
    pub flags: [bool; 3],
    /// `-p`, `-M`: how long a client stays with its server.
    pub persistence: Option<Persistence>,
    /// `--pe`: the persistence engine's name, cut at 15 bytes.
    pub engine: Option<String>,
    /// `-o`: each datagram is a connection of its own.
    pub one_packet: bool,
}

/// `-p` with `-M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the options of the command line")]
pub struct Persistence {
    /// Seconds, 1 to 2,678,400. Default 360.
    pub timeout: u32,
    /// Which part of a client's address counts.
    pub mask: Mask,
}

/// The part of a client's address by which persistence knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one per family")]
pub enum Mask {
    /// The given bits of an IPv4 address; ipvsadm takes any.
    V4(Ipv4Addr),
    /// So many leading bits of an IPv6 address.
    V6(u8),
}

/// What `-a` and `-e` say about a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the options of the command line")]
pub struct ServerOptions {
    /// `-r`: address and port. The port is the service's if none was given, and always under DR and TUN, except in
    /// services by mark.
    pub address: SocketAddr,
    /// `-g`, `-i` or `-m`. Default `-g`. `--tun-remcsum` asks for the checksum, since packets that were not made here
    /// look the same with both.
    pub method: Method,
    /// `--tun-remcsum`, which listings tell from `--tun-csum`.
    pub remote_checksum: bool,
    /// `-w`. Default 1.
    pub weight: Weight,
    /// `-x`. Default 0.
    pub upper: u32,
    /// `-y`. Default 0.
    pub lower: u32,
}

/// What `-L` lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the options of the command line")]
pub struct Listing {
    /// Services, one of them, or something else.
    pub subject: Subject,
    /// `-n`: addresses and ports as numbers.
    pub numeric: bool,
    /// `--stats`.
    pub stats: bool,
    /// `--rate`.
    pub rate: bool,
    /// `--thresholds`.
    pub thresholds: bool,
    /// `--persistent-conn`.
    pub persistent_conn: bool,
    /// `--tun-info`.
    pub tun_info: bool,
    /// `--nosort`.
    pub nosort: bool,
    /// `--exact`.
    pub exact: bool,
}

/// The subject of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever lists must handle each")]
pub enum Subject {
    /// All services.
    #[default]
    Services,
    /// One service.
    Service(ServiceKey),
    /// `-c`: the connection table.
    Connections,
    /// `--timeout`: what `--set` set.
    Timeouts,
    /// `--daemon`: which sync daemons run.
    Daemons,
}

/// A side of connection synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Role {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

/// How a sync daemon talks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the options of the command line")]
pub struct Daemon {
    /// `--mcast-interface`, cut at 15 bytes. Default `eth0`.
    pub interface: String,
    /// `--syncid`. Default 0, which takes messages of every id.
    pub sync_id: u8,
    /// `--sync-maxlen` in bytes; the interface's MTU decides if it is not given.
    pub max_len: Option<u16>,
    /// `--mcast-group`. Default 224.0.0.81.
    pub group: Option<IpAddr>,
    /// `--mcast-port`. Default 8848.
    pub port: Option<u16>,
    /// `--mcast-ttl`. Default 1.
    pub ttl: Option<u8>,
}

/// Reads the words after the program's name.
///
/// # Errors
///
/// What ipvsadm says to such words, with its [exit status](UsageError::status).
///
/// ```
/// use lvs_std::ipvsadm::{Command, Numeric, parse};
/// let words = ["-a", "-t", "10.99.0.1:80", "-r", "10.0.1.11:8080", "-mw", "3"];
/// let Ok(Command::AddServer(_, server)) = parse(words, &Numeric) else { panic!() };
/// assert_eq!(server.weight.get(), 3);
/// let error = parse(["-A", "-D"], &Numeric).unwrap_err();
/// assert_eq!((error.to_string().as_str(), error.status()), ("invalid option `-D'", 2));
/// ```
pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>, names: &dyn Names) -> Result<Command, UsageError> {
    let words: Vec<&str> = words.into_iter().collect();
    if words.is_empty() {
        return Ok(Command::List(Listing::default()));
    }
    let given = scan::read(&words, names)?;
    check::command(given)
}

#[cfg(test)]
mod tests;
