//! Leaving the machine's own network behind, without being root.

use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::LabError;
use crate::sys::netns;

/// How this process has left, if it has.
static ISOLATION: Mutex<Option<Isolation>> = Mutex::new(None);

/// What the process has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// The process's user and network namespaces.
    UserAndNetwork,
    /// The process's network namespace only: it is privileged where it was.
    Network,
}

/// How this process has left, if it has.
pub(super) fn isolation() -> Option<Isolation> {
    *ISOLATION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves the process into a user and a network namespace of its own, once.
///
/// Inside, its user is mapped to root (`user_namespaces(7)`), which gives it every capability over the network
/// namespaces that it makes, and none outside. Where user namespaces are refused to a privileged process, network
/// namespaces alone do.
pub(super) fn isolate() -> Result<(), LabError> {
    let mut isolation = ISOLATION.lock().unwrap_or_else(PoisonError::into_inner);
    if isolation.is_some() {
        return Ok(());
    }
    // Read before the move: until they are mapped inside, the kernel shows the overflow numbers for both.
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    *isolation = Some(match netns::unshare_user_and_network() {
        Ok(()) => {
            map_to_root(user, group).map_err(LabError::isolate)?;
            Isolation::UserAndNetwork
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Err(LabError::Threads),
        Err(error) => {
            netns::unshare_network().map_err(|_| LabError::isolate(error))?;
            Isolation::Network
        }
    });
    Ok(())
}

/// Moves the process into a network namespace of its own and lets it keep its privileges, once.
pub(super) fn isolate_network() -> Result<(), LabError> {
    let mut isolation = ISOLATION.lock().unwrap_or_else(PoisonError::into_inner);
    match *isolation {
        Some(Isolation::Network) => Ok(()),
        Some(Isolation::UserAndNetwork) => {
            Err(LabError::Privileges { source: io::Error::from_raw_os_error(libc::EPERM) })
        }
        None => {
            netns::unshare_network().map_err(|source| LabError::Privileges { source })?;
            *isolation = Some(Isolation::Network);
            Ok(())
        }
    }
}

/// `setgroups` must be denied before an unprivileged process may write its group map.
fn map_to_root(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}
