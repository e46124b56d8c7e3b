//! From a configuration to workers that do not work yet.

use lvs_core::{Director, Event, Heap, Seed, Tick};
use lvs_forward::host::{Host, HostMemory};
use lvs_forward::{Forwarder, LocalTraffic};
use std::sync::mpsc::Receiver;

use super::ports::{self, Ports, SeededHost};
use super::{PortSupervisor, RuntimeGroup, RuntimeWorker, StartError};
use crate::HostAddresses;
use crate::config::{AnswerFor, Configuration};
use crate::cpu::{available_bytes, processors, use_large_pages};
use crate::ownership::{Claims, Ownership, OwnershipError};
use crate::random_seed;
use crate::steering::Steer;
use crate::worker::{Handle, Worker, WorkerOptions};

/// A director that does not work yet: its workers, and what they have in common.
///
/// [`Assembly::open`] makes one from a configuration. A program with devices of its own makes one from its own workers.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by programs with devices of their own")]
pub struct Assembly {
    /// The workers.
    pub workers: Vec<RuntimeWorker>,
    /// The workers as one, in the same order.
    pub group: RuntimeGroup,
    /// The events of each worker's director.
    pub events: Vec<Receiver<Event>>,
    /// The processor of each worker; empty if they may run anywhere.
    pub cpus: Vec<usize>,
    /// The names of the interfaces that are the ports, in their order: sync daemons open them once more.
    pub interfaces: Vec<String>,
    /// What takes the interfaces up again when they come back; `None` for devices of the program's own.
    pub supervisor: Option<PortSupervisor>,
}

impl Assembly {
    /// What opening the interfaces of a configuration requires to be owned.
    #[must_use]
    pub fn claims(configuration: &Configuration, claims: Claims) -> Claims {
        let interfaces = configuration.interfaces.iter();
        interfaces.fold(claims, |claims, interface| claims.with_interface(&interface.name))
    }

    /// Opens the interfaces of a configuration for the workers that it asks for; `owned` has all of them. Services
    /// come when the director runs. An interface that is not there is no error: it is
    /// taken up when it comes.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(configuration: &Configuration, owned: &Ownership) -> Result<Self, StartError> {
        let mut names = configuration.interfaces.iter().map(|interface| &interface.name);
        if let Some(name) = names.find(|name| owned.interface(name).is_none()) {
            return Err(OwnershipError::NotClaimed { what: format!("the interface {name}") }.into());
        }
        let workers = &configuration.workers;
        let allowed = processors().map_err(StartError::system("processors"))?;
        if let Some(&cpu) = workers.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            return Err(StartError::Processor { cpu, allowed });
        }
        // A table that does not fit would be the end of this process, or of another one, when its pages are written.
        let memory = configuration.required_memory();
        let parts = [memory.connections, memory.devices, memory.hosts, memory.tables];
        let needed = parts.into_iter().fold(0, usize::saturating_add) as u64;
        let available = available_bytes().map_err(StartError::system("available memory"))?;
        if needed > available {
            return Err(StartError::Memory { needed, available: Some(available) });
        }
        // A seed for the steering alone: a client must not learn from its worker what the tables' hashes are.
        let steer = Steer::new(seed()?, workers.count, workers.by);
        let mut hosts: Vec<SeededHost> = Vec::new();
        for _ in 0..workers.count {
            let seed = seed()?;
            hosts.push((
                seed,
                Box::new(Host::with_memory(seed, HostMemory::owned(configuration.sizes.host()))),
            ));
        }
        let Ports { lines, fans, offloads, found, opener } = ports::open(configuration, steer, &mut hosts)?;
        let as_opened = ports::as_opened(configuration, &found);
        let supervisor = PortSupervisor::new(configuration, found, opener);
        let (mut made, mut handles, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let mut offloads = offloads.into_iter();
        for (host, devices) in hosts.into_iter().zip(lines) {
            let (mut worker, handle, fetch) = worker(&as_opened, host, devices)?;
            if let Some(offload) = offloads.next() {
                worker.set_offload(offload);
            }
            made.push(worker);
            handles.push(handle);
            events.push(fetch);
        }
        // One speaks for all: the others have the same services and servers.
        if let (Some(filter), [worker, ..], [handle, ..]) = (supervisor.filter(), &*made, &*handles) {
            let failed = StartError::interface("AF_XDP");
            let known = HostAddresses::open().and_then(|mut addresses| addresses.read());
            let known = known.map_err(StartError::system("this machine's addresses"))?;
            worker.fill_address_filter(filter, known).map_err(failed)?;
            let kept = handle.keep_address_filter(filter, |error| tracing::error!("{error}"));
            kept.map_err(StartError::system("addresses for AF_XDP"))?;
        }
        let group = RuntimeGroup::new(&mut made, handles, steer, fans);
        if let Some(first) = made.first_mut() {
            // One speaks for all: the others have the same addresses.
            first.forwarder().host_mut().announce_all(Tick::ZERO);
        }
        let interfaces = configuration.interfaces.iter().map(|interface| interface.name.clone()).collect();
        let (cpus, supervisor) = (workers.cpus.clone(), Some(supervisor));
        Ok(Self { workers: made, group, events, cpus, interfaces, supervisor })
    }
}

type Made = (RuntimeWorker, Handle<Heap>, Receiver<Event>);

fn worker(
    configuration: &Configuration,
    (seed, mut host): SeededHost,
    devices: Vec<crate::device::Device>,
) -> Result<Made, StartError> {
    if configuration.answer_for != AnswerFor::Host {
        for &address in &configuration.virtual_addresses {
            let added = host.add_virtual_address(address);
            added.map_err(|error| StartError::Address { address, error: Box::new(error) })?;
        }
    }
    let store = Heap::try_new(configuration.capacity_each());
    let store = store.map_err(|error| StartError::Memory { needed: error.bytes as u64, available: None })?;
    if let Err(error) = use_large_pages(&store) {
        tracing::info!("connections are not in large pages, look-ups among many are slower: {error}");
    }
    let director = Director::new(configuration.core(seed), store);
    let mut options = configuration.options_each();
    (options.local, options.local_traffic) = (ports::local(configuration), LocalTraffic::Servers);
    let forwarder = Box::new(Forwarder::new(*host, options));
    let busy_poll = configuration.workers.busy_poll;
    let options = WorkerOptions { busy_poll, awaits_devices: true, ..WorkerOptions::default() };
    Ok(Worker::new(director, forwarder, devices, options)?)
}

fn seed() -> Result<Seed, StartError> {
    random_seed().map_err(|error| StartError::System { what: "a random seed", error })
}
