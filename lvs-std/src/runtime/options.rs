//! How a running director is controlled.

use std::path::{Path, PathBuf};

use crate::control::socket_path;
use crate::ownership::Claims;

/// Where a running director is controlled, and where it keeps its state. The default is neither: it is controlled by
/// its [handle](super::RuntimeHandle) alone.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RuntimeOptions {
    /// The socket for ipvsadm's and keepalived's commands; the JSON socket is beside it, with `.json` behind the
    /// name. Missing folders are made.
    pub socket: Option<PathBuf>,
    /// The file in which services and servers are kept, so that the next start comes back with them. The text of
    /// the configuration that was applied last is in it too.
    pub state: Option<PathBuf>,
}

impl RuntimeOptions {
    /// Controlled at the socket by which tools find a director of this name, `/run/director/NAME.sock`, with a state
    /// file beside it.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::at(socket_path(name))
    }

    /// Controlled at this socket, with a state file beside it.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        Self { state: Some(beside(&socket, "state")), socket: Some(socket) }
    }

    /// What a director with these options must own before it starts; the interfaces that it opens come to that.
    #[must_use]
    pub fn claims(&self) -> Claims {
        let mut claims = Claims::new();
        if let Some(state) = &self.state {
            claims = claims.with_state(state);
        }
        let sockets = self.socket.iter().cloned().chain(self.json_socket());
        sockets.fold(claims, |claims, socket| claims.with_socket(socket))
    }

    /// The JSON socket, if there is one.
    #[must_use]
    pub fn json_socket(&self) -> Option<PathBuf> {
        self.socket.as_deref().map(|socket| beside(socket, "json"))
    }
}

/// A file beside another one: the same name with `.what` behind it.
pub(super) fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}
