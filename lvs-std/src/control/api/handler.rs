//! Who answers.

use core::fmt;
use core::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};

use super::{ApiEvent, ConnectionPage, Request, Response};
use crate::control::Cursor;

/// Answers what is asked at a JSON socket. Questions come from several threads at a time.
pub trait ApiHandler: Send + Sync {
    /// Answers a question. [`Request::Connections`] and [`Request::Events`] come by the other methods.
    fn answer(&self, request: Request) -> Response;

    /// A page of the connections, or of those of one real server: it begins at `at`, or else at the beginning, and has
    /// `most` rows at most.
    ///
    /// # Errors
    /// Why not, in words.
    fn connections(
        &self,
        server: Option<SocketAddr>,
        most: usize,
        at: Option<Cursor>,
    ) -> Result<ConnectionPage, String>;

    /// What happens from now on, for a client that asks for [`Request::Events`]. `wake` is to be called whenever there
    /// is something to be received, and says whether the client is [still there](Wake::is_heard). The listener is left
    /// when the sender is gone.
    fn events(&self, wake: Wake) -> Receiver<ApiEvent>;
}

/// Says that there is something for a listener.
#[derive(Clone)]
pub struct Wake {
    wake: Arc<dyn Fn() + Send + Sync>,
    /// Whoever listens has the other end, if that can be known.
    listener: Option<Weak<()>>,
}

impl Wake {
    /// A way to wake that calls this function, which must not wait.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { wake: Arc::new(wake), listener: None }
    }

    /// A way to wake a listener that is there as long as this token is.
    pub(crate) fn for_listener(self, token: &Arc<()>) -> Self {
        Self { listener: Some(Arc::downgrade(token)), ..self }
    }

    /// Says that there is something for the listener.
    pub fn wake(&self) {
        (self.wake)();
    }

    /// Whether there is still somebody who listens. A client that has left is not told anything, so nothing else would
    /// find that out while nothing happens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.listener.as_ref().is_none_or(|token| token.strong_count() > 0)
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake").finish_non_exhaustive()
    }
}
