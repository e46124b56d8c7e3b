//! Which descriptors programs inherit.

use std::io;

/// Marks all descriptors from 3 on that are open now, so that programs that this process starts do not inherit them
/// (`close_range(2)` with `CLOSE_RANGE_CLOEXEC`, Linux 5.11).
pub(crate) fn close_all_on_exec() -> io::Result<()> {
    let (first, flag) = (3_u32, libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: the call has no pointers. It closes nothing: it only sets the close-on-exec flag of descriptors, which
    // nothing in this process depends on.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flag) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
