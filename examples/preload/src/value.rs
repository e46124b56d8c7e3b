//! Numbers as the C library has them, and as Rust does.

use std::io;

/// A result that is -1 when it stands for a failure, which the thread's `errno` describes.
pub(crate) fn positive(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for lengths.
pub(crate) fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// An address family as it stands in an address.
pub(crate) fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).unwrap_or(0)
}
