//! How much memory is left, for the defences that depend on it, and what makes memory faster that is read at random:
//! large pages, and reading ahead.

use std::fs::File;
use std::io::{self, Read as _};

use lvs_core::Heap;
use lvs_core::accel::ReadAhead;

use crate::sys::{pages, prefetch};

/// Free memory and buffers in pages of 4 KiB (proc(5), `/proc/meminfo`): what IPVS compares with
/// [`amemthresh`](lvs_core::config::Tuning::amemthresh). Meant for
/// [`Director::report_available`](lvs_core::Director::report_available), about once a second.
///
/// ```
/// let pages = lvs_std::cpu::available_pages()?;
/// assert!(pages > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// When the file cannot be read or has another form.
pub fn available_pages() -> io::Result<u64> {
    let text = meminfo()?;
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemFree and Buffers");
    read(&text).ok_or_else(strange)
}

/// Asks the kernel to keep a store's connections in large pages, so that a look-up among a million of them does not
/// wait for page tables as well as for the table. Call it before the store is given to a director.
///
/// ```
/// let store: lvs_core::Heap = lvs_core::Heap::with_capacity(100_000);
/// if let Err(error) = lvs_std::cpu::use_large_pages(&store) {
///     eprintln!("look-ups will be slower: {error}");
/// }
/// ```
///
/// # Errors
///
/// When the kernel has no large pages, or none left at present. The store is as good as before.
pub fn use_large_pages<P>(store: &Heap<P>) -> io::Result<()> {
    store.addresses().iter().try_for_each(pages::enlarge)
}

/// What [`Director::set_read_ahead`](lvs_core::Director::set_read_ahead) takes on this machine: prefetch instructions,
/// or `None` where reading early does more. A [worker](crate::worker::Worker) sets it.
///
/// ```
/// use lvs_core::{Config, Director, Heap};
/// let store: Heap = Heap::with_capacity(100_000);
/// let mut director = Director::new(Config::new(lvs_std::random_seed()?), store);
/// director.set_read_ahead(lvs_std::cpu::read_ahead());
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn read_ahead() -> Option<ReadAhead> {
    cfg!(target_arch = "x86_64").then_some(prefetch::prefetch)
}

/// How many bytes of memory processes can still have without that others suffer (`MemAvailable`).
///
/// # Errors
/// When `/proc/meminfo` cannot be read, or does not say so.
pub fn available_bytes() -> io::Result<u64> {
    let text = meminfo()?;
    kibibytes(&text, "MemAvailable")
        .and_then(|kibibytes| kibibytes.checked_mul(1_024))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn read(text: &str) -> Option<u64> {
    Some(kibibytes(text, "MemFree")?.checked_add(kibibytes(text, "Buffers")?)? / KIBIBYTES_PER_PAGE)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

fn meminfo() -> io::Result<String> {
    let mut text = String::new();
    File::open("/proc/meminfo")?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

const KIBIBYTES_PER_PAGE: u64 = 4;
/// No such file is this long.
const LONGEST: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_and_buffers_are_added() {
        let text = "MemTotal: 100 kB\nMemFree:      40 kB\nMemAvailable: 90 kB\nBuffers: 8 kB\n";
        assert_eq!(read(text), Some(12));
        assert_eq!(read("MemFree: 40 kB\n"), None);
        assert_eq!(read("MemFree: 40\nBuffers: 1 kB"), None);
    }
}
