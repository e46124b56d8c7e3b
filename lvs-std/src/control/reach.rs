//! The way to a director: through a worker's handle, or straight to one in memory.

use std::sync::{Arc, Mutex, PoisonError};

use lvs_core::{Director, Store, Tick};
use lvs_forward::Forwarder;

use crate::worker::{Handle, WorkerGone};

/// Runs things on a director and its forwarder.
pub trait Reach<S: Store, const A: usize, const N: usize> {
    /// Runs a closure and returns what it returns. No packet moves meanwhile: it should be short.
    ///
    /// # Errors
    /// [`WorkerGone`].
    fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder<A, N>, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone>;
}

impl<S: Store, const A: usize, const N: usize> Reach<S, A, N> for Handle<S, A, N> {
    fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder<A, N>, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        Self::with(self, work)
    }
}

/// A director without a worker, for programs with a loop of their own and for tests. Clones reach the same one.
#[derive(Debug)]
pub struct Local<S: Store, const A: usize, const N: usize> {
    parts: Arc<Mutex<Parts<S, A, N>>>,
}

#[derive(Debug)]
struct Parts<S: Store, const A: usize, const N: usize> {
    director: Director<S>,
    forwarder: Box<Forwarder<A, N>>,
    now: Tick,
}

impl<S: Store, const A: usize, const N: usize> Local<S, A, N> {
    /// The way to this director, at time zero.
    #[must_use]
    pub fn new(director: Director<S>, forwarder: Box<Forwarder<A, N>>) -> Self {
        Self { parts: Arc::new(Mutex::new(Parts { director, forwarder, now: Tick::ZERO })) }
    }

    /// Sets the time at which things happen.
    pub fn set_now(&self, now: Tick) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).now = now;
    }
}

impl<S: Store, const A: usize, const N: usize> Clone for Local<S, A, N> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone() }
    }
}

impl<S: Store, const A: usize, const N: usize> Reach<S, A, N> for Local<S, A, N> {
    fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder<A, N>, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Parts { director, forwarder, now } = &mut *parts;
        Ok(work(director, forwarder, *now))
    }
}
