//! Real servers that are this machine itself, as IPVS has them (LOCALNODE): their packets go to the machine's own
//! stack, and what it answers comes back.
//!
//! ```text
//! client --eth0--> director --TUN interface--> the machine's stack, as a packet to the server
//! client <--eth0-- director <--TUN interface-- rule: from the server's address and port --> a table of its own
//! ```
//!
//! The interface is made when the first such server comes, and is gone with the process. The table has one route, by
//! that interface, so a rule that outlives the process leads nowhere, and the kernel goes on to its next one; the next
//! director takes it away.

mod clients;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use lvs_forward::PortId;
use lvs_forward::host::TooManyLocalServers;

use self::clients::{Clients, Reachable};
use super::problems::{Findings, Part, Problems};
use super::{RuntimeGroup, SharedController};
use crate::control::{DesiredService, ServiceName, method};
use crate::device::alias::{Alias, aliased};
use crate::device::local;
use crate::device::mark::MarkRule;
use crate::sys::interface::Inquirer;
use crate::sys::rtnetlink::Netlink;
use crate::sys::rtnetlink::policy::{Rule, unspecified, whole};

/// Leads packets to real servers that are this machine to its stack, and their answers back.
pub(super) struct LocalServers {
    group: RuntimeGroup,
    port: Option<PortId>,
    marks: Vec<MarkRule>,
    stack: Option<Stack>,
    clients: Clients,
    /// What the servers get packets by, and when each was last wanted.
    led: BTreeMap<Led, Instant>,
    /// The servers that the workers know.
    known: BTreeSet<IpAddr>,
    said: Findings,
    /// The revision of the desired state that all of this is for, and when it was looked at.
    seen: Option<(u64, Instant)>,
}

/// The machine's stack, opened.
struct Stack {
    netlink: Netlink,
    index: u32,
    rules: BTreeSet<Rule>,
    /// The sources that sockets without one get, each with a table of its own.
    sources: Vec<IpAddr>,
}

/// One server's packets: how they come back from the machine's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Led {
    server: IpAddr,
    from: (IpAddr, u8),
    protocol: Option<u8>,
    ports: Option<(u16, u16)>,
}

/// What there should be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    led: BTreeSet<Led>,
    faults: BTreeMap<SocketAddr, String>,
}

/// What this machine and the director have.
pub(super) struct Addresses<'a> {
    /// The addresses of this machine.
    pub(super) machine: &'a BTreeSet<IpAddr>,
    /// All of [`machine`](Self::machine), with the numbers of their interfaces.
    pub(super) present: &'a BTreeSet<(u32, IpAddr)>,
    /// The director's own, of the configuration.
    pub(super) director: &'a [IpAddr],
}

impl Addresses<'_> {
    fn are_of_machine(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.machine.contains(&address)
    }
}

impl LocalServers {
    /// Without any so far. `port` is the one behind which the machine's stack is to be, and `clients` are the addresses
    /// that this machine's programs have on the wire as clients; none if they are to be left alone.
    pub(super) fn new(
        group: RuntimeGroup,
        problems: Problems,
        port: Option<PortId>,
        marks: Vec<MarkRule>,
        clients: &[IpAddr],
    ) -> Self {
        Self {
            clients: Clients::new(clients),
            group,
            port,
            marks,
            stack: None,
            led: BTreeMap::new(),
            known: BTreeSet::new(),
            said: Findings::new(problems),
            seen: None,
        }
    }

    /// The machine's addresses are others now.
    pub(super) const fn forget(&mut self) {
        self.seen = None;
    }

