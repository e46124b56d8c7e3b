//! `director run`: the director at work on real interfaces.

use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use lvs_conformance::{Scenario, Setup};
use lvs_core::config::Capacity;
use lvs_core::{Director, Heap};
use lvs_forward::Forwarder;
use lvs_forward::parse::Link;
use lvs_std::config::ConfigSource;
use lvs_std::control::{DEFAULT_NAME, socket_path};
use lvs_std::device::mark;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::metrics::MetricsListener;
use lvs_std::ownership::OwnershipError;
use lvs_std::runtime::{
    Assembly, Part, Problems, Runtime, RuntimeHandle, RuntimeOptions, StartError, inherit_nothing,
};
use lvs_std::worker::{End, Worker, WorkerOptions};
use lvs_support::{LogFormat, Output, Streams, Written};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::service;

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
    /// Answer `GET /metrics` at this address, for Prometheus; such as 127.0.0.1:9117
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// How the log is written: `journal` puts the level in front as journald reads it, `auto` does that when standard
    /// error leads to the journal
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Lines::Auto)]
    log: Lines,
    #[command(flatten)]
    listen: Listen,
}

/// How the log's lines are written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Lines {
    Auto,
    Text,
    Json,
    Journal,
}

impl From<Lines> for LogFormat {
    fn from(lines: Lines) -> Self {
        match lines {
            Lines::Auto => Self::Auto,
            Lines::Text => Self::Text,
            Lines::Json => Self::Json,
            Lines::Journal => Self::Journal,
        }
    }
}

/// Where the director is controlled.
#[derive(Debug, clap::Args)]
struct Listen {
    /// The director's name, by which tools find it at /run/director/NAME.sock, or the path of its socket
    #[arg(long, aliases = ["name", "control"], value_name = "NAME|PATH", default_value = DEFAULT_NAME)]
    director: String,
    /// Listen nowhere: nobody can control it
    #[arg(long, conflicts_with_all = ["director", "state"])]
    no_control: bool,
    /// Keep services and servers in this file, to come back with them; SOCKET.state by default
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Forget services and servers when it ends
    #[arg(long, conflicts_with = "state")]
    no_state: bool,
}

impl Listen {
    fn options(&self) -> RuntimeOptions {
        if self.no_control {
            return RuntimeOptions::default();
        }
        let mut options = RuntimeOptions::at(socket_path(&self.director));
        if self.no_state {
            options.state = None;
        } else if self.state.is_some() {
            options.state.clone_from(&self.state);
        }
        options
    }
}

/// Runs the director until SIGINT or SIGTERM. Status 1 when it cannot be started or its interfaces are gone.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    let options = arguments.listen.options();
    lvs_support::supervise(arguments.log.into(), |streams| {
        if let Err(error) = inherit_nothing() {
            tracing::warn!("programs of checks inherit what this process was started with: {error}");
        }
        run(arguments, options, streams)
    })
}

fn run(arguments: &Arguments, options: RuntimeOptions, streams: &Streams) -> Result<(), Box<dyn Error>> {
    match (&arguments.config, &arguments.scenario) {
        (Some(config), _) => {
            let source = ConfigSource::read(config)?;
            streams.out.say(source.configuration.describe());
            let ended = supervise((&streams.log, arguments.metrics), || Runtime::start(source, options))?;
            streams.out.say(ended.statistics);
            Ok(())
        }
        (None, Some(scenario)) => {
            let setup = Scenario::load(scenario)?.director;
            let interfaces = interfaces(&setup, &arguments.ports)?;
            let claims = interfaces.iter().fold(options.claims(), |claims, name| claims.with_interface(name));
            // Before any interface is opened.
            let owned = claims.take().map_err(|error| hint(&error.into()))?;
            let assembly = scenario_director(&setup, interfaces)?;
            let start = || Runtime::start_with(assembly, None, options, owned);
            supervise((&streams.log, arguments.metrics), start).map(drop)
        }
        // The command line asks for one of them.
        (None, None) => Ok(()),
    }
}

