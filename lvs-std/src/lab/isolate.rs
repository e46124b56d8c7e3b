//! Leaving the machine's own network behind, without being root.

use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::LabError;
use crate::sys::netns;

/// Whether this process has left already.
static ISOLATED: Mutex<bool> = Mutex::new(false);

/// Moves the process into a user and a network namespace of its own, once.
///
/// Inside, its user is mapped to root (`user_namespaces(7)`), which gives it every capability over the network
/// namespaces that it makes, and none outside. Where user namespaces are refused to a privileged process, network
/// namespaces alone do.
pub(super) fn isolate() -> Result<(), LabError> {
    let mut isolated = ISOLATED.lock().unwrap_or_else(PoisonError::into_inner);
    if *isolated {
        return Ok(());
    }
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match netns::unshare_user_and_network() {
        Ok(()) => map_to_root(user, group).map_err(LabError::isolate)?,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Err(LabError::Threads),
        Err(error) => netns::unshare_network().map_err(|_| LabError::isolate(error))?,
    }
    *isolated = true;
    Ok(())
}

/// `setgroups` must be denied before an unprivileged process may write its group map.
fn map_to_root(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}