    /// Brings everything up to date with services and addresses, in the network namespace of this thread, and says what
    /// cannot be.
    pub(super) fn look(
        &mut self,
        controller: &SharedController,
        addresses: &Addresses<'_>,
        links: &Inquirer,
    ) {
        let revision = controller.lock().desired().revision();
        let same = |(seen, at): (u64, Instant)| seen == revision && at.elapsed() < AGAIN;
        if self.seen.is_some_and(same) {
            return;
        }
        self.seen = Some((revision, Instant::now()));
        let (Wanted { led, faults }, reachable) = {
            let desired = controller.lock().desired().clone();
            let services = || desired.services();
            let wanted = plan(services(), addresses, &self.marks);
            (wanted, self.clients.are_wanted().then(|| Reachable::of(services(), addresses)))
        };
        let mut said: BTreeMap<Part, String> =
            faults.into_iter().map(|(server, why)| (server_part(server), why)).collect();
        said.extend(strict(&led, addresses.present, links).map(|why| (strict_part(), why)));
        said.extend(reachable.as_ref().and_then(Reachable::fault).map(|why| (clients_part(), why)));
        let now = Instant::now();
        self.led.retain(|led, since| {
            // Connections to a server that was taken away go on, as with every server; not to an address that is gone.
            addresses.are_of_machine(led.server) && now.duration_since(*since) < LINGER
        });
        self.led.extend(led.into_iter().map(|led| (led, now)));
        if let Err(error) = self.bring_about(reachable.as_ref(), links) {
            said.insert(part(), error);
        }
        self.said.set(said);
    }

    fn bring_about(&mut self, clients: Option<&Reachable>, links: &Inquirer) -> Result<(), String> {
        if self.stack.as_ref().is_some_and(|stack| stack.is_gone(links)) {
            self.stack = None;
            self.clients.forget();
        }
        if self.led.is_empty() && self.stack.is_none() && clients.is_none() {
            return Ok(());
        }
        let servers: BTreeSet<IpAddr> = self.led.keys().map(|led| led.server).collect();
        let stack = match &mut self.stack {
            Some(stack) => stack,
            None => {
                let port =
                    self.port.ok_or("the director's interfaces take all ports, and none is left for it")?;
                let stack = Stack::open(&self.group, port, &self.clients.aliases, links)?;
                self.stack.insert(stack)
            }
        };
        // Answers find their way before the first request comes, and as long as the last one may.
        let rules = stack.lead(self.led.keys())?;
        if servers != self.known {
            let told = servers.clone();
            let done = self.group.with_each(move |_, _, forwarder, _| {
                forwarder.host_mut().set_local_servers(told.iter().copied())
            });
            // A director that ends has no problem with that.
            let done: Result<(), TooManyLocalServers> = done.unwrap_or_default().into_iter().collect();
            done.map_err(|error| error.to_string())?;
            self.known = servers;
        }
        stack.lead_no_others(&rules)?;
        if let Some(clients) = clients {
            self.clients.lead(&self.group, stack, clients)?;
        }
        stack.would_take(self.led.keys())
    }
}

impl Drop for LocalServers {
    fn drop(&mut self) {
        if let Some(stack) = &mut self.stack
            && let Err(error) = stack.end()
        {
            tracing::warn!("routing rules of real servers that are this machine stay: {error}");
        }
    }
}

impl Stack {
    fn open(
        group: &RuntimeGroup,
        port: PortId,
        aliases: &Arc<[Alias]>,
        links: &Inquirer,
    ) -> Result<Self, String> {
        let failed =
            |error: io::Error| format!("routing rules cannot be made, which takes CAP_NET_ADMIN: {error}");
        let opened = local::open(NAME, group.handles().len()).map_err(|error| error.to_string())?;
        let local::LocalStack { devices, name, index, mtu } = opened;
        let devices = devices.into_iter().map(|device| aliased(device, aliases)).collect();
        // Answers come from loopback addresses by this interface, and requests to them go by it.
        let setting = format!("/proc/sys/net/ipv4/conf/{name}/route_localnet");
        fs::write(&setting, "1").map_err(|error| format!("{setting} cannot be set: {error}"))?;
        // Without IPv6 in the kernel there is nothing to be set, and no server of that family.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0");
        let mut netlink = Netlink::open().map_err(failed)?;
        let is_stale = |table: u32| {
            // An interface that is gone may have had this one's number.
            interface_of(table)
                .is_some_and(|of| of == index & MOST_INDEX || matches!(links.name_of(of), Ok(None)))
        };
        netlink.remove_rules_of(is_stale).map_err(failed)?;
        let stack = Self { netlink, index, rules: BTreeSet::new(), sources: Vec::new() };
        // The workers have the rest: what they had in its place was nothing.
        drop(group.give_bare_devices(port, devices));
        tracing::info!(
            "{name}: made for real servers that are this machine, MTU {mtu}; what they answer to clients is routed \
             there by rules (ip rule) of the tables from {} on",
            stack.table(0)
        );
        Ok(stack)
    }

