//! What the machine lacks, before anything is changed.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use lvs_core::Family;
use rustix::thread::{CapabilitySet, capabilities};

use super::error::RealServerError;
use super::machine::{Kernel, Machine as _, Now, holders};
use super::plan::Plan;
use super::step::Step;
use crate::sys::interface::Inquirer;
use crate::sys::rtnetlink::whole;

/// Finds everything that a plan needs, as far as it can be seen without a change.
pub(super) fn check(plan: &Plan, kernel: &mut Kernel) -> Result<(), RealServerError> {
    may_configure()?;
    let mut lacks = Vec::new();
    let made: Vec<&str> = plan
        .steps
        .iter()
        .filter_map(|step| if let Step::Link { name, .. } = step { Some(name.as_str()) } else { None })
        .collect();
    if let Some(name) = &plan.interface {
        need_link(name, kernel, &mut lacks)?;
    }
    let mut settings = Vec::new();
    for step in &plan.steps {
        let (interface, family) = match step {
            Step::Link { .. } => continue,
            Step::Sysctl { interface, name, .. } => {
                let absent = plan.interface.as_ref() == Some(interface) && !lacks.is_empty();
                if !made.contains(&interface.as_str()) && !absent {
                    settings.push((step, Step::file(interface, name)));
                }
                continue;
            }
            Step::Address { interface, address } => (Some(interface), Family::of(*address)),
            Step::Route { gateway, interface } => (interface.as_ref(), Family::of(*gateway)),
        };
        let interface = interface.filter(|name| !made.contains(&name.as_str()));
        if let Some(name) = interface {
            need_link(name, kernel, &mut lacks)?;
        }
        if family == Family::V6 {
            need_ipv6(interface.map_or("all", String::as_str), &mut lacks);
        }
    }
    for (step, file) in settings {
        // What is so already need not be written.
        if kernel.look(step).map_err(RealServerError::netlink)? == Now::AsWanted {
            continue;
        }
        if let Err(error) = OpenOptions::new().write(true).open(&file) {
            lacks.push(format!("{file} cannot be written: {error}"));
        }
    }
    where_else(plan, kernel, &mut lacks)?;
    lacks.dedup();
    if lacks.is_empty() { Ok(()) } else { Err(RealServerError::Lacks(lacks)) }
}

/// Whether the process may change the network's configuration.
pub(super) fn may_configure() -> Result<(), RealServerError> {
    let held = capabilities(None).map_err(|error| RealServerError::Netlink(error.into()))?;
    if held.effective.contains(CapabilitySet::NET_ADMIN) {
        return Ok(());
    }
    Err(RealServerError::Lacks(vec!["the capability CAP_NET_ADMIN is missing: run this as root".to_owned()]))
}

fn need_link(name: &str, kernel: &mut Kernel, lacks: &mut Vec<String>) -> Result<(), RealServerError> {
    match kernel.netlink().find_link(name).map_err(RealServerError::netlink)? {
        None => lacks.push(format!("there is no interface {name}")),
        Some(link) if !link.up => lacks.push(format!("{name} is down: `ip link set {name} up`")),
        Some(_) => {}
    }
    Ok(())
}

fn need_ipv6(interface: &str, lacks: &mut Vec<String>) {
    let file = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    if !Path::new(&file).exists() {
        lacks.push("this kernel has no IPv6".to_owned());
    } else if fs::read_to_string(&file).is_ok_and(|value| value.trim() != "0") {
        let name = interface.replace('.', "/");
        lacks.push(format!("{interface} has no IPv6: `sysctl -w net.ipv6.conf.{name}.disable_ipv6=0`"));
    }
}

/// A virtual address in another place than the one that is planned would be answered for, or lead astray.
fn where_else(plan: &Plan, kernel: &mut Kernel, lacks: &mut Vec<String>) -> Result<(), RealServerError> {
    let fail = |error: io::Error| RealServerError::netlink(error);
    let inquirer = Inquirer::open().map_err(fail)?;
    let mut places = Vec::new();
    for step in &plan.steps {
        let Step::Address { interface, .. } = step else { continue };
        if let Some(link) = kernel.netlink().find_link(interface).map_err(fail)? {
            places.push(link.index);
        }
    }
    for (index, address, length) in holders(kernel, &plan.addresses).map_err(fail)? {
        let name = inquirer.name_of(index).map_err(fail)?.unwrap_or_else(|| format!("interface {index}"));
        let remove = format!("`ip address delete {address}/{length} dev {name}`");
        if length != whole(address) {
            lacks.push(format!(
                "{address} is on {name} with a prefix of {length} bits, which draws its neighbours' addresses there: \
                 {remove}"
            ));
        } else if !places.contains(&index) && name != "lo" {
            lacks.push(format!("{address} is on {name}, where this machine answers for it: {remove}"));
        }
    }
    Ok(())
}
