//! What becomes of the calls on generic netlink sockets.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Instant;

use crate::ffi::{self, Incoming, Outgoing};
use crate::message;
use crate::table::{Progress, Request, Slot, Table};

/// The sockets of this process.
pub(crate) static TABLE: Table = Table::new();

/// How long the first connection waits for a director, so that commands pass while it restarts.
pub(crate) const FIRST: Duration = Duration::from_secs(1);
/// How long a request waits for a director that has gone away.
const AGAIN: Duration = Duration::from_secs(5);
/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_millis(20);
/// How often one request is sent, at most: a director may go away again and again.
const ROUNDS: u32 = 3;

/// What is known of a descriptor.
#[inline]
pub(crate) fn find(descriptor: i32) -> Option<&'static Slot> {
    TABLE.find(descriptor, || ffi::inode(descriptor))
}

/// A descriptor that is connected to the director.
#[inline]
pub(crate) fn connected(descriptor: i32) -> Option<&'static Slot> {
    find(descriptor).filter(|slot| slot.is_connected())
}

/// A descriptor was made to mean what another one does; or, if it is -1, not.
#[inline]
pub(crate) fn duplicated(from: i32, made: i32) {
    if made < 0 || made == from {
        return;
    }
    TABLE.forget(made);
    if let Some(slot) = find(from)
        && let Some(copy) = TABLE.insert(made, ffi::inode(made), ffi::inode)
    {
        copy.copy(slot);
    }
}

/// Makes a generic netlink socket. Whether it is for the director shows when something is sent.
pub(crate) fn socket(kind: i32) -> io::Result<OwnedFd> {
    let (socket, connected) = match ffi::make_socket(libc::AF_NETLINK, kind, libc::NETLINK_GENERIC) {
        Ok(socket) => (socket, false),
        // Some sandboxes have no netlink, but directors.
        Err(error) if UNAVAILABLE.contains(&error.raw_os_error().unwrap_or(0)) => {
            (open(kind & (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK), FIRST)?, true)
        }
        Err(error) => return Err(error),
    };
    let descriptor = socket.as_raw_fd();
    match TABLE.insert(descriptor, ffi::inode(descriptor), ffi::inode) {
        Some(slot) => {
            slot.connected.store(connected, Ordering::Relaxed);
            Ok(socket)
        }
        // Unknown to us, it would reach the kernel's IPVS.
        None => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    }
}

/// A connection to the director, which may take a while to listen.
pub(crate) fn open(flags: i32, patience: Duration) -> io::Result<OwnedFd> {
    let place = ffi::director().ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
    let patience = if flags & libc::SOCK_NONBLOCK == 0 { patience } else { Duration::ZERO };
    let began = Instant::now();
    loop {
        match ffi::connect(&place, flags) {
            Err(error) if is_absent(&error) && began.elapsed() < patience => thread::sleep(LOOK),
            result => return result,
        }
    }
}

/// sendmsg(2) on a socket of ours.
pub(crate) fn send(descriptor: i32, slot: &Slot, message: &Outgoing<'_>) -> io::Result<usize> {
    let mut room = [0; Request::LONGEST + 1];
    let request = message.gather(&mut room);
    if !slot.is_connected() {
        if !message::asks_for_ipvs(request) {
            return message.pass(descriptor);
        }
        let port = ffi::port(descriptor);
        replace(descriptor, slot, &open(ffi::flags(descriptor), FIRST)?)?;
        slot.port.store(port, Ordering::Relaxed);
    }
    slot.request.keep(request);
    slot.set_progress(Progress::Awaited);
    for _ in 0..ROUNDS {
        match message.send(descriptor) {
            Err(error) if is_lost(&error) => reconnect(descriptor, slot)?,
            result => return result,
        }
    }
    message.send(descriptor)
}

/// recvmsg(2) on a socket of ours.
pub(crate) fn receive(descriptor: i32, slot: &Slot, message: &mut Incoming<'_>) -> io::Result<usize> {
    if !slot.is_connected() {
        return message.pass(descriptor);
    }
    for _ in 0..ROUNDS {
        match message.receive(descriptor) {
            Ok(length) if length > 0 => {
                if !message.is_peek() {
                    let last = message::messages(message.bytes(length)).last().map(message::kind);
                    let complete = matches!(last, Some(message::ERROR | message::DONE));
                    slot.set_progress(if complete { Progress::Complete } else { Progress::Begun });
                }
                message.fill_sender();
                return Ok(length);
            }
            Err(error) if !is_lost(&error) => return Err(error),
            Ok(_) | Err(_) => send_again(descriptor, slot)?,
        }
    }
    Err(reset())
}

/// The director went before it answered, so it may not have done what it was asked for.
fn send_again(descriptor: i32, slot: &Slot) -> io::Result<()> {
    let mut room = [0; Request::LONGEST];
    match (slot.progress(), slot.request.kept(&mut room)) {
        (Progress::Awaited, Some(request)) => {
            reconnect(descriptor, slot)?;
            match ffi::send(descriptor, request) {
                Err(error) if !is_lost(&error) => Err(error),
                Ok(_) | Err(_) => Ok(()),
            }
        }
        (Progress::Awaited | Progress::Begun | Progress::Complete, _) => Err(reset()),
    }
}

/// Connects again under the same number.
fn reconnect(descriptor: i32, slot: &Slot) -> io::Result<()> {
    let patience = if slot.given_up.load(Ordering::Relaxed) { Duration::ZERO } else { AGAIN };
    let connection = open(ffi::flags(descriptor), patience);
    slot.given_up.store(connection.is_err(), Ordering::Relaxed);
    replace(descriptor, slot, &connection?)
}

/// Puts a connection in the place of a descriptor.
fn replace(descriptor: i32, slot: &Slot, connection: &OwnedFd) -> io::Result<()> {
    ffi::replace(connection, descriptor, ffi::flags(descriptor))?;
    slot.connect(ffi::inode(descriptor));
    Ok(())
}

/// The connection is no more.
fn is_lost(error: &io::Error) -> bool {
    let lost = [libc::EPIPE, libc::ECONNRESET, libc::ENOTCONN, libc::ECONNREFUSED];
    error.raw_os_error().is_some_and(|number| lost.contains(&number))
}

/// Nobody listens, or not yet.
fn is_absent(error: &io::Error) -> bool {
    let absent = [libc::ENOENT, libc::ECONNREFUSED, libc::EAGAIN, libc::ECONNRESET];
    error.raw_os_error().is_some_and(|number| absent.contains(&number))
}

fn reset() -> io::Error {
    io::Error::from_raw_os_error(libc::ECONNRESET)
}

/// What a kernel or a filter without netlink answers.
const UNAVAILABLE: [i32; 4] = [libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT, libc::EPERM, libc::EACCES];
