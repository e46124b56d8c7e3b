//! Virtual addresses that come and go while the director runs: with services, or with the machine's own addresses.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread;

use super::reload::Reconciler;
use super::shutdown::Shutdown;
use super::{RuntimeGroup, SharedController};
use crate::HostAddresses;
use crate::config::AnswerFor;
use crate::control::ServiceName;
use crate::worker::WorkerGone;

/// What is followed, and who is told.
type Watched = (SharedController, RuntimeGroup, Arc<Reconciler>);

/// Keeps what the director answers for as it should be, in the network namespace of this thread, until the director
/// ends.
pub(super) fn follow(
    (controller, group, reconciler): Watched,
    what: AnswerFor,
    shutdown: Shutdown,
) -> io::Result<()> {
    let mut machine = match what {
        AnswerFor::Configured => return Ok(()),
        AnswerFor::Services => None,
        AnswerFor::Host => Some(HostAddresses::open()?),
    };
    let follow = move || {
        let mut had = BTreeSet::new();
        if machine.is_none() {
            had.extend(reconciler.virtual_addresses());
        }
        let mut present = BTreeSet::new();
        let mut stale = true;
        // The machine's addresses could not be read: that is tried again, since nothing may tell of them any more.
        let mut unread = false;
        // What was looked at last: a long table is not read again and again for nothing.
        let mut seen = None;
        loop {
            if let Some(machine) = machine.as_mut().filter(|_| stale) {
                match machine.read() {
                    Ok(now) => (present, unread) = (now, false),
                    Err(_) if unread => {}
                    Err(error) => {
                        tracing::error!("this machine's addresses cannot be read: {error}");
                        unread = true;
                    }
                }
            }
            let configured = reconciler.virtual_addresses();
            let revision = controller.lock().desired().revision();
            let looked_at = Some((revision, configured.clone()));
            let news = stale || seen != looked_at;
            seen = looked_at;
            // Asked also when nothing changes, because only a command tells that the director has ended.
            let ended = if news {
                let mut wanted: BTreeSet<IpAddr> = configured.into_iter().collect();
                wanted.extend(controller.lock().desired().services().filter_map(|(name, _)| match name {
                    ServiceName::Address { address, .. } => Some(address),
                    ServiceName::Mark { .. } => None,
                }));
                // Without the machine's word everything is wanted; with it only what VRRP has brought here.
                if machine.is_some() {
                    wanted.retain(|address| present.contains(address));
                }
                change(&group, &mut had, &wanted).is_err()
            } else {
                group.with_first(|_, _, _| ()).is_err()
            };
            if ended {
                return;
            }
            stale = match &machine {
                Some(machine) => {
                    machine.wait(INTERVAL).unwrap_or_else(|error| {
                        tracing::error!("this machine does not tell of its addresses: {error}");
                        shutdown.sleep(INTERVAL);
                        true
                    }) || unread
                }
                None => {
                    shutdown.sleep(INTERVAL);
                    false
                }
            };
        }
    };
    thread::Builder::new().name("follow".to_owned()).spawn(follow).map(drop)
}

/// Gives the director its new virtual addresses, and announces them; takes those away that it was given here before.
fn change(
    group: &RuntimeGroup,
    had: &mut BTreeSet<IpAddr>,
    wanted: &BTreeSet<IpAddr>,
) -> Result<(), WorkerGone> {
    let gone: Vec<IpAddr> = had.difference(wanted).copied().collect();
    let new: Vec<IpAddr> = wanted.difference(had).copied().collect();
    for address in &gone {
        had.remove(address);
        tracing::info!("{address} is no longer answered for");
    }
    // The director's own addresses are none to be given, or taken away.
    let added =
        if gone.is_empty() && new.is_empty() { Vec::new() } else { group.change_addresses(gone, new)? };
    group.with_first(|_, _, _| ())?;
    for (address, done) in added {
        // One that it cannot have is not tried again.
        had.insert(address);
        match done {
            Ok(()) => tracing::info!("{address} is answered for, and announced"),
            Err(error) => tracing::error!("{address} cannot be a virtual address: {error}"),
        }
    }
    Ok(())
}

/// How often services are looked over; a change of the machine's addresses is noticed at once.
const INTERVAL: Duration = Duration::from_millis(100);
