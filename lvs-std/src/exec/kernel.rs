//! The kernel's sockets behind those of led programs. What a program asks of one is done in the program's network and
//! with no more privileges than the program has.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space, set_capabilities,
};

use super::caller::Caller;
use super::filter::Kind;
use super::socket::Socket;
use crate::sys::option::{bytes, set_bytes};
use crate::sys::seccomp::Call;

/// A generic netlink socket.
pub(super) fn kernel_socket(kind: SocketType, caller: &Caller) -> io::Result<OwnedFd> {
    as_caller(caller, move || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::GENERIC))?)
    })
}

/// Does something in the caller's network namespace and with no more privileges than the caller has.
fn as_caller<T: Send>(caller: &Caller, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = caller.network();
    let moved = namespace.is_some() && namespace != fs::read_link("/proc/self/ns/net").ok();
    let mut own = capabilities(None)?;
    let its = CapabilitySet::from_bits_retain(caller.capabilities().unwrap_or(0));
    if !moved && own.effective.difference(its).is_empty() {
        return work();
    }
    let namespace = moved.then(|| caller.open_network()).transpose()?;
    // A thread has its own of both, and keeps them to itself.
    let in_thread = move || {
        if let Some(namespace) = namespace {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        own.effective = own.effective.intersection(its);
        set_capabilities(None, own)?;
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, in_thread)?;
        thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })
}

/// bind(2) and connect(2).
pub(super) fn bind(socket: &mut Socket, call: &Call, caller: &Caller, kind: Kind) -> Result<i64, i32> {
    if call.int(2).cast_unsigned() < ADDRESS {
        return Err(libc::EINVAL);
    }
    let address = caller.read(call.word(1), ADDRESS as usize)?;
    let word = |at: usize| {
        address.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
    };
    if word(0) as u16 != NETLINK {
        return Err(libc::EINVAL);
    }
    match (kind, word(4)) {
        // Connecting with the kernel changes nothing but that there is a port id.
        (Kind::Connect, 0) => socket.have_port(),
        // No generic netlink goes from program to program.
        (Kind::Connect, _) => return Err(libc::EPERM),
        // Some groups are for the privileged alone.
        (_, port) => {
            as_caller(caller, || socket.bind(port, word(8)).map_err(io::Error::from_raw_os_error))
                .map_err(|error| number(&error))?;
        }
    }
    Ok(0)
}

/// getsockopt(2).
pub(super) fn get_option(socket: &Socket, call: &Call, caller: &Caller) -> Result<i64, i32> {
    let kernel = socket.kernel().ok_or(libc::ENOPROTOOPT)?;
    let room = caller.int(call.word(4))? as usize;
    let mut value = vec![0; room.min(LONGEST_OPTION)];
    let length =
        bytes(kernel.as_fd(), call.int(1), call.int(2), &mut value).map_err(|error| number(&error))?;
    caller.write(call.word(3), value.get(..length.min(value.len())).unwrap_or_default())?;
    caller.write(call.word(4), &(length as u32).to_ne_bytes())?;
    Ok(0)
}

/// setsockopt(2).
pub(super) fn set_option(socket: &Socket, call: &Call, caller: &Caller) -> Result<i64, i32> {
    let kernel = socket.kernel().ok_or(libc::ENOPROTOOPT)?;
    // Whence a message comes is not told by a pair.
    if call.int(2) == PACKET_INFO {
        return Err(libc::ENOPROTOOPT);
    }
    let length = (call.int(4).cast_unsigned() as usize).min(LONGEST_OPTION);
    let value = caller.read(call.word(3), length)?;
    as_caller(caller, || set_bytes(kernel.as_fd(), call.int(1), call.int(2), &value))
        .map_err(|error| number(&error))?;
    Ok(0)
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

const NETLINK: u16 = 16;
/// The length of a `struct sockaddr_nl`.
const ADDRESS: u32 = 12;
/// `NETLINK_PKTINFO`.
const PACKET_INFO: i32 = 3;
const LONGEST_OPTION: usize = 1_024;
