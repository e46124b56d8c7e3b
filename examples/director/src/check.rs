//! `director check`: what a configuration file means.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use lvs_core::{Capacity, Mask, Method, Schedule, ServerConfig, Tunnel, WhenFull};

use lvs_std::device::mark::MarkRule;
use lvs_std::health::{Initially, OnFailure, Probe};
use lvs_support::print;
use lvs_support::text::{bytes, columns};

use crate::config::{AnswerFor, Configuration, Health, Interface, Mac, Service, Wire, Work};
use crate::run;

/// Prints what the file would do, or what is wrong with it.
pub(crate) fn main(file: &Path) -> ExitCode {
    match load(file) {
        Ok(configuration) => {
            print!("{}", describe(&configuration));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads a configuration file; the error is for people.
pub(crate) fn load(file: &Path) -> Result<Configuration, String> {
    load_text(file).map(|(_, configuration)| configuration)
}

/// The same with the file's text.
pub(crate) fn load_text(file: &Path) -> Result<(String, Configuration), String> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let configuration = Configuration::parse(&text).map_err(|error| error.show(&name).to_string())?;
    Ok((text, configuration))
}

/// The whole configuration in words.
pub(crate) fn describe(configuration: &Configuration) -> String {
    let mut text = String::from("interfaces\n");
    text.push_str(&columns(&configuration.interfaces.iter().flat_map(interface).collect::<Vec<_>>(), &[]));
    if !configuration.virtual_addresses.is_empty() {
        let addresses: Vec<String> =
            configuration.virtual_addresses.iter().map(ToString::to_string).collect();
        let when = match configuration.answer_for {
            AnswerFor::Configured => "",
            AnswerFor::Services => ", and those of services that are added later",
            AnswerFor::Host => ", while this machine has them on an interface",
        };
        text.push_str(&format!("virtual addresses{when}\n  {}\n", addresses.join("\n  ")));
    }
    if !configuration.marks.is_empty() {
        text.push_str("marks\n");
        text.push_str(&columns(&configuration.marks.iter().map(mark).collect::<Vec<_>>(), &[0]));
    }
    text.push_str("services\n");
    for service in &configuration.services {
        text.push_str(&describe_service(service));
    }
    if configuration.services.is_empty() {
        text.push_str("  none: every packet is left alone\n");
    }
    text.push_str(&workers(configuration));
    let count = configuration.work.workers;
    let each = configuration.connections_each();
    let capacity = Capacity::new(each);
    let full = match configuration.when_full() {
        WhenFull::Reclaim => "the least useful one makes room",
        WhenFull::Refuse => "new ones are refused",
    };
    let share = if count > 1 { format!(", {each} with each worker") } else { String::new() };
    text.push_str(&format!(
        "memory\n  {} for {} connections{share}; when they are taken, {full}\n  {} for packet rings and neighbours\n",
        bytes((count * capacity.required_bytes()) as u64),
        configuration.connections,
        bytes(run::required_bytes(configuration) as u64),
    ));
    text
}

/// Who does the work, if that is not one thread that waits and runs anywhere.
fn workers(configuration: &Configuration) -> String {
    let Work { workers, cpus, busy_poll, offload, by } = &configuration.work;
    let mut text = String::new();
    if *workers > 1 {
        text.push_str(&format!("  {workers} share the packets out by the client's {by}\n"));
    }
    if !cpus.is_empty() {
        let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        text.push_str(&format!("  on processor {}\n", cpus.join(", ")));
    }
    if *busy_poll {
        text.push_str("  never waiting: each takes a whole processor\n");
    }
    if !offload {
        text.push_str("  without an offload for bulk transfers\n");
    }
    if text.is_empty() { text } else { format!("workers\n{text}") }
}

fn interface(interface: &Interface) -> Vec<Vec<String>> {
    let mac = match interface.mac {
        Mac::Own => "a MAC address of its own, derived from the interface's".to_owned(),
        Mac::Same => "the interface's MAC address".to_owned(),
        Mac::Is(mac) => format!("MAC address {mac}"),
    };
    let mut lines = vec![mac];
    match interface.wire {
        Wire::Packet => {}
        Wire::Xdp => lines.push("by AF_XDP sockets".to_owned()),
        Wire::Auto => {
            lines.push("by AF_XDP sockets where they suit it, otherwise by packet sockets".to_owned());
        }
    }
    lines.extend(interface.addresses.iter().map(|(address, length)| format!("{address}/{length}")));
    lines.extend(interface.routes.iter().map(|route| {
        if route.to.1 == 0 {
            format!("default by {}", route.via)
        } else {
            format!("{}/{} by {}", route.to.0, route.to.1, route.via)
        }
    }));
    let name = |line: usize| if line == 0 { interface.name.clone() } else { String::new() };
    lines.into_iter().enumerate().map(|(number, line)| vec![name(number), line]).collect()
}

fn mark(rule: &MarkRule) -> Vec<String> {
    let protocol = rule.protocol.map_or_else(|| "any protocol".to_owned(), |protocol| protocol.to_string());
    let ports = match (*rule.ports.start(), *rule.ports.end()) {
        (0, u16::MAX) => "any port".to_owned(),
        (first, last) if first == last => format!("port {first}"),
        (first, last) => format!("ports {first} to {last}"),
    };
    vec![rule.mark.to_string(), format!("{protocol} to {}, {ports}", rule.destination)]
}

fn describe_service(service: &Service) -> String {
    let flags = service.config.flags;
    let mut text = format!("  {}, {}", service.key, service.config.scheduler.name());
    for (set, name) in [(flags.fallback, "fallback"), (flags.port, "port")] {
        if set {
            text.push_str(" with ");
            text.push_str(name);
        }
    }
    if let Some(persistence) = service.config.persistence {
        text.push_str(&format!(", clients stay for {} s", persistence.timeout));
        match persistence.mask {
            Some(Mask::Prefix(len)) => text.push_str(&format!(" by /{len} networks")),
            Some(Mask::Bits(bits)) => text.push_str(&format!(" by {bits} of their addresses")),
            None => {}
        }
        if let Some(engine) = persistence.engine {
            text.push_str(&format!(" by {} call", engine.name()));
        }
    }
    if service.config.one_packet {
        text.push_str(", each datagram anew");
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = service.servers.iter().map(server).collect();
    if rows.is_empty() {
        text.push_str("    no real server: clients are told that the port is unreachable\n");
    }
    for line in columns(&rows, &[]).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    for line in health(service) {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// How a service masks failures, in sentences.
fn health(service: &Service) -> Vec<String> {
    let Health { policy, sorry, probes } = &service.health;
    let mut lines = Vec::new();
    if !service.health.is_checked() {
        return lines;
    }
    for (server, probes) in service.servers.iter().zip(probes) {
        let probes: Vec<String> = probes.iter().map(probe).collect();
        lines.push(match probes.len() {
            0 => format!("{} is not checked", server.address),
            _ => format!("{} is up while it answers {}", server.address, probes.join(" and ")),
        });
    }
    let before = match policy.initially {
        Initially::Up => "is used",
        Initially::Down => "is not used",
        Initially::Unknown => "gets no new connections",
    };
    let after = match policy.on_failure {
        OnFailure::Remove => "is removed until it answers again",
        OnFailure::Quiesce => "gets no new connections until it answers again",
    };
    lines.push(format!("a server {before} before its first answer; one that fails {after}"));
    if let Some(sorry) = sorry {
        let quorum = match (policy.quorum, policy.hysteresis) {
            (1, 0) => "no server is up".to_owned(),
            (quorum, 0) => format!("those that are up weigh less than {quorum}"),
            (quorum, hysteresis) => format!(
                "those that are up weigh less than {}, until they weigh {}",
                quorum - hysteresis,
                quorum + hysteresis
            ),
        };
        lines.push(format!("{} by {} serves alone while {quorum}", sorry.address, method(sorry.method)));
    }
    lines
}

fn probe(probe: &Probe) -> String {
    let lvs_std::health::Schedule { interval, timeout, rise, fall, .. } = probe.schedule;
    format!("{probe} (every {interval:?}, within {timeout:?}, {rise} times to rise, {fall} to fall)")
}

fn server(server: &ServerConfig) -> Vec<String> {
    let address = match server.address.port() {
        0 => server.address.ip().to_string(),
        _ => server.address.to_string(),
    };
    let weight = match server.weight.get() {
        0 => "weight 0: no new connections".to_owned(),
        weight => format!("weight {weight}"),
    };
    let mut row = vec![address, method(server.method), weight];
    if server.upper > 0 {
        row.push(format!("at most {} connections", server.upper));
    }
    row
}

/// A method with its options, as the file has them.
pub(crate) fn method(method: Method) -> String {
    let with =
        |name: &str, checksum: bool| format!("tun, {name}{}", if checksum { " with checksum" } else { "" });
    match method {
        Method::Nat => "nat".to_owned(),
        Method::Bypass => "bypass".to_owned(),
        Method::Direct => "dr".to_owned(),
        Method::Local => "local".to_owned(),
        Method::Tunnel(Tunnel::IpIp) => with("ipip", false),
        Method::Tunnel(Tunnel::Gre { checksum }) => with("gre", checksum),
        Method::Tunnel(Tunnel::Gue { port, checksum }) => with(&format!("gue to port {port}"), checksum),
    }
}
