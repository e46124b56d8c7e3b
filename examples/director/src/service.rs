//! What a service manager such as systemd is told, by `sd_notify(3)`. Without one, nothing is.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::thread;

use lvs_core::Tick;
use lvs_std::runtime::RuntimeHandle;
use sd_notify::NotifyState;

/// Tells that the director is ready when each check of a real server has had an answer, and from then on how it does.
///
/// The watchdog is told as long as every worker publishes its counters, which an idle one does once a second: a worker
/// that stands still is noticed though the rest of the process lives.
pub(crate) fn attend(director: RuntimeHandle) -> io::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let look = sd_notify::watchdog_enabled().map_or(LOOK, |most| (most / 4).min(LOOK));
    thread::Builder::new().name("service".to_owned()).spawn(move || {
        await_checks(&director);
        READY.store(true, Ordering::Relaxed);
        tell(&[NotifyState::Ready]);
        let (mut heard, mut said) = (None, String::new());
        // Ends with the process: the director's last words are Stopping.
        while let Some(snapshot) = director.group().snapshot() {
            if beats(&mut heard, snapshot.at) {
                tell(&[NotifyState::Watchdog]);
            }
            let status = status(&director, snapshot.director.live);
            if status != said {
                tell(&[NotifyState::Status(&status)]);
                said = status;
            }
            thread::sleep(look);
        }
    })?;
    Ok(())
}

/// Tells that the configuration is read again, until it is [`read`].
pub(crate) fn reads() {
    if !READY.load(Ordering::Relaxed) {
        return;
    }
    // A manager that is told so wants to know since when.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("the service manager is not told of the reload: {error}"),
    }
}

/// Tells that the configuration has been read again, or that the old one stays.
pub(crate) fn read() {
    if READY.load(Ordering::Relaxed) {
        tell(&[NotifyState::Ready]);
    }
}

/// Tells that the director ends.
pub(crate) fn ends() {
    tell(&[NotifyState::Stopping]);
}

fn await_checks(director: &RuntimeHandle) {
    while !director.health().0 {
        thread::sleep(GLANCE);
    }
}

/// Whether all workers have published something since it was asked last.
fn beats(heard: &mut Option<Tick>, now: Tick) -> bool {
    let last = heard.replace(now);
    last.is_none_or(|last| now > last)
}

/// One line for `systemctl status`.
fn status(director: &RuntimeHandle, connections: u32) -> String {
    let problems = director.problems().list();
    match problems.first() {
        None => format!("{connections} connections"),
        Some(first) => {
            format!("{} problems: {}: {}; {connections} connections", problems.len(), first.part, first.why)
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!("the service manager is not told: {error}");
    }
}

/// Whether each check has had an answer once. A reload before does not make the director ready.
static READY: AtomicBool = AtomicBool::new(false);
/// How often the workers are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_told_only_of_what_was_published_since() {
        let mut heard = None;
        let beats = [5, 5, 6, 6, 6, 9].map(|at| beats(&mut heard, Tick::from_millis(at)));
        assert_eq!(beats, [true, false, true, false, false, true]);
    }
}
