//! A TCP connection, and how every check over TCP gets one.

use core::net::SocketAddr;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Attempt, Checker, Expiry, PASSED, Progress};
use crate::health::{Doing, Failure};

/// A target is up when it accepts a TCP connection, which is then reset: nothing is said on it, and neither side has to
/// remember it afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tcp {}

impl Tcp {
    /// The one that there is.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }
}

impl Checker for Tcp {
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
        let socket = connect(target)?;
        Ok(Box::new(Connecting { socket, target }))
    }
}

/// Begins to connect. Closing the socket resets the connection, so that ten thousand probes a second do not leave ten
/// thousand ports waiting (TIME-WAIT, RFC 9293, 3.6.1).
pub(super) fn connect(target: SocketAddr) -> Result<OwnedFd, Failure> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let open = || {
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        Ok(socket)
    };
    let socket = open().map_err(|errno| Failure::of_socket("open a socket", errno))?;
    match net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(Failure::of_socket("connect", errno)),
    }
}

/// Whether a socket that began to connect is connected; the target's refusal otherwise. Asking a second time for the
/// connection is the one system call that tells all three.
pub(super) fn is_connected(socket: BorrowedFd<'_>, target: SocketAddr) -> Result<bool, Failure> {
    match net::connect(socket, &target) {
        Ok(()) | Err(Errno::ISCONN) => Ok(true),
        Err(Errno::INPROGRESS | Errno::ALREADY) => Ok(false),
        Err(errno) => Err(Failure::of_socket("connect", errno)),
    }
}

#[derive(Debug)]
struct Connecting {
    socket: OwnedFd,
    target: SocketAddr,
}

impl Attempt for Connecting {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn proceed(&mut self) -> Progress {
        match is_connected(self.socket.as_fd(), self.target) {
            Ok(true) => Progress::Done(PASSED),
            Ok(false) => Progress::Waits,
            Err(failure) => Progress::Done(Err(failure)),
        }
    }

    fn expire(&mut self, after: Duration) -> Expiry {
        Expiry::Ends(Err(Failure::TimedOut { doing: Doing::Connecting, after }))
    }
}
