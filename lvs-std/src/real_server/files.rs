//! The steps as files of a distribution, for a real server that stays one after a restart.

use core::fmt::Write as _;
use core::net::IpAddr;

use super::plan::{Plan, PlanError};
use super::step::Step;
use crate::sys::rtnetlink::whole;

/// Whose files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every format")]
pub enum Format {
    /// A shell script.
    Commands,
    /// Debian's ifupdown, interfaces(5).
    Debian,
    /// `NetworkManager`, as RHEL 9 has it, nm-settings-keyfile(5). Loopback is a connection of its since version 1.42.
    Rhel,
    /// systemd.network(5).
    Networkd,
}

/// A file of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedFile {
    /// Where it belongs; `None` for a script, which belongs nowhere.
    pub path: Option<String>,
    /// What is in it.
    pub text: String,
}

impl Plan {
    /// The files that make the steps last.
    ///
    /// # Errors
    /// [`PlanError::RouteWithoutInterface`] for a route without an interface, but for [`Format::Commands`].
    pub fn files(&self, format: Format) -> Result<Vec<PlannedFile>, PlanError> {
        let unattached = |step: &Step| matches!(step, Step::Route { interface: None, .. });
        if format != Format::Commands && self.steps.iter().any(unattached) {
            return Err(PlanError::RouteWithoutInterface);
        }
        let mut files = match format {
            Format::Commands => return Ok(vec![script(self)]),
            Format::Debian => [modules(self), sysctl(self), ifupdown(self)],
            Format::Rhel => [modules(self), sysctl(self), network_manager(self)],
            Format::Networkd => [modules(self), sysctl(self), networkd(self)],
        }
        .concat();
        files.extend(unit(self));
        Ok(files)
    }
}

fn file(path: impl Into<String>, text: String) -> PlannedFile {
    PlannedFile { path: Some(path.into()), text }
}

fn script(plan: &Plan) -> PlannedFile {
    let text = plan.commands().iter().fold("#!/bin/sh -e\n".to_owned(), |text, line| text + line + "\n");
    PlannedFile { path: None, text }
}

/// The kernel's modules for tunnels, for systemd-modules-load(8).
fn modules(plan: &Plan) -> Vec<PlannedFile> {
    let module = |step: &Step| match step {
        Step::Link { tunnel, .. } => Some(format!("{}\n", tunnel.module())),
        Step::Sysctl { .. } | Step::Address { .. } | Step::Route { .. } => None,
    };
    let text: String = plan.steps.iter().filter_map(module).collect();
    if text.is_empty() {
        Vec::new()
    } else {
        vec![file("/etc/modules-load.d/director-realserver.conf", text)]
    }
}

/// systemd-sysctl(8) and sysctl(8). udev applies it again to an interface that comes later.
fn sysctl(plan: &Plan) -> Vec<PlannedFile> {
    let line = |(name, value): (String, &str)| format!("{name} = {value}\n");
    let text: String = plan.steps.iter().filter_map(|step| step.setting().map(line)).collect();
    if text.is_empty() { Vec::new() } else { vec![file("/etc/sysctl.d/90-director-realserver.conf", text)] }
}

