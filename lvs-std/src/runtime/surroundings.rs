//! What of this machine and of its networks gets in the director's way: looked for at the start and from then on, and
//! said until it is over.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use lvs_forward::host::{Conflict, MacAddress};

use super::RuntimeGroup;
use super::problems::{Findings, Part, Problems};
use crate::config::{Interface, Mac};

/// Looks at the surroundings.
pub(super) struct Surroundings {
    group: RuntimeGroup,
    interfaces: Vec<Interface>,
    said: Findings,
    looked: Option<Instant>,
}

impl Surroundings {
    pub(super) fn new(group: RuntimeGroup, problems: Problems, interfaces: Vec<Interface>) -> Self {
        Self { group, interfaces, said: Findings::new(problems), looked: None }
    }

    /// Looks around, once a second, in the network namespace of this thread. `macs` are the MAC addresses of the
    /// machine's interfaces.
    pub(super) fn look(&mut self, macs: &BTreeMap<String, [u8; 6]>) {
        if self.looked.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        self.looked = Some(Instant::now());
        let Ok(conflicts) = self
            .group
            .with_first(|_, forwarder, now| forwarder.host().conflicts(now).collect::<Vec<Conflict>>())
        else {
            return;
        };
        let mut found = BTreeMap::new();
        for conflict in &conflicts {
            let at =
                self.interfaces.get(usize::from(conflict.port.0)).map_or_else(String::new, Interface::title);
            let why = format!(
                "another host on {at} has it as well, with the MAC address {}: each takes the other's packets until \
                 one of them has it no more",
                conflict.mac
            );
            found.insert(Part::Address(conflict.address), why);
        }
        for of in &self.interfaces {
            if let (Mac::Is(mac), Some(machine)) = (of.mac, macs.get(&of.name))
                && mac == MacAddress(*machine)
            {
                found.insert(
                    Part::Machine(format!("MAC address on {}", of.name)),
                    format!(
                        "the director's {mac} is the machine's own, so the kernel takes the director's packets too: \
                         write mac = \"same\", which keeps them from it{}",
                        forwarded(&of.name)
                    ),
                );
            }
        }
        self.said.set(found);
    }
}

/// What a kernel does besides that takes the director's packets on an interface, if it forwards: half a sentence.
pub(super) fn forwarded(interface: &str) -> String {
    let mut on = Vec::new();
    for setting in ["ipv4/conf", "ipv6/conf"] {
        // A name of an interface has no slash, so that the path stays where it should.
        let path = format!("/proc/sys/net/{setting}/{interface}/forwarding");
        // What cannot be read is not said.
        if fs::read_to_string(path).is_ok_and(|value| value.trim() != "0") {
            on.push(format!("net.{}.{interface}.forwarding", setting.replace('/', ".")));
        }
    }
    match on.is_empty() {
        true => String::new(),
        false => format!("; as it forwards ({}), it also sends on what real servers answer", on.join(", ")),
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
