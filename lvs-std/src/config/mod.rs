//! The configuration of a director: from a file's text to typed values, or an error with its place.
//!
//! ```text
//! text --toml--> raw::File --read--> Configuration --describe--> what it means, in words
//!                (every key)         (typed, checked)  --runtime--> a director at work
//! ```
//!
//! Two steps read a file: `raw` takes every key as it is written, `read` gives the keys their meaning. The rules
//! for services and real servers are those of `lvs-core` itself: they are added to a director that forwards nothing,
//! and its refusals become errors. A program may build a [`Configuration`] by code instead; the same refusals come
//! then when it is put to work.
//!
//! ```
//! use lvs_std::config::Configuration;
//! let text = "[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\"]\n";
//! assert_eq!(Configuration::parse(text)?.interfaces[0].name, "eth0");
//!
//! let error = Configuration::parse(&text.replace("addresses", "adresses")).unwrap_err();
//! assert_eq!(error.to_string(), "3:1: unknown key `adresses`; did you mean `addresses`?");
//! # Ok::<(), lvs_std::config::ConfigError>(())
//! ```

mod describe;
mod error;
mod interface;
#[cfg(feature = "ipvsadm")]
mod ipvsadm_rules;
mod memory;
mod raw;
mod read;
mod service;
mod source;

use core::net::IpAddr;

use lvs_core::config::{Capacity, Defence, Timeouts, Tuning, WhenFull};
use lvs_core::{Config, Seed, ServiceKey};
use lvs_forward::host::HostSizes;
use lvs_forward::{Options, PortId, PortSet};

use crate::control::sysctl;
use crate::control::{Durability, ServeOptions};
use crate::device::mark::MarkRule;
use crate::steering::By;

pub use describe::describe_method;
pub use error::{ConfigError, Shown};
pub use interface::{DeviceKind, Interface, Mac, Route};
#[cfg(feature = "ipvsadm")]
pub use ipvsadm_rules::{ConvertError, is_saved, services_of_saved};
pub use memory::RequiredMemory;
pub use service::{ServiceHealth, VirtualService};
pub use source::{ConfigSource, ReadError};

/// Everything that a director is told before it starts.
///
/// [`Configuration::parse`] makes one from a file's text. [`Configuration::new`] makes one by code:
///
/// ```
/// use lvs_core::{Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey};
/// use lvs_std::config::{Configuration, Interface, VirtualService};
///
/// let mut configuration = Configuration::new(vec![Interface::new("eth0").with_address("10.0.1.254".parse()?, 24)]);
/// let web = ServiceKey::tcp("192.0.2.100".parse()?, 80);
/// let mut service = VirtualService::new(web, ServiceConfig::new(Scheduler::default()));
/// service.servers.push(ServerConfig::new("10.0.1.11:80".parse()?, Method::Nat));
/// configuration.add_service(service);
/// assert_eq!(configuration.virtual_addresses, ["192.0.2.100".parse::<std::net::IpAddr>()?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Configuration {
    /// The director's ports, in order: the first one is port 0.
    pub interfaces: Vec<Interface>,
    /// Virtual services with their real servers.
    pub services: Vec<VirtualService>,
    /// What the director answers for besides its interfaces' own addresses: the services' addresses and further ones.
    pub virtual_addresses: Vec<IpAddr>,
    /// Which virtual addresses the director answers for, of these and of those that come later.
    pub answer_for: AnswerFor,
    /// What becomes of the director while it can use none of its interfaces.
    pub when_no_interface: WhenNoInterface,
    /// Whether programs of this machine reach virtual addresses that the machine does not have itself, as clients.
    /// Their packets are led to the director by a routing rule (`ip rule`) and a table of routes, one for each
    /// service's address, by a TUN interface that all of it ends with. Default false.
    pub local_clients: bool,
    /// What frames are marked by, for services by mark.
    pub marks: Vec<MarkRule>,
    /// Capacity of the connection table, all workers together. Default 65,536.
    pub connections: usize,
    /// How much else there can be.
    pub sizes: Sizes,
    /// The threads that forward packets.
    pub workers: Workers,
    /// When a command is acknowledged. By default when it survives the end of the process.
    pub durability: Durability,
    /// The group whose members may command the director, besides the superuser and the user that it runs as.
    pub control_group: Option<u32>,
    /// Steps a second that a process may have at each control socket ([`ServeOptions::rate`]).
    pub control_rate: Option<u32>,
    /// How long idle connections stay.
    pub timeouts: Timeouts,
    /// What happens to a new connection when the connection table is full.
    pub when_full: WhenFull,
    /// The switches below `net.ipv4.vs` that belong to decisions.
    pub tuning: Tuning,
    /// The forwarder's options, with [`reject`](Options::reject) on by default, and with the ICMP rate of all workers
    /// together. Among them is the one switch below `net.ipv4.vs` that belongs to the forwarder, `pmtu_disc`.
    pub options: Options,
}

