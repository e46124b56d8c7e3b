//! The checks: one file and one line in the list each.

mod address;
mod arp;
mod capability;
mod check_target;
mod decapsulation;
mod descriptors;
mod disk;
mod gateway;
mod interface;
mod mtu;
mod netmask;
mod rp_filter;
mod second_director;
mod server;

use super::finding::Finding;
use super::patient::Patient;

/// What a check looks at, and with which function.
enum Look {
    /// At the machine and the configuration. Nobody can be asked while something like this is missing.
    Basic(fn(&Patient) -> Vec<Finding>),
    /// At the machine and the configuration.
    Machine(fn(&Patient) -> Vec<Finding>),
    /// At what servers answered.
    Servers(fn(&Patient) -> Vec<Finding>),
}

/// Declares every check, the most important first.
macro_rules! checks {
    ($($name:literal => $kind:ident($check:path),)+) => {
        /// Names of all checks.
        pub(super) const NAMES: &[&str] = &[$($name),+];

        const CHECKS: &[(&str, Look)] = &[$(($name, Look::$kind($check))),+];
    };
}

checks! {
    "capability" => Basic(capability::check),
    "interface" => Basic(interface::check),
    "second-director" => Machine(second_director::check),
    "address" => Machine(address::check),
    "netmask" => Machine(netmask::check),
    "server" => Servers(server::check),
    "arp" => Servers(arp::check),
    "gateway" => Servers(gateway::check),
    "rp-filter" => Machine(rp_filter::check),
    "decapsulation" => Servers(decapsulation::check),
    "check-target" => Servers(check_target::check),
    "disk" => Machine(disk::check),
    "descriptors" => Machine(descriptors::check),
    "mtu" => Machine(mtu::check),
}

/// What is wrong with the machine and the configuration.
pub(super) fn of_machine(patient: &Patient) -> Vec<Finding> {
    let of = |(_, look): &(&str, Look)| match look {
        Look::Basic(check) | Look::Machine(check) => check(patient),
        Look::Servers(_) => Vec::new(),
    };
    CHECKS.iter().flat_map(of).collect()
}

/// What is wrong with the servers.
pub(super) fn of_servers(patient: &Patient) -> Vec<Finding> {
    let of = |(_, look): &(&str, Look)| match look {
        Look::Servers(check) => check(patient),
        Look::Basic(_) | Look::Machine(_) => Vec::new(),
    };
    CHECKS.iter().flat_map(of).collect()
}

/// Whether nobody can be asked while this check finds something.
pub(super) fn is_basic(name: &str) -> bool {
    CHECKS.iter().any(|(of, look)| *of == name && matches!(look, Look::Basic(_)))
}

/// A check's place in the list.
pub(super) fn place(name: &str) -> usize {
    NAMES.iter().position(|of| *of == name).unwrap_or(NAMES.len())
}
