//! What real servers answer, also through the virtual address.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::thread;

use lvs_core::{Method, ServerConfig, ServiceKey};

use crate::config::Configuration;
use crate::health::{Check, Engine, Failure, Probe, Schedule, State, Tcp, Through, ThroughMethod};
use crate::sys::rtnetlink::Netlink;

/// What was asked, and what came.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// For each server: whether its host is there, and whether it serves.
    pub(super) servers: Vec<Answer>,
    /// The configured checks that fail, with the server that each is for.
    pub(super) checks: Vec<(Probe, IpAddr, Failure)>,
}

/// What a server answers.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The virtual address and port at which it serves, if the service has such.
    pub(super) service: Option<SocketAddr>,
    pub(super) server: ServerConfig,
    /// Whether the kernel has found the host on its link, or something answered from there. `None` where a router is
    /// between, and nothing is known.
    pub(super) found: Option<bool>,
    /// What came of a connection: by NAT to the server itself, otherwise through the virtual address.
    pub(super) outcome: Result<(), Failure>,
}

/// Asks all servers of a configuration at once, but for those that are this machine.
pub(super) fn ask(configuration: &Configuration, is_here: impl Fn(IpAddr) -> bool) -> io::Result<Answers> {
    let (mut engine, probes, events) = Engine::new()?;
    drop(events);
    let mut asked = Vec::new();
    let mut configured = Vec::new();
    for service in &configuration.services {
        for (server, at) in service.servers.iter().zip(0..) {
            if let Some((probe, address)) =
                question(&service.key, server).filter(|_| !is_here(server.address.ip()))
            {
                asked.push((address, *server, probes.watch(probe)));
            }
            for probe in service.health.probes.get(at).into_iter().flatten() {
                let (mut once, own) = (probe.clone(), probe.clone());
                once.schedule = schedule(probe.schedule.timeout.min(PATIENCE));
                configured.push((own, server.address.ip(), probes.watch(once)));
            }
        }
    }
    let engine = thread::Builder::new().name("doctor".to_owned()).spawn(move || engine.run())?;
    // Each attempt ends by its own time-out; this one is for a machine that stands still.
    let _ = probes.wait_until_ready(PATIENCE * 4);
    let outcome = |id| match probes.report(id) {
        Some(report) if report.state == State::Up => Ok(()),
        Some(report) => Err(report.why),
        None => Err(None),
    };
    let mut answers = Answers::default();
    let mut netlink = Netlink::open()?;
    for (service, server, id) in asked {
        let Some(outcome) = known(outcome(id)) else { continue };
        let found = found(&mut netlink, server.address.ip(), &outcome);
        answers.servers.push(Answer { service, server, found, outcome });
    }
    for (probe, server, id) in configured {
        if let Some(Err(failure)) = known(outcome(id)) {
            answers.checks.push((probe, server, failure));
        }
    }
    drop(probes);
    // It ends when nobody wants anything of it.
    let _ = engine.join();
    Ok(answers)
}

/// What is known; nothing is while no attempt has ended.
fn known(outcome: Result<(), Option<Failure>>) -> Option<Result<(), Failure>> {
    match outcome {
        Ok(()) => Some(Ok(())),
        Err(failure) => failure.map(Err),
    }
}

/// What a server is asked to show that it serves. `None` where a connection shows nothing: a service without an address
/// or port, or by UDP.
fn question(key: &ServiceKey, server: &ServerConfig) -> Option<(Probe, Option<SocketAddr>)> {
    let service = endpoint(key)?;
    let at = |check: Check, target: SocketAddr| {
        Some((Probe::new(target, check, schedule(PATIENCE)), Some(service)))
    };
    let target = match server.address.port() {
        0 => SocketAddr::new(server.address.ip(), service.port()),
        _ => server.address,
    };
    match server.method {
        Method::Nat => at(Tcp::default().into(), target),
        Method::Direct => at(Through::new(service, ThroughMethod::Direct).into(), target),
        Method::Tunnel(tunnel) => at(Through::new(service, ThroughMethod::Tunnel(tunnel)).into(), target),
        Method::Bypass | Method::Local => None,
    }
}

/// Where clients connect to, by TCP.
fn endpoint(key: &ServiceKey) -> Option<SocketAddr> {
    match *key {
        ServiceKey::Address { protocol: lvs_core::Protocol::Tcp, address, port } if port != 0 => {
            Some(SocketAddr::new(address, port))
        }
        ServiceKey::Address { .. } | ServiceKey::Mark { .. } => None,
    }
}

/// Once is enough.
fn schedule(timeout: Duration) -> Schedule {
    let mut schedule = Schedule::every(Duration::from_secs(3_600)).with_counts(1, 1).with_timeout(timeout);
    (schedule.jitter, schedule.warmup) = (Duration::ZERO, Duration::ZERO);
    schedule
}

/// Whether a host is there: somebody answered, or the kernel knows its MAC address.
fn found(netlink: &mut Netlink, server: IpAddr, outcome: &Result<(), Failure>) -> Option<bool> {
    if matches!(outcome, Ok(()) | Err(Failure::Refused | Failure::Reset)) {
        return Some(true);
    }
    let interface = netlink.route(server).ok()??;
    Some(netlink.neighbour(interface, server).ok()?.is_some())
}

/// Servers whose kernel does not answer a connection by then do not answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
