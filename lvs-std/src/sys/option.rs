//! Socket options and device requests with plain values as arguments.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A value without padding that the kernel may read byte by byte.
///
/// # Safety
/// The type must be `repr(C)` (or a primitive), must have no padding bytes, and every bit pattern must be valid.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: primitives have no padding, and every bit pattern is a valid value.
unsafe impl Plain for libc::c_int {}

/// `setsockopt(2)` with one plain value.
pub(crate) fn set<T: Plain>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one live `T`, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_option_that_does_not_exist_is_an_error() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = set(socket.as_fd(), libc::SOL_SOCKET, 9_999, &1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    }
}
