//! All that checks look at, found before any of them judges.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lvs_core::{Method, ServiceKey};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::Subject;
use super::asked::Answers;
use super::wire::{self, Heard, Questions};
use crate::config::{ConfigSource, Configuration, Interface, Mac};
use crate::device::packet;
use crate::ownership::{self, Holder, OwnedInterface};
use crate::sys::interface::{self, Inquirer};
use crate::sys::rtnetlink::Netlink;

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    pub(super) source: Option<ConfigSource>,
    /// Whether this process may open packet sockets, and change the network.
    pub(super) may: (bool, bool),
    /// The interfaces of the machine, by their names.
    pub(super) links: BTreeMap<String, interface::Interface>,
    /// The addresses that the kernel has: interface, address, prefix length.
    pub(super) addresses: Vec<(String, IpAddr, u8)>,
    /// Values of settings below `/proc/sys/net/ipv4/conf`: of an interface, and by the setting's name.
    pub(super) settings: BTreeMap<(String, &'static str), String>,
    /// The interfaces by which the kernel would send to the virtual addresses to which it has a route.
    pub(super) routes: BTreeMap<IpAddr, String>,
    /// Who has the director's control socket, and its interfaces.
    pub(super) socket: Option<(PathBuf, Option<Holder>)>,
    pub(super) held: BTreeMap<String, Holder>,
    /// The folder of the state file, and the bytes that are free there for this user.
    pub(super) disk: Option<(PathBuf, u64)>,
    /// Descriptors that the director may have open: the running one, by its process, or one that is started here.
    pub(super) descriptors: (Option<u32>, Option<u64>),
    /// What servers answer. Empty until they are asked.
    pub(super) answers: Answers,
    /// What was heard on the links, by the names of the interfaces. Empty until somebody listens.
    pub(super) heard: BTreeMap<String, Heard>,
}

/// Addresses that are asked for on one link at most.
const MOST_QUESTIONS: usize = 256;

/// The settings that are looked at.
const SETTINGS: [&str; 2] = ["rp_filter", "arp_ignore"];

