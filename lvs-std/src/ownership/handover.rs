//! Handing over to another process, by a Unix socket: a message for each descriptor, which goes with it as
//! `SCM_RIGHTS` (`unix(7)`), and one without at the end.

use core::mem::MaybeUninit;
use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, recvmsg, sendmsg, sockopt,
};

use super::{Claim, Ownership, OwnershipError};

impl Ownership {
    /// Hands everything over to the process at the other end of a connected Unix socket that carries whole messages
    /// (`SOCK_SEQPACKET`), where [`receive`](Self::receive) takes it. Whoever it is owns it then too: the socket must
    /// lead to nobody else.
    ///
    /// # Errors
    /// When the socket is of another kind, or the other end does not take it, or no descriptor is left.
    pub fn send(&self, to: impl AsFd) -> io::Result<()> {
        let to = to.as_fd();
        check_kind(to)?;
        for (claim, fd) in self.hand_over()? {
            send(to, &encode(&claim), Some(fd.as_fd()))?;
        }
        send(to, &[END], None)
    }

    /// Takes over what another process [sends](Self::send), and waits for it as long as the socket's own time-out says.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt), and [`OwnershipError::Io`] when something else comes than an ownership, or not all of
    /// it. Nothing is owned then.
    pub fn receive(from: impl AsFd) -> Result<Self, OwnershipError> {
        let from = from.as_fd();
        let fail = |error| OwnershipError::Io { what: "what another process hands over".to_owned(), error };
        check_kind(from).map_err(fail)?;
        let mut handed = Vec::new();
        while let Some(one) = receive(from).map_err(fail)? {
            if handed.len() == MOST {
                return Err(fail(invalid("there is no end of it")));
            }
            handed.push(one);
        }
        Self::adopt(handed)
    }
}

fn check_kind(socket: BorrowedFd<'_>) -> io::Result<()> {
    match sockopt::socket_type(socket)? {
        SocketType::SEQPACKET => Ok(()),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket is none that carries whole messages"))
        }
    }
}

/// The kind of a claim, and its path or name.
fn encode(claim: &Claim) -> Vec<u8> {
    let (kind, name) = match claim {
        Claim::State(path) => (STATE, path.as_os_str()),
        Claim::Socket(path) => (SOCKET, path.as_os_str()),
        Claim::Interface(name) => (INTERFACE, OsStr::new(name)),
    };
    [&[kind], name.as_bytes()].concat()
}

fn decode(bytes: &[u8]) -> Option<Claim> {
    let (kind, name) = bytes.split_first()?;
    let name = OsStr::from_bytes(name);
    match *kind {
        STATE => Some(Claim::State(name.into())),
        SOCKET => Some(Claim::Socket(name.into())),
        INTERFACE => Some(Claim::Interface(name.to_str()?.to_owned())),
        _ => None,
    }
}

fn send(to: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let rights = fd.as_slice();
    if !rights.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(rights));
    }
    // Messages of this kind go as a whole or not at all.
    sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One claim with its descriptor; `None` at the end.
fn receive(from: BorrowedFd<'_>) -> io::Result<Option<(Claim, OwnedFd)>> {
    let mut bytes = vec![0; LONGEST];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    // A message with more descriptors than one, or longer than any path, is none of these.
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(invalid("it is not whole, or no ownership"));
    }
    let bytes = bytes.get(..received.bytes).unwrap_or_default();
    match (fds.pop(), bytes) {
        (None, [END]) => Ok(None),
        // The other end is gone before it has said everything.
        (None, []) => Err(io::ErrorKind::UnexpectedEof.into()),
        (Some(fd), bytes) => {
            decode(bytes).map(|claim| Some((claim, fd))).ok_or_else(|| invalid("it is no ownership"))
        }
        (None, _) => Err(invalid("a claim comes without its descriptor")),
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

const STATE: u8 = b's';
const SOCKET: u8 = b'c';
const INTERFACE: u8 = b'i';
const END: u8 = b'.';
/// Descriptors that are taken at the most: two for each interface.
const MOST: usize = 1_024;
/// Bytes of a message: a kind and a path (`PATH_MAX`, `linux/limits.h`).
const LONGEST: usize = 4_097;
