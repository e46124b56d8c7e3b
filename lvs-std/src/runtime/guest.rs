//! A director that is a guest on interfaces of this machine: with their MAC addresses, beside the machine's kernel.
//!
//! Whether it is one is a matter of the configuration (`mac = "same"`), for each interface, and never of who has an
//! address at the moment. What belongs to services is kept from the kernel by a [`KernelGuard`], which follows
//! services, real servers, the machine's addresses and the interfaces. Where the director is a host of its own, an
//! address that the kernel would answer for as well is a problem, and is said.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::local::{Addresses, LocalServers};
use super::problems::{Part, Problems};
use super::shutdown::Shutdown;
use super::surroundings::{Surroundings, forwarded};
use super::{RuntimeGroup, SharedController, ports};
use crate::HostAddresses;
use crate::config::{Configuration, DeviceKind, Interface, Mac};
use crate::control::{DesiredService, DesiredState, ServiceName};
use crate::device::guard::{Entry, GuardError, Guarded, KernelGuard};
use crate::device::mark::MarkRule;
use crate::sys::interface::{self as sys, Inquirer};

/// Says of each interface what the director is there.
pub(super) fn introduce(interfaces: &[Interface]) {
    for Interface { name, mac, device, .. } in interfaces {
        match (mac, device) {
            (Mac::Own | Mac::Is(_), _) => {
                tracing::info!("{name}: the director is a host of its own there, with its own MAC address");
            }
            (Mac::Same, DeviceKind::Xdp) => tracing::info!(
                "{name}: the director is a guest there, with the interface's MAC address; the kernel does not see what \
                 AF_XDP takes"
            ),
            (Mac::Same, DeviceKind::Packet | DeviceKind::Auto) => tracing::info!(
                "{name}: the director is a guest there, with the interface's MAC address; what belongs to services is \
                 kept from the kernel by nftables, and everything else is the kernel's"
            ),
        }
    }
}

/// What is kept from the kernel, what the kernel would answer for, and how that is known.
struct Watch {
    /// The interfaces where the director is a guest by packet sockets, with their VLANs.
    interfaces: BTreeMap<String, Vec<Option<u16>>>,
    marks: Vec<MarkRule>,
    /// The addresses of the configuration that the director answers for.
    answered: Vec<IpAddr>,
    controller: SharedController,
    problems: Problems,
    machine: HostAddresses,
    links: Inquirer,
    /// The machine's addresses, with their interfaces.
    present: BTreeSet<(u32, IpAddr)>,
    /// The interfaces where the director is a host of its own.
    hosts: BTreeSet<String>,
    /// The machine's addresses that the director answers for as well.
    shared: BTreeSet<(u32, IpAddr)>,
    /// The shared addresses for which the kernel would answer as well.
    contested: BTreeSet<IpAddr>,
    guard: Option<Guarding>,
    group: RuntimeGroup,
    /// The machine's addresses that the workers know, which they leave to the kernel.
    told: Option<BTreeSet<IpAddr>>,
    /// Real servers that are this machine itself.
    local: LocalServers,
    surroundings: Surroundings,
    /// The revision of the desired state that the guard knows.
    known: Option<u64>,
    /// The revision of the desired state that the shared addresses follow from.
    compared: Option<u64>,
}

/// A guard at work, with what it was made for.
struct Guarding {
    guard: KernelGuard,
    made_for: (Vec<(String, u32)>, Vec<MarkRule>),
}

