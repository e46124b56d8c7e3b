//! A led program's generic netlink socket: a pair of Unix sockets. The program has one end; what it writes arrives
//! here, message by message, and goes to the director or to a netlink socket of the kernel's.
//!
//! Sending, receiving, waiting and duplicating need nobody's help then. What only a netlink socket has (its port id,
//! its options, its groups) is the kernel socket's.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::link::{Happened, Link};
use super::message::{For, addressee, append, names_ipvs, refusal};
use crate::control::protocol::{Message, kind, messages};

/// A generic netlink socket of a led program.
#[derive(Debug)]
pub(super) struct Socket {
    end: OwnedFd,
    /// By this the program's end is known, whoever has it under whichever number.
    inode: u64,
    /// For all families but `IPVS`. `None` where the kernel has no generic netlink.
    kernel: Option<OwnedFd>,
    /// Without a kernel's socket: the port id.
    port: u32,
    /// The process that made it.
    owner: i32,
    /// Whether who made it may command the director.
    may: bool,
    link: Link,
    /// What the program's end has no room for yet. While there is something, nothing more is read.
    waiting: VecDeque<Vec<u8>>,
    gone: bool,
}

/// Who makes a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) process: i32,
    pub(super) may: bool,
}

impl Socket {
    /// A socket over this one of the kernel's; and the program's end.
    pub(super) fn new(kernel: Option<OwnedFd>, blocks: bool, owner: Owner) -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (end, programs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let unblocked = rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&end, unblocked)?;
        if !blocks {
            rustix::fs::fcntl_setfl(&programs, unblocked)?;
        }
        let inode = rustix::fs::fstat(&programs)?.st_ino;
        let Owner { process, may } = owner;
        let (link, waiting) = (Link::new(), VecDeque::new());
        Ok((Self { end, inode, kernel, port: 0, owner: process, may, link, waiting, gone: false }, programs))
    }

    pub(super) const fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) const fn kernel(&self) -> Option<&OwnedFd> {
        self.kernel.as_ref()
    }

    /// Whether nobody has the program's end any more.
    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether an answer is on its way.
    pub(super) fn expects(&self) -> bool {
        self.link.expects() || !self.waiting.is_empty()
    }

    /// What to wait for, and at which descriptors.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let full = !self.waiting.is_empty();
        let end = (full || !self.link.is_full()).then(|| self.end.as_fd());
        let ends = [(end, if full { PollFlags::OUT } else { PollFlags::IN })];
        let others = [
            (self.kernel.as_ref().map(OwnedFd::as_fd), PollFlags::IN),
            (self.link.descriptor(), self.link.interest()),
        ];
        let others = others.into_iter().filter(move |_| !full);
        ends.into_iter().chain(others).filter_map(|(descriptor, flags)| Some((descriptor?, flags)))
    }

    /// Whether it wants a turn soon though nothing arrives.
    pub(super) const fn looks(&self) -> bool {
        self.link.looks()
    }

    /// Carries what can be carried.
    pub(super) fn turn(&mut self, director: &Path, room: &mut [u8]) {
        loop {
            if !self.flush() {
                return;
            }
            let went = self.take_request(director, room) | self.take_answer(director, room);
            if self.gone || !(went | self.take_from_kernel(room)) {
                return;
            }
        }
    }

    /// Whether all that was waiting has gone to the program.
    fn flush(&mut self) -> bool {
        while let Some(next) = self.waiting.front() {
            match rustix::net::send(&self.end, next, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) | Err(Errno::MSGSIZE) => drop(self.waiting.pop_front()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return false,
                Err(_) => {
                    self.gone = true;
                    return false;
                }
            }
        }
        true
    }

    fn take_request(&mut self, director: &Path, room: &mut [u8]) -> bool {
        if self.link.is_full() {
            return false;
        }
        match rustix::net::recv(&self.end, &mut *room, RecvFlags::DONTWAIT) {
            // A program sends nothing that is empty, so all its ends are closed.
            Ok((0, _)) => self.gone = true,
            Ok((count, _)) => {
                self.have_port();
                for message in messages(room.get(..count).unwrap_or_default()) {
                    self.request(&message, director);
                }
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.gone = true,
        }
        false
    }

    fn request(&mut self, message: &Message<'_>, director: &Path) {
        let result = match addressee(message) {
            For::Director if !self.may && message.header.kind != kind::CONTROLLER => Err(libc::EPERM),
            For::Director => {
                self.link.ask(message, None, director);
                Ok(())
            }
            For::Both => {
                self.link.ask_for_family(message, director);
                Ok(())
            }
            For::Kernel => self.ask_kernel(message.bytes),
        };
        if let Err(errno) = result {
            let refusal = refusal(message.bytes, message.header, self.port(), errno);
            self.waiting.push_back(refusal);
        }
    }

    fn ask_kernel(&self, request: &[u8]) -> Result<(), i32> {
        let kernel = self.kernel.as_ref().ok_or(libc::ENOENT)?;
        let to = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(kernel, request, SendFlags::DONTWAIT, &to).map_err(Errno::raw_os_error).map(drop)
    }

    fn take_from_kernel(&mut self, room: &mut [u8]) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        let Some(kernel) = &self.kernel else { return false };
        let Ok((count, _)) = rustix::net::recv(kernel, &mut *room, RecvFlags::DONTWAIT) else { return false };
        // The kernel's own family of this name may be in a list; the director's is there already.
        let mut datagram = Vec::with_capacity(count);
        for message in messages(room.get(..count).unwrap_or_default()) {
            if !names_ipvs(&message) {
                append(&mut datagram, message.bytes);
            }
        }
        if !datagram.is_empty() {
            self.waiting.push_back(datagram);
        }
        true
    }

    fn take_answer(&mut self, director: &Path, room: &mut [u8]) -> bool {
        let port = self.port();
        let mut happened = self.link.turn(director, port, room);
        for request in happened.drain_kernel() {
            if let Err(errno) = self.ask_kernel(&request)
                && let Some(message) = messages(&request).next()
            {
                happened.datagrams.push(refusal(&request, message.header, port, errno));
            }
        }
        let Happened { datagrams, read, .. } = happened;
        let some = read || !datagrams.is_empty();
        self.waiting.extend(datagrams);
        some
    }

    /// Gives it a port id, if it has none: the number of the process that made it, if that is free.
    pub(super) fn have_port(&mut self) {
        if self.port() == 0 {
            let _ = self.bind(0, 0);
        }
    }

    /// bind(2).
    pub(super) fn bind(&mut self, port: u32, groups: u32) -> Result<(), i32> {
        let Some(kernel) = &self.kernel else {
            if self.port != 0 && port != 0 && port != self.port {
                return Err(libc::EINVAL);
            }
            let fallback = if self.port == 0 { self.owner.cast_unsigned() } else { self.port };
            self.port = if port == 0 { fallback } else { port };
            return Ok(());
        };
        let bind = |port| rustix::net::bind(kernel, &SocketAddrNetlink::new(port, groups));
        let own = || bind(self.owner.cast_unsigned()).is_ok();
        // The kernel would take the number of this process, as it is this one that asks.
        if port == 0 && address_of(kernel).0 == 0 && own() {
            return Ok(());
        }
        bind(port).map_err(Errno::raw_os_error)
    }

    /// Port id and groups; the port id is 0 as long as there is none.
    pub(super) fn address(&self) -> (u32, u32) {
        self.kernel.as_ref().map_or((self.port, 0), address_of)
    }

    fn port(&self) -> u32 {
        self.address().0
    }
}

/// Port id and groups of a netlink socket.
fn address_of(socket: &OwnedFd) -> (u32, u32) {
    let address = rustix::net::getsockname(socket).ok().and_then(|any| SocketAddrNetlink::try_from(any).ok());
    address.map_or((0, 0), |address| (address.pid(), address.groups()))
}