/// Which virtual addresses a director answers for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every policy")]
pub enum AnswerFor {
    /// Only the addresses of the configuration.
    Configured,
    /// The addresses of the configuration, and those of services that are added while the director runs.
    #[default]
    Services,
    /// Addresses of the configuration and of services, as far as this machine has them on an interface: VRRP gives
    /// them to the active director's machine.
    Host,
}

/// How much there can be of what a director is told or finds out, besides connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Virtual services. Default 20,000.
    pub services: usize,
    /// Real servers of all services, sorry servers and removed ones that still have connections included. Default
    /// 100,000.
    pub servers: usize,
    /// Own and virtual addresses. Default 20,000.
    pub addresses: usize,
    /// Hosts and routers on the links of the director whose link-layer addresses it knows or asks for. Default 16,384.
    pub neighbours: usize,
    /// Bytes that the look-up tables of schedulers may take in each worker: 1 KiB for a service with `sh` or `dh`, 16
    /// KiB with `mh`, 772 KiB with `lblc`, 1,348 KiB with `lblcr`. Default 1 GiB.
    pub tables: usize,
}

impl Sizes {
    /// The sizes of the hosts that the workers are on the wire.
    #[must_use]
    pub const fn host(&self) -> HostSizes {
        HostSizes { addresses: self.addresses, neighbours: self.neighbours, ..HostSizes::new() }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        let HostSizes { addresses, neighbours, .. } = HostSizes::new();
        Self { services: 20_000, servers: 100_000, addresses, neighbours, tables: 1 << 30 }
    }
}

/// What becomes of a director that can use none of its interfaces: all are gone, down, without a carrier or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every policy")]
pub enum WhenNoInterface {
    /// The director waits until one is there.
    #[default]
    Wait,
    /// The director ends with an error when that has lasted for 5 seconds, so that whoever watches it learns of it.
    Exit,
}

/// The threads that forward packets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workers {
    /// How many workers there are, each with a part of the connections. Default 1, at most
    /// [`Steer::MOST`](crate::steering::Steer::MOST).
    pub count: usize,
    /// The processor of each worker; empty, the default, if they may run anywhere.
    pub cpus: Vec<usize>,
    /// Whether workers never wait, which takes a whole processor each. Default false.
    pub busy_poll: bool,
    /// Whether bulk transfers may pass the workers by inside the kernel. Default true.
    pub offload: bool,
    /// What tells clients apart for several workers. Default [`By::Endpoint`].
    pub by: By,
}

impl Default for Workers {
    fn default() -> Self {
        Self { count: 1, cpus: Vec::new(), busy_poll: false, offload: true, by: By::Endpoint }
    }
}

impl Configuration {
    /// A director at these interfaces, without services, with the defaults of IPVS.
    #[must_use]
    pub fn new(interfaces: Vec<Interface>) -> Self {
        let Config { timeouts, when_full, tuning, .. } = Config::new(NO_SEED);
        let mut options = Options::new();
        // No stack is behind a director's ports, so that nobody else would answer for a closed port.
        options.reject = true;
        Self {
            interfaces,
            services: Vec::new(),
            virtual_addresses: Vec::new(),
            answer_for: AnswerFor::default(),
            when_no_interface: WhenNoInterface::Wait,
            local_clients: false,
            marks: Vec::new(),
            connections: DEFAULT_CONNECTIONS,
            sizes: Sizes::default(),
            workers: Workers::default(),
            durability: Durability::default(),
            control_group: None,
            control_rate: Some(ServeOptions::RATE),
            timeouts,
            when_full,
            tuning,
            options,
        }
    }

