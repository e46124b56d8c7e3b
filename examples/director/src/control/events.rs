//! What happens, told to whoever listens at the JSON socket.

use core::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Something that happened.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub(crate) enum ApiEvent {
    /// The last connection of a drained real server is gone.
    Drained { service: String, server: SocketAddr, seconds: f64 },
    /// The deadline has cut what was left of a drained real server: so many entries of the connection table.
    Cut { service: String, server: SocketAddr, seconds: f64, connections: usize },
    /// A check has changed its mind.
    Probe { probe: String, state: String, why: Option<String> },
    /// The configuration was read again.
    Reloaded { changes: String },
}

/// Tells listeners. One that does not keep up loses the rest.
#[derive(Clone, Default)]
pub(crate) struct Events {
    listeners: Arc<Mutex<Vec<SyncSender<ApiEvent>>>>,
}

impl Events {
    /// Whatever happens from now on.
    pub(super) fn listen(&self) -> Receiver<ApiEvent> {
        let (sender, receiver) = sync_channel(WAITING);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Tells all, and the log.
    pub(crate) fn tell(&self, happening: &ApiEvent) {
        match happening {
            ApiEvent::Drained { service, server, seconds } => {
                tracing::info!("{service}: {server} is drained, after {seconds:.1} s");
            }
            ApiEvent::Cut { service, server, connections, .. } => {
                tracing::warn!(
                    "{service}: {server} was cut: {connections} connections and templates were left"
                );
            }
            // These have their own lines.
            ApiEvent::Probe { .. } | ApiEvent::Reloaded { .. } => {}
        }
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| match listener.try_send(happening.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        });
    }
}

/// How many may wait for a listener.
const WAITING: usize = 1_024;