    /// Whether somebody has deleted the interface, and so all that was led by it.
    fn is_gone(&self, links: &Inquirer) -> bool {
        matches!(links.name_of(self.index), Ok(None))
    }

    /// Takes all rules away.
    fn end(&mut self) -> io::Result<()> {
        let own = self.index & MOST_INDEX;
        self.netlink.remove_rules_of(|table| interface_of(table) == Some(own))
    }

    /// The number of one of the interface's tables.
    const fn table(&self, source: usize) -> u32 {
        TABLES + ((self.index & MOST_INDEX) << SOURCE_BITS) + source as u32
    }

    /// Makes one of the tables lead everything of this address's family by the interface, with a source if it says so.
    fn lead_by(&mut self, of: IpAddr, source: usize, address: Option<IpAddr>) -> Result<(), String> {
        let led = self.netlink.lead_by(self.table(source), self.index, of, address);
        led.map_err(|error| {
            format!("a route by the interface of this machine's real servers is refused: {error}")
        })
    }

    /// Gives programs without a source of their own the director's table, behind all that lead elsewhere.
    fn lead_clients(&mut self, aliases: &[Alias]) -> io::Result<()> {
        let table = self.table(CLIENTS);
        for alias in aliases {
            // Loopback addresses are there.
            if alias.machine.is_ipv6() {
                self.netlink.add_alias(self.index, alias.machine)?;
            }
            let from = (unspecified(alias.machine), 0);
            self.netlink.add_rule(&Rule { from, protocol: None, ports: None, table })?;
        }
        Ok(())
    }

    /// Leads programs to an address, with this source. Returns whether they were not led there before.
    fn lead_client(&mut self, to: IpAddr, source: IpAddr) -> io::Result<bool> {
        let table = self.table(CLIENTS);
        self.netlink.lead_to((table, self.index), to, source)
    }

    fn lead_no_client(&mut self, to: IpAddr) -> io::Result<()> {
        let table = self.table(CLIENTS);
        self.netlink.lead_no_more_to((table, self.index), to)
    }

    /// Makes routes and rules for all of these, and returns the rules. Those that were made before are made again:
    /// other programs take away routing rules that they do not know, and routes go with an interface that is down.
    fn lead<'a>(&mut self, all: impl Iterator<Item = &'a Led> + Clone) -> Result<BTreeSet<Rule>, String> {
        for of_v4 in [true, false] {
            if let Some(led) = all.clone().find(|led| led.server.is_ipv4() == of_v4) {
                self.lead_by(led.server, 0, None)?;
            }
        }
        let mut wanted = BTreeSet::new();
        for led in all {
            let &Led { server, from, protocol, ports } = led;
            wanted.insert(Rule { from, protocol, ports, table: self.table(0) });
            // A socket of UDP that is bound to no address asks the route for one.
            if protocol == Some(UDP) && ports.is_some() && from.0 == server && server.is_ipv4() {
                let table = self.source(server)?;
                wanted.insert(Rule { from: (unspecified(server), 32), protocol, ports, table });
            }
        }
        for rule in &wanted {
            self.netlink.add_rule(rule).map_err(refused)?;
            self.rules.insert(*rule);
        }
        Ok(wanted)
    }

    /// Takes away all rules but these.
    fn lead_no_others(&mut self, wanted: &BTreeSet<Rule>) -> Result<(), String> {
        for rule in self.rules.clone().difference(wanted) {
            self.netlink.remove_rule(rule).map_err(refused)?;
            self.rules.remove(rule);
        }
        Ok(())
    }

    /// Whether the kernel takes what comes for these servers: it tests where packets come from (`rp_filter`).
    fn would_take<'a>(&mut self, all: impl Iterator<Item = &'a Led>) -> Result<(), String> {
        // IPv6 has no such test.
        for led in all.filter(|led| led.from.0.is_ipv4() && led.from.1 == 32) {
            let protocol = led.protocol.filter(|of| [TCP, UDP].contains(of)).unwrap_or(TCP);
            let port = led.ports.map_or(ANY_PORT, |(first, _)| first);
            let taken = self.netlink.would_take(self.index, (CLIENT, led.from.0), (protocol, port));
            taken.map_err(|error| {
                format!(
                    "this machine's kernel would drop packets to {}, server {}: {error}; net.ipv4.conf.all.rp_filter \
                     may be 0 or 2",
                    led.from.0, led.server
                )
            })?;
        }
        Ok(())
    }

    /// The table that gives sockets without a source this one.
    fn source(&mut self, address: IpAddr) -> Result<u32, String> {
        let at = match self.sources.iter().position(|known| *known == address) {
            Some(at) => at,
            None => {
                if self.sources.len() + 1 >= CLIENTS {
                    return Err("real servers have had too many addresses of this machine".to_owned());
                }
                self.sources.push(address);
                self.sources.len() - 1
            }
        };
        self.lead_by(address, at + 1, Some(address))?;
        Ok(self.table(at + 1))
    }
}