/// Runs a director until it ends, by a signal or of its own accord.
fn supervise(
    (log, metrics): (&Output, Option<SocketAddr>),
    start: impl FnOnce() -> Result<Runtime, StartError>,
) -> Result<lvs_std::runtime::Ended, Box<dyn Error>> {
    // Before the director listens: whoever finds its socket may signal it.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    // Before anything is changed for a director that would not be watched as it should.
    let metrics = metrics.map(listen_for_metrics).transpose()?;
    let runtime = start().map_err(|error| hint(&error))?;
    // Answers until the director has ended.
    let _metrics = metrics.map(|listener| listener.serve(runtime.handle())).transpose()?;
    let handle = runtime.handle();
    let on_signal = move || signals.forever().for_each(|signal| obey(signal, &handle));
    thread::Builder::new().name("signals".to_owned()).spawn(on_signal)?;
    let (log, problems) = (log.clone(), runtime.handle().problems().clone());
    thread::Builder::new().name("log".to_owned()).spawn(move || watch_log(&log, &problems))?;
    service::attend(runtime.handle())?;
    tracing::info!("the director is at work; SIGINT or SIGTERM stops it");
    let ended = runtime.join()?;
    match ended.end {
        End::Stopped => tracing::info!("the director has stopped"),
        End::Ended | End::Failed => return Err("all interfaces are gone".into()),
    }
    Ok(ended)
}

fn listen_for_metrics(address: SocketAddr) -> Result<MetricsListener, String> {
    let listener = MetricsListener::bind(address);
    let listener = listener
        .map_err(|error| format!("metrics cannot be asked for at {address}: {error}; see --metrics"))?;
    tracing::info!("metrics at http://{}/metrics", listener.address());
    Ok(listener)
}

/// Notes a problem while nobody takes the log's lines. A log that takes lines again, and has lost none for a while, is
/// none.
fn watch_log(log: &Output, problems: &Problems) {
    let (mut before, mut quiet) = (Written::default(), 0);
    loop {
        thread::sleep(LOOK_AT_LOG);
        let now = log.written();
        let stands = now.waiting > 0 && before.waiting > 0 && now.written == before.written;
        if now.lost > before.lost || stands {
            quiet = 0;
            problems
                .raise(Part::Log, "nobody takes its lines: standard error is full, closed, or its disk is");
        } else if now.written > before.written || quiet > 0 {
            quiet += 1;
        }
        if quiet > QUIET {
            quiet = 0;
            problems.clear(&Part::Log);
        }
        before = now;
    }
}

fn obey(signal: i32, director: &RuntimeHandle) {
    if signal != SIGHUP {
        service::ends();
        return director.stop();
    }
    service::reads();
    match director.reload_file() {
        Ok(plan) => tracing::info!("reloaded\n{}", plan.did()),
        Err(error) => tracing::error!("the old configuration stays: {error}"),
    }
    service::read();
}

/// A fault in words, with the option that helps.
fn hint(error: &StartError) -> String {
    let options = if matches!(error, StartError::Ownership(OwnershipError::Held { .. })) {
        "; see --director and --state"
    } else if matches!(error, StartError::Listen { .. }) {
        "; see --director and --no-control"
    } else {
        ""
    };
    format!("{error}{options}")
}

/// The interfaces that are a scenario's ports.
fn interfaces(setup: &Setup, ports: &[String]) -> Result<Vec<String>, Box<dyn Error>> {
    let interfaces = if ports.is_empty() { setup.port_names() } else { ports.to_vec() };
    if interfaces.len() != setup.ports.len() {
        return Err(format!("the scenario has {} ports, not {}", setup.ports.len(), interfaces.len()).into());
    }
    Ok(interfaces)
}

/// The director that a scenario describes. Its neighbours are known, and it announces nothing.
fn scenario_director(setup: &Setup, interfaces: Vec<String>) -> Result<Assembly, Box<dyn Error>> {
    let seed = lvs_std::random_seed()?;
    let rules = setup.mark_rules()?;
    let mut devices = Vec::new();
    for (name, port) in interfaces.iter().zip(setup.ports.values()) {
        let mut options = PacketOptions::default();
        options.mac = Some(port.mac.0);
        let device = packet::open(name, &options)?.device;
        devices.push(mark::marked(device, Link::Ethernet, rules.clone()));
    }
    let (config, options) = setup.settings(seed)?;
    let director = Director::new(config, Heap::new(Capacity::new(SCENARIO_CONNECTIONS)));
    let forwarder = Box::new(Forwarder::new(*setup.host(seed)?, options));
    let (worker, handle, events) = Worker::new(director, forwarder, devices, WorkerOptions::default())?;
    let (workers, group, events) = (vec![worker], handle.into(), vec![events]);
    Ok(Assembly { workers, group, events, cpus: Vec::new(), interfaces, supervisor: None })
}

/// How often it is looked whether somebody takes the log's lines.
const LOOK_AT_LOG: Duration = Duration::from_secs(1);
/// After so many looks without a lost line the log counts as mended.
const QUIET: u32 = 10;
/// How many connections a scenario's director can have.
const SCENARIO_CONNECTIONS: usize = 1 << 14;
