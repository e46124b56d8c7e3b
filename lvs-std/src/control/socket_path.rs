//! Where directors are found.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Client, Command, Query};

/// The environment variable that says which director a tool means: a name, or a path if there is a slash in it.
pub const DIRECTOR_VARIABLE: &str = "LVS_DIRECTOR";

/// The name of a director that was given none.
pub const DEFAULT_NAME: &str = "default";

/// The socket of the director that is meant: a path stands for itself, a name for `/run/director/NAME.sock`.
///
/// ```
/// use lvs_std::control::socket_path;
/// assert_eq!(socket_path("edge").to_str(), Some("/run/director/edge.sock"));
/// assert_eq!(socket_path("./my.sock").to_str(), Some("./my.sock"));
/// ```
#[must_use]
pub fn socket_path(director: &str) -> PathBuf {
    if director.contains('/') {
        PathBuf::from(director)
    } else {
        PathBuf::from(format!("{FOLDER}/{director}.sock"))
    }
}

/// The names of the directors that answer at `/run/director`, in order. Those whose sockets are elsewhere are not
/// found.
///
/// # Errors
/// When there is such a folder, and it cannot be read.
pub fn directors() -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(FOLDER) {
        Ok(entries) => entries,
        // Nobody has ever made it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let sockets = entries.flatten().map(|entry| entry.path()).filter(|path| answers(path));
    let mut names: Vec<String> = sockets.filter_map(|path| name(&path)).collect();
    names.sort();
    Ok(names)
}

/// The name of the director that has this socket.
fn name(socket: &Path) -> Option<String> {
    socket.file_name()?.to_str()?.strip_suffix(".sock").map(str::to_owned)
}

/// Whether a director listens at a socket.
fn answers(socket: &Path) -> bool {
    Client::connect(socket).is_ok_and(|mut client| client.call(&Command::Query(Query::Info)).is_ok())
}

const FOLDER: &str = "/run/director";
