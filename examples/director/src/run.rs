//! `director run`: the director at work on real interfaces.

use core::error::Error;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crossbeam_channel::Receiver;
use lvs_conformance::Scenario;
use lvs_core::config::Capacity;
use lvs_core::{Director, Event, Heap, Tick};
use lvs_forward::Forwarder;
use lvs_forward::host::Host;
use lvs_forward::parse::Link;
use lvs_std::HostAddresses;
use lvs_std::cpu::{pin_thread, processors};
use lvs_std::device::mark;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::steering::Steer;
use lvs_std::worker::{End, Worker, WorkerGroup, WorkerOptions};
use lvs_support::print;

use crate::control::{self, Listen};
use crate::ports::{self, Ports};
use crate::statistics;
use lvs_std::config::{AnswerFor, ConfigSource, Configuration, MAX_ADDRESSES, MAX_NEIGHBOURS, Workers};

/// What `director run` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file; `director check` says what it means
    #[arg(long, value_name = "FILE", required_unless_present = "scenario", conflicts_with = "scenario")]
    config: Option<PathBuf>,
    /// Be the director of a recorded scenario instead, without services
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The interfaces that are the scenario's ports, in the order of these; by default those of the same names
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "scenario")]
    ports: Vec<String>,
    #[command(flatten)]
    listen: Listen,
}

/// A worker with room for many addresses and neighbours.
pub(crate) type LargeWorker = Worker<Heap, MAX_ADDRESSES, MAX_NEIGHBOURS>;

/// Commands it, or several as one.
pub(crate) type LargeGroup = WorkerGroup<Heap, MAX_ADDRESSES, MAX_NEIGHBOURS>;

/// How many connections a scenario's director can have.
const SCENARIO_CONNECTIONS: usize = 1 << 14;

/// Runs the director until SIGINT or SIGTERM. Status 1 when it cannot be started or its interfaces are gone.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    lvs_support::supervise(|| match (&arguments.config, &arguments.scenario) {
        (Some(config), _) => run(config, arguments),
        (None, Some(scenario)) => run_scenario(scenario, arguments),
        // The command line asks for one of them.
        (None, None) => Ok(()),
    })
}

fn run(config: &Path, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let source = ConfigSource::read(config)?;
    let configuration = source.configuration.clone();
    print!("{}", configuration.describe());
    let mut team = make(&configuration)?;
    let group = team.group.clone();
    if configuration.watches_memory() {
        watch_memory(group.clone())?;
    }
    let names = configuration.interfaces.iter().map(|interface| interface.name.clone()).collect();
    let end = work(&mut team, names, &arguments.listen, Some(source))?;
    print!("{}", statistics::describe(&configuration, &mut team.workers, &team.group));
    finish(end)
}

/// A director that does not work yet: its workers, and what they have in common.
struct Team {
    workers: Vec<LargeWorker>,
    group: LargeGroup,
    events: Vec<Receiver<Event>>,
    /// The processor of each worker; empty if they may run anywhere.
    cpus: Vec<usize>,
}

/// Makes the workers that a file asks for, with its interfaces open for all of them.
fn make(configuration: &Configuration) -> Result<Team, Box<dyn Error>> {
    let Workers { count, cpus, busy_poll, by, .. } = &configuration.workers;
    let allowed = processors()?;
    if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!("there is no processor {cpu} for this process; it may use {allowed:?}").into());
    }
    let steer = Steer::new(lvs_std::random_seed()?, *count, *by);
    let mut hosts = Vec::new();
    for _ in 0..*count {
        let seed = lvs_std::random_seed()?;
        hosts.push((seed, Box::new(Host::<MAX_ADDRESSES, MAX_NEIGHBOURS>::new(seed))));
    }
    let Ports { lines, steering, fans, offloads } = ports::open(configuration, steer, &mut hosts)?;
    let (mut workers, mut handles, mut events) = (Vec::new(), Vec::new(), Vec::new());
    let mut offloads = offloads.into_iter();
    for ((seed, mut host), mut devices) in hosts.into_iter().zip(lines) {
        if !configuration.marks.is_empty() {
            let marked = |device| mark::marked(device, Link::Ethernet, configuration.marks.clone());
            devices = devices.into_iter().map(marked).collect();
        }
        if configuration.answer_for != AnswerFor::Host {
            for &address in &configuration.virtual_addresses {
                host.add_virtual_address(address)?;
            }
        }
        let store = Heap::new(Capacity::new(configuration.connections_each()));
        if let Err(error) = lvs_std::cpu::use_large_pages(&store) {
            tracing::info!("connections are not in large pages, look-ups among many are slower: {error}");
        }
        let director = Director::new(configuration.core(seed), store);
        let forwarder = Box::new(Forwarder::new(*host, configuration.options_each()));
        let mut options = WorkerOptions::default();
        options.busy_poll = *busy_poll;
        let (mut worker, handle, fetch): (LargeWorker, _, _) =
            Worker::new(director, forwarder, devices, options)?;
        if let Some(offload) = offloads.next() {
            worker.set_offload(offload);
        }
        workers.push(worker);
        handles.push(handle);
        events.push(fetch);
    }
    if let (Some(steering), [worker], [handle]) = (steering, &*workers, &*handles) {
        worker.fill_address_filter(&steering, HostAddresses::open()?.read()?)?;
        handle.keep_address_filter(&steering, |error| tracing::error!("{error}"))?;
    }
    let group = LargeGroup::new(&mut workers, handles, steer, fans);
    if let Some(first) = workers.first_mut() {
        // It speaks for all.
        first.forwarder().host_mut().announce_all(Tick::ZERO);
    }
    Ok(Team { workers, group, events, cpus: cpus.clone() })
}

