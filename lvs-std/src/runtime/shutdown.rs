//! How the threads beside the workers end.

use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Tells threads that the director has ended. They wait here rather than sleep, so that none of them outlives it by
/// long.
#[derive(Clone, Debug, Default)]
pub(super) struct Shutdown(Arc<(Mutex<bool>, Condvar)>);

impl Shutdown {
    /// From now on the director has ended.
    pub(super) fn end(&self) {
        *self.ended() = true;
        self.0.1.notify_all();
    }

    /// Waits for so long, or less if the director ends. Returns whether it has ended.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        let waited = self.0.1.wait_timeout_while(self.ended(), time, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ended(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
