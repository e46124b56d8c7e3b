//! Virtual addresses that come and go while the director runs: with services, or with the machine's own addresses.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread;

use lvs_forward::host::AddAddressError;

use super::problems::{Part, Problems};
use super::reload::Reconciler;
use super::shutdown::Shutdown;
use super::{RuntimeGroup, SharedController};
use crate::HostAddresses;
use crate::config::AnswerFor;
use crate::control::ServiceName;
use crate::worker::{AddressError, WorkerGone};

/// What is followed, and who is told.
type Watched = (SharedController, RuntimeGroup, Arc<Reconciler>);

/// Keeps what the director answers for as it should be, in the network namespace of this thread, until the director
/// ends.
pub(super) fn follow(
    (controller, group, reconciler): Watched,
    what: AnswerFor,
    problems: Problems,
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
                wanted.extend(controller.lock().desired().names().filter_map(|name| match name {
                    ServiceName::Address { address, .. } => Some(address),
                    ServiceName::Mark { .. } => None,
                }));
                // Without the machine's word everything is wanted; with it only what VRRP has brought here.
                if machine.is_some() {
                    wanted.retain(|address| present.contains(address));
                }
                change(&group, &mut had, &wanted, &problems).is_err()
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
/// Those that it cannot have are tried again with the next change: others may have gone meanwhile.
fn change(
    group: &RuntimeGroup,
    had: &mut BTreeSet<IpAddr>,
    wanted: &BTreeSet<IpAddr>,
    problems: &Problems,
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
    let mut refused = BTreeMap::new();
    for (address, done) in added {
        match done {
            Ok(()) => {
                had.insert(address);
                tracing::info!("{address} is answered for, and announced");
            }
            Err(error) => drop(refused.insert(address, error)),
        }
    }
    let Some((address, error)) = refused.first_key_value() else {
        problems.clear(&Part::Addresses);
        return Ok(());
    };
    let others = match refused.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} others"),
    };
    let remedy = match error {
        AddressError::Host(AddAddressError::Full) => ": set a higher `addresses` in [tuning]",
        AddressError::Host(_) | AddressError::Fan(_) => "",
    };
    problems.raise(Part::Addresses, format!("{address}{others} cannot be answered for: {error}{remedy}"));
    Ok(())
}

/// How often services are looked over; a change of the machine's addresses is noticed at once.
const INTERVAL: Duration = Duration::from_millis(100);
