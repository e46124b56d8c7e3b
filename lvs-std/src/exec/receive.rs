//! Receiving with the sender's address: it is the one thing that a program sees of a Unix socket and not of a netlink
//! socket, so these calls are carried out here.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::net::RecvFlags;
use rustix::net::sockopt::{Timeout, socket_timeout};

use super::caller::Caller;
use super::filter::Kind;
use super::link::AGAIN;
use crate::sys::seccomp::Call;

/// A call that receives, and waits until there is something.
#[derive(Debug)]
pub(super) struct Receive {
    pub(super) call: Call,
    pub(super) caller: Caller,
    kind: Kind,
    /// The program's end of the pair.
    end: OwnedFd,
    /// When the program wants to wait no longer.
    deadline: Option<Instant>,
    waits: bool,
    began: Instant,
    /// Which socket it is.
    pub(super) inode: u64,
}

impl Receive {
    pub(super) fn new(call: Call, caller: Caller, kind: Kind, end: OwnedFd, inode: u64) -> Self {
        let flags = call.int(if kind == Kind::ReceiveMessage { 2 } else { 3 });
        let open = rustix::fs::fcntl_getfl(&end).unwrap_or(OFlags::empty());
        let waits = flags & libc::MSG_DONTWAIT == 0 && !open.contains(OFlags::NONBLOCK);
        let patience = socket_timeout(&end, Timeout::Recv).ok().flatten();
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        Self { call, caller, kind, end, deadline, waits, began: Instant::now(), inode }
    }

    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// What the call results in; `None` while there is nothing to receive. The kernel has answered when a request has
    /// been sent, so who does not want to wait waits all the same while an answer is `expected`.
    pub(super) fn attempt(&self, room: &mut [u8], expected: bool) -> Option<Result<i64, i32>> {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let patient = self.waits || (expected && self.began.elapsed() < AGAIN);
        match self.receive(room) {
            Err(libc::EAGAIN) if patient && !late => None,
            result => Some(result),
        }
    }

    fn receive(&self, room: &mut [u8]) -> Result<i64, i32> {
        let (caller, call) = (&self.caller, &self.call);
        if self.kind == Kind::ReceiveFrom {
            let (wanted, flags) = (call.word(2), call.int(3));
            let (received, length) = self.take(&[(call.word(1), wanted)], flags, room)?;
            name(caller, call.word(4), call.word(5))?;
            return Ok(result(received, length, flags));
        }
        // struct msghdr; recvmmsg(2) has an array of them, each with a length behind it, of which one is filled.
        let several = self.kind == Kind::ReceiveMessages;
        if several && call.int(2) == 0 {
            return Ok(0);
        }
        let (head, flags) = (call.word(1), call.int(if several { 3 } else { 2 }));
        let field = |offset| head.wrapping_add(offset);
        let pieces = caller.pieces(caller.word(field(IOV))?, caller.word(field(IOV_LENGTH))?)?;
        let (received, length) = self.take(&pieces, flags, room)?;
        let address = caller.word(head)?;
        if address == 0 {
            caller.write(field(NAME_LENGTH), &0_u32.to_ne_bytes())?;
        } else {
            name(caller, address, field(NAME_LENGTH))?;
        }
        let control = self.credentials(field(CONTROL), field(CONTROL_LENGTH))?;
        caller.write(field(CONTROL_LENGTH), &control.to_ne_bytes())?;
        let cut = if length > received { libc::MSG_TRUNC } else { 0 };
        caller.write(field(FLAGS), &cut.to_ne_bytes())?;
        let result = result(received, length, flags);
        if several {
            caller.write(field(MESSAGE), &(result as u32).to_ne_bytes())?;
            return Ok(1);
        }
        Ok(result)
    }

    /// Takes a datagram, and lays it into these pieces of the program's memory: how much of it, and how long it was.
    fn take(&self, pieces: &[(u64, u64)], flags: i32, room: &mut [u8]) -> Result<(usize, usize), i32> {
        let wanted = pieces.iter().fold(0_u64, |sum, (_, length)| sum.saturating_add(*length));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(room.len());
        let peek = if flags & libc::MSG_PEEK == 0 { RecvFlags::empty() } else { RecvFlags::PEEK };
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC | peek;
        let into = room.get_mut(..wanted).unwrap_or_default();
        let (received, length) =
            rustix::net::recv(&self.end, &mut *into, flags).map_err(|error| error.raw_os_error())?;
        let mut rest = into.get(..received).unwrap_or_default();
        for (address, length) in pieces {
            let count = usize::try_from(*length).unwrap_or(usize::MAX).min(rest.len());
            let (piece, after) = rest.split_at_checked(count).unwrap_or_default();
            self.caller.write(*address, piece)?;
            rest = after;
        }
        Ok((received, length))
    }

    /// Writes who sent it, if the program has asked for that: the kernel, which is nobody. The length of it.
    fn credentials(&self, control: u64, length: u64) -> Result<u64, i32> {
        let asked = rustix::net::sockopt::socket_passcred(&self.end).unwrap_or(false);
        let (at, length) = (self.caller.word(control)?, self.caller.word(length)?);
        if !asked || at == 0 || length < CREDENTIALS {
            return Ok(0);
        }
        // struct cmsghdr, SCM_CREDENTIALS, process 0, user 0, group 0.
        let mut bytes = 28_u64.to_ne_bytes().to_vec();
        bytes.extend(libc::SOL_SOCKET.to_ne_bytes());
        bytes.extend(libc::SCM_CREDENTIALS.to_ne_bytes());
        bytes.resize(CREDENTIALS as usize, 0);
        self.caller.write(at, &bytes)?;
        Ok(CREDENTIALS)
    }
}

/// Writes the kernel's netlink address where a program wants one, if it wants one.
fn name(caller: &Caller, address: u64, length: u64) -> Result<(), i32> {
    write_address(caller, address, length, 0, 0)
}

/// Writes a netlink address, and its length, as far as the program has room.
pub(super) fn write_address(
    caller: &Caller,
    address: u64,
    length: u64,
    port: u32,
    groups: u32,
) -> Result<(), i32> {
    if address == 0 {
        return Ok(());
    }
    let mut bytes = 16_u16.to_ne_bytes().to_vec();
    bytes.extend([0; 2]);
    bytes.extend(port.to_ne_bytes());
    bytes.extend(groups.to_ne_bytes());
    let room = caller.int(length)? as usize;
    caller.write(address, bytes.get(..room.min(bytes.len())).unwrap_or_default())?;
    caller.write(length, &(bytes.len() as u32).to_ne_bytes())
}

fn result(received: usize, length: usize, flags: i32) -> i64 {
    (if flags & libc::MSG_TRUNC == 0 { received } else { length }) as i64
}

/// Where a `struct msghdr` of a 64-bit program has its fields.
const NAME_LENGTH: u64 = 8;
const IOV: u64 = 16;
const IOV_LENGTH: u64 = 24;
const CONTROL: u64 = 32;
const CONTROL_LENGTH: u64 = 40;
const FLAGS: u64 = 48;
/// Where a `struct mmsghdr` has the length.
const MESSAGE: u64 = 56;
/// A `struct cmsghdr` with a `struct ucred`.
const CREDENTIALS: u64 = 32;
