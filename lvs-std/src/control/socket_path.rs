//! Where directors are found.

use std::path::PathBuf;

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

const FOLDER: &str = "/run/director";