/// Keeps from the kernel what belongs to services, and leads to it what is for real servers that are this machine, in
/// the network namespace of this thread, until the director ends. When this returns, that is so for what there is.
pub(super) fn watch(
    configuration: &Configuration,
    (controller, group): (SharedController, RuntimeGroup),
    problems: Problems,
    shutdown: Shutdown,
) -> io::Result<JoinHandle<()>> {
    let guest = |of: &&Interface| of.mac == Mac::Same && of.device != DeviceKind::Xdp;
    // Several ports may be at one interface, for VLANs.
    let mut interfaces = BTreeMap::<String, Vec<Option<u16>>>::new();
    for of in configuration.interfaces.iter().filter(guest) {
        interfaces.entry(of.name.clone()).or_default().push(of.vlan);
    }
    let hosts = configuration.interfaces.iter().filter(|of| of.mac != Mac::Same);
    let hosts = hosts.map(|of| of.name.clone()).collect();
    let own = configuration.interfaces.iter().flat_map(|of| &of.addresses).map(|(address, _)| *address);
    let answered = own.chain(configuration.virtual_addresses.iter().copied()).collect();
    let mut machine = HostAddresses::open()?;
    let local = ports::local(configuration);
    let interfaces_of = configuration.interfaces.clone();
    let surroundings = Surroundings::new(group.clone(), problems.clone(), interfaces_of);
    let own = configuration.interfaces.iter().flat_map(|of| &of.addresses).map(|(address, _)| *address);
    let clients: Vec<IpAddr> = if configuration.local_clients { own.collect() } else { Vec::new() };
    let marks = configuration.marks.clone();
    let local = LocalServers::new(group.clone(), problems.clone(), local, marks, &clients);
    let mut watch = Watch {
        interfaces,
        marks: configuration.marks.clone(),
        answered,
        controller,
        problems,
        present: machine.read_by_interface()?,
        machine,
        links: Inquirer::open()?,
        hosts,
        shared: BTreeSet::new(),
        contested: BTreeSet::new(),
        guard: None,
        group,
        told: None,
        local,
        surroundings,
        known: None,
        compared: None,
    };
    watch.look();
    let follow = move || {
        let (mut pause, mut unread) = (INTERVAL, false);
        while !shutdown.sleep(Duration::ZERO) {
            match watch.machine.wait(pause) {
                Ok(false) if !unread => {}
                Ok(_) => match watch.machine.read_by_interface() {
                    Ok(present) => {
                        (watch.present, watch.known, watch.compared) = (present, None, None);
                        watch.local.forget();
                        unread = false;
                    }
                    // Tried again, since nothing may tell of them any more.
                    Err(_) if unread => {}
                    Err(error) => {
                        tracing::error!("this machine's addresses cannot be read: {error}");
                        unread = true;
                    }
                },
                Err(error) => {
                    tracing::error!("this machine does not tell of its addresses: {error}");
                    shutdown.sleep(INTERVAL);
                }
            }
            let began = Instant::now();
            watch.look();
            // A long table that changes all the time must not be read all the time.
            pause = INTERVAL.max(began.elapsed() * 10);
        }
    };
    thread::Builder::new().name("guest".to_owned()).spawn(follow)
}

impl Watch {
    /// Brings the guard up to date, and says if that cannot be.
    fn look(&mut self) {
        let found = match self.find() {
            Ok(found) => found,
            // That says nothing about the interfaces, so that all stays as it is.
            Err(error) => {
                self.problems.raise(links_part(), format!("they cannot be looked at: {error}"));
                return;
            }
        };
        self.problems.clear(&links_part());
        let macs = found.iter().map(|(name, of)| (name.clone(), of.mac)).collect();
        self.surroundings.look(&macs);
        let found = found.into_iter().map(|(name, of)| (name, of.index)).collect();
        self.compare(&found);
        let machine: BTreeSet<IpAddr> = self.present.iter().map(|(_, address)| *address).collect();
        let addresses = Addresses { machine: &machine, present: &self.present, director: &self.answered };
        self.local.look(&self.controller, &addresses, &self.links);
        if self.interfaces.is_empty() {
            return;
        }
        self.tell(machine);
        match self.guard(&found) {
            Ok(()) => _ = self.problems.clear(&part()),
            Err(error) => {
                // A new one is made, and the old one stays until then.
                self.known = None;
                if let Some(guarding) = &mut self.guard {
                    guarding.made_for = Default::default();
                }
                let forwards =
                    self.interfaces.keys().map(|name| forwarded(name)).find(|said| !said.is_empty());
                self.problems.raise(part(), format!("{error}{}", forwards.unwrap_or_default()));
            }
        }
    }

