//! Who owns what: a director takes its state file, its control sockets and its interfaces before it reads, opens,
//! binds or removes any of them.
//!
//! A second start by mistake therefore ends before it has touched anything of the first one. The parts that use these
//! things require the proof: [`Journal::open`](crate::control::Journal::open) takes an [`OwnedState`],
//! [`ServeOptions::at`](crate::control::ServeOptions::at) an [`OwnedSocket`], so that the order cannot be wrong.
//!
//! | what | how it is owned | ends |
//! |---|---|---|
//! | [`OwnedState`] | `flock(2)` on `NAME.lock` beside it, and on the state file itself | with the last descriptor |
//! | [`OwnedSocket`] | `flock(2)` on `NAME.lock` beside it | with the last descriptor |
//! | [`OwnedInterface`] | abstract Unix sockets, by namespace, name and index | with the last descriptor |
//!
//! All three are the kernel's, and vanish with the process however it ends. Lock files stay where they are: a file
//! that is removed while somebody else opens it would be locked by both.
//!
//! A successor takes over without a gap: [`Ownership::send`] hands everything over by a Unix socket, and
//! [`Ownership::receive`] takes it there; or the descriptors of [`Ownership::hand_over`] reach it in another way, by
//! inheritance for example, and [`Ownership::adopt`] makes them an ownership there. Both processes own then, until the
//! first one ends. `runtime::Runtime::start_with` starts a director that owns so.
//!
//! ```
//! use lvs_std::ownership::{Claims, OwnershipError};
//!
//! let folder = std::env::temp_dir().join(format!("ownership-example-{}", std::process::id()));
//! let claims = Claims::new().with_state(folder.join("state")).with_socket(folder.join("sock"));
//! let first = claims.clone().take()?;
//! let Err(OwnershipError::Held { by, .. }) = claims.take() else { panic!("it is owned") };
//! assert_eq!(by, Some(std::process::id()));
//! drop(first);
//! # std::fs::remove_dir_all(folder).unwrap();
//! # Ok::<(), OwnershipError>(())
//! ```

mod error;
mod handover;
mod interface;
mod lock;
mod owner;
mod socket;
mod state;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use error::OwnershipError;
pub use interface::OwnedInterface;
pub use socket::{Access, BoundPath, OwnedSocket, Transport};
pub use state::OwnedState;

/// Who owns something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the kernel tells no more")]
pub struct Holder {
    /// The process, if this one may see it.
    pub process: Option<u32>,
}

/// Who owns the state file or control socket at a path; `None` if nobody does. Nothing is taken or made.
///
/// # Errors
/// When its lock file cannot be read.
pub fn holder(path: &Path) -> std::io::Result<Option<Holder>> {
    lock::holder(path)
}

/// What a director wants to own.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    state: Option<PathBuf>,
    sockets: Vec<PathBuf>,
    interfaces: Vec<String>,
}

impl Claims {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A state file, which need not exist yet. Missing folders are made when it is taken.
    #[must_use]
    pub fn with_state(mut self, path: impl Into<PathBuf>) -> Self {
        self.state = Some(path.into());
        self
    }

    /// The path of a control socket. Missing folders are made when it is taken.
    #[must_use]
    pub fn with_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.sockets.push(path.into());
        self
    }

    /// An interface of the network namespace of the thread that [takes](Self::take) it. The same name may come again.
    #[must_use]
    pub fn with_interface(mut self, name: impl Into<String>) -> Self {
        self.interfaces.push(name.into());
        self
    }

    /// Takes everything, or nothing: what had been taken before a refusal is free again.
    ///
    /// # Errors
    /// [`OwnershipError::Held`] when somebody else owns one of these; it says who.
    pub fn take(self) -> Result<Ownership, OwnershipError> {
        let Self { state, mut sockets, mut interfaces } = self;
        // Always in the same order, so that of two that start together one gets everything. Each once: several ports
        // may be at one interface, for VLANs.
        sockets.sort();
        sockets.dedup();
        interfaces.sort();
        interfaces.dedup();
        let state = state.as_deref().map(OwnedState::take).transpose()?;
        let sockets = sockets.iter().map(|path| OwnedSocket::take(path)).collect::<Result<_, _>>()?;
        let interfaces =
            interfaces.iter().map(|name| OwnedInterface::take(name)).collect::<Result<_, _>>()?;
        Ok(Ownership { state, sockets, interfaces })
    }
}

