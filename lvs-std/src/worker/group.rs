//! Several workers as one director.

use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lvs_core::{Director, Heap, Store, Tick};
use lvs_forward::host::{AddAddressError, AddPortError, Port};
use lvs_forward::{Forwarder, PortId};

use super::mailbox::Mailbox;
use super::{Handle, Snapshot, Worker, WorkerGone};
use crate::device::packet::Tap;
use crate::device::{Device, Fan, FanError};
use crate::filter::PacketFilter;
use crate::steering::Steer;
use crate::trace::Session;

/// Commands several workers that share the work of one director. Clones command the same ones.
///
/// Each worker has a director of its own with equal services and servers, and those connections whose client is [its
/// own](Steer). What is to hold for the whole director is told to all of them, in one order; what it says of itself is
/// put together from what they say. A group of one is as good as its [`Handle`], and costs no more.
///
/// ```
/// # use lvs_core::{Config, Director, Heap, Seed};
/// # use lvs_forward::host::{Host, Port};
/// # use lvs_forward::{Forwarder, Options};
/// use lvs_core::{Scheduler, ServiceConfig, ServiceKey};
/// use lvs_std::steering::{By, Steer};
/// use lvs_std::worker::{WorkerGroup, Worker, WorkerOptions};
///
/// # let seed = Seed::from_bytes([7; 16]);
/// # let director = || Director::<Heap>::new(Config::new(seed), Heap::with_capacity(1_000));
/// # let forwarder = || Box::new(Forwarder::new(Host::new(seed), Options::new()));
/// let (mut workers, mut handles) = (Vec::new(), Vec::new());
/// for _ in 0..2 {
///     // With devices that `packet::open_fanned` or `xdp::open_fanned` has opened together.
///     let (worker, handle, _events) = Worker::new(director(), forwarder(), vec![], WorkerOptions::default())?;
///     workers.push(worker);
///     handles.push(handle);
/// }
/// let group = WorkerGroup::new(&mut workers, handles, Steer::new(seed, 2, By::Endpoint), vec![]);
/// let threads: Vec<_> = workers.into_iter().map(|mut worker| std::thread::spawn(move || worker.run())).collect();
/// # drop(threads);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WorkerGroup<S: Store = Heap> {
    handles: Arc<[Handle<S>]>,
    team: Arc<Team>,
}

/// What the members have in common.
struct Team {
    steer: Steer,
    /// By the numbers of their ports.
    fans: Mutex<BTreeMap<u8, Fan>>,
    /// Held while something is told to all, so that all hear it in the same order.
    order: Mutex<()>,
}

impl<S: Store> WorkerGroup<S> {
    /// The group of these workers, which do not work yet, with their handles in the same order. `steer` says which
    /// frames come to which of them, and `fans` tell the kernel so, each for a port.
    pub fn new(
        workers: &mut [Worker<S>],
        handles: Vec<Handle<S>>,
        steer: Steer,
        fans: Vec<(PortId, Fan)>,
    ) -> Self {
        // A worker alone gets every frame, and need not look whether one belongs to another.
        if workers.len() > 1 {
            let wakers = handles.iter().map(|handle| handle.waker().clone()).collect();
            for (worker, mailbox) in workers.iter_mut().zip(Mailbox::of(steer, wakers)) {
                worker.mailbox = Some(mailbox);
            }
        }
        let team = Team::new(steer, fans.into_iter().map(|(port, fan)| (port.0, fan)).collect());
        Self { handles: handles.into(), team: Arc::new(team) }
    }

    /// The workers, each by itself.
    #[must_use]
    pub fn handles(&self) -> &[Handle<S>] {
        &self.handles
    }

    /// How packets are shared out.
    #[must_use]
    pub fn steer(&self) -> &Steer {
        &self.team.steer
    }

