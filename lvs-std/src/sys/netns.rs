//! Namespaces of the calling thread: unshare(2) and setns(2), `linux/sched.h`.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Moves the calling thread into a new user namespace and a new network namespace that belongs to it. The kernel
/// answers `EINVAL` in a process with more than one thread.
pub(crate) fn unshare_user_and_network() -> io::Result<()> {
    // SAFETY: without `CLONE_FILES` and `CLONE_FS` the file descriptor table and the working directory stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Moves the calling thread alone into a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: without `CLONE_FILES` and `CLONE_FS` the file descriptor table and the working directory stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Moves the calling thread alone into a new mount namespace, with the mounts that it had.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the file descriptor table stays shared. The working directory is this thread's own from now on, and that
    // of the threads that it starts.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(())
}

/// Moves the calling thread alone into the network namespace that `namespace` refers to.
pub(crate) fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    Ok(())
}
