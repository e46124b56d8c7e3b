//! Socket options with plain values as arguments.

use core::mem::{MaybeUninit, size_of};
use core::ptr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A value that the kernel may read or write byte by byte.
///
/// # Safety
/// The type must be a primitive or `repr(C)`, without padding bytes, and every bit pattern must be a valid value.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: a primitive has no padding, and every bit pattern is a valid value.
unsafe impl Plain for libc::c_int {}
// SAFETY: four unsigned integers of equal size, so without padding.
unsafe impl Plain for libc::tpacket_req {}
// SAFETY: two unsigned integers of equal size, so without padding.
unsafe impl Plain for libc::tpacket_stats {}
// SAFETY: 4 + 2 + 2 + 8 bytes, aligned to 4: no padding, and integers only.
unsafe impl Plain for libc::packet_mreq {}
// SAFETY: three integers of equal size, so without padding.
unsafe impl Plain for libc::ucred {}

/// The user at the other end of a Unix socket (`SO_PEERCRED`), as this process's user namespace calls it. The process
/// there may well be one that this one cannot name (in another container): its number is 0 then, and not looked at.
#[cfg(feature = "control")]
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    get::<libc::ucred>(socket, libc::SOL_SOCKET, libc::SO_PEERCRED).map(|peer| peer.uid)
}

/// The groups of the user at the other end of a Unix socket: that of `SO_PEERCRED`, and the supplementary ones
/// (`SO_PEERGROUPS`, Linux 4.13).
#[cfg(feature = "control")]
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![get::<libc::ucred>(socket, libc::SOL_SOCKET, libc::SO_PEERCRED)?.gid];
    let mut more = vec![0_u32; MOST_GROUPS];
    let mut length = size_of_val(more.as_slice()) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of the live, writable buffer behind the pointer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            more.as_mut_ptr().cast(),
            ptr::from_mut(&mut length),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    more.truncate(length as usize / size_of::<u32>());
    groups.extend(more);
    Ok(groups)
}

/// The most supplementary groups that a process can have (`NGROUPS_MAX`).
#[cfg(feature = "control")]
const MOST_GROUPS: usize = 65_536;

/// User and process at the other end of a Unix socket (`SO_PEERCRED`), as [`peer_user`] has them. A process in another
/// PID namespace has the number 0.
#[cfg(feature = "control")]
pub(crate) fn peer_process(socket: BorrowedFd<'_>) -> io::Result<(u32, i32)> {
    get::<libc::ucred>(socket, libc::SOL_SOCKET, libc::SO_PEERCRED).map(|peer| (peer.uid, peer.pid))
}

/// `setsockopt(2)` with one plain value.
pub(crate) fn set<T: Plain>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one live `T`, which the kernel only reads.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `getsockopt(2)` of one plain value.
pub(crate) fn get<T: Plain>(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`, which is live and writable.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            ptr::from_mut(&mut length),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed before, then perhaps written by the kernel; `Plain` accepts every bit pattern.
    Ok(unsafe { value.assume_init() })
}

/// `getsockopt(2)` as bytes: how many of the room were filled.
#[cfg(feature = "exec")]
pub(crate) fn bytes(socket: BorrowedFd<'_>, level: i32, name: i32, room: &mut [u8]) -> io::Result<usize> {
    let mut length = u32::try_from(room.len()).unwrap_or(u32::MAX);
    // SAFETY: the kernel writes at most `length` bytes to the live slice that is that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            room.as_mut_ptr().cast(),
            ptr::from_mut(&mut length),
        )
    };
    if result == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}

/// `setsockopt(2)` as bytes.
#[cfg(feature = "exec")]
pub(crate) fn set_bytes(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    // SAFETY: the kernel only reads the live slice, which is `length` long.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn options_read_back_as_set() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY, &5).unwrap();
        assert_eq!(get::<libc::c_int>(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY).unwrap(), 5);
    }

    #[test]
    fn the_user_at_the_other_end_of_a_pair_is_this_one() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer_user(one.as_fd()).unwrap(), rustix::process::geteuid().as_raw());
        let groups = peer_groups(one.as_fd()).unwrap();
        assert_eq!(groups[0], rustix::process::getegid().as_raw());
        let mut own: Vec<u32> =
            rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        own.sort_unstable();
        let mut more = groups[1..].to_vec();
        more.sort_unstable();
        assert_eq!(more, own);
        let user = rustix::process::geteuid().as_raw();
        let process = std::process::id().cast_signed();
        assert_eq!(peer_process(one.as_fd()).unwrap(), (user, process));
    }

    #[test]
    fn an_option_that_does_not_exist_is_an_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = set(socket.as_fd(), libc::SOL_SOCKET, 9_999, &1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    }
}
