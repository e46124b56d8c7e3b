//! Interfaces as somebody's own, in their network namespace.
//!
//! An abstract Unix socket exists in one network namespace, can be bound by one process, and goes with it. It listens
//! nowhere, so nobody can connect to it or fill a queue of it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, socket_with};

use super::owner::patiently;
use super::{Holder, OwnershipError};

/// An interface that no other director of its network namespace opens. Clones own the same one.
#[derive(Clone, Debug)]
pub struct OwnedInterface {
    name: String,
    /// The sockets of the interface's name, and of its index if it has one.
    sockets: Vec<Arc<OwnedFd>>,
}

impl OwnedInterface {
    /// Takes an interface by its name, and by its index if it exists, so that one that was renamed has no second
    /// owner.
    ///
    /// # Errors
    /// [`OwnershipError`].
    pub fn take(name: &str) -> Result<Self, OwnershipError> {
        let mut sockets = vec![Arc::new(patiently(|| take(name, &by_name(name)))?)];
        if let Ok(index) = index_of(name) {
            sockets.push(Arc::new(patiently(|| take(name, &by_index(index)))?));
        }
        Ok(Self { name: name.to_owned(), sockets })
    }

    /// Who owns an interface, by its name or its index; `None` if nobody does. Nothing is taken.
    ///
    /// # Errors
    /// When the kernel does not list its sockets.
    pub fn holder(name: &str) -> io::Result<Option<Holder>> {
        let names = [Some(by_name(name)), index_of(name).ok().map(by_index)];
        for address in names.into_iter().flatten() {
            if inode(&address)?.is_some() {
                return Ok(Some(Holder { process: owner(&address)? }));
            }
        }
        Ok(None)
    }

    pub(super) fn adopt(name: String, fd: OwnedFd) -> Result<Self, OwnershipError> {
        let mut interface = Self { name, sockets: Vec::new() };
        interface.adopt_further(fd)?;
        Ok(interface)
    }

    pub(super) fn adopt_further(&mut self, fd: OwnedFd) -> Result<(), OwnershipError> {
        let bound = getsockname(&fd).ok().and_then(|address| SocketAddrUnix::try_from(address).ok());
        let bound = bound.as_ref().and_then(SocketAddrUnix::abstract_name).map(<[u8]>::to_vec);
        let index = index_of(&self.name).ok().map(by_index);
        let names = [Some(by_name(&self.name)), index];
        if bound.is_none_or(|bound| !names.iter().flatten().any(|name| name.as_bytes() == bound)) {
            return Err(OwnershipError::Foreign { what: what(&self.name) });
        }
        self.sockets.push(Arc::new(fd));
        Ok(())
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter().map(AsRef::as_ref)
    }
}

fn take(name: &str, address: &str) -> Result<OwnedFd, OwnershipError> {
    let fail = |error: rustix::io::Errno| OwnershipError::Io { what: what(name), error: error.into() };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(fail)?;
    match bind(&socket, &SocketAddrUnix::new_abstract_name(address.as_bytes()).map_err(fail)?) {
        Ok(()) => Ok(socket),
        Err(rustix::io::Errno::ADDRINUSE) => {
            Err(OwnershipError::Held { what: what(name), by: owner(address).unwrap_or_default() })
        }
        Err(error) => Err(fail(error)),
    }
}

fn what(name: &str) -> String {
    format!("the interface {name}")
}

fn by_name(name: &str) -> String {
    format!("lvs-director/interface/{name}")
}

fn by_index(index: u32) -> String {
    format!("lvs-director/interface-index/{index}")
}

/// The process that has bound an abstract address, if this one may see it: the kernel lists sockets with their inodes,
/// and each process's descriptors lead to inodes.
fn owner(address: &str) -> io::Result<Option<u32>> {
    let Some(inode) = inode(address)? else { return Ok(None) };
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc")?.flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let (Some(pid), Ok(descriptors)) = (pid, fs::read_dir(process.path().join("fd"))) else { continue };
        let leads_there =
            |path: &std::path::Path| fs::read_link(path).is_ok_and(|to| to.as_os_str() == &*link);
        if descriptors.flatten().any(|descriptor| leads_there(&descriptor.path())) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The inode of the socket that is bound to an abstract address in this network namespace.
fn inode(address: &str) -> io::Result<Option<String>> {
    let sockets = fs::read_to_string("/proc/thread-self/net/unix")?;
    let own = format!("@{address}");
    Ok(sockets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let inode = words.nth(6)?;
        (words.next()? == own).then(|| inode.to_owned())
    }))
}

/// The number of an interface in this network namespace.
fn index_of(name: &str) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}
