//! Workers that stop on SIGINT and SIGTERM.

use core::sync::atomic::AtomicBool;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lvs_core::Store;
use signal_hook::{consts, flag, low_level};

use super::handle::Waker;
use super::{Handle, WorkerGroup};

impl<S: Store> Handle<S> {
    /// Makes the worker stop when the process gets SIGINT or SIGTERM, which then no longer end it. A second one ends
    /// the process at once, should the worker be stuck.
    ///
    /// # Errors
    /// When the process has no file descriptor left, or the signal handler is refused.
    pub fn stop_on_signals(&self) -> io::Result<()> {
        self.waker().follow_signals(&self.waker().stop)
    }
}

impl<S: Store> WorkerGroup<S> {
    /// Makes all workers stop on a signal, see [`Handle::stop_on_signals`].
    ///
    /// # Errors
    /// As there.
    pub fn stop_on_signals(&self) -> io::Result<()> {
        // Not one of theirs: a worker that stops tells the others, while the signal may still be on its way to them.
        let seen = Arc::new(AtomicBool::new(false));
        for handle in self.handles() {
            handle.waker().follow_signals(&seen)?;
        }
        for signal in [consts::SIGINT, consts::SIGTERM] {
            flag::register(signal, seen.clone())?;
        }
        Ok(())
    }
}

impl Waker {
    /// Tells the worker to stop when the process gets one of the signals; `seen` says that it has had one, and that the
    /// next is to end it at once.
    fn follow_signals(&self, seen: &Arc<AtomicBool>) -> io::Result<()> {
        for signal in [consts::SIGINT, consts::SIGTERM] {
            flag::register_conditional_default(signal, seen.clone())?;
            flag::register(signal, self.stop.clone())?;
            low_level::pipe::register(signal, OwnedFd::from(self.wake_tx.try_clone()?))?;
        }
        Ok(())
    }
}