    /// The interfaces that are there.
    fn find(&self) -> io::Result<BTreeMap<String, sys::Interface>> {
        let names: BTreeSet<&String> = self.hosts.iter().chain(self.interfaces.keys()).collect();
        let found = names.into_iter().filter_map(|name| {
            let found = self.links.find(name).transpose()?;
            Some(found.map(|found| (name.clone(), found)))
        });
        found.collect()
    }

    /// Has the workers leave to the kernel what is for its own addresses, where it sees the same frames. What is for
    /// other addresses nobody else would answer.
    fn tell(&mut self, machine: BTreeSet<IpAddr>) {
        if self.told.as_ref() == Some(&machine) {
            return;
        }
        let addresses = machine.clone();
        let known = self.group.with_each(move |_, _, forwarder, _| {
            // What was known before is freed where this is called.
            forwarder.host_mut().set_machine_addresses(addresses.clone())
        });
        // Without workers nothing is answered.
        self.told = known.is_ok().then_some(machine);
    }

    /// Says of each address that the director answers for whether the kernel would answer for it too, with another MAC
    /// address: on the interface that has it, and for IPv4 on every other one unless `arp_ignore` is set (the kernel's
    /// `Documentation/networking/ip-sysctl.rst`).
    fn compare(&mut self, found: &BTreeMap<String, u32>) {
        let revision = self.controller.lock().desired().revision();
        if self.compared != Some(revision) {
            let mut served: BTreeSet<IpAddr> = self.answered.iter().copied().collect();
            served.extend(self.controller.lock().desired().names().filter_map(|name| match name {
                ServiceName::Address { address, .. } => Some(address),
                ServiceName::Mark { .. } => None,
            }));
            self.shared =
                self.present.iter().filter(|(_, address)| served.contains(address)).copied().collect();
            self.compared = Some(revision);
        }
        let mut contested = BTreeSet::new();
        for name in self.hosts.iter().filter(|_| !self.shared.is_empty()) {
            let Some(index) = found.get(name) else { continue };
            let Ok(ignored) = ignores_arp(name) else {
                // What cannot be read now is read later; until then what was known stays.
                self.contested.extend(contested);
                return;
            };
            let of_kernel =
                self.shared.iter().filter(|(of, address)| of == index || (address.is_ipv4() && !ignored));
            for (_, address) in of_kernel {
                if !contested.insert(*address) {
                    continue;
                }
                self.problems.raise(
                    address_part(*address),
                    format!(
                        "this machine has it too, and its kernel answers for it on {name}: take it from there, put it \
                         on lo with net.ipv4.conf.all.arp_ignore=1, or let the director be a guest (mac = \"same\")"
                    ),
                );
            }
        }
        for address in self.contested.difference(&contested) {
            self.problems.clear(&address_part(*address));
        }
        self.contested = contested;
    }

    fn guard(&mut self, found: &BTreeMap<String, u32>) -> Result<(), GuardError> {
        let index = |name: &String| Some((name.clone(), *found.get(name)?));
        let interfaces: Vec<(String, u32)> = self.interfaces.keys().filter_map(index).collect();
        let revision = self.controller.lock().desired().revision();
        let stale = self.known != Some(revision);
        let marks = match &self.guard {
            Some(guarding) if !stale => guarding.made_for.1.clone(),
            Some(_) | None => self.active_marks(),
        };
        let made_for = (interfaces, marks);
        let same = self.guard.as_ref().is_some_and(|guarding| guarding.made_for == made_for);
        if same && !stale {
            return Ok(());
        }
        let entries = self.entries();
        match &mut self.guard {
            Some(guarding) if same => guarding.guard.set(entries)?,
            // The old one stays until the new one knows everything.
            Some(_) | None => {
                let mut guard = KernelGuard::open(&self.guarded(&made_for.0), &made_for.1)?;
                guard.set(entries)?;
                self.guard = Some(Guarding { guard, made_for });
            }
        }
        self.known = Some(revision);
        Ok(())
    }

