//! The director of a scenario, in memory: its ports are lists of frames, and its time is counted.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::{
    Config, Connection, Director, Family, Protocol, Schedule as _, Scheduler, SchedulerOf, Seed, Service,
    ServiceKey, Store, Template, TemplateTarget, Tick,
};
use lvs_forward::fragments::Fragments;
use lvs_forward::ftp::Controls;
use lvs_forward::host::{Host, Port, Prefix};
use lvs_forward::output::pieces;
use lvs_forward::parse::Link;
use lvs_forward::{DropReason, Forwarder, Frame, HEADROOM, Options, Outcome, PortId};
use lvs_std::device::mark::{MarkRule, mark};

use super::compare::Sent;
use super::scenario::{ConnectionRow, Hex, ServerRow, ServiceName, ServiceRow, Setup, prefix};
use super::sysctl;
use crate::ipvsadm::{self, Numeric, control};

/// A director with everything around it.
pub(super) struct Lab<S: Store> {
    director: Director<S>,
    forwarder: Box<Forwarder>,
    ports: Vec<String>,
    marks: Vec<MarkRule>,
    now: Tick,
}

/// A frame that comes in.
pub(super) struct Input<'a> {
    pub(super) port: &'a str,
    pub(super) bytes: &'a [u8],
}

impl<S> Lab<S>
where
    S: Store,
    SchedulerOf<S>: From<Scheduler>,
{
    /// Sets the director up.
    pub(super) fn new(setup: &Setup, store: S) -> Result<Self, String> {
        let seed = Seed::from_bytes(SEED);
        let mut host: Host = Host::new(seed);
        let mut ports = Vec::new();
        for (name, port) in &setup.ports {
            let id = host
                .add_port(Port::ethernet(port.mac, port.mtu))
                .map_err(|error| format!("port {name}: {error}"))?;
            ports.push(name.clone());
            for text in &port.addrs {
                let (address, len) = prefix(text).ok_or_else(|| no_address(text))?;
                host.add_address(id, address, len).map_err(|error| format!("address {text}: {error}"))?;
            }
        }
        for text in &setup.vips {
            let (address, _) = prefix(text).ok_or_else(|| no_address(text))?;
            host.add_virtual_address(address).map_err(|error| format!("address {text}: {error}"))?;
        }
        for route in &setup.routes {
            let (address, len) = prefix(&route.dst).ok_or_else(|| no_address(&route.dst))?;
            let prefix = Prefix::new(address, len).ok_or_else(|| no_address(&route.dst))?;
            host.add_route(prefix, Some(route.via), port_id(&ports, &route.port)?)
                .map_err(|error| format!("route to {}: {error}", route.dst))?;
        }
        for neighbour in &setup.neigh {
            host.add_neighbour(port_id(&ports, &neighbour.port)?, neighbour.ip, neighbour.mac)
                .map_err(|error| format!("neighbour {}: {error}", neighbour.ip))?;
        }
        let mut options = Options::new();
        options.refuse = true;
        options.icmp_rate = 0;
        let mut lab = Self {
            director: Director::new(Config::new(seed), store),
            forwarder: Box::new(
                Forwarder::new(host, options)
                    .with_fragments(Fragments::with_room(FRAGMENTS))
                    .with_ftp(Controls::with_room(CONTROLS)),
            ),
            ports,
            marks: setup.marks.iter().map(mark_rule).collect::<Result<_, _>>()?,
            now: Tick::ZERO,
        };
        for (key, value) in &setup.sysctl {
            lab.sysctl(key, value)?;
        }
        Ok(lab)
    }

    /// Lets time pass, and everything end that is due; what leaves meanwhile.
    pub(super) fn pass(&mut self, millis: u64) -> Vec<Sent> {
        let mut out = Vec::new();
        let mut left = millis;
        while left > 0 {
            let step = left.min(TICK_MILLIS);
            left -= step;
            self.now = self.now.plus_millis(step);
            self.director.sweep(self.now, usize::MAX);
            self.poll(&mut out);
        }
        out
    }

    /// Turns a switch.
    pub(super) fn sysctl(&mut self, key: &str, value: &str) -> Result<(), String> {
        let mut config = self.director.config().clone();
        let mut options = *self.forwarder.options();
        sysctl::set(&mut config.tuning, &mut options, key, value)?;
        self.director.set_config(config);
        self.forwarder.set_options(options);
        Ok(())
    }

    /// Carries out a call of ipvsadm; its exit status, and what it says.
    pub(super) fn ipvsadm(&mut self, line: &str) -> (i32, Option<String>) {
        let command = match ipvsadm::parse(line.split_whitespace(), &Numeric) {
            Ok(command) => command,
            Err(error) => return (error.status().into(), Some(error.to_string())),
        };
        match control::carry_out(&mut self.director, &command) {
            Ok(()) => (0, None),
            Err(error) => (error.status().into(), Some(error.to_string())),
        }
    }

    /// Puts frames in, as one batch if there are several; what leaves because of each.
    pub(super) fn frames(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Vec<Sent>>, String> {
        let mut buffers: Vec<Vec<u8>> = inputs
            .iter()
            .map(|input| [[0xaa; HEADROOM].as_slice(), input.bytes, &[0xaa; TAILROOM]].concat())
            .collect();
        let mut frames = Vec::new();
        for (input, buffer) in inputs.iter().zip(&mut buffers) {
            let port = port_id(&self.ports, input.port)?;
            let frame = Frame::new(buffer, HEADROOM, HEADROOM + input.bytes.len(), port);
            let mut frame = frame.ok_or("a frame is longer than its buffer")?;
            mark(&mut frame, Link::Ethernet, &self.marks);
            frames.push(frame);
        }
        let mut outcomes = vec![Outcome::Drop(DropReason::Malformed); frames.len()];
        match (frames.as_mut_slice(), outcomes.as_mut_slice()) {
            ([frame], [outcome]) => {
                *outcome = self.forwarder.process(&mut self.director, self.now, frame);
            }
            (frames, outcomes) => {
                self.forwarder.process_batch(&mut self.director, self.now, frames, outcomes);
            }
        }
        let mut all = Vec::new();
        for (frame, outcome) in frames.iter_mut().zip(outcomes) {
            let mut out = Vec::new();
            match outcome {
                Outcome::Send => out.push(self.sent(frame)),
                Outcome::SendPieces(cut) => {
                    let done = pieces(frame, Link::Ethernet, cut, &mut |piece| out.push(self.sent(&piece)));
                    done.map_err(|reason| format!("a frame cannot be cut: {}", reason.name()))?;
                }
                Outcome::Assembled(datagram) => {
                    if let Some(mut taken) = self.forwarder.take(datagram)
                        && let Outcome::SendPieces(_) | Outcome::Send = taken.outcome
                    {
                        let cut = taken.outcome.cut();
                        let frame = &mut taken.frame;
                        let ports = &self.ports;
                        let done =
                            pieces(frame, Link::Ethernet, cut, &mut |piece| out.push(sent(ports, &piece)));
                        done.map_err(|reason| format!("a datagram cannot be cut: {}", reason.name()))?;
                    }
                }
                Outcome::Consumed | Outcome::Drop(_) | Outcome::Pass(_) => {}
            }
            all.push(out);
        }
        if let Some(last) = all.last_mut() {
            self.poll(last);
        }
        Ok(all)
    }

    /// What the tables hold.
    pub(super) fn snapshot(&self) -> (Vec<ServiceRow>, Vec<ConnectionRow>) {
        let services = self.director.services().map(|service| self.service(service)).collect();
        let connections = self.director.connections(self.now).map(|connection| row(&connection));
        let templates = self.director.templates(self.now).map(|template| template_row(&template));
        (services, connections.chain(templates).collect())
    }

    fn service(&self, service: &Service<SchedulerOf<S>>) -> ServiceRow {
        let (proto, addr) = match service.key() {
            ServiceKey::Address { protocol, address, port } => {
                (protocol.to_string(), ServiceName::Address(SocketAddr::new(address, port).to_string()))
            }
            ServiceKey::Mark { mark, .. } => ("FWM".to_owned(), ServiceName::Mark(mark)),
        };
        let servers = self.director.servers(service.key()).map(|(_, server)| ServerRow {
            addr: server.address().to_string(),
            fwd: server.method().to_string(),
            weight: server.weight(),
            active: server.active(),
            inactive: server.inactive(),
        });
        ServiceRow {
            proto,
            addr,
            sched: service.scheduler().name().to_owned(),
            flags: flags(service),
            servers: servers.collect(),
        }
    }

    /// Takes what the director as a host has to send.
    fn poll(&mut self, out: &mut Vec<Sent>) {
        let mut buffer = vec![0; HEADROOM + 2_048];
        while let Some(frame) = self.forwarder.poll_transmit(self.now, &mut buffer) {
            let sent = Sent { port: port_name(&self.ports, frame.port), hex: Hex(frame.bytes().to_vec()) };
            out.push(sent);
        }
    }

    fn sent(&self, frame: &Frame<'_>) -> Sent {
        sent(&self.ports, frame)
    }
}

fn sent(ports: &[String], frame: &Frame<'_>) -> Sent {
    Sent { port: port_name(ports, frame.port), hex: Hex(frame.bytes().to_vec()) }
}

fn row(connection: &Connection) -> ConnectionRow {
    ConnectionRow {
        proto: connection.flow.protocol.to_string(),
        c: connection.flow.source().to_string(),
        v: connection.flow.destination().to_string(),
        d: connection.destination.to_string(),
        state: connection.state.to_string(),
        expires: connection.expires_in / 1_000,
    }
}

fn template_row(template: &Template<'_>) -> ConnectionRow {
    let (proto, v) = match template.target {
        TemplateTarget::Address { protocol, address } => (protocol.to_string(), address),
        // As the kernel has it: the mark instead of an address.
        TemplateTarget::Mark(mark) => ("IP".to_owned(), mark_address(mark, template.client)),
    };
    ConnectionRow {
        proto,
        c: SocketAddr::new(template.client, 0).to_string(),
        v: v.to_string(),
        d: template.destination.to_string(),
        state: if template.assured { "ASSURED" } else { "NONE" }.to_owned(),
        expires: template.expires_in / 1_000,
    }
}

fn mark_address(mark: u32, client: IpAddr) -> SocketAddr {
    let address = match client {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(mark)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::from(mark) << 96)),
    };
    SocketAddr::new(address, 0)
}

