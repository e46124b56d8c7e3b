//! What a configuration means, in words.

use core::fmt::Write as _;

use lvs_core::config::WhenFull;
use lvs_core::sched::Schedule;
use lvs_core::service::Mask;
use lvs_core::{Method, ServerConfig, Tunnel};

use super::interface::covers;
use super::{
    AnswerFor, Configuration, DeviceKind, Interface, Mac, ServiceHealth, VirtualService, WhenNoInterface,
    Workers,
};
use crate::control::{Durability, ServeOptions};
use crate::device::mark::MarkRule;
use crate::health::{self, Initially, OnFailure, Probe};
use crate::text::{bytes, columns};

impl Configuration {
    /// The whole configuration in words, for people: what `director check` prints.
    #[must_use]
    pub fn describe(&self) -> String {
        // Writing to a string cannot fail, here and below.
        let mut text = String::from("interfaces\n");
        text.push_str(&columns(&self.interfaces.iter().flat_map(interface).collect::<Vec<_>>(), &[]));
        if !self.virtual_addresses.is_empty() {
            let addresses: Vec<String> = self.virtual_addresses.iter().map(ToString::to_string).collect();
            let when = match self.answer_for {
                AnswerFor::Configured => "",
                AnswerFor::Services => ", and those of services that are added later",
                AnswerFor::Host => ", while this machine has them on an interface",
            };
            text.push_str(&format!("virtual addresses{when}\n  {}\n", addresses.join("\n  ")));
        }
        if !self.marks.is_empty() {
            text.push_str("marks\n");
            text.push_str(&columns(&self.marks.iter().map(mark).collect::<Vec<_>>(), &[0]));
        }
        text.push_str("services\n");
        for service in &self.services {
            text.push_str(&describe_service(service));
        }
        if self.services.is_empty() {
            text.push_str("  none: every packet is left alone\n");
        }
        text.push_str(&workers(&self.workers));
        if self.when_no_interface == WhenNoInterface::Exit {
            text.push_str("without any usable interface the director ends\n");
        }
        if self.local_clients {
            text.push_str(
                "programs of this machine are clients too: routes to the services' addresses lead them here\n",
            );
        }
        text.push_str(&self.control());
        let (count, each) = (self.workers.count, self.connections_each());
        let memory = self.required_memory();
        let full = match self.when_full {
            WhenFull::Reclaim => "the least useful one makes room",
            WhenFull::Refuse => "new ones are refused",
        };
        let share = if count > 1 { format!(", {each} with each worker") } else { String::new() };
        let _ = writeln!(
            text,
            "memory\n  {} for {} connections{share}, {} services and {} servers; when the connections are taken, \
             {full}\n  {}, at most {}, for the look-up tables of schedulers\n  {} for packet rings\n  {}, at most {}, \
             for {} addresses and {} neighbours",
            bytes(memory.connections as u64),
            self.connections,
            self.sizes.services,
            self.sizes.servers,
            bytes(memory.tables as u64),
            bytes(memory.tables_most as u64),
            bytes(memory.devices as u64),
            bytes(memory.hosts as u64),
            bytes(memory.hosts_most as u64),
            self.sizes.addresses,
            self.sizes.neighbours,
        );
        text
    }
}

impl Configuration {
    /// Who may command the director and when commands are acknowledged, if that is not as usual.
    fn control(&self) -> String {
        let mut text = String::new();
        if let Some(group) = self.control_group {
            text.push_str(&format!("  members of group {group} may command the director\n"));
        }
        match self.control_rate {
            Some(ServeOptions::RATE) => {}
            Some(rate) => text.push_str(&format!("  a process may give {rate} commands a second\n")),
            None => text.push_str("  a process may give any number of commands a second\n"),
        }
        if self.durability == Durability::Power {
            text.push_str("  a command is acknowledged when the disk has it\n");
        }
        if text.is_empty() { text } else { format!("control\n{text}") }
    }
}

/// Who does the work, if that is not one thread that waits and runs anywhere.
fn workers(workers: &Workers) -> String {
    let Workers { count, cpus, busy_poll, offload, by } = workers;
    let mut text = String::new();
    if *count > 1 {
        text.push_str(&format!("  {count} share the packets out by the client's {by}\n"));
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
    match interface.device {
        DeviceKind::Packet => {}
        DeviceKind::Xdp => lines.push("by AF_XDP sockets".to_owned()),
        DeviceKind::Auto => {
            lines.push("by AF_XDP sockets where they suit it, otherwise by packet sockets".to_owned());
        }
    }
    lines.extend(interface.vlan.map(|vlan| format!("VLAN {vlan}: tagged frames")));
    lines.extend(interface.addresses.iter().map(|(address, length)| format!("{address}/{length}")));
    lines.extend(interface.routes.iter().map(|route| {
        let to =
            if route.to.1 == 0 { "default".to_owned() } else { format!("{}/{}", route.to.0, route.to.1) };
        match route.via {
            Some(via) if interface.addresses.iter().any(|&prefix| covers(prefix, via)) => {
                format!("{to} by {via}")
            }
            Some(via) => format!("{to} by {via}, which is on the link"),
            None => format!("{to} on the link"),
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

fn describe_service(service: &VirtualService) -> String {
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
    for line in failures(service) {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// How a service masks failures, in sentences.
fn failures(service: &VirtualService) -> Vec<String> {
    let ServiceHealth { policy, sorry, probes } = &service.health;
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
        lines.push(format!(
            "{} by {} serves alone while {quorum}",
            sorry.address,
            describe_method(sorry.method)
        ));
    }
    lines
}

fn probe(probe: &Probe) -> String {
    let health::Schedule { interval, timeout, rise, fall, .. } = probe.schedule;
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
    let mut row = vec![address, describe_method(server.method), weight];
    if server.upper > 0 {
        row.push(format!("at most {} connections", server.upper));
    }
    row
}

/// A forwarding method with its options, in the words of the file: `tun, gre with checksum`.
#[must_use]
pub fn describe_method(method: Method) -> String {
    let name = method.kind().name();
    let Method::Tunnel(tunnel) = method else { return name.to_owned() };
    let (to, checksum) = match tunnel {
        Tunnel::IpIp => (String::new(), false),
        Tunnel::Gre { checksum } => (String::new(), checksum),
        Tunnel::Gue { port, checksum } => (format!(" to port {port}"), checksum),
    };
    let with = if checksum { " with checksum" } else { "" };
    format!("{name}, {}{to}{with}", tunnel.kind().name())
}