    fn guarded(&self, found: &[(String, u32)]) -> Vec<Guarded> {
        let vlans = |name: &String| self.interfaces.get(name).cloned().unwrap_or_default();
        found.iter().map(|(name, _)| Guarded { interface: name.clone(), vlans: vlans(name) }).collect()
    }

    /// The rules whose marks have a service: what others mark is the kernel's.
    fn active_marks(&self) -> Vec<MarkRule> {
        let controller = self.controller.lock();
        let marks: BTreeSet<u32> = controller
            .desired()
            .names()
            .filter_map(|name| if let ServiceName::Mark { mark, .. } = name { Some(mark) } else { None })
            .collect();
        self.marks.iter().filter(|rule| marks.contains(&rule.mark)).cloned().collect()
    }

    fn entries(&self) -> BTreeSet<Entry> {
        let mut entries: BTreeSet<Entry> =
            self.present.iter().map(|(_, address)| Entry::Machine(*address)).collect();
        entries.extend(self.answered.iter().map(|address| Entry::Answered(*address)));
        // On a copy, which shares the services, so that no command waits while a long table is gone through.
        let desired = self.controller.lock().desired().clone();
        of_services(&desired, &mut entries);
        entries
    }
}

/// What belongs to services and their real servers.
pub(super) fn of_services(desired: &DesiredState, entries: &mut BTreeSet<Entry>) {
    for (name, service) in desired.services() {
        match name {
            ServiceName::Address { protocol, address, port } => {
                let protocol = protocol as u8;
                entries.insert(Entry::Service(protocol, address, port));
                entries.insert(Entry::Answered(address));
                let agrees_on_ports = (protocol, port) == FTP;
                if agrees_on_ports {
                    entries.insert(Entry::Further(address));
                }
                let any = port == 0 || agrees_on_ports;
                of_servers(service, if any { None } else { Some(protocol) }, entries);
            }
            ServiceName::Mark { .. } => of_servers(service, None, entries),
        }
    }
}

/// What real servers answer by NAT: from their ports by a protocol, or from anywhere.
fn of_servers(service: &DesiredService, protocol: Option<u8>, entries: &mut BTreeSet<Entry>) {
    for server in service.servers.iter().filter(|server| server.spec.method & METHODS == NAT) {
        let (address, port) = (server.address.ip(), server.address.port());
        entries.insert(match protocol {
            Some(protocol) if port != 0 => Entry::Server(protocol, address, port),
            Some(_) | None => Entry::Peer(address),
        });
    }
}

/// Whether the kernel answers ARP on an interface only for that one's own addresses.
fn ignores_arp(name: &str) -> io::Result<bool> {
    for of in ["all", name] {
        // A name of an interface has no slash, so that the path stays where it should.
        match fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/arp_ignore")) {
            Ok(text) if text.trim() != "0" => return Ok(true),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

fn address_part(address: IpAddr) -> Part {
    Part::Machine(format!("address {address}"))
}

fn links_part() -> Part {
    Part::Machine("interfaces".to_owned())
}

fn part() -> Part {
    Part::Machine("kernel".to_owned())
}

/// How often services are looked over; a change of the machine's addresses is noticed at once.
const INTERVAL: Duration = Duration::from_millis(100);
/// The service whose connections agree on further ones (RFC 959).
const FTP: (u8, u16) = (6, 21);
/// `IP_VS_CONN_F_FWD_MASK` and `IP_VS_CONN_F_MASQ` (`linux/ip_vs.h`).
const METHODS: u32 = 7;
const NAT: u32 = 0;