/// The number of the interface that a table belongs to, if it is a director's.
fn interface_of(table: u32) -> Option<u32> {
    table.checked_sub(TABLES).map(|of| of >> SOURCE_BITS).filter(|of| *of <= MOST_INDEX)
}

/// Which servers are this machine, how their packets come back, and which of them cannot be served.
fn plan<'a>(
    services: impl Iterator<Item = (ServiceName, &'a DesiredService)>,
    addresses: &Addresses<'_>,
    marks: &[MarkRule],
) -> Wanted {
    let mut wanted = Wanted::default();
    for (name, service) in services {
        for server in &service.servers {
            let (address, port) = (server.address.ip(), server.address.port());
            let way = server.spec.method & method::MASK;
            if way == method::BYPASS {
                continue;
            }
            let is_own = addresses.are_of_machine(address);
            if way != method::LOCAL && !is_own {
                // The director answers for it on the wire, and the machine's programs cannot.
                if addresses.director.contains(&address) {
                    let why = "it is an address of the director alone, at which no program of this machine listens; \
                               give this machine the address as well, or name another one of its addresses, such as \
                               127.0.0.1";
                    wanted.faults.insert(server.address, why.to_owned());
                }
                continue;
            }
            if way == method::MASQUERADING {
                wanted.led.extend(by_nat(name, address, port));
            } else if let Err(virtual_address) = unchanged(name, (address, marks), addresses, &mut wanted.led)
            {
                wanted.faults.insert(
                    server.address,
                    format!(
                        "without NAT it gets packets to {virtual_address}, which this machine does not have: give it \
                         the address, on lo with net.ipv4.conf.all.arp_ignore=1, or use NAT"
                    ),
                );
            }
        }
    }
    wanted
}

/// Packets that NAT has sent to a server: they come back from there.
fn by_nat(name: ServiceName, server: IpAddr, port: u16) -> impl Iterator<Item = Led> {
    let from = (server, whole(server));
    let (protocol, of_service) = match name {
        ServiceName::Address { protocol, port, .. } => (Some(protocol as u8), port),
        ServiceName::Mark { .. } => (None, 0),
    };
    // FTP agrees on further ports (RFC 959).
    let all = protocol.is_none() || of_service == 0 || port == 0 || (protocol, of_service) == FTP;
    // What comes from a loopback address is the director's alone, errors too.
    let wide = server.is_loopback().then_some(Led { server, from, protocol: None, ports: None });
    let ports = (!all).then_some((port, port));
    wide.into_iter().chain([Led { server, from, protocol, ports }])
}