/// The director that a scenario describes. Its neighbours are known, and it announces nothing.
fn run_scenario(scenario: &Path, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let setup = Scenario::load(scenario)?.director;
    let names = if arguments.ports.is_empty() { setup.port_names() } else { arguments.ports.clone() };
    if names.len() != setup.ports.len() {
        return Err(format!("the scenario has {} ports, not {}", setup.ports.len(), names.len()).into());
    }
    let seed = lvs_std::random_seed()?;
    let rules = setup.mark_rules()?;
    let mut devices = Vec::new();
    for (name, port) in names.iter().zip(setup.ports.values()) {
        let mut options = PacketOptions::default();
        options.mac = Some(port.mac.0);
        let device = packet::open(name, &options)?.device;
        devices.push(mark::marked(device, Link::Ethernet, rules.clone()));
    }
    let (config, options) = setup.settings(seed)?;
    let director = Director::new(config, Heap::new(Capacity::new(SCENARIO_CONNECTIONS)));
    let forwarder = Box::new(Forwarder::new(*setup.host(seed)?, options));
    let (worker, handle, events): (LargeWorker, _, _) =
        Worker::new(director, forwarder, devices, WorkerOptions::default())?;
    let mut team =
        Team { workers: vec![worker], group: handle.into(), events: vec![events], cpus: Vec::new() };
    finish(work(&mut team, names, &arguments.listen, None)?)
}

/// Tells the director each second how much memory is left, as long as it works.
fn watch_memory(group: LargeGroup) -> std::io::Result<()> {
    let mut pages = lvs_std::cpu::available_pages()?;
    let watch = move || {
        while group.with_each(move |_, director, _, _| director.report_available(pages)).is_ok() {
            std::thread::sleep(LOOK_AT_MEMORY);
            pages = lvs_std::cpu::available_pages().unwrap_or(pages);
        }
    };
    std::thread::Builder::new().name("memory".to_owned()).spawn(watch).map(drop)
}

/// How often the defences look at memory.
const LOOK_AT_MEMORY: Duration = Duration::from_secs(1);

/// Works until something ends it: each worker on a thread of its own, control here. Nobody but sync daemons is told what happens
/// to single connections. When one worker has come to its end, all do.
fn work(
    team: &mut Team,
    interfaces: Vec<String>,
    listen: &Listen,
    origin: Option<ConfigSource>,
) -> Result<End, Box<dyn Error>> {
    let Team { workers, group, events, cpus } = team;
    let (group, events) = (&*group, core::mem::take(events));
    group.stop_on_signals()?;
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (number, worker) in workers.iter_mut().enumerate() {
            let name = if number == 0 { "worker".to_owned() } else { format!("worker-{number}") };
            let cpu = cpus.get(number).copied();
            let run = move || {
                let _all = StopAll(group);
                cpu.map_or(Ok(()), pin_thread).map(|()| worker.run())
            };
            match std::thread::Builder::new().name(name).spawn_scoped(scope, run) {
                Ok(thread) => running.push(thread),
                Err(error) => {
                    group.stop();
                    return Err(error.into());
                }
            }
        }
        let fetch = move || events.iter().find_map(|events| events.try_recv().ok());
        let controls = control::open(listen, group, interfaces, fetch, origin);
        match &controls {
            Ok(_) => tracing::info!("the director is at work; SIGINT or SIGTERM stops it"),
            Err(_) => group.stop(),
        }
        let mut all = End::Stopped;
        for thread in running {
            let end = thread.join().map_err(|_| "a worker ended by a panic")?;
            match end.map_err(|error| format!("a worker cannot stay on its processor: {error}"))? {
                End::Stopped => {}
                // The others were stopped because of it.
                end @ (End::Ended | End::Failed) => all = end,
            }
        }
        controls.map(|_| all)
    })
}

/// Stops all workers when one has come to its end, by a panic too: clients of that one would have none.
struct StopAll<'a>(&'a LargeGroup);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn finish(end: End) -> Result<(), Box<dyn Error>> {
    match end {
        End::Stopped => {
            tracing::info!("the director has stopped");
            Ok(())
        }
        End::Ended | End::Failed => Err("all interfaces are gone".into()),
    }
}