/// The interfaces on which something is done, each once, in the order of the steps.
fn interfaces(plan: &Plan) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for step in &plan.steps {
        let name = match step {
            Step::Link { name, .. } => name,
            Step::Address { interface, .. } | Step::Route { interface: Some(interface), .. } => interface,
            Step::Sysctl { .. } | Step::Route { interface: None, .. } => continue,
        };
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn is_at(step: &Step, at: &str) -> bool {
    match step {
        Step::Link { name, .. } => name == at,
        Step::Address { interface, .. } | Step::Route { interface: Some(interface), .. } => interface == at,
        Step::Sysctl { .. } | Step::Route { interface: None, .. } => false,
    }
}

/// Stanzas of one interface add up, whatever other files say of it.
fn ifupdown(plan: &Plan) -> Vec<PlannedFile> {
    let mut text = String::new();
    for name in interfaces(plan) {
        let method = if name == "lo" { "loopback" } else { "manual" };
        _ = writeln!(
            text,
            "{}auto {name}\niface {name} inet {method}",
            if text.is_empty() { "" } else { "\n" }
        );
        for step in plan.steps.iter().filter(|step| is_at(step, name)) {
            _ = writeln!(text, "    up {step}");
            let down = match step {
                Step::Link { name, .. } => format!("ip link set {name} down"),
                Step::Address { interface, address } => {
                    format!("ip address delete {} dev {interface}", alone(*address))
                }
                // It goes with the interface.
                Step::Sysctl { .. } | Step::Route { .. } => continue,
            };
            _ = writeln!(text, "    down {down} || true");
        }
    }
    if text.is_empty() {
        Vec::new()
    } else {
        vec![file("/etc/network/interfaces.d/director-realserver", text)]
    }
}

fn network_manager(plan: &Plan) -> Vec<PlannedFile> {
    let mut files = Vec::new();
    let on_loopback: Vec<IpAddr> = addresses(plan, "lo");
    if !on_loopback.is_empty() {
        let mut text = "[connection]\nid=lo\ntype=loopback\ninterface-name=lo\n".to_owned();
        for (section, own, is_v4) in [("ipv4", "127.0.0.1/8", true), ("ipv6", "::1/128", false)] {
            _ = write!(text, "\n[{section}]\nmethod=manual\naddress1={own}\n");
            let of_family = on_loopback.iter().filter(|address| address.is_ipv4() == is_v4);
            for (address, number) in of_family.zip(2..) {
                _ = writeln!(text, "address{number}={}", alone(*address));
            }
        }
        files.push(file("/etc/NetworkManager/system-connections/lo.nmconnection", text));
    }
    // NetworkManager wants a far end for a tunnel, and has a connection for the interface already that only its tool
    // should change. So the rest is a unit of commands.
    let rest: Vec<&Step> = plan
        .steps
        .iter()
        .filter(|step| match step {
            Step::Link { .. } | Step::Route { .. } => true,
            Step::Address { interface, .. } => interface != "lo",
            Step::Sysctl { .. } => false,
        })
        .collect();
    if !rest.is_empty() {
        let mut text = "[Unit]\nDescription=Tunnels and routes of a real server\n\
                        Wants=network-online.target\nAfter=network-online.target\n\n\
                        [Service]\nType=oneshot\nRemainAfterExit=yes\n"
            .to_owned();
        for step in rest {
            _ = writeln!(text, "ExecStart=/usr/sbin/{step}");
        }
        text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
        files.push(file("/etc/systemd/system/director-realserver.service", text));
    }
    files
}

fn networkd(plan: &Plan) -> Vec<PlannedFile> {
    let mut files = Vec::new();
    for name in interfaces(plan) {
        let mut text = String::new();
        let routes: Vec<&Step> = plan
            .steps
            .iter()
            .filter(|step| matches!(step, Step::Route { .. }) && is_at(step, name))
            .collect();
        let is_own = routes.is_empty();
        if is_own {
            _ = write!(text, "[Match]\nName={name}\n");
        } else {
            // The interface has a file already, and only the first one that matches counts.
            _ = writeln!(
                text,
                "# This folder must be named after the file that `networkctl status {name}` calls Network File."
            );
        }
        for address in addresses(plan, name) {
            let quiet = match address {
                IpAddr::V4(_) => "Scope=host",
                IpAddr::V6(_) => "DuplicateAddressDetection=none\nPreferredLifetime=0",
            };
            _ = write!(text, "\n[Address]\nAddress={}\n{quiet}\n", alone(address));
        }
        for step in routes {
            if let Step::Route { gateway, .. } = step {
                _ = write!(text, "\n[Route]\nGateway={gateway}\n");
                if gateway.is_ipv6() {
                    text.push_str("Metric=1\n");
                }
            }
        }
        files.push(if is_own {
            file(format!("/etc/systemd/network/10-director-{name}.network"), text)
        } else {
            file(format!("/etc/systemd/network/{name}.network.d/director-realserver.conf"), text)
        });
    }
    files
}

/// The program that must run beside, as a unit.
fn unit(plan: &Plan) -> Option<PlannedFile> {
    let (program, arguments) = plan.beside.as_ref()?.split_first()?;
    let text = format!(
        "[Unit]\nDescription=Takes packets of a director out of their tunnels\n\
         Wants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nExecStart=/usr/bin/{program} {}\nRestart=on-failure\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        arguments.join(" ")
    );
    Some(file("/etc/systemd/system/director-decap.service", text))
}

fn addresses(plan: &Plan, at: &str) -> Vec<IpAddr> {
    let address = |step: &Step| match step {
        Step::Address { interface, address } if interface == at => Some(*address),
        Step::Link { .. } | Step::Sysctl { .. } | Step::Address { .. } | Step::Route { .. } => None,
    };
    plan.steps.iter().filter_map(address).collect()
}

/// As a prefix of its own.
fn alone(address: IpAddr) -> String {
    format!("{address}/{}", whole(address))
}
