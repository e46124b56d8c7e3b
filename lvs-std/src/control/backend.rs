//! The way to a director: through a worker's handle, through those of several that share its work, or straight to one
//! in memory.

use std::sync::{Arc, Mutex, PoisonError};

use lvs_core::service::Persistence;
use lvs_core::{Director, ServiceKey, Store, Tick};
use lvs_forward::Forwarder;

use crate::steering::Unsuited;
use crate::worker::{Handle, WorkerGone, WorkerGroup};

/// Runs things on a director and its forwarder, or on several that are set up equally and share the work of one.
pub trait Backend<S: Store> {
    /// Runs a closure and returns what it returns; of several directors on the first, to read what is equal in all. No
    /// packet moves meanwhile: it should be short.
    ///
    /// # Errors
    /// [`WorkerGone`].
    fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone>;

    /// Runs a closure on each director, with its number, and returns what it returns of each, in their order.
    ///
    /// # Errors
    /// [`WorkerGone`].
    fn with_each<R: Send + 'static>(
        &self,
        work: impl Fn(usize, &mut Director<S>, &mut Forwarder, Tick) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, WorkerGone> {
        Ok(vec![self.with(move |director, forwarder, now| work(0, director, forwarder, now))?])
    }

    /// Runs a closure on one director, by its number; `None` when there is none of this number.
    ///
    /// # Errors
    /// [`WorkerGone`].
    fn with_one<R: Send + 'static>(
        &self,
        number: usize,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<Option<R>, WorkerGone> {
        if number == 0 { self.with(work).map(Some) } else { Ok(None) }
    }

    /// How many directors there are.
    fn workers(&self) -> usize {
        1
    }

    /// Whether they can share the work of a service.
    ///
    /// # Errors
    /// [`Unsuited`] says why not.
    fn suits(&self, _: ServiceKey, _: Option<Persistence>) -> Result<(), Unsuited> {
        Ok(())
    }
}

impl<S: Store> Backend<S> for WorkerGroup<S> {
    fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        self.with_first(work)
    }

    fn with_each<R: Send + 'static>(
        &self,
        work: impl Fn(usize, &mut Director<S>, &mut Forwarder, Tick) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, WorkerGone> {
        Self::with_each(self, work)
    }

    fn with_one<R: Send + 'static>(
        &self,
        number: usize,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<Option<R>, WorkerGone> {
        self.handles().get(number).map(|handle| handle.with(work)).transpose()
    }

    fn workers(&self) -> usize {
        self.handles().len()
    }

    fn suits(&self, key: ServiceKey, persistence: Option<Persistence>) -> Result<(), Unsuited> {
        self.steer().suits(key, persistence)
    }
}

impl<S: Store> Backend<S> for Handle<S> {
    fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        Self::with(self, work)
    }
}

/// A director without a worker, for programs with a loop of their own and for tests. Clones backend the same one.
#[derive(Debug)]
pub struct Local<S: Store> {
    parts: Arc<Mutex<Parts<S>>>,
}

#[derive(Debug)]
struct Parts<S: Store> {
    director: Director<S>,
    forwarder: Box<Forwarder>,
    now: Tick,
}

impl<S: Store> Local<S> {
    /// The way to this director, at time zero.
    #[must_use]
    pub fn new(director: Director<S>, forwarder: Box<Forwarder>) -> Self {
        Self { parts: Arc::new(Mutex::new(Parts { director, forwarder, now: Tick::ZERO })) }
    }

    /// Sets the time at which things happen.
    pub fn set_now(&self, now: Tick) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).now = now;
    }
}

impl<S: Store> Clone for Local<S> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone() }
    }
}

impl<S: Store> Backend<S> for Local<S> {
    fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Parts { director, forwarder, now } = &mut *parts;
        Ok(work(director, forwarder, *now))
    }
}