/// Packets that reach a server as they came: they come back from the service's addresses. An error is one of these that
/// this machine does not have.
fn unchanged(
    name: ServiceName,
    (server, marks): (IpAddr, &[MarkRule]),
    addresses: &Addresses<'_>,
    led: &mut BTreeSet<Led>,
) -> Result<(), IpAddr> {
    match name {
        ServiceName::Address { protocol, address, port } => {
            if !addresses.are_of_machine(address) {
                return Err(address);
            }
            let protocol = Some(protocol as u8);
            let all = port == 0 || (protocol, port) == FTP;
            let ports = (!all).then_some((port, port));
            led.insert(Led { server, from: (address, whole(address)), protocol, ports });
        }
        ServiceName::Mark { mark, .. } => {
            for rule in marks.iter().filter(|rule| rule.mark == mark) {
                let from = (rule.destination.address(), rule.destination.len());
                let protocol = rule.protocol.map(|protocol| protocol.number());
                let ports = (rule.ports != (0..=u16::MAX)).then(|| (*rule.ports.start(), *rule.ports.end()));
                // Ports of no protocol in particular are no rule of the kernel's.
                led.insert(Led { server, from, protocol, ports: ports.filter(|_| protocol.is_some()) });
            }
        }
    }
    Ok(())
}

fn refused(error: io::Error) -> String {
    format!("a routing rule is refused: {error}")
}

fn part() -> Part {
    Part::Machine("own real servers".to_owned())
}

/// What is to be said of interfaces with servers' addresses where the kernel drops packets whose answers leave by
/// another interface, if there is one.
fn strict(led: &BTreeSet<Led>, present: &BTreeSet<(u32, IpAddr)>, links: &Inquirer) -> Option<String> {
    let servers: BTreeSet<IpAddr> =
        led.iter().filter(|led| led.from == (led.server, 32)).map(|led| led.server).collect();
    let of_servers =
        present.iter().filter(|(_, address)| servers.contains(address) && !address.is_loopback());
    let mut named = of_servers.filter_map(|(index, address)| {
        let name = links.name_of(*index).ok().flatten()?;
        is_strict(&name).then_some((name, *address))
    });
    let (name, address) = named.next()?;
    Some(format!(
        "it is 1 on {name}: clients that come to the server {address} directly get no answer any more, as those \
         go by the director; set net.ipv4.conf.{name}.rp_filter=2"
    ))
}

/// Whether the kernel drops what comes by an interface if the answer would leave by another one: the greater one of two
/// settings counts, and 2 asks for any way back (`Documentation/networking/ip-sysctl.rst`).
fn is_strict(interface: &str) -> bool {
    let value = |of: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/rp_filter")).ok();
    let values = ["all", interface].map(|of| value(of).and_then(|text| text.trim().parse::<u8>().ok()));
    values.into_iter().flatten().max() == Some(1)
}

fn strict_part() -> Part {
    Part::Machine("rp_filter".to_owned())
}

fn clients_part() -> Part {
    Part::Machine("own clients".to_owned())
}

fn server_part(server: SocketAddr) -> Part {
    Part::Machine(format!("real server {server}"))
}

/// The interface's name: the kernel gives the number.
const NAME: &str = "director%d";
/// The first of the tables: `LV` in ASCII, then the interface's number, then the source's.
const TABLES: u32 = 0x4c56_0000;
const SOURCE_BITS: u32 = 7;
/// The table of routes for this machine's programs.
const CLIENTS: usize = (1 << SOURCE_BITS) - 1;
const MOST_INDEX: u32 = 0x00ff_ffff;
/// How long what is left of a server's connections is led back, once the server is taken away: as long as an idle
/// connection of TCP lasts by default.
const LINGER: Duration = Duration::from_secs(900);
/// How often servers are looked over that nobody has changed: what was refused may be possible now.
const AGAIN: Duration = Duration::from_secs(5);
const TCP: u8 = 6;
const UDP: u8 = 17;
/// A port as good as any other one.
const ANY_PORT: u16 = 80;
/// Somebody else, of a network for examples (RFC 5737).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 254));
const FTP: (Option<u8>, u16) = (Some(6), 21);

#[cfg(test)]
mod tests;
