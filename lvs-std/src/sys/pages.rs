//! Large pages for memory that is read at random (madvise(2), `asm-generic/mman-common.h`).

use core::ops::Range;
use std::io;

/// Size of a large page where nearly all machines have one of this size; elsewhere the kernel rounds.
const LARGE: usize = 2 << 20;

/// `MADV_COLLAPSE` (Linux 6.1).
const MADV_COLLAPSE: libc::c_int = 25;

/// Asks the kernel to put this memory into large pages now, and to keep it there. Memory at the ends that fills no
/// large page stays as it is. The content does not change.
pub(crate) fn enlarge(range: &Range<usize>) -> io::Result<()> {
    let start = range.start.next_multiple_of(LARGE);
    let Some(len) = range.end.checked_sub(start).map(|len| len - len % LARGE).filter(|&len| len > 0) else {
        return Ok(());
    };
    advise(start, len, libc::MADV_HUGEPAGE)?;
    // Linux before 6.1 does not know this; there the kernel gets round to it by itself.
    match advise(start, len, MADV_COLLAPSE) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

fn advise(start: usize, len: usize, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: neither advice changes what the memory holds, whosever it is, and an address that is not mapped is an
    // error.
    let result = unsafe { libc::madvise(core::ptr::without_provenance_mut(start), len, advice) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
