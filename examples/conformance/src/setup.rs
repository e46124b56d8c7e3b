//! The director that a scenario describes, as the libraries want it.

use lvs_core::{Config, Protocol, Seed};
use lvs_forward::host::{Host, Port};
use lvs_forward::{Options, PortId};
use lvs_std::device::mark::MarkRule;

use crate::scenario::{MarkSetup, Setup, prefix};
use crate::sysctl;

impl Setup {
    /// The names of its ports, in order.
    pub fn port_names(&self) -> Vec<String> {
        self.ports.keys().cloned().collect()
    }

    /// The director's host, with all ports, addresses, routes and neighbours.
    pub fn host(&self, seed: Seed) -> Result<Box<Host>, String> {
        let mut host = Box::new(Host::new(seed));
        let names = self.port_names();
        for (name, port) in &self.ports {
            let id = host
                .add_port(Port::ethernet(port.mac, port.mtu))
                .map_err(|error| format!("port {name}: {error}"))?;
            for text in &port.addrs {
                let own = prefix(text).ok_or_else(|| no_address(text))?;
                host.add_address(id, own.address(), own.len())
                    .map_err(|error| format!("address {text}: {error}"))?;
            }
        }
        for text in &self.vips {
            let own = prefix(text).ok_or_else(|| no_address(text))?;
            host.add_virtual_address(own.address()).map_err(|error| format!("address {text}: {error}"))?;
        }
        for route in &self.routes {
            let to = prefix(&route.dst).ok_or_else(|| no_address(&route.dst))?;
            host.add_route(to, Some(route.via), port_id(&names, &route.port)?)
                .map_err(|error| format!("route to {}: {error}", route.dst))?;
        }
        for neighbour in &self.neigh {
            host.add_neighbour(port_id(&names, &neighbour.port)?, neighbour.ip, neighbour.mac)
                .map_err(|error| format!("neighbour {}: {error}", neighbour.ip))?;
        }
        Ok(host)
    }

    /// Core's and forwarder's settings. The host refuses what it does not serve, as the recorded one did.
    pub fn settings(&self, seed: Seed) -> Result<(Config, Options), String> {
        let (mut config, mut options) = (Config::new(seed), Options::new());
        options.reject = true;
        options.icmp_rate = 0;
        for (key, value) in &self.sysctl {
            sysctl::set(&mut config.tuning, &mut options, key, value)?;
        }
        Ok((config, options))
    }

    /// What gives packets a mark.
    pub fn mark_rules(&self) -> Result<Vec<MarkRule>, String> {
        self.marks.iter().map(rule).collect()
    }
}

fn rule(setup: &MarkSetup) -> Result<MarkRule, String> {
    let destination = prefix(&setup.dst).ok_or_else(|| no_address(&setup.dst))?;
    let protocol = setup.proto.as_deref().map(str::parse::<Protocol>).transpose();
    let protocol = protocol.map_err(|error| format!("no protocol of a mark: {error}"))?;
    let ports = setup.port.map_or(0..=u16::MAX, |port| port..=port);
    Ok(MarkRule { mark: setup.mark, protocol, destination, ports })
}

/// A port by its name.
pub(crate) fn port_id(ports: &[String], name: &str) -> Result<PortId, String> {
    let at = ports.iter().position(|port| port == name).and_then(|at| u8::try_from(at).ok());
    at.map(PortId).ok_or_else(|| format!("the director has no port `{name}`"))
}

fn no_address(text: &str) -> String {
    format!("`{text}` is no address with a prefix length")
}
