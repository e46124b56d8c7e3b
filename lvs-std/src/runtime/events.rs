//! What happens, told to whoever listens.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::control::api::{ApiEvent, PastEvent, Wake};

/// Tells listeners, and remembers the last of it. A listener that does not keep up loses the rest.
#[derive(Clone, Default)]
pub(super) struct Events {
    listeners: Arc<Mutex<Vec<Listener>>>,
    past: Arc<Mutex<VecDeque<(Instant, ApiEvent)>>>,
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
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.truncate(REMEMBERED - 1);
        past.push_front((Instant::now(), event.clone()));
        drop(past);
        self.listeners().retain(|listener| {
            let told = listener.sender.try_send(event.clone()).is_ok();
            // One that is left is woken too, to find that out.
            listener.wake.iter().for_each(Wake::wake);
            told
        });
    }

    /// What happened last, the newest first.
    pub(super) fn past(&self) -> Vec<PastEvent> {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |(at, event): &(Instant, ApiEvent)| PastEvent {
            ago: at.elapsed().as_secs_f64(),
            event: event.clone(),
        };
        past.iter().map(row).collect()
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
/// How many are remembered.
const REMEMBERED: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_are_remembered_the_newest_first() {
        let events = Events::default();
        for number in 0..250 {
            events.tell(&ApiEvent::Reloaded { changes: number.to_string() });
        }
        let past = events.past();
        let told = |of: Option<&PastEvent>| match of.map(|of| &of.event) {
            Some(ApiEvent::Reloaded { changes }) => changes.clone(),
            _ => String::new(),
        };
        assert_eq!((past.len(), told(past.first()), told(past.last())), (100, "249".into(), "150".into()));
    }

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
