//! Which addresses this machine has, and when that changes.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rtnetlink::Netlink;

/// The addresses of a network namespace's interfaces (rtnetlink(7)): of the one in which this was made.
///
/// VRRP moves a virtual address between machines by giving it to an interface of the active one. Whoever asks here
/// knows at once which that is.
///
/// ```
/// let mut addresses = lvs_std::HostAddresses::open()?;
/// let now = addresses.read()?;
/// let changed = addresses.wait(core::time::Duration::ZERO)?;
/// # let _ = (now, changed);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct HostAddresses {
    questions: Netlink,
    /// Told of every change.
    changes: Socket,
}

impl HostAddresses {
    /// Of the calling thread's network namespace.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn open() -> io::Result<Self> {
        let questions = Netlink::open()?;
        // Changes have a socket of their own, so that none comes in between the answers to a question.
        let mut changes = Socket::new(NETLINK_ROUTE)?;
        changes.bind(&SocketAddr::new(0, GROUPS))?;
        changes.set_non_blocking(true)?;
        Ok(Self { questions, changes })
    }

    /// The addresses that its interfaces have now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn read(&mut self) -> io::Result<BTreeSet<IpAddr>> {
        Ok(self.read_by_interface()?.into_iter().map(|(_, address)| address).collect())
    }

    /// All addresses as of [`read`](Self::read), each with the number of the interface that has it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn read_by_interface(&mut self) -> io::Result<BTreeSet<(u32, IpAddr)>> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let found = self.questions.dump(question)?.into_iter().filter_map(|found| {
            let RouteNetlinkMessage::NewAddress(address) = found else { return None };
            Some((address.header.index, own(&address)?))
        });
        Ok(found.collect())
    }

    /// Waits until something has changed, for `patience` at most; whether it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn wait(&self, patience: Duration) -> io::Result<bool> {
        let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let mut fds = [PollFd::new(&self.changes, PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        // What exactly it was is asked for; one that was lost for lack of room is a change as well.
        let mut buffer = Vec::with_capacity(ROOM);
        while self.changes.recv(&mut buffer, 0).is_ok() {
            buffer.clear();
        }
        Ok(true)
    }
}

impl core::fmt::Debug for HostAddresses {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HostAddresses").finish_non_exhaustive()
    }
}

/// The interface's own address; on point-to-point links the other one is the peer's.
fn own(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| {
        if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None }
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| {
            if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
        })
    })
}

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x10 | 0x100;
const ROOM: usize = 1 << 15;