    /// Reads and checks a file's text.
    ///
    /// # Errors
    /// The first fault, with its place in the text and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        read::configuration(text)
    }

    /// Adds a service, and its address to the virtual addresses unless an interface has it as its own.
    pub fn add_service(&mut self, service: VirtualService) {
        if let ServiceKey::Address { address, .. } = service.key
            && !self.own_addresses().any(|own| own == address)
            && !self.virtual_addresses.contains(&address)
        {
            self.virtual_addresses.push(address);
        }
        self.services.push(service);
    }

    /// Whether another configuration has the same time-outs, switches and virtual addresses.
    #[must_use]
    pub fn has_settings_of(&self, other: &Self) -> bool {
        let settings = |of: &Self| (of.timeouts, of.when_full, of.tuning, of.options);
        settings(self) == settings(other) && self.virtual_addresses == other.virtual_addresses
    }

    /// What another configuration changes that only a new start can change.
    #[must_use]
    pub fn needs_restart_for(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            (self.interfaces != other.interfaces, "interfaces"),
            (self.marks != other.marks, "marks"),
            (self.connections != other.connections, "connections"),
            (self.sizes != other.sizes, "sizes"),
            (self.answer_for != other.answer_for, "answer-for"),
            (self.when_no_interface != other.when_no_interface, "when-no-interface"),
            (self.local_clients != other.local_clients, "local-clients"),
            (self.workers != other.workers, "workers"),
            (self.control_group != other.control_group, "control-group"),
            (self.control_rate != other.control_rate, "control-rate"),
        ];
        parts.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| what).collect()
    }

    /// Whether a defence depends on how much memory is left.
    #[must_use]
    pub fn watches_memory(&self) -> bool {
        let Tuning { drop_entry, drop_packet, secure_tcp, .. } = self.tuning;
        [drop_entry, drop_packet, secure_tcp].contains(&Defence::Automatic)
    }

    /// Capacity of each worker's part of the connection table. Several workers get an eighth more than their share,
    /// since chance does not share clients out evenly.
    #[must_use]
    pub const fn connections_each(&self) -> usize {
        match self.workers.count {
            0 | 1 => self.connections,
            workers => self.connections.saturating_add(self.connections.div_ceil(8)).div_ceil(workers),
        }
    }

    /// How much each worker's tables hold.
    #[must_use]
    pub const fn capacity_each(&self) -> Capacity {
        let mut capacity = Capacity::new(self.connections_each());
        (capacity.services, capacity.servers) = (self.sizes.services, self.sizes.servers);
        capacity.tables = self.sizes.tables;
        capacity
    }

    /// The addresses that the director has from the start: its own, and the virtual ones unless it waits for this
    /// machine to have them.
    #[must_use]
    pub fn initial_addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.own_addresses().collect();
        // What depends on the machine's addresses is given by whoever follows them, and announced then.
        if self.answer_for != AnswerFor::Host {
            addresses.extend(&self.virtual_addresses);
        }
        addresses
    }

    fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.interfaces.iter().flat_map(|interface| &interface.addresses).map(|(address, _)| *address)
    }

    /// The core's configuration, with chance and hash keys from `seed`.
    #[must_use]
    pub fn core(&self, seed: Seed) -> Config {
        let mut config = Config::new(seed);
        config.timeouts = self.timeouts;
        config.when_full = self.when_full;
        config.tuning = self.tuning;
        config
    }

    /// The ports at which the machine's own stack sees the director's frames too: packet sockets at an interface with
    /// its own MAC address. Where `device = "auto"` is still open, it is taken to come to packet sockets.
    fn shared_ports(&self) -> PortSet {
        let numbered = self
            .interfaces
            .iter()
            .zip(0..)
            .filter(|(interface, _)| interface.mac == Mac::Same && interface.device != DeviceKind::Xdp);
        numbered.fold(PortSet::NONE, |ports, (_, at)| ports.with(PortId(at)))
    }

    /// The forwarder's options of each worker.
    #[must_use]
    pub fn options_each(&self) -> Options {
        let mut options = self.options;
        options.shared = self.shared_ports();
        options.icmp_rate = sysctl::worker_share(options.icmp_rate, self.workers.count);
        options
    }
}

/// For a director that only tries what it is given: nothing of it is random.
const NO_SEED: Seed = Seed::from_bytes([0; 16]);
const DEFAULT_CONNECTIONS: usize = 1 << 16;

#[cfg(test)]
mod tests;
