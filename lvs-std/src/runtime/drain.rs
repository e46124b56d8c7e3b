//! Taking real servers out of service gently: no new connections, and an end when the last one is gone or the time is
//! over.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Instant, SystemTime};

use crate::Seconds;
use crate::control::api::{ApiEvent, DrainRow};
use crate::control::{Errno, ServiceName};

use super::SharedController;
use super::events::Events;
use super::shutdown::Shutdown;

/// The real servers that are being drained.
#[derive(Clone)]
pub(super) struct Drains {
    controller: SharedController,
    events: Events,
    list: Arc<Mutex<HashMap<(ServiceName, SocketAddr), Drain>>>,
    /// One has begun.
    begun: Arc<Condvar>,
    /// The director has ended.
    ended: Arc<AtomicBool>,
}

#[derive(Clone, Copy)]
struct Drain {
    since: Instant,
    deadline: Option<Instant>,
}

impl Drains {
    /// No drains yet, with a thread that looks after those that come.
    pub(super) fn start(
        controller: SharedController,
        events: Events,
        shutdown: Shutdown,
    ) -> std::io::Result<Self> {
        // Those that go on from before the start.
        let known = controller.lock().drains().into_iter();
        let list = known.map(|(service, server, deadline)| {
            ((service, server), Drain { since: Instant::now(), deadline: deadline.and_then(from_wall) })
        });
        let (list, begun) = (Arc::new(Mutex::new(list.collect())), Arc::default());
        let drains = Self { controller, events, list, begun, ended: Arc::default() };
        let own = drains.clone();
        thread::Builder::new().name("drain".to_owned()).spawn(move || {
            loop {
                // Without drains there is nothing to look at.
                let ended = || own.ended.load(Ordering::Relaxed);
                drop(own.begun.wait_while(own.list(), |list| list.is_empty() && !ended()));
                if ended() || shutdown.sleep(INTERVAL) {
                    return;
                }
                own.look();
            }
        })?;
        Ok(drains)
    }

    /// The director has ended: nothing is looked after any more.
    pub(super) fn end_all(&self) {
        self.ended.store(true, Ordering::Relaxed);
        // Under the list's lock, so that the thread is not between its question and its wait.
        drop(self.list());
        self.begun.notify_all();
    }

    /// Begins: from now on the server gets no new connections. What is left at the deadline is cut.
    pub(super) fn begin(
        &self,
        service: ServiceName,
        server: SocketAddr,
        after: Option<Duration>,
    ) -> Result<(), Errno> {
        // A time that no moment can be reached in would stand for none.
        let after = after.map(Seconds::try_from).transpose().map_err(|_| Errno::Range)?.map(Seconds::get);
        let (since, wall) = (Instant::now(), SystemTime::now());
        let deadline = after.and_then(|after| since.checked_add(after));
        // In this order: a drain that is listed has begun, and a server that is refused is never listed.
        let kept = after.and_then(|after| wall.checked_add(after));
        self.controller.lock().drain(service, server, kept)?;
        self.list().insert((service, server), Drain { since, deadline });
        self.begun.notify_all();
        Ok(())
    }

    /// Ends: the server gets new connections again.
    pub(super) fn end(&self, service: ServiceName, server: SocketAddr) -> Result<(), Errno> {
        self.controller.lock().undrain(service, server)?;
        self.list().remove(&(service, server));
        Ok(())
    }

    /// All of them, with what is left.
    pub(super) fn rows(&self) -> Vec<DrainRow> {
        // Copied, since the controller's lock comes next: the two are never held together, so neither waits for the
        // other.
        let list: Vec<_> = self.list().iter().map(|(of, drain)| (*of, *drain)).collect();
        let controller = self.controller.lock();
        let row = |((service, server), drain): ((ServiceName, SocketAddr), Drain)| DrainRow {
            service: service.to_string(),
            server,
            remaining: controller.remaining(service, server).unwrap_or_default(),
            since: drain.since.elapsed().as_secs_f64(),
            deadline: drain.deadline.map(|end| end.saturating_duration_since(Instant::now()).as_secs_f64()),
        };
        list.into_iter().map(row).collect()
    }

    /// Ends what has come to its end.
    fn look(&self) {
        let list: Vec<_> = self.list().iter().map(|(of, drain)| (*of, *drain)).collect();
        for ((service, server), drain) in list {
            let seconds = drain.since.elapsed().as_secs_f64();
            let (service_name, over) =
                (service.to_string(), drain.deadline.is_some_and(|end| Instant::now() >= end));
            let controller = self.controller.lock();
            let event = match controller.remaining(service, server) {
                // Removed, or found dead: nothing of it is left to be waited for.
                Ok(0) | Err(_) => ApiEvent::Drained { service: service_name, server, seconds },
                Ok(_) if over => {
                    let connections = controller.cut(service, server).unwrap_or_default();
                    ApiEvent::Cut { service: service_name, server, seconds, connections }
                }
                Ok(_) => continue,
            };
            drop(controller);
            self.list().remove(&(service, server));
            self.events.tell(&event);
        }
    }

    fn list(&self) -> MutexGuard<'_, HashMap<(ServiceName, SocketAddr), Drain>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A moment by the clock of the wall, which was going while no director ran. One that has passed is now.
fn from_wall(at: SystemTime) -> Option<Instant> {
    Instant::now().checked_add(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// How often it is looked whether the last connection is gone.
const INTERVAL: Duration = Duration::from_millis(100);
