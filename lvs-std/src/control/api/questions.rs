//! The threads that work answers out.

use core::iter;
use core::panic::AssertUnwindSafe;
use std::io;
use std::panic::catch_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::ApiEvent;
use super::handler::{ApiHandler, Wake};
use crate::control::front::Waker;

/// A way to the threads that work answers out. They end when the last one is gone.
///
/// A question may take a while: a reload tries a whole configuration, and waits for the controller. So that others are
/// answered meanwhile, a few threads share the work. A client has one question at a time. One that has left may still
/// have its question here, so there is a bound for what waits.
#[derive(Clone)]
pub(super) struct Questions {
    handler: Arc<dyn ApiHandler>,
    /// None when whoever asks does the work.
    threads: Option<(SyncSender<Job>, Waker)>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Questions {
    /// Starts the threads. At most `most` questions wait at a time.
    pub(super) fn start(handler: Arc<dyn ApiHandler>, waker: Waker, most: usize) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(most);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let queue = queue.clone();
            // One of the threads waits for a job, and the others for its place. None works while it has the place.
            let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            let work = move || iter::from_fn(next).for_each(|job| job());
            thread::Builder::new().name("question".to_owned()).spawn(work)?;
        }
        Ok(Self { handler, threads: Some((jobs, waker)) })
    }

    /// Without threads: whoever asks does the work.
    pub(super) fn of(handler: Arc<dyn ApiHandler>) -> Self {
        Self { handler, threads: None }
    }

    /// Has something worked out. The receiver gets it, and then the conversations are woken. It gets nothing if the
    /// work panics: the thread goes on. `None` while too many wait.
    pub(super) fn work_out<R: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ApiHandler) -> R + Send + 'static,
    ) -> Option<Receiver<R>> {
        let (found, finds): (SyncSender<R>, _) = sync_channel(1);
        let handler = self.handler.clone();
        let waker = self.threads.as_ref().map(|(_, waker)| waker.clone());
        let job = move || {
            // Whoever panics has said so in the log. What a handler shares is behind locks that outlive a panic.
            if let Ok(answer) = catch_unwind(AssertUnwindSafe(|| work(&*handler))) {
                // A client that has left needs no answer.
                let _ = found.send(answer);
            }
            // Before the wake, so that who is woken finds that nothing will come.
            drop(found);
            waker.iter().for_each(Waker::wake);
        };
        match &self.threads {
            // The threads end with the last sender, so there is somebody to take it.
            Some((jobs, _)) => jobs.try_send(Box::new(job)).ok()?,
            None => job(),
        }
        Some(finds)
    }

    /// The way to listen to what happens, for as long as the token is kept.
    pub(super) fn events(&self, token: &Arc<()>) -> Receiver<ApiEvent> {
        let waker = self.threads.as_ref().map(|(_, waker)| waker.clone());
        let wake = Wake::new(move || waker.iter().for_each(Waker::wake));
        self.handler.events(wake.for_listener(token))
    }
}

/// Questions that are worked out at a time.
const THREADS: usize = 4;
