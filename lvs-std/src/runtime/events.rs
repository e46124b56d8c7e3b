//! What happens, told to whoever listens.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::api::{ApiEvent, Wake};

/// Tells listeners. One that does not keep up loses the rest.
#[derive(Clone, Default)]
pub(super) struct Events {
    listeners: Arc<Mutex<Vec<Listener>>>,
}

impl Events {
    /// Whatever happens from now on.
    pub(super) fn listen(&self) -> Receiver<ApiEvent> {
        self.listen_with(None)
    }

    /// The same; `wake` is called whenever there is something to be received.
    pub(super) fn listen_with(&self, wake: Option<Wake>) -> Receiver<ApiEvent> {
        let (sender, receiver) = sync_channel(WAITING);
        self.listeners().push(Listener { sender, wake });
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
        self.listeners().retain(|listener| {
            let told = listener.sender.try_send(event.clone()).is_ok();
            // One that is left is woken too, to find that out.
            listener.wake.iter().for_each(Wake::wake);
            told
        });
    }

    /// Leaves all listeners: nothing happens any more.
    pub(super) fn close(&self) {
        for Listener { sender, wake } in self.listeners().drain(..) {
            drop(sender);
            wake.iter().for_each(Wake::wake);
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listener {
    sender: SyncSender<ApiEvent>,
    wake: Option<Wake>,
}

/// How many may wait for a listener.
const WAITING: usize = 1_024;
