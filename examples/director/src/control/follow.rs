//! Virtual addresses that come and go while the director runs: with services, or with the machine's own addresses.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread;

use lvs_std::HostAddresses;
use lvs_std::control::ServiceName;
use lvs_std::worker::WorkerGone;

use super::{Reloader, SharedDesk};
use crate::config::AnswerFor;
use crate::run::LargeHandle;

/// Keeps what the director answers for as it should be, in the network namespace of this thread, until the director ends.
pub(super) fn start(
    desk: &SharedDesk,
    handle: &LargeHandle,
    reloader: &Arc<Reloader>,
    what: AnswerFor,
) -> io::Result<()> {
    let mut machine = match what {
        AnswerFor::Configured => return Ok(()),
        AnswerFor::Services => None,
        AnswerFor::Host => Some(HostAddresses::open()?),
    };
    let (desk, handle, reloader) = (desk.clone(), handle.clone(), reloader.clone());
    let follow = move || {
        let mut had = BTreeSet::new();
        if machine.is_none() {
            had.extend(reloader.virtual_addresses());
        }
        let mut present = BTreeSet::new();
        let mut stale = true;
        loop {
            if let Some(machine) = machine.as_mut().filter(|_| stale) {
                match machine.read() {
                    Ok(now) => present = now,
                    Err(error) => tracing::error!("this machine's addresses cannot be read: {error}"),
                }
            }
            let mut wanted: BTreeSet<IpAddr> = reloader.virtual_addresses().into_iter().collect();
            wanted.extend(desk.lock().ledger().services().filter_map(|(name, _)| match name {
                ServiceName::Address { address, .. } => Some(address),
                ServiceName::Mark { .. } => None,
            }));
            if machine.is_some() {
                wanted.retain(|address| present.contains(address));
            }
            if change(&handle, &mut had, &wanted).is_err() {
                return;
            }
            stale = match &machine {
                Some(machine) => machine.wait(LOOK).unwrap_or_else(|error| {
                    tracing::error!("this machine does not tell of its addresses: {error}");
                    thread::sleep(LOOK);
                    true
                }),
                None => {
                    thread::sleep(LOOK);
                    false
                }
            };
        }
    };
    thread::Builder::new().name("follow".to_owned()).spawn(follow).map(drop)
}

/// Gives the director its new virtual addresses, and announces them; takes those away that it was given here before.
fn change(
    handle: &LargeHandle,
    had: &mut BTreeSet<IpAddr>,
    wanted: &BTreeSet<IpAddr>,
) -> Result<(), WorkerGone> {
    let gone: Vec<IpAddr> = had.difference(wanted).copied().collect();
    let new: Vec<IpAddr> = wanted.difference(had).copied().collect();
    for address in &gone {
        had.remove(address);
        tracing::info!("{address} is no longer answered for");
    }
    let added = handle.with(move |_, forwarder, now| {
        let host = forwarder.host_mut();
        gone.iter().for_each(|address| _ = host.remove_address(*address));
        let mut added = Vec::new();
        // The director's own addresses are none to be given, or taken away.
        for address in new {
            if host.owns(address) {
                continue;
            }
            let done = host.add_virtual_address(address).map_err(|error| error.to_string());
            if done.is_ok() {
                host.announce(now, address);
            }
            added.push((address, done));
        }
        added
    })?;
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
const LOOK: Duration = Duration::from_millis(250);