    /// Runs a closure on the first worker's director and forwarder: to read what is equal in all.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn with_first<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Director<S>, &mut Forwarder, Tick) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        self.handles.first().ok_or(WorkerGone)?.with(work)
    }

    /// Runs a closure on every worker's director and forwarder, each between two batches of its own, and returns what
    /// it returns of each, in the order of the workers. It is told the worker's number. All workers hear what is told
    /// in this way in the same order.
    ///
    /// # Errors
    /// [`WorkerGone`] when one of them has stopped; the others may have carried it out.
    pub fn with_each<R: Send + 'static>(
        &self,
        work: impl Fn(usize, &mut Director<S>, &mut Forwarder, Tick) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, WorkerGone> {
        self.tell(&self.order(), work)
    }

    /// Has all workers record what becomes of packets, of those that the filter means or of all; what is recorded is
    /// [read](Session::read) from the session. An earlier trace ends. Takes 8.3 MB of memory for each worker.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn trace(&self, filter: Option<PacketFilter>) -> Result<Session, WorkerGone> {
        let (session, tracers) = Session::new(self.handles.len(), filter);
        for (handle, tracer) in self.handles.iter().zip(tracers) {
            // The old one is dropped here, and not by the worker.
            drop(handle.trace(Some(Box::new(tracer)))?);
        }
        Ok(session)
    }

    /// Has all workers record nothing any more; what was recorded can still be read.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn end_trace(&self) -> Result<(), WorkerGone> {
        for handle in &*self.handles {
            drop(handle.trace(None)?);
        }
        Ok(())
    }

    /// Takes virtual addresses from the host and gives it others, which it announces. Those that it has already as its
    /// own are left as they are. The kernel hears of it in time: before what goes to a new address may come. Returns
    /// what became of each of the new ones.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn change_addresses(
        &self,
        gone: Vec<IpAddr>,
        new: Vec<IpAddr>,
    ) -> Result<Vec<NewAddress>, WorkerGone> {
        // Held over all three steps: otherwise two callers could each give the kernel a program without the other's
        // addresses.
        let order = self.order();
        let own = |_: usize, _: &mut Director<S>, forwarder: &mut Forwarder, _: Tick| {
            forwarder.host().addresses().collect::<Vec<IpAddr>>()
        };
        let before = self.tell(&order, own)?.into_iter().next().unwrap_or_default();
        // The kernel is told first. To its old program, a request to a new address is a reply, which goes to another
        // worker.
        let known: BTreeSet<IpAddr> = before.iter().copied().collect();
        let mut added: Vec<_> = new.into_iter().filter(|address| !known.contains(address)).collect();
        let mut refused = Vec::new();
        let all: Vec<IpAddr> = before.iter().chain(&added).copied().collect();
        if !added.is_empty()
            && let Err(error) = self.tell_kernel(&all)
        {
            let error = Arc::new(error);
            refused = added.iter().map(|address| (*address, Err(AddressError::Fan(error.clone())))).collect();
            // No host gets an address that the kernel cannot steer by: its packets would come to workers without its
            // connections.
            added.clear();
        }
        let change = move |index: usize, _: &mut _, forwarder: &mut Forwarder, now: Tick| {
            let host = forwarder.host_mut();
            gone.iter().for_each(|address| _ = host.remove_address(*address));
            let mut results = Vec::new();
            for address in &added {
                let done = host.add_virtual_address(*address);
                // One announces it for all.
                if done.is_ok() && index == 0 {
                    host.announce(now, *address);
                }
                results.push((*address, done.map_err(AddressError::Host)));
            }
            (results, host.addresses().collect::<Vec<IpAddr>>())
        };
        // All have the same host, so all answer the same.
        let (results, now) = self.tell(&order, change)?.into_iter().next().unwrap_or_default();
        // More addresses than there are do no harm until the next change.
        let _ = self.tell_kernel(&now);
        Ok(results.into_iter().chain(refused).collect())
    }

    /// Takes a port's device from every worker, and returns them. What is to leave by that port is lost from now on,
    /// and counted.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn take_devices(&self, port: PortId) -> Result<Vec<Device>, WorkerGone> {
        let order = self.order();
        self.team.fans().remove(&port.0);
        let mut begun = Vec::with_capacity(self.handles.len());
        for handle in self.handles.iter() {
            begun.push(
                handle.begin_with_slots(move |director, _, slots, now| slots.clear(port, director, now))?,
            );
        }
        let taken = collect(begun)?;
        drop(order);
        Ok(taken.into_iter().flatten().collect())
    }

    /// Gives every worker a device for a port, in place of the one that it has there. `open` makes them: it is told the
    /// addresses of the host, of which what [shares frames out](crate::device::Fan) must know. The
    /// first worker's host announces all its addresses, because neighbours may know another link-layer address of
    /// theirs. Returns the old devices.
    ///
    /// # Errors
    /// What `open` says; then nothing has changed. Inside, [`WorkerGone`].
    pub fn give_devices<E>(
        &self,
        port: PortId,
        open: impl FnOnce(&[IpAddr]) -> Result<NewDevices, E>,
    ) -> Result<Result<Vec<Device>, WorkerGone>, E> {
        // Held until the kernel and all workers know of them: otherwise an address that comes meanwhile would be
        // unknown to what shares the new frames out.
        let order = self.order();
        let own = |_: usize, _: &mut Director<S>, forwarder: &mut Forwarder, _: Tick| {
            forwarder.host().addresses().collect::<Vec<IpAddr>>()
        };
        let addresses = match self.tell(&order, own) {
            Ok(of_each) => of_each.into_iter().next().unwrap_or_default(),
            Err(gone) => return Ok(Err(gone)),
        };
        let NewDevices { devices, port: facts, taps, fan } = open(&addresses)?;
        {
            let mut fans = self.team.fans();
            fans.remove(&port.0);
            fans.extend(fan.map(|fan| (port.0, fan)));
        }
        let (mut begun, mut taps) = (Vec::with_capacity(self.handles.len()), taps.into_iter());
        for ((index, handle), device) in self.handles.iter().enumerate().zip(devices) {
            let tap = taps.next();
            let told = handle.begin_with_slots(move |director, forwarder, slots, now| {
                let host = forwarder.host_mut();
                // Checked by whoever made the devices: a port that a host cannot have is not opened.
                let _ = host.set_port(port, facts);
                host.flush_neighbours(now, port);
                if index == 0 {
                    host.announce_all(now);
                }
                slots.fill(port, (device, tap.as_ref()), director, now)
            });
            match told {
                Ok(answer) => begun.push(answer),
                Err(gone) => return Ok(Err(gone)),
            }
        }
        Ok(collect(begun).map(|old| old.into_iter().flatten().collect()))
    }

    /// Gives every worker a device for a bare port, in place of the one that it has there. No neighbour is told of it,
    /// since none is there. Returns the old devices.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn give_bare_devices(&self, port: PortId, devices: Vec<Device>) -> Result<Vec<Device>, WorkerGone> {
        let order = self.order();
        let mut begun = Vec::with_capacity(self.handles.len());
        for (handle, device) in self.handles.iter().zip(devices) {
            begun.push(handle.begin_with_slots(move |_, _, slots, _| slots.put(port, device))?);
        }
        let old = collect(begun)?;
        drop(order);
        Ok(old.into_iter().flatten().collect())
    }

    /// Tells all hosts that a port has another MTU or link-layer address, which the first one then announces.
    ///
    /// # Errors
    /// [`WorkerGone`].
    pub fn set_port(&self, port: PortId, facts: Port) -> Result<Result<(), AddPortError>, WorkerGone> {
        let set = move |index: usize, _: &mut Director<S>, forwarder: &mut Forwarder, now: Tick| {
            let host = forwarder.host_mut();
            let moved = host.port(port).is_some_and(|before| before.mac() != facts.mac());
            let done = host.set_port(port, facts).map(drop);
            if index == 0 && moved && done.is_ok() {
                host.announce_all(now);
            }
            done
        };
        Ok(self.with_each(set)?.into_iter().collect())
    }

    /// The sum of what the workers published last. `None` without workers.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        Snapshot::total(&self.handles.iter().map(Handle::snapshot).collect::<Vec<_>>())
    }

    /// Tells all workers to stop, see [`Handle::stop`].
    pub fn stop(&self) {
        self.handles.iter().for_each(Handle::stop);
    }

    fn order(&self) -> MutexGuard<'_, ()> {
        self.team.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell<R: Send + 'static>(
        &self,
        _: &MutexGuard<'_, ()>,
        work: impl Fn(usize, &mut Director<S>, &mut Forwarder, Tick) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, WorkerGone> {
        // All are told before the first answer is awaited. So the workers carry a command out within a batch of each
        // other, and the caller waits for the slowest only.
        let mut begun = Vec::with_capacity(self.handles.len());
        for (index, handle) in self.handles.iter().enumerate() {
            let work = work.clone();
            begun.push(handle.begin(move |director, forwarder, now| work(index, director, forwarder, now))?);
        }
        collect(begun)
    }

    fn tell_kernel(&self, addresses: &[IpAddr]) -> Result<(), FanError> {
        self.team.fans().values().try_for_each(|fan| fan.set(addresses))
    }
}