impl Patient {
    /// Looks at the machine of the calling thread's network namespace.
    pub(super) fn look(subject: &Subject) -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let inquirer = Inquirer::open()?;
        let held = capabilities(None)?.effective;
        let mut links = BTreeMap::new();
        let mut settings = BTreeMap::new();
        for entry in fs::read_dir("/proc/sys/net/ipv4/conf")?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            for setting in SETTINGS {
                if let Ok(value) = fs::read_to_string(entry.path().join(setting)) {
                    settings.insert((name.clone(), setting), value.trim().to_owned());
                }
            }
            // Two of the entries, `all` and `default`, are no interfaces.
            if let Some(found) = inquirer.find(&name)? {
                links.insert(name, found);
            }
        }
        let name_of = |index: u32| {
            let named = links.iter().find(|(_, link)| link.index == index);
            named.map_or_else(|| format!("interface {index}"), |(name, _)| name.clone())
        };
        let addresses: Vec<(String, IpAddr, u8)> = netlink
            .all_addresses()?
            .into_iter()
            .map(|(index, address, length)| (name_of(index), address, length))
            .collect();
        let configuration = subject.source.as_ref().map(|source| &source.configuration);
        let mut routes = BTreeMap::new();
        let mut holders = BTreeMap::new();
        if let Some(configuration) = configuration {
            for address in &configuration.virtual_addresses {
                if let Some(index) = netlink.way_to(*address)? {
                    routes.insert(*address, name_of(index));
                }
            }
            for of in &configuration.interfaces {
                if let Some(holder) = OwnedInterface::holder(&of.name)? {
                    holders.insert(of.name.clone(), holder);
                }
            }
        }
        let socket = match &subject.socket {
            Some(path) => Some((path.clone(), ownership::holder(path)?)),
            None => None,
        };
        let process = socket.as_ref().and_then(|(_, holder)| holder.as_ref()?.process);
        Ok(Self {
            source: subject.source.clone(),
            may: (held.contains(CapabilitySet::NET_RAW), held.contains(CapabilitySet::NET_ADMIN)),
            links,
            addresses,
            settings,
            routes,
            socket,
            held: holders,
            disk: subject.state.as_deref().and_then(disk),
            descriptors: (process, descriptors(process)),
            answers: Answers::default(),
            heard: BTreeMap::new(),
        })
    }

    pub(super) fn configuration(&self) -> Option<&Configuration> {
        self.source.as_ref().map(|source| &source.configuration)
    }

    /// The director's ports, if any are configured.
    pub(super) fn ports(&self) -> &[Interface] {
        self.configuration().map_or(&[], |of| &of.interfaces)
    }

    /// The port by which the director reaches an address.
    pub(super) fn port_to(&self, address: IpAddr) -> Option<&Interface> {
        self.ports().iter().find(|port| port.reaches(address))
    }

    /// The value that counts of a setting of which the kernel takes the greater one of `all` and the interface.
    pub(super) fn effective(&self, interface: &str, setting: &'static str) -> u32 {
        let of =
            |name: &str| self.settings.get(&(name.to_owned(), setting)).and_then(|value| value.parse().ok());
        of("all").unwrap_or(0).max(of(interface).unwrap_or(0))
    }

    /// What is to be asked on the links: who has the virtual addresses and the servers', and by whom servers of NAT
    /// answer.
    pub(super) fn questions(&self) -> Vec<(String, Questions)> {
        let Some(configuration) = self.configuration() else { return Vec::new() };
        let mut of_links = Vec::new();
        for port in self.ports().iter().filter(|port| port.vlan.is_none()) {
            let Some(link) = self.links.get(&port.name) else { continue };
            let servers = || {
                let all = configuration.services.iter().flat_map(|service| &service.servers);
                all.filter(|server| port.reaches(server.address.ip()) && !self.has(server.address.ip()))
            };
            let nat = servers().filter(|server| server.method == Method::Nat);
            let virtual_ones = configuration.virtual_addresses.iter().copied();
            let own = self.addresses.iter().filter(|(name, ..)| *name == port.name).map(|(_, own, _)| *own);
            let mut who = wire::v4(virtual_ones.chain(servers().map(|server| server.address.ip())));
            who.truncate(MOST_QUESTIONS);
            let questions = Questions {
                interface: (link.index, link.mac),
                own: wire::v4(own).first().copied(),
                who,
                back: wire::v4(nat.map(|server| server.address.ip())),
                gateways: wire::v4(port.addresses.iter().map(|(own, _)| *own)),
            };
            if !questions.who.is_empty() {
                of_links.push((port.name.clone(), questions));
            }
        }
        of_links
    }

    /// Whether a MAC address is this machine's or the director's on an interface.
    pub(super) fn is_own_mac(&self, name: &str, mac: [u8; 6]) -> bool {
        let configured = self.ports().iter().filter(|port| port.name == name).any(|port| match port.mac {
            Mac::Is(own) => own.0 == mac,
            Mac::Own | Mac::Same => false,
        });
        let derived = packet::own_mac(name).is_ok_and(|own| own == mac);
        configured || derived || self.links.values().any(|link| link.mac == mac)
    }

    /// A virtual address that a server serves, of its own family.
    pub(super) fn virtual_address_of(&self, server: IpAddr) -> Option<IpAddr> {
        let mut services = self.configuration()?.services.iter();
        services.find_map(|service| {
            let serves = service.servers.iter().any(|of| of.address.ip() == server);
            let ServiceKey::Address { address, .. } = service.key else { return None };
            (serves && address.is_ipv4() == server.is_ipv4()).then_some(address)
        })
    }

    /// Whether this machine has an address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|(_, own, _)| *own == address)
    }
}

/// The folder in which the state file is or will be, as far as it exists, and what is free there.
fn disk(state: &Path) -> Option<(PathBuf, u64)> {
    let folder = state.ancestors().skip(1).find(|folder| folder.is_dir())?;
    let found = rustix::fs::statvfs(folder).ok()?;
    let read_only = found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    let free = if read_only { 0 } else { found.f_bavail.saturating_mul(found.f_frsize) };
    Some((folder.to_owned(), free))
}

/// How many descriptors a process may have open, this one by default; `None` for any number.
fn descriptors(process: Option<u32>) -> Option<u64> {
    let own = || getrlimit(Resource::Nofile).current;
    let Some(process) = process else { return own() };
    let Ok(limits) = fs::read_to_string(format!("/proc/{process}/limits")) else { return own() };
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
}
