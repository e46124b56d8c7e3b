//! What a worker does when there is nothing to do: it waits, but not too long.

use core::time::Duration;
use std::time::Instant;

use heapless::Vec;
use lvs_core::Store;
use lvs_forward::host::MAX_PORTS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{SNAPSHOT_MS, Worker};

impl<S: Store> Worker<S> {
    /// Waits for a frame, a command or the next thing that is due. `waiting` frames could not be sent yet, and the last
    /// frame came in so long ago.
    pub(super) fn wait(&mut self, waiting: usize, quiet: Duration) {
        let mut fds = Vec::<PollFd<'_>, { MAX_PORTS + 1 }>::new();
        let mut ports = Vec::<usize, MAX_PORTS>::new();
        let mut blind = false;
        for (index, input) in self.inputs.iter().enumerate() {
            if input.failed || input.receive.ended() {
                continue;
            }
            match input.receive.readiness() {
                Some(fd) => {
                    // There is room: a host has no more ports.
                    let _ = fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                    let _ = ports.push(index);
                }
                None => blind = true,
            }
        }
        let _ = fds.push(PollFd::from_borrowed_fd(self.inbox.wake_rx(), PollFlags::IN));
        let now = self.clock.now();
        let due = self.engine.poll_at(&self.director, &self.forwarder).map(|due| due.millis_since(now));
        let snapshot = SNAPSHOT_MS.saturating_sub(now.millis_since(self.last_snapshot));
        // Two things have no deadline to be asked for: what goes past the worker is counted now and then, and memory of
        // frames that were sent just now is given back when the worker wakes.
        let soon = self.offload.is_some() || quiet < Duration::from_millis(SOON_MS);
        let longest = if soon { SOON_MS.min(snapshot) } else { snapshot };
        let patience = if waiting > 0 || blind { SHORT_MS } else { due.unwrap_or(longest).min(longest) };
        let patience = timespec(Duration::from_millis(patience.max(SHORT_MS)));
        self.counters.waits += 1;
        let began = Instant::now();
        // A signal ends the wait, too.
        let ready = poll(&mut fds, Some(&patience)).unwrap_or_default();
        self.counters.waited += began.elapsed();
        if ready == 0 {
            return;
        }
        let (devices, wake_rx) = fds.split_at(ports.len());
        let woken = wake_rx.iter().any(|fd| !fd.revents().is_empty());
        let trouble = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        let mut troubled = Vec::<usize, MAX_PORTS>::new();
        for (fd, port) in devices.iter().zip(ports) {
            if fd.revents().intersects(trouble) {
                let _ = troubled.push(port);
            }
        }
        drop(fds);
        if woken {
            self.inbox.clear_wakes();
        }
        // An error stays pending until it is fetched, and would end every further wait at once.
        for port in troubled {
            if let Some(input) = self.inputs.get_mut(port) {
                input.failed = input.receive.recover().is_err();
            }
        }
    }
}

/// How long a worker waits at most that cannot know when it is needed, in milliseconds.
const SOON_MS: u64 = 50;
/// How long it waits when a device must be asked again, in milliseconds, and at least.
const SHORT_MS: u64 = 1;

const fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos() as i64 }
}