/// Devices that take a port's place, see [`WorkerGroup::give_devices`].
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever opens devices")]
pub struct NewDevices {
    /// A device for each worker, in their order.
    pub devices: Vec<Device>,
    /// What the port is now.
    pub port: Port,
    /// Where each worker's offload can be put; empty where it cannot.
    pub taps: Vec<Tap>,
    /// What tells the kernel which frames are whose, if there are several workers.
    pub fan: Option<Fan>,
}

/// The answers, when all have come.
fn collect<R>(begun: Vec<Receiver<R>>) -> Result<Vec<R>, WorkerGone> {
    begun.into_iter().map(|answer| answer.recv().map_err(|_| WorkerGone)).collect()
}

impl<S: Store> From<Handle<S>> for WorkerGroup<S> {
    /// A group of one.
    fn from(handle: Handle<S>) -> Self {
        Self { handles: Arc::new([handle]), team: Arc::new(Team::alone()) }
    }
}

impl Team {
    fn alone() -> Self {
        Self::new(Steer::alone(), BTreeMap::new())
    }

    const fn new(steer: Steer, fans: BTreeMap<u8, Fan>) -> Self {
        Self { steer, fans: Mutex::new(fans), order: Mutex::new(()) }
    }

    fn fans(&self) -> MutexGuard<'_, BTreeMap<u8, Fan>> {
        self.fans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Clone for WorkerGroup<S> {
    fn clone(&self) -> Self {
        let Self { handles, team } = self;
        Self { handles: handles.clone(), team: team.clone() }
    }
}

impl<S: Store> fmt::Debug for WorkerGroup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerGroup").field("workers", &self.handles.len()).finish_non_exhaustive()
    }
}

/// What became of an address that the host was to get.
pub type NewAddress = (IpAddr, Result<(), AddressError>);

/// Why the host did not get an address.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "it is the host's reason or the kernel's")]
pub enum AddressError {
    /// The kernel cannot tell its packets from others to share them out.
    Fan(Arc<FanError>),
    /// The host cannot have it.
    Host(AddAddressError),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fan(error) => error.fmt(f),
            Self::Host(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AddressError {}
