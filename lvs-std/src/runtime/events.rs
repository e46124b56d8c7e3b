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

    /// Whatever happens from now on; `wake` is called whenever there is something to be received.
    pub(super) fn listen_with(&self, wake: Option<Wake>) -> Receiver<ApiEvent> {
        let (sender, receiver) = sync_channel(WAITING);
        let mut listeners = self.listeners();
        // While nothing happens, only this tells of those that have left: their queues must not pile up.
        listeners.retain(|listener| listener.wake.as_ref().is_none_or(Wake::is_heard));
        listeners.push(Listener { sender, wake });
        drop(listeners);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_of_a_listener_that_has_left_goes_with_the_next_one_also_while_nothing_happens() {
        let events = Events::default();
        let own = events.listen();
        for _ in 0..10 {
            let token = Arc::new(());
            let left = events.listen_with(Some(Wake::new(|| {}).for_listener(&token)));
            drop((left, token));
        }
        let token = Arc::new(());
        let listener = events.listen_with(Some(Wake::new(|| {}).for_listener(&token)));
        assert_eq!(events.listeners().len(), 2);
        events.tell(&ApiEvent::Reloaded { changes: String::new() });
        assert!(own.try_recv().is_ok() && listener.try_recv().is_ok());
    }
}