/// What a director owns, as long as it keeps this or a part of it.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    state: Option<OwnedState>,
    sockets: Vec<OwnedSocket>,
    interfaces: Vec<OwnedInterface>,
}

/// What one of the descriptors of [`Ownership::hand_over`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever hands over must write each down")]
pub enum Claim {
    /// The state file at this path. There are two descriptors for one that was there when it was taken: its lock
    /// file's, and its own.
    State(PathBuf),
    /// The control socket at this path.
    Socket(PathBuf),
    /// The interface of this name. There are two descriptors for one that had an index when it was taken.
    Interface(String),
}

impl Ownership {
    /// The state file, if one was claimed.
    #[must_use]
    pub const fn state(&self) -> Option<&OwnedState> {
        self.state.as_ref()
    }

    /// The control socket at this path, if it was claimed.
    #[must_use]
    pub fn socket(&self, path: &Path) -> Option<&OwnedSocket> {
        self.sockets.iter().find(|socket| socket.path() == path)
    }

    /// The interface of this name, if it was claimed.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&OwnedInterface> {
        self.interfaces.iter().find(|interface| interface.name() == name)
    }

    /// Everything that either of both owns.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.state = self.state.or(other.state);
        self.sockets.extend(other.sockets);
        self.interfaces.extend(other.interfaces);
        self
    }

    /// Copies of the descriptors that are the ownership, for a successor that [adopts](Self::adopt) them. This
    /// process owns everything until it ends, and the successor goes on owning it.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn hand_over(&self) -> std::io::Result<Vec<(Claim, OwnedFd)>> {
        let mut handed = Vec::new();
        if let Some(state) = &self.state {
            for file in state.descriptors() {
                handed.push((Claim::State(state.path().to_owned()), file.try_clone()?.into()));
            }
        }
        for socket in &self.sockets {
            handed.push((Claim::Socket(socket.path().to_owned()), socket.lock().try_clone()?.into()));
        }
        for interface in &self.interfaces {
            for fd in interface.descriptors() {
                handed.push((Claim::Interface(interface.name().to_owned()), fd.try_clone()?));
            }
        }
        Ok(handed)
    }

    /// Takes over what another process handed over. Each descriptor is looked at: it must be the lock or the socket
    /// that its claim names, and hold it.
    ///
    /// # Errors
    /// [`OwnershipError::Foreign`] for a descriptor that is something else, [`OwnershipError::Held`] for a lock that
    /// another one holds.
    pub fn adopt(handed: Vec<(Claim, OwnedFd)>) -> Result<Self, OwnershipError> {
        let mut ownership = Self::default();
        for (claim, fd) in handed {
            match claim {
                Claim::State(path) => match ownership.state.as_mut().filter(|state| state.path() == path) {
                    Some(state) => state.adopt_further(fd)?,
                    None => ownership.state = Some(OwnedState::adopt(path, fd)?),
                },
                Claim::Socket(path) => ownership.sockets.push(OwnedSocket::adopt(path, fd)?),
                Claim::Interface(name) => {
                    match ownership.interfaces.iter_mut().find(|interface| interface.name() == name) {
                        Some(interface) => interface.adopt_further(fd)?,
                        None => ownership.interfaces.push(OwnedInterface::adopt(name, fd)?),
                    }
                }
            }
        }
        Ok(ownership)
    }
}

#[cfg(test)]
mod tests;