/// What a listing says of a service after its scheduler.
fn flags<P>(service: &Service<P>) -> String {
    let mut words = Vec::new();
    if let Some(persistence) = service.persistence() {
        words.push(format!("persistent {}", persistence.timeout));
        match (persistence.mask, service.key().family()) {
            (None, _) => {}
            (Some(len), Family::V4) => {
                let bits = u32::MAX.checked_shl(32_u32.saturating_sub(len.into())).unwrap_or(0);
                words.push(format!("mask {}", Ipv4Addr::from_bits(bits)));
            }
            (Some(len), Family::V6) => words.push(format!("mask {len}")),
        }
    }
    if service.one_packet() {
        words.push("ops".to_owned());
    }
    words.join(" ")
}

fn mark_rule(setup: &super::scenario::MarkSetup) -> Result<MarkRule, String> {
    let (address, len) = prefix(&setup.dst).ok_or_else(|| no_address(&setup.dst))?;
    let destination = Prefix::new(address, len).ok_or_else(|| no_address(&setup.dst))?;
    let protocol = match setup.proto.as_deref() {
        None => None,
        Some("tcp") => Some(Protocol::Tcp),
        Some("udp") => Some(Protocol::Udp),
        Some("sctp") => Some(Protocol::Sctp),
        Some(other) => return Err(format!("`{other}` cannot be marked: expected tcp, udp or sctp")),
    };
    let ports = setup.port.map_or(0..=u16::MAX, |port| port..=port);
    Ok(MarkRule { mark: setup.mark, protocol, destination, ports })
}

fn port_id(ports: &[String], name: &str) -> Result<PortId, String> {
    let at = ports.iter().position(|port| port == name).and_then(|at| u8::try_from(at).ok());
    at.map(PortId).ok_or_else(|| format!("the director has no port `{name}`"))
}

fn port_name(ports: &[String], port: PortId) -> String {
    ports.get(usize::from(port.0)).cloned().unwrap_or_default()
}

fn no_address(text: &str) -> String {
    format!("`{text}` is no address with a prefix length")
}

/// Everything by chance depends on this: what a scenario shows must not.
const SEED: [u8; 16] = [7; 16];
/// How often a director looks at its clock while nothing comes in.
const TICK_MILLIS: u64 = 20;
/// Room after a frame: for what a helper adds to it.
const TAILROOM: usize = 256;
/// Datagrams that may be in the making at a time.
const FRAGMENTS: usize = 16;
/// FTP control connections that may be in passive mode.
const CONTROLS: usize = 64;
