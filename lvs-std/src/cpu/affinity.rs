//! Which processor a thread runs on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that this thread may run on, by their numbers.
///
/// # Errors
/// What the kernel says.
pub fn processors() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|number| set.is_set(*number)).collect())
}

/// Keeps this thread on one processor: a worker whose memory stays in that one's caches.
///
/// # Errors
/// When there is no such processor, or this process may not use it.
pub fn pin_thread(processor: usize) -> io::Result<()> {
    if processor >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_on_a_processor_that_it_may_use_and_on_no_other() {
        std::thread::spawn(|| {
            let first = processors().unwrap()[0];
            pin_thread(first).unwrap();
            assert_eq!(processors().unwrap(), [first]);
            assert!(pin_thread(CpuSet::MAX_CPU - 1).is_err());
            assert!(pin_thread(usize::MAX).is_err());
            assert_eq!(processors().unwrap(), [first]);
        })
        .join()
        .unwrap();
    }
}
