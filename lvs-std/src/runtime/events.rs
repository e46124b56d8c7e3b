//! What happens, told to whoever listens.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::api::ApiEvent;

/// Tells listeners. One that does not keep up loses the rest.
#[derive(Clone, Default)]
pub(super) struct Events {
    listeners: Arc<Mutex<Vec<SyncSender<ApiEvent>>>>,
}

impl Events {
    /// Whatever happens from now on.
    pub(super) fn listen(&self) -> Receiver<ApiEvent> {
        let (sender, receiver) = sync_channel(WAITING);
        self.listeners().push(sender);
        receiver
    }

    /// Tells all, and the log.
    pub(super) fn tell(&self, event: &ApiEvent) {
        match event {
            ApiEvent::Drained { service, server, seconds } => {
                tracing::info!("{service}: {server} is drained, after {seconds:.1} s");
            }
            ApiEvent::Cut { service, server, connections, .. } => {
                tracing::warn!(
                    "{service}: {server} was cut: {connections} connections and templates were left"
                );
            }
            // These have their own lines.
            ApiEvent::Probe { .. }
            | ApiEvent::Reloaded { .. }
            | ApiEvent::Problem { .. }
            | ApiEvent::Mended { .. } => {}
        }
        self.listeners().retain(|listener| match listener.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        });
    }

    /// Leaves all listeners: nothing happens any more.
    pub(super) fn close(&self) {
        self.listeners().clear();
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<SyncSender<ApiEvent>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many may wait for a listener.
const WAITING: usize = 1_024;
